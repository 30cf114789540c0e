/** Types of expressions, re-checked from the leaves upwards. */
import { isVector, lanesOf, rules, scalarOf } from "../expr.ts";
import type { Element, Expr, Kernel, Tile, Type } from "../kernel.ts";
import type { Warp } from "../warp.ts";

export type Name = { readonly type: Type; readonly kind: "let" | "var" | "loop" | "scalar" };
export type Memory = {
  readonly kind: "buffer" | "table" | "shared" | "registers";
  readonly type: "f32" | "i32";
  readonly readable: boolean;
  readonly writable: boolean;
};

export type Scope = {
  readonly names: ReadonlyMap<string, Name>;
  readonly arrays: ReadonlyMap<string, Memory>;
  /** What the leaves of tile expressions stand for; refuses them where absent. */
  readonly element?: (e: Element) => string | undefined;
};

export function arraysOf(k: Kernel<Tile | Warp>): ReadonlyMap<string, Memory> {
  return new Map<string, Memory>([
    ...k.buffers.map((b): [string, Memory] => [
      b.name,
      {
        kind: "buffer",
        type: b.dtype === "i32" ? "i32" : "f32",
        readable: b.access !== "write",
        writable: b.access !== "read",
      },
    ]),
    ...k.tables.map((t): [string, Memory] => [
      t.name,
      { kind: "table", type: t.type, readable: true, writable: false },
    ]),
    ...k.shared.map((s): [string, Memory] => [
      s.name,
      { kind: "shared", type: s.type, readable: true, writable: true },
    ]),
    ...(k.registers ?? []).map((r): [string, Memory] => [
      r.name,
      { kind: "registers", type: r.type, readable: true, writable: true },
    ]),
  ]);
}

/** Every problem of an expression; `as` is the type its place asks for. */
export function problemsOf(e: Expr<Element>, scope: Scope, as?: Type): string[] {
  const problems: string[] = [];
  const seen = new Set<Expr<Element>>();
  const say = (text: string) => void problems.push(text);
  const visit = (x: Expr<Element>): void => {
    if (seen.has(x)) return;
    seen.add(x);
    switch (x.e) {
      case "const":
        return constant(x.type, x.value, say);
      case "ref": {
        const known = scope.names.get(x.name);
        if (known === undefined) say(`'${x.name}' is not defined here`);
        else if (known.type !== x.type) say(`'${x.name}' is ${known.type}, read as ${x.type}`);
        return;
      }
      case "builtin":
        return;
      case "load": {
        const from = scope.arrays.get(x.from);
        if (from === undefined) say(`there is no array '${x.from}'`);
        else if (from.type !== scalarOf(x.type)) say(`'${x.from}' holds ${from.type}, loaded as ${x.type}`);
        if (x.index.type !== "i32") say(`the index of '${x.from}' is ${x.index.type}, not i32`);
        return visit(x.index);
      }
      case "op": {
        const type = rules[x.op](
          x.args.map((a) => a.type),
          x.imm,
          lanesOf(x.type),
        );
        if (typeof type === "object")
          say(`'${x.op}' ${type.wrong} (got ${x.args.map((a) => a.type).join(", ")})`);
        else if (type !== x.type) say(`'${x.op}' gives ${type}, said to be ${x.type}`);
        return x.args.forEach(visit);
      }
      default: {
        const wrong =
          scope.element === undefined ? `'${x.e}' stands outside map and write` : scope.element(x);
        if (wrong !== undefined) say(wrong);
      }
    }
  };
  visit(e);
  if (as !== undefined && e.type !== as) say(`${e.type} where ${as} belongs`);
  return problems;
}

function constant(type: Type, value: number, say: (text: string) => void): void {
  if (isVector(type)) say(`a constant of ${type}`);
  // Infinities are values (the lse of a row without keys is −∞); NaN is none.
  if (type === "f32" && Math.fround(value) !== value) say(`${value} is no f32`);
  if (type === "i32" && (value | 0) !== value) say(`${value} is no i32`);
  if (type === "bool" && value !== 0 && value !== 1) say(`${value} is no bool`);
}
