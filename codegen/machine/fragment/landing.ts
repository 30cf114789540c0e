/** Copies beside the lanes: groups, waits, and what barriers must know of them. */
import type { Warp } from "../../../src/warp.ts";
import { ANY, type Access } from "../simt/barriers.ts";
import { phase, warp, type Step } from "./site.ts";

export const commit = warp("commit", []);
export const wait = (pending: number): Warp => warp("wait", [], [], { imm: pending });

/** For barriers: a copy is written when it is issued, and once more when its lane has waited for it, which no barrier before can order. */
export const landed = (name: string): string => `${name}, landed`;
/** Waits for all copies under way; `names` are the operands and panels they bring. */
export const land = (names: readonly string[]): Step =>
  phase(
    names.map((name) => ({ array: landed(name), verb: "write", by: ANY })),
    [wait(0)],
  );
/** What a reader of an operand or of panels touches. */
export const reading = (name: string): readonly Access[] => [
  { array: name, verb: "read", by: ANY },
  { array: landed(name), verb: "read", by: ANY },
];
