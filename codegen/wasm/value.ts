/**
 * Expressions as instructions. An address is pointer + 4·index; the constant part of an index goes into the instruction's
 * offset, and the rest is computed once per straight piece of code and array, so that a loop's many accesses around one
 * index share a local.
 */
import type { Expr, Op, Scalar, Type } from "../../src/kernel.ts";
import { isVector, scalarOf } from "../../src/expr.ts";
import type { Code, Locals, ValType } from "./encode.ts";
import { direct, special } from "./table.ts";

export const valType = (type: Type): ValType => (isVector(type) ? "v128" : type === "f32" ? "f32" : "i32");
export const fail = (why: string): never => {
  throw new Error(`heddle: internal: wasm: ${why}`);
};

/** Whether an operation needs no spelling by others, for one operand type. */
export function wasmOps(op: Op, type: Type): boolean {
  if ((special as readonly Op[]).includes(op)) return true;
  const scalar = scalarOf(type);
  if (scalar === "i32" && !isVector(type) && (op === "min" || op === "max" || op === "neg")) return true;
  if (type === "i32x4" && (op === "div" || op === "rem")) return true;
  if (op === "splat") return !isVector(type);
  if (isVector(type) && (op === "shl" || op === "shr" || op === "bits" || op === "unbits")) return true;
  const form = direct[op]?.[scalar];
  return (isVector(type) ? form?.four : form?.one) !== undefined;
}

/** Addresses known in a block, by array and index. */
export type Scope = { readonly addresses: Map<string, number>; readonly outer: Scope | null };

/** What a function body may refer to: values in locals, arrays by pointer. */
export type Frame = {
  readonly named: Map<string, { readonly local: number; readonly fixed: boolean; readonly type: Type }>;
  readonly pointers: Map<string, { readonly local: number | null; readonly offset: number }>;
  readonly locals: Locals;
  /** Local that holds the group's index. */
  readonly group: number | null;
};

/** Every pointer that a kernel is called with must be at least this: the constants of indices are folded up to here. */
export const FOLDED = 65536;

export const isConst = (e: Expr): e is Extract<Expr, { e: "const" }> => e.e === "const";

/** Emitters of values and addresses for one function body. */
export function expressionsOf(frame: Frame, options: { readonly relaxed: boolean }) {
  const { named, pointers, locals, group } = frame;
  const local = (name: string) => named.get(name) ?? fail(`no value '${name}'`);
  /** index = rest + constant, the constant ≥ 0. */
  const split = (index: Expr): { readonly rest: Expr | null; readonly constant: number } => {
    if (isConst(index)) return { rest: null, constant: index.value };
    if (index.e === "op" && index.op === "add") {
      const [a, b] = index.args;
      if (a !== undefined && b !== undefined) {
        if (isConst(b) && b.value >= 0) {
          const inner = split(a);
          return { rest: inner.rest, constant: inner.constant + b.value };
        }
        if (isConst(a) && a.value >= 0) {
          const inner = split(b);
          return { rest: inner.rest, constant: inner.constant + a.value };
        }
      }
    }
    return { rest: index, constant: 0 };
  };

  /**
   * An index is never negative, but without its constant part it may be. Then pointer + 4 · rest must not fall below zero,
   * as an offset is added without wrapping: pointers are at least FOLDED, and a table's place is no pointer at all.
   */
  const foldable = (place: { readonly local: number | null }, index: Expr): ReturnType<typeof split> => {
    const parts = split(index);
    if (parts.rest === null) return parts;
    if (4 * parts.constant > FOLDED || (place.local === null && parts.constant > 0))
      return { rest: index, constant: 0 };
    return parts;
  };

  /** A name for an index built of unchanging values only; null when it must be computed anew. */
  const keyOf = (e: Expr): string | null => {
    switch (e.e) {
      case "const":
        return String(e.value);
      case "ref":
        return local(e.name).fixed ? `%${local(e.name).local}` : null;
      case "op": {
        const keys = e.args.map(keyOf);
        return e.args.length <= 2 && keys.every((k) => k !== null) ? `${e.op}(${keys.join(",")})` : null;
      }
      default:
        return null;
    }
  };

  /** Leaves an address on the stack and returns the offset that belongs to it. */
  const address = (c: Code, scope: Scope, from: string, index: Expr): number => {
    const place = pointers.get(from) ?? fail(`no array '${from}'`);
    const { rest, constant } = foldable(place, index);
    const offset = place.offset + 4 * constant;
    const pointer = () => (place.local === null ? c.op("i32.const", 0) : c.get(place.local));
    if (rest === null) {
      pointer();
      return offset;
    }
    const key = keyOf(rest);
    // Arrays in scratch share one pointer, so an index into any of them serves all.
    const full = key === null ? null : `${place.local ?? "-"} ${key}`;
    if (full !== null) {
      for (let s: Scope | null = scope; s !== null; s = s.outer) {
        const known = s.addresses.get(full);
        if (known !== undefined) {
          c.get(known);
          return offset;
        }
      }
    }
    if (place.local !== null) pointer();
    value(c, scope, rest);
    c.op("i32.const", 2);
    c.op("i32.shl");
    if (place.local !== null) c.op("i32.add");
    if (full !== null) {
      const kept = locals.fresh("i32");
      c.tee(kept);
      scope.addresses.set(full, kept);
    }
    return offset;
  };

  /** A scalar that a vector operand broadcasts, or null. */
  const splatted = (e: Expr | undefined): Expr | null =>
    e?.e === "op" && e.op === "splat" ? (e.args[0] ?? null) : null;

  const value = (c: Code, scope: Scope, e: Expr): void => {
    switch (e.e) {
      case "const":
        if (e.type === "f32") c.op("f32.const", e.value);
        else c.op("i32.const", e.value);
        return;
      case "ref":
        c.get(local(e.name).local);
        return;
      case "builtin":
        if (e.name === "lane") c.op("i32.const", 0);
        else c.get(group ?? fail("no group"));
        return;
      case "load": {
        const offset = address(c, scope, e.from, e.index);
        c.op(isVector(e.type) ? "v128.load" : e.type === "f32" ? "f32.load" : "i32.load", offset);
        return;
      }
      case "op":
        operation(c, scope, e);
    }
  };

  const operation = (c: Code, scope: Scope, e: Extract<Expr, { e: "op" }>): void => {
    const args = e.args;
    const [a, b, d] = args;
    if (a === undefined) return fail(`'${e.op}' without operands`);
    const vector = isVector(a.type);
    const scalar: Scalar = scalarOf(a.type);
    const each = () => args.forEach((x) => value(c, scope, x));
    switch (e.op) {
      case "splat":
        if (a.e === "load" && !isVector(a.type)) {
          const offset = address(c, scope, a.from, a.index);
          return c.op("v128.load32_splat", offset);
        }
        if (a.type === "bool") {
          // A lane's mask is all ones: −1.
          c.op("i32.const", 0);
          value(c, scope, a);
          c.op("i32.sub");
          return c.op("i32x4.splat");
        }
        break;
      case "div":
      case "rem":
        if (a.type === "i32x4" && b !== undefined) return divide(c, scope, e.op, a, b);
        break;
      case "madd":
        if (b === undefined || d === undefined) return fail("madd takes three operands");
        if (vector && options.relaxed) {
          each();
          return c.op("f32x4.relaxed_madd");
        }
        value(c, scope, a);
        value(c, scope, b);
        c.op(vector ? "f32x4.mul" : "f32.mul");
        value(c, scope, d);
        return c.op(vector ? "f32x4.add" : "f32.add");
      case "select":
        if (b === undefined || d === undefined) return fail("select takes three operands");
        value(c, scope, b);
        value(c, scope, d);
        value(c, scope, a);
        return isVector(a.type) ? c.op("v128.bitselect") : c.select();
      case "iota":
        value(c, scope, a);
        c.op("i32x4.splat");
        c.op("v128.const", 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0);
        return c.op("i32x4.add");
      case "shuffle":
        each();
        return c.op(
          "i8x16.shuffle",
          ...(e.imm ?? []).flatMap((l) => [4 * l, 4 * l + 1, 4 * l + 2, 4 * l + 3]),
        );
      case "lane":
        if (a.e === "load")
          return c.op("f32.load", address(c, scope, a.from, a.index) + 4 * (e.imm?.[0] ?? 0));
        value(c, scope, a);
        return c.op("f32x4.extract_lane", e.imm?.[0] ?? 0);
      case "shl":
      case "shr":
        if (vector) {
          const by = splatted(b) ?? fail(`'${e.op}' of a vector shifts all lanes alike`);
          value(c, scope, a);
          value(c, scope, by);
          return c.op(e.op === "shl" ? "i32x4.shl" : "i32x4.shr_s");
        }
        break;
      case "bits":
      case "unbits":
        if (vector) return value(c, scope, a);
        break;
      case "neg":
        if (scalar === "i32" && !vector) {
          c.op("i32.const", 0);
          value(c, scope, a);
          return c.op("i32.sub");
        }
        break;
      case "min":
      case "max":
        if (scalar === "i32" && !vector && b !== undefined) {
          const [x, y] = [a, b].map((operand) => {
            const kept = locals.fresh("i32");
            value(c, scope, operand);
            c.set(kept);
            return kept;
          });
          if (x === undefined || y === undefined) return;
          for (const l of [x, y, x, y]) c.get(l);
          c.op(e.op === "min" ? "i32.lt_s" : "i32.gt_s");
          return c.select();
        }
        break;
      default:
        break;
    }
    const form = direct[e.op]?.[scalar];
    const instruction = vector ? form?.four : form?.one;
    if (instruction === undefined) return fail(`no '${e.op}' of ${a.type}: legalize first`);
    each();
    c.op(instruction);
  };

  /** WebAssembly divides no integer vectors. */
  const divide = (c: Code, scope: Scope, op: "div" | "rem", a: Expr, b: Expr): void => {
    const [x, y] = [locals.fresh("v128"), locals.fresh("v128")];
    value(c, scope, a);
    c.set(x);
    value(c, scope, b);
    c.set(y);
    c.get(x);
    for (let lane = 0; lane < 4; lane++) {
      for (const operand of [x, y]) {
        c.get(operand);
        c.op("i32x4.extract_lane", lane);
      }
      c.op(op === "div" ? "i32.div_u" : "i32.rem_u");
      c.op("i32x4.replace_lane", lane);
    }
  };

  return { local, address, value };
}
