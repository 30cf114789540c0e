/** How the script of a kernel reads and writes its arrays: every check around an access, and the access. */
import type { Expr, Kernel, Stmt, Width } from "../kernel.ts";
import type { Script, Value } from "./expression.ts";

/** What an access needs from the script it is part of. */
export type Pen = Pick<Script, "line" | "bind" | "fail" | "safe"> & {
  /** A constant at the head of the function. */
  readonly local: (hint: string, value: string) => string;
  readonly head: string[];
};

export type Arrays = {
  readonly read: Script["read"];
  readonly write: (to: string, index: string, values: Value) => void;
  readonly writable: (name: string) => boolean;
};

/** The names that are loaded from anywhere in a kernel. */
function loadedFrom(stmts: readonly Stmt[]): ReadonlySet<string> {
  const names = new Set<string>();
  const seen = new Set<Expr>();
  const expr = (e: Expr) => {
    if (seen.has(e)) return;
    seen.add(e);
    if (e.e === "load") {
      names.add(e.from);
      expr(e.index);
    } else if (e.e === "op") e.args.forEach(expr);
  };
  const walk = (s: Stmt) => {
    if (s.s === "for") [s.from, s.to].forEach(expr);
    if (s.s === "if") expr(s.cond);
    if (s.s === "store") expr(s.index);
    if ("value" in s) expr(s.value);
    if (s.s === "for") s.body.forEach(walk);
    if (s.s === "if") [...s.then, ...(s.else ?? [])].forEach(walk);
  };
  stmts.forEach(walk);
  return names;
}

/** How an array is reached: its JavaScript name, and which logs are kept of it. */
type Memory = {
  readonly js: string;
  readonly length: string;
  readonly kind: "buffer" | "table" | "shared";
  readonly type: "f32" | "i32";
  readonly narrow: "toF16" | "toBf16" | undefined;
  readonly writable: boolean;
  readonly lanes: string | undefined;
  readonly groups: string | undefined;
  /** Set where an unwritten element is not recognisable by being NaN. */
  readonly stamps: string | undefined;
};

export function arraysOf(kernel: Kernel, checkGroups: boolean, pen: Pen): Arrays {
  const { line, bind, fail, local } = pen;
  const W = kernel.workgroup;
  const memory = new Map<string, Memory>();
  const key = (name: string) => `[${JSON.stringify(name)}]`;
  const loaded = loadedFrom(kernel.body);
  for (const b of kernel.buffers) {
    const js = local(b.name, `env.buffers${key(b.name)}`);
    const written = b.access !== "read";
    const groups = written && (checkGroups || (b.access === "write" && loaded.has(b.name)));
    memory.set(b.name, {
      js,
      length: local(`${b.name}_length`, `${js}.length`),
      kind: "buffer",
      type: b.dtype === "i32" ? "i32" : "f32",
      narrow: b.dtype === "f16" ? "toF16" : b.dtype === "bf16" ? "toBf16" : undefined,
      writable: written,
      lanes: written && W > 1 ? local(`${b.name}_lanes`, `env.laneLog${key(b.name)}`) : undefined,
      groups: groups ? local(`${b.name}_groups`, `env.groupLog${key(b.name)}`) : undefined,
      stamps: undefined,
    });
  }
  const unwritten = new Set(kernel.buffers.filter((b) => b.access === "write").map((b) => b.name));
  for (const t of kernel.tables)
    memory.set(t.name, {
      js: local(t.name, `env.tables${key(t.name)}`),
      length: String(t.values.length),
      kind: "table",
      type: t.type,
      narrow: undefined,
      writable: false,
      lanes: undefined,
      groups: undefined,
      stamps: undefined,
    });
  for (const s of kernel.shared) {
    const js = local(s.name, `env.shared${key(s.name)}`);
    memory.set(s.name, {
      js,
      length: String(s.length),
      kind: "shared",
      type: s.type,
      narrow: undefined,
      writable: true,
      lanes: W > 1 ? local(`${s.name}_lanes`, `env.laneLog${key(s.name)}`) : undefined,
      groups: undefined,
      stamps: s.type === "i32" ? local(`${s.name}_stamps`, `env.stamps${key(s.name)}`) : undefined,
    });
    // A NaN is never stored, so in f32 it marks what nobody wrote.
    if (s.type === "f32") pen.head.push(`${js}.fill(NaN);`);
  }
  const arrayOf = (name: string): Memory => {
    const m = memory.get(name);
    if (m === undefined)
      throw new Error(`heddle: internal: kernel '${kernel.name}' knows no array '${name}'`);
    return m;
  };
  const inside = (name: string, m: Memory, index: string, count: 1 | Width, verb: string) => {
    const what = count === 1 ? "{0}" : `{0} … {0} + ${count - 1}`;
    line(
      `if (${index} < 0 || ${index} ${count === 1 ? "" : `+ ${count - 1} `}>= ${m.length}) ${fail("bounds", `${verb} '${name}' at ${what}, which has {1} elements`, index, m.length)}`,
    );
  };
  const elements = (index: string, count: 1 | Width) =>
    Array.from({ length: count }, (_, k) => (k === 0 ? index : `${index} + ${k}`));
  const meet = (name: string, m: Memory, index: string, count: 1 | Width, verb: "Reads" | "Writes") => {
    const text = verb === "Reads" ? `reads '${name}' at {0}, written` : `writes '${name}' at {0}, touched`;
    for (const i of elements(index, count)) {
      if (m.lanes !== undefined)
        line(
          `if (lane${verb}(${m.lanes}, ${i}, l, epoch)) ${fail("race", `${text} by another lane since the last barrier`, i)}`,
        );
      if (m.groups !== undefined && checkGroups)
        line(
          `if (group${verb}(${m.groups}, ${i}, g)) ${fail("race", `${text} by another group of this launch`, i)}`,
        );
    }
  };

  const read: Arrays["read"] = (from, index, count) => {
    const m = arrayOf(from);
    inside(from, m, index, count, "reads");
    meet(from, m, index, count, "Reads");
    const at = elements(index, count);
    const none = (unknown: string) =>
      line(
        `if (${unknown}) ${fail("uninitialised", `reads '${from}' at ${count === 1 ? "{0}" : `{0} … {0} + ${count - 1}`}, which nobody wrote`, index)}`,
      );
    if (unwritten.has(from)) none(at.map((i) => `${m.groups}.writer[${i}] === -1`).join(" || "));
    if (m.stamps !== undefined) none(at.map((i) => `${m.stamps}[${i}] !== serial`).join(" || "));
    if (m.kind !== "shared" || m.type !== "f32") return at.map((i) => `${m.js}[${i}]`);
    const values = at.map((i) => bind(`${m.js}[${i}]`, from));
    none(values.map((v) => `${v} !== ${v}`).join(" || "));
    values.forEach((v) => pen.safe.add(v));
    return values;
  };

  const write = (to: string, index: string, given: Value) => {
    const m = arrayOf(to);
    const count = given.length as 1 | Width;
    // All lanes are computed before the first is overwritten.
    const values = given.map((v) => (count === 1 || /^\w+$/.test(v) ? v : bind(v, "t")));
    inside(to, m, index, count, "writes");
    meet(to, m, index, count, "Writes");
    elements(index, count).forEach((i, k) => {
      if (m.stamps !== undefined) line(`${m.stamps}[${i}] = serial;`);
      if (m.groups !== undefined && !checkGroups) line(`${m.groups}.writer[${i}] = g;`);
      line(`${m.js}[${i}] = ${m.narrow === undefined ? values[k] : `${m.narrow}(${values[k]})`};`);
    });
  };

  return { read, write, writable: (name) => arrayOf(name).writable };
}
