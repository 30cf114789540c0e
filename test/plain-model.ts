import type { ModelShape } from "../src/spec.ts";

/** What torchscale's own decoders and encoders do not have. */
export const plainModel = {
  patchEmbed: null,
  grid: null,
  classToken: false,
  pool: null,
  checkpoint: "torchscale",
} as const satisfies Partial<ModelShape>;
