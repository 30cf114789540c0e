/** Expands the loops that ask for it; their counters become constants and every name inside gets one of its own. */
import { i32 } from "../src/expr.ts";
import type { Kernel, Stmt } from "../src/kernel.ts";
import type { Warp } from "../src/warp.ts";
import { type Block, type For, namer, renamed, withBlocks } from "./rewrite.ts";

/** @throws when a loop to be expanded has bounds that are not constants (run `simplify` first). */
export function unroll<X extends Warp = never>(kernel: Kernel<X>): Kernel<X> {
  const fresh = namer(kernel);
  const expand = (block: Block<X>): Block<X> =>
    block.flatMap((s): Block<X> => {
      const inner = withBlocks<X>(s, expand);
      return inner.s === "for" && inner.unroll === true ? copies<X>(kernel.name, inner, fresh) : [inner];
    });
  return { ...kernel, body: expand(kernel.body) };
}

function copies<X extends Warp>(kernel: string, loop: For<X>, fresh: (wish: string) => string): Block<X> {
  const { from, to, step } = loop;
  if (from.e !== "const" || to.e !== "const")
    throw new Error(
      `heddle: internal: kernel '${kernel}' unrolls '${loop.name}', whose bounds are not constants`,
    );
  const all: Stmt<X>[] = [];
  for (let i = from.value; i < to.value; i += step)
    all.push(...renamed<X>(loop.body, fresh, new Map([[loop.name, i32(i)]])));
  return all;
}
