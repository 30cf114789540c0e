/** Expands the loops that ask for it; their counters become constants and every name inside gets one of its own. */
import { i32 } from "../src/expr.ts";
import type { Kernel, Stmt } from "../src/kernel.ts";
import { type Block, namer, renamed, withBlocks } from "./rewrite.ts";

/** @throws when a loop to be expanded has bounds that are not constants (run `simplify` first). */
export function unroll(kernel: Kernel): Kernel {
  const fresh = namer(kernel);
  const expand = (block: Block): Block =>
    block.flatMap((s): Block => {
      const inner = withBlocks(s, expand);
      return inner.s === "for" && inner.unroll === true ? copies(kernel.name, inner, fresh) : [inner];
    });
  return { ...kernel, body: expand(kernel.body) };
}

function copies(
  kernel: string,
  loop: Extract<Stmt, { s: "for" }>,
  fresh: (wish: string) => string,
): readonly Stmt[] {
  const { from, to, step } = loop;
  if (from.e !== "const" || to.e !== "const")
    throw new Error(
      `heddle: internal: kernel '${kernel}' unrolls '${loop.name}', whose bounds are not constants`,
    );
  const all: Stmt[] = [];
  for (let i = from.value; i < to.value; i += step)
    all.push(...renamed(loop.body, fresh, new Map([[loop.name, i32(i)]])));
  return all;
}
