/**
 * A legal kernel as a WebAssembly function: `(begin, end, scratch, …buffer pointers, …scalars)` runs groups begin … end−1.
 * Shared arrays lie in the caller's scratch memory, tables at fixed low addresses.
 */
import type { Expr, Kernel, Stmt } from "../../src/kernel.ts";
import { isVector } from "../../src/expr.ts";
import { codeOf, localsOf, type Code, type ValType } from "./encode.ts";
import { sizeOfBody, surroundings } from "./outline.ts";
import { expressionsOf, fail, isConst, valType, type Frame, type Scope } from "./value.ts";

/** Where tables lie, and the layout of a thread's scratch memory. */
export type Placement = { readonly tables: ReadonlyMap<string, number> };
export type Emitted = {
  readonly params: readonly ValType[];
  readonly locals: readonly ValType[];
  readonly bytes: readonly number[];
  /** Bytes of scratch memory. */
  readonly scratch: number;
};

/**
 * Functions shared by the kernels of a module. Loop nests become functions of their own, equal ones written once: very large
 * functions run badly on V8 (`class` at 5 instead of 26 GFLOP/s before this), presumably by its cheaper register allocation.
 */
export type Outlined = {
  readonly first: number;
  readonly functions: Emitted[];
  readonly index: Map<string, number>;
};
export const newOutlined = (first: number): Outlined => ({ first, functions: [], index: new Map() });

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
  const { local, address, value } = expressionsOf(frame, options);

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
      case "exchange":
        throw new Error(
          `heddle: internal: wasm: a thread is one lane and has nobody to exchange '${s.name}' with`,
        );
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
