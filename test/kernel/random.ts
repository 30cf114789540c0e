/** Random kernels: nested loops and ifs over i32, f32 and their vectors, that never break a promise of the IR (NaN apart). */
import fc from "fast-check";
import * as x from "../../src/expr.ts";
import type { Expr, Kernel, Op, Stmt, Type } from "../../src/kernel.ts";
import { kernel, read, write } from "./kernels.ts";

type Name = { readonly name: string; readonly type: Type; readonly mutable: boolean };

export const OUT = 64;
export const IN = 16;

export const randomKernel: fc.Arbitrary<Kernel> = fc.gen().map((g) => {
  const upTo = (n: number) => g(fc.nat, { max: n - 1 });
  const pick = <T>(from: readonly T[]): T => from[upTo(from.length)] as T;
  const small = () => pick([0, 1, 2, 3, 7, -1, -5, 100, 2147483647, -2147483648]);
  const real = () => pick([0, 1, -1, 0.5, 3.25, -7.125, 1e-3, 1000]);
  let counter = 0;

  const expr = (type: Type, names: readonly Name[], depth: number): Expr => {
    const known = names.filter((n) => n.type === type);
    if (depth === 0 || upTo(5) === 0) {
      if (known.length > 0 && upTo(3) > 0) {
        const n = pick(known);
        return x.ref(n.name, n.type);
      }
      if (type === "i32") return upTo(4) === 0 ? x.group : x.i32(small());
      if (type === "f32") return x.f32(real());
      if (type === "bool") return x.bool(upTo(2) === 1);
      if (type === "f32x4" && upTo(2) === 1) return x.load("a", x.i32(upTo(IN - 3)), "f32x4");
      return x.splat(expr(x.scalarOf(type), names, 0));
    }
    const sub = (t: Type) => expr(t, names, depth - 1);
    const two = (name: Op) => x.op(name, [sub(type), sub(type)]);
    const vector = x.isVector(type);
    const bool: Type = vector ? "boolx4" : "bool";
    if (upTo(8) === 0)
      return x.op("select", [sub(vector && upTo(2) === 0 ? "bool" : bool), sub(type), sub(type)]);
    switch (x.scalarOf(type)) {
      case "i32": {
        const name = pick([
          "add",
          "sub",
          "mul",
          "add",
          "min",
          "max",
          "and",
          "or",
          "xor",
          "neg",
          "div",
          "rem",
          "shl",
          "shr",
          "iota",
        ] as const);
        const lit = (n: number) => (vector ? x.splat(x.i32(n)) : x.i32(n));
        if (name === "neg") return x.op("neg", [sub(type)]);
        if (name === "iota") return vector ? x.op("iota", [sub("i32")]) : two("add");
        if (name === "div" || name === "rem")
          return x.op(name, [x.op("and", [sub(type), lit(0x7fffffff)]), lit(pick([1, 2, 7, 64]))]);
        if (name === "shl" || name === "shr") return x.op(name, [sub(type), lit(upTo(5))]);
        return two(name);
      }
      case "f32": {
        const name = pick([
          "add",
          "sub",
          "mul",
          "mul",
          "div",
          "min",
          "max",
          "neg",
          "abs",
          "floor",
          "round",
          "madd",
          "float",
          "load",
          "fold",
          "shuffle",
        ] as const);
        switch (name) {
          case "neg": case "abs": case "floor": case "round":
            return x.op(name, [sub(type)]);
          case "madd":
            return x.op("madd", [sub(type), sub(type), sub(type)]);
          case "float":
            return x.op("float", [sub(vector ? "i32x4" : "i32")]);
          case "load":
            return vector ? x.load("a", x.op("and", [sub("i32"), x.i32(7)]), "f32x4") : x.load("a", x.op("and", [sub("i32"), x.i32(15)]));
          case "fold":
            return vector ? x.splat(sub("f32")) : x.op(pick(["sum", "most"]), [sub("f32x4")]);
          case "shuffle":
            return vector ? x.op("shuffle", [sub(type), sub(type)], [upTo(8), upTo(8), upTo(8), upTo(8)]) : x.op("lane", [sub("f32x4")], [upTo(4)]);
          default:
            return two(name);
        } // prettier-ignore
      }
      case "bool": {
        const name = pick(["eq", "lt", "ge", "and", "or", "xor", "not"] as const);
        if (name === "not") return x.op("not", [sub(type)]);
        if (name === "and" || name === "or" || name === "xor") return two(name);
        const of: Type = vector ? pick(["i32x4", "f32x4"]) : pick(["i32", "f32"]);
        return x.op(name, [sub(of), sub(of)]);
      }
    }
  };

  const types: readonly Type[] = ["i32", "f32", "bool", "f32x4", "i32x4", "boolx4"];
  // Sibling blocks reuse names on purpose.
  const fresh = (names: readonly Name[]) => {
    for (let i = 0; ; i++) if (!names.some((n) => n.name === `n${i}`)) return `n${i}`;
  };
  const block = (outer: readonly Name[], depth: number, most: number): Stmt[] => {
    const names = [...outer];
    const out: Stmt[] = [];
    for (let n = 1 + upTo(most); n > 0; n--) {
      const kind = pick(["let", "let", "var", "set", "set", "store", "store", "for", "if"] as const);
      const type = pick(types);
      if (kind === "let" || kind === "var") {
        const name = fresh(names);
        out.push({ s: kind, name, value: expr(type, names, 3) });
        names.push({ name, type, mutable: kind === "var" });
      } else if (kind === "set") {
        const to = names.filter((v) => v.mutable);
        if (to.length === 0) continue;
        const v = pick(to);
        out.push(x.set(v.name, expr(v.type, names, 3)));
      } else if (kind === "store") {
        const vector = upTo(2) === 1;
        const to = pick(["f", "i"] as const);
        if (to === "i")
          out.push(x.store("i", x.op("and", [expr("i32", names, 2), x.i32(OUT - 1)]), expr("i32", names, 3)));
        else
          out.push(
            x.store(
              "f",
              x.op("and", [expr("i32", names, 2), x.i32(OUT - 4)]),
              expr(vector ? "f32x4" : "f32", names, 3),
            ),
          );
      } else if (depth > 0 && kind === "for") {
        const name = fresh(names);
        const unroll = upTo(2) === 1;
        const from = x.i32(upTo(3));
        const to = unroll || upTo(2) === 0 ? x.i32(upTo(6)) : x.op("and", [expr("i32", names, 2), x.i32(3)]);
        const inner = block([...names, { name, type: "i32", mutable: false }], depth - 1, 4);
        out.push({ s: "for", name, from, to, step: 1 + upTo(2), ...(unroll ? { unroll } : {}), body: inner });
      } else if (depth > 0) {
        const then = block(names, depth - 1, 3);
        const cond = expr("bool", names, 2);
        out.push(
          upTo(2) === 0 ? { s: "if", cond, then } : { s: "if", cond, then, else: block(names, depth - 1, 3) },
        );
      }
    }
    return out;
  };
  counter++;
  const params: Name[] = [
    { name: "p", type: "i32", mutable: false },
    { name: "q", type: "f32", mutable: false },
  ];
  const body = block(params, 3, 8);
  // Everything in sight at the end is seen.
  const last: Stmt[] = [];
  const seen: Name[] = [];
  for (const s of body)
    if (s.s === "let" || s.s === "var") seen.push({ name: s.name, type: s.value.type, mutable: false });
  seen.forEach((n, i) => {
    if (n.type === "i32") last.push(x.store("i", x.i32(i % OUT), x.ref(n.name)));
    if (n.type === "f32") last.push(x.store("f", x.i32(i % OUT), x.ref(n.name, "f32")));
    if (n.type === "f32x4") last.push(x.store("f", x.i32((4 * i) % (OUT - 3)), x.ref(n.name, "f32x4")));
  });
  return kernel([...body, ...last], {
    name: `random${counter}`,
    buffers: [read("a"), write("f"), write("i", "i32")],
    scalars: [
      { name: "p", type: "i32" },
      { name: "q", type: "f32" },
    ],
  });
});
