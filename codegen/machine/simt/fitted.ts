/** The `simt` machine with as many lanes as the tiles of a kernel take. */
import type { Kernel, TileKernel } from "../../../src/kernel.ts";
import { simt, simtDeclaredBytes, simtSharedBytes, type SimtOptions } from "../simt.ts";

export type FittedOptions = SimtOptions & { readonly most: number };

/** As few lanes, from `lanes` to `most`, as hold the tiles of a kernel: what does not fit in registers fits in more of them. */
const optionsFor = ({ most, ...options }: FittedOptions, kernel: TileKernel): SimtOptions => {
  let { lanes } = options;
  while (lanes < most && simtSharedBytes(kernel, lanes, options.exchange) > options.sharedBytes) lanes *= 2;
  return { ...options, lanes };
};

export const fitted =
  (options: FittedOptions) =>
  (kernel: TileKernel): Kernel =>
    simt(optionsFor(options, kernel))(kernel);

/** Bytes of shared memory that the machine's kernel declares; more than there are where it cannot be made. */
export const fittedBytes =
  (options: FittedOptions) =>
  (kernel: TileKernel): number =>
    simtDeclaredBytes(kernel, optionsFor(options, kernel));
