/** Where a statement stands, as one line: `body[3] for k › [0] store acc`. Used by every message about a kernel. */
import type { Stmt, Tile } from "../kernel.ts";
import type { Warp } from "../warp.ts";

const subject = (s: Stmt<Tile | Warp>): string => {
  switch (s.s) {
    case "let":
    case "var":
    case "set":
    case "exchange":
    case "for":
      return `${s.s} ${s.name}`;
    case "store":
      return `store ${s.to}`;
    case "copy":
    case "write":
    case "fill":
    case "map":
      return `${s.s} ${s.tile}`;
    case "mma":
      return `mma ${s.acc}`;
    case "reduce":
      return `reduce ${s.into}`;
    default:
      return s.s;
  }
};

/** The place of statement number `index` of the block at `parent`; without a parent, of the kernel's body. */
export const place = (parent: string, index: number, s: Stmt<Tile | Warp>): string =>
  `${parent === "" ? "body" : `${parent} › `}[${index}] ${subject(s)}`;
