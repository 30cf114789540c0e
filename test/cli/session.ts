/** Command lines in this process, with what they write, in a folder of their own. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { main } from "../../src/cli/main.ts";

export type Ended = { readonly code: number; readonly out: string; readonly err: string };

export async function heddle(
  argv: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  let [out, err] = ["", ""];
  const code = await main(argv, {
    out: (text) => void (out += text),
    err: (text) => void (err += text),
    env,
    terminal: false,
    colour: false,
  });
  return { code, out, err };
}

export function folder(): {
  readonly at: (name: string) => string;
  readonly path: string;
  readonly remove: () => void;
} {
  const path = mkdtempSync(join(tmpdir(), "heddle-"));
  return { path, at: (name) => join(path, name), remove: () => rmSync(path, { recursive: true }) };
}

/** Small and quick to compile: 2 heads × 8 in two branches. */
export const tiny = `attention tiny {
  heads     2
  head_dim  8
  causal    true
  branch    segment 4  dilation 1
  branch    segment 8  dilation 2
}
`;

/** A decoder of one layer over tiny. */
export const tinyModel = `${tiny}
model one {
  kind       decoder
  vocab      256
  dim        16
  layers     1
  ffn        24 gelu
  attention  tiny
  position   learned 34
  norm       sub_ln
}
`;

/** Numbers of no pattern between −1 and 1; the same for the same seed. */
export function noise(length: number, seed: number): Float32Array {
  let state = Math.imul(seed, 2654435761) + 12345;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) / (1 << 23) - 1;
  });
}
