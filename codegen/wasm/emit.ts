/**
 * A legal kernel as a WebAssembly function: `(begin, end, scratch, …buffer pointers, …scalars)` runs groups begin … end−1.
 *
 * Shared arrays lie in the caller's scratch memory, tables at fixed low addresses. An address is pointer + 4·index; the
 * constant part of an index goes into the instruction's offset, and the rest is computed once per straight piece of code
 * and array, so that a loop's many accesses around one index share a local.
 */
import type { Expr, Kernel, Op, Scalar, Stmt, Type } from "../../src/kernel.ts";
import { isVector, scalarOf } from "../../src/expr.ts";
import { codeOf, localsOf, type Code, type Locals, type ValType } from "./encode.ts";
import { sizeOfBody, surroundings } from "./outline.ts";
import { direct, special } from "./table.ts";

const valType = (type: Type): ValType => (isVector(type) ? "v128" : type === "f32" ? "f32" : "i32");
const fail = (why: string): never => {
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

/** Where tables lie, and the layout of a thread's scratch memory. */
export type Placement = { readonly tables: ReadonlyMap<string, number> };
export type Emitted = {
  readonly params: readonly ValType[];
  readonly locals: readonly ValType[];
  readonly bytes: readonly number[];
  /** Bytes of scratch memory. */
  readonly scratch: number;
};

type Scope = { readonly addresses: Map<string, number>; readonly outer: Scope | null };

/** What a function body may refer to: values in locals, arrays by pointer. */
type Frame = {
  readonly named: Map<string, { readonly local: number; readonly fixed: boolean; readonly type: Type }>;
  readonly pointers: Map<string, { readonly local: number | null; readonly offset: number }>;
  readonly locals: Locals;
  /** Local that holds the group's index. */
  readonly group: number | null;
};

/**
 * Functions shared by the kernels of a module. V8 allocates registers badly in functions of more than 8192 virtual
 * registers, so loop nests become functions of their own; equal ones are written once.
 */
export type Outlined = {
  readonly first: number;
  readonly functions: Emitted[];
  readonly index: Map<string, number>;
};
export const newOutlined = (first: number): Outlined => ({ first, functions: [], index: new Map() });

/** Every pointer that a kernel is called with must be at least this: the constants of indices are folded up to here. */
export const FOLDED = 65536;

/** Loop nests up to this many statements are outlined; larger ones are walked for smaller ones inside. */
const OUTLINE = 160;

export function emitFunction(
  kernel: Kernel,
  placement: Placement,
  outlined: Outlined,
  options: { readonly relaxed: boolean },
): Emitted {
  if (kernel.workgroup !== 1) fail(`'${kernel.name}' has ${kernel.workgroup} lanes, a thread is one`);
  const params: ValType[] = ["i32", "i32", "i32"];
  const named: Frame["named"] = new Map();
  const pointers: Frame["pointers"] = new Map();
  for (const b of kernel.buffers) {
    if (b.dtype !== "f32" && b.dtype !== "i32")
      fail(`'${kernel.name}' has a buffer of ${b.dtype}: widen it at load`);
    pointers.set(b.name, { local: params.length, offset: 0 });
    params.push("i32");
  }
  for (const s of kernel.scalars) {
    named.set(s.name, { local: params.length, fixed: true, type: s.type });
    params.push(s.type);
  }
  let scratch = 0;
  for (const s of kernel.shared) {
    pointers.set(s.name, { local: 2, offset: scratch });
    scratch += 4 * s.length;
  }
  for (const t of kernel.tables)
    pointers.set(t.name, {
      local: null,
      offset: placement.tables.get(t.name) ?? fail(`no place for table '${t.name}'`),
    });
  const locals = localsOf(params);
  const group = locals.fresh("i32");
  const body = emitBody(kernel.body, { named, pointers, locals, group }, outlined, options);
  body.get(group);
  body.op("i32.const", 1);
  body.op("i32.add");
  body.tee(group);
  body.get(1);
  body.op("i32.lt_s");
  const loop = codeOf(locals);
  loop.repeat(body);
  const c = codeOf(locals);
  c.get(0);
  c.set(group);
  c.get(0);
  c.get(1);
  c.op("i32.lt_s");
  c.when(loop);
  return { params, locals: locals.types.slice(locals.params), bytes: c.bytes, scratch };
}

function emitBody(
  statements: readonly Stmt[],
  frame: Frame,
  outlined: Outlined | null,
  options: { readonly relaxed: boolean },
): Code {
  const { named, pointers, locals, group } = frame;
  const local = (name: string) => named.get(name) ?? fail(`no value '${name}'`);
  const isConst = (e: Expr): e is Extract<Expr, { e: "const" }> => e.e === "const";

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

  const declare = (c: Code, scope: Scope, name: string, e: Expr, fixed: boolean): void => {
    value(c, scope, e);
    const kept = locals.fresh(valType(e.type));
    named.set(name, { local: kept, fixed, type: e.type });
    c.set(kept);
  };

  const block = (body: readonly Stmt[], outer: Scope | null): Code => {
    const scope: Scope = { addresses: new Map(), outer };
    const c = codeOf(locals);
    for (const s of body) statement(c, scope, s);
    return c;
  };

  const statement = (c: Code, scope: Scope, s: Stmt): void => {
    switch (s.s) {
      case "let":
        return declare(c, scope, s.name, s.value, true);
      case "var":
        return declare(c, scope, s.name, s.value, false);
      case "set":
        value(c, scope, s.value);
        return c.set(local(s.name).local);
      case "store": {
        const offset = address(c, scope, s.to, s.index);
        value(c, scope, s.value);
        const type = s.value.type;
        return c.op(isVector(type) ? "v128.store" : type === "f32" ? "f32.store" : "i32.store", offset);
      }
      case "for": {
        if (outlined !== null && outline(c, s, outlined)) return;
        const counter = locals.fresh("i32");
        const to = isConst(s.to) ? null : locals.fresh("i32");
        value(c, scope, s.from);
        c.set(counter);
        if (to !== null) {
          value(c, scope, s.to);
          c.set(to);
        }
        const limit = (k: Code) => (to === null ? value(k, scope, s.to) : k.get(to));
        named.set(s.name, { local: counter, fixed: true, type: "i32" });
        const body = block(s.body, scope);
        body.get(counter);
        body.op("i32.const", s.step);
        body.op("i32.add");
        body.tee(counter);
        limit(body);
        body.op("i32.lt_s");
        const loop = codeOf(locals);
        loop.repeat(body);
        if (isConst(s.from) && isConst(s.to)) {
          if (s.from.value < s.to.value) c.append(loop);
          return;
        }
        c.get(counter);
        limit(c);
        c.op("i32.lt_s");
        return c.when(loop);
      }
      case "if":
        value(c, scope, s.cond);
        return c.when(block(s.then, scope), s.else === undefined ? undefined : block(s.else, scope));
      case "barrier":
      case "comment":
        return;
    }
  };

  /** Calls the loop as a function of what it uses, when it changes nothing but memory. */
  const outline = (c: Code, loop: Extract<Stmt, { s: "for" }>, into: Outlined): boolean => {
    if (sizeOfBody([loop]) > OUTLINE) return false;
    const used = surroundings(loop);
    if (used.sets) return false;
    const params: ValType[] = [];
    const inner: Frame["named"] = new Map();
    const arrays: Frame["pointers"] = new Map();
    const pass = (outer: number, type: ValType): number => {
      c.get(outer);
      params.push(type);
      return params.length - 1;
    };
    const passed = new Map<number, number>();
    for (const name of used.arrays) {
      const place = pointers.get(name) ?? fail(`no array '${name}'`);
      if (place.local === null) {
        arrays.set(name, place);
        continue;
      }
      const at = passed.get(place.local) ?? pass(place.local, "i32");
      passed.set(place.local, at);
      arrays.set(name, { local: at, offset: place.offset });
    }
    for (const name of used.names) {
      const outer = local(name);
      // Its value cannot change while the call runs, so it is fixed inside.
      inner.set(name, { local: pass(outer.local, valType(outer.type)), fixed: true, type: outer.type });
    }
    const inGroup = used.group ? pass(group ?? fail("no group"), "i32") : null;
    const fresh = localsOf(params);
    const body = emitBody(
      [loop],
      { named: inner, pointers: arrays, locals: fresh, group: inGroup },
      null,
      options,
    );
    const made: Emitted = { params, locals: fresh.types.slice(fresh.params), bytes: body.bytes, scratch: 0 };
    const key = `${made.params.join()};${made.locals.join()};${made.bytes.join()}`;
    let index = into.index.get(key);
    if (index === undefined) {
      index = into.first + into.functions.length;
      into.functions.push(made);
      into.index.set(key, index);
    }
    c.call(index, params);
    return true;
  };

  return block(statements, null);
}
export { emitModule } from "./module.ts";
