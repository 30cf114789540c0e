import { describe, expect, it } from "vitest";
import { ANY, synchronise, type Access, type Phase } from "../../codegen/machine/simt/barriers.ts";
import { bool, i32, ref, set } from "../../src/expr.ts";
import type { Expr, Stmt } from "../../src/kernel.ts";

const phase = (name: string, ...accesses: readonly Access[]): Phase => ({
  s: "phase",
  accesses,
  body: [set(name, i32(0))],
});
const reads = (array: string, by = ANY): Access => ({ array, verb: "read", by });
const writes = (array: string, by = ANY): Access => ({ array, verb: "write", by });
const loop = (body: readonly Stmt<Phase>[], to: Expr = ref("n")): Stmt<Phase> => ({
  s: "for",
  name: "i",
  from: i32(0),
  to,
  step: 1,
  body,
});
// oxlint-disable-next-line unicorn/no-thenable
const when = (then: readonly Stmt<Phase>[]): Stmt<Phase> => ({ s: "if", cond: ref("c", "bool"), then });

/** Statements as words: names of phases, | for a barrier, ( ) around blocks. */
const text = (body: readonly Stmt[]): string =>
  body
    .map((s) => {
      if (s.s === "set") return s.name;
      if (s.s === "barrier") return "|";
      if (s.s === "for") return `(${text(s.body)})`;
      if (s.s === "if") return `(${text(s.then)}${s.else === undefined ? "" : ` else ${text(s.else)}`})`;
      return s.s;
    })
    .join(" ");
const placed = (...body: readonly Stmt<Phase>[]): string => text(synchronise(body));

const store = phase("store", writes("x", "own"));
const again = phase("again", reads("x", "own"), writes("x", "own"));
const use = phase("use", reads("x"));
const other = phase("other", writes("y", "own"));

describe("barriers stand", () => {
  it("between what lanes write and other lanes read, and back", () => {
    expect(placed(store, use)).toBe("store | use");
    expect(placed(use, store)).toBe("use | store");
    expect(placed(store, again, store)).toBe("store again store");
    expect(placed(use, use, other)).toBe("use use other");
    expect(placed(phase("a", writes("x", "rows")), phase("b", writes("x", "columns")))).toBe("a | b");
  });

  it("as late as they can, one for several pairs", () => {
    expect(placed(store, other, use, phase("both", reads("y")))).toBe("store other | use both");
  });

  it("between an iteration and the next", () => {
    expect(placed(loop([store, use]))).toBe("(| store | use)");
    // The write before the loop meets the first read; the second barrier parts a read from the next write.
    expect(placed(store, loop([use, other, store]))).toBe("store (| use other | store)");
    expect(placed(loop([loop([store]), use]))).toBe("((| store) | use)");
  });

  it("after a loop that may not run, for what stands before it", () => {
    expect(placed(store, loop([other, phase("y", reads("y"))]), use)).toBe("store (| other | y) | use");
    const runs = loop([other, phase("y", reads("y"))], i32(3));
    expect(placed(store, runs, use)).toBe("store (| other | y) use");
  });

  it("on whichever side of a branch needs them", () => {
    expect(placed(store, when([use]), use)).toBe("store (| use) | use");
    expect(placed(when([store]), use)).toBe("(store) | use");
    // oxlint-disable-next-line unicorn/no-thenable
    const both: Stmt<Phase> = { s: "if", cond: bool(true), then: [store], else: [use] };
    expect(placed(both, store)).toBe("(store else use) | store");
  });
});
