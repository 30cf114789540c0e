/**
 * A kernel as the text of a JavaScript function with every check inlined. One call runs one group.
 *
 * Barriers stand in uniform control flow, so no coroutines are needed: a block that contains a barrier is run in lock
 * step (each maximal run of other statements as one loop over the lanes, names kept per lane), everything else lane
 * by lane with plain locals. An exchange is a barrier for values alone: memory is not ordered, so the epoch stays.
 *
 * V8 does not optimise functions past some 60 kB of bytecode, so long loops move into functions of their own.
 */
import { lanesOf, scalarOf } from "../expr.ts";
import type { Expr, Kernel, Stmt, Type } from "../kernel.ts";
import { place } from "../show/place.ts";
import { arraysOf } from "./arrays.ts";
import { defined, notNaN, translator, uses } from "./expression.ts";
import type { Script, Value } from "./expression.ts";
import type { FailureKind, Site } from "./failure.ts";

export type Compiled = {
  /** The body of a function of `env`, returning `(group) => void`. */
  readonly text: string;
  readonly sites: readonly Site[];
  /** Numbers that functions of their own hand back at most: the length of `env.out`. */
  readonly out: number;
};

/** Characters of a loop beyond which it becomes a function. */
const LONG = 16_000;

/** Whether lanes wait for each other in a statement. */
const meets = (s: Stmt): boolean =>
  s.s === "barrier" ||
  s.s === "exchange" ||
  (s.s === "for" && s.body.some(meets)) ||
  (s.s === "if" && (s.then.some(meets) || (s.else ?? []).some(meets)));

type Local = { readonly type: Type; readonly value: Value };

export function script(kernel: Kernel, checkGroups: boolean): Compiled {
  const W = kernel.workgroup;
  const sites: Site[] = [];
  const functions: string[] = [];
  let lines: string[] = [];
  let counter = 0;
  let path = "";
  let handed = 0;
  /** JavaScript locals in sight, in order; and those of them that are assigned. */
  const visible: string[] = ["g", "l", "epoch", "serial"];
  /** Constants at the head of the function, in sight everywhere. */
  const constants: string[] = [];
  const mutable = new Map<string, Type>();
  const names = new Map<string, Local>();
  const safe = new Set<string>();

  const fresh = (hint: string) => `${hint.replace(/[^A-Za-z0-9]/g, "_")}_${counter++}`;
  const declare = (hint: string) => {
    const js = fresh(hint);
    visible.push(js);
    return js;
  };
  const line = (text: string) => void lines.push(text);
  const fail = (kind: FailureKind, text: string, ...values: string[]) =>
    `fail(${sites.push({ kind, path, text }) - 1}, g, l, [${values.join(", ")}]);`;
  const bind = (value: string, hint: string) => {
    const js = declare(hint);
    line(`const ${js} = ${value};`);
    return js;
  };

  const head: string[] = [];
  const local = (hint: string, value: string) => {
    const js = fresh(hint);
    constants.push(js);
    head.push(`const ${js} = ${value};`);
    return js;
  };
  // --- expressions ----------------------------------------------------------------------------------------------
  const arrays = arraysOf(kernel, checkGroups, { line, bind, fail, local, head, safe });
  const S: Script = {
    line,
    bind,
    fail,
    safe,
    lookup: (name) => {
      const found = names.get(name);
      if (found === undefined)
        throw new Error(
          `heddle: internal: kernel '${kernel.name}' uses '${name}' before its definition (${path})`,
        );
      return found.value;
    },
    builtin: (name) => (name === "group" ? "g" : W === 1 ? "0" : "l"),
    read: arrays.read,
  };
  const translate = (...roots: Expr[]) => translator(S, uses(roots));

  for (const p of kernel.scalars)
    names.set(p.name, { type: p.type, value: [local(p.name, `env.scalars[${JSON.stringify(p.name)}]`)] });

  // --- statements -----------------------------------------------------------------------------------------------
  const lanes = (t: Type) => Array.from({ length: lanesOf(t) }, (_, k) => k);
  const array = { f32: "Float32Array", i32: "Int32Array", bool: "Uint8Array" };
  const perLane: string[] = [];

  /** Gives a name to a value: as locals, or one array element per lane where its block runs in lock step. */
  const define = (name: string, e: Expr, v: Value, locked: boolean, changes: boolean) => {
    const isBool = scalarOf(e.type) === "bool";
    const value = lanes(e.type).map((k) => {
      const text = v[k]!;
      // A constant needs no second name; a `var` does, since it may change later.
      if (!locked && !changes && /^\w+$/.test(text) && !mutable.has(text)) return text;
      if (!locked) {
        const js = declare(name);
        line(`${changes ? "let" : "const"} ${js} = ${text};`);
        if (changes) mutable.set(js, e.type);
        return js;
      }
      const js = local(name, `env.perLane[${perLane.push(`new ${array[scalarOf(e.type)]}(${W})`) - 1}]`);
      line(`${js}[l] = ${isBool ? `${text} ? 1 : 0` : text};`);
      return isBool ? `(${js}[l] !== 0)` : `${js}[l]`;
    });
    names.set(name, { type: e.type, value });
  };
  const assign = (name: string, e: Expr, v: Value) => {
    const to = S.lookup(name);
    // All lanes are computed before the first is overwritten.
    const values = v.length === 1 ? v : v.map((x) => bind(x, "t"));
    to.forEach((js, k) => {
      const cell = /^\((.*) !== 0\)$/.exec(js)?.[1];
      line(cell === undefined ? `${js} = ${values[k]};` : `${cell} = ${values[k]} ? 1 : 0;`);
    });
    to.forEach((js) => S.safe.delete(js));
    notNaN(S, e, to);
  };

  /** Runs `emit` and returns its lines instead of adding them; what it declares goes out of sight again. */
  const apart = (emit: () => void): string[] => {
    const [outer, sight, known] = [lines, visible.length, new Map(names)];
    lines = [];
    emit();
    const own = lines;
    lines = outer;
    visible.length = sight;
    names.clear();
    known.forEach((v, k) => names.set(k, v));
    return own;
  };

  /** Adds a loop, as a function of its own when it is long. */
  const add = (own: readonly string[]) => {
    const text = own.join("\n");
    if (text.length < LONG) return line(text);
    const used = new Set(text.match(/[A-Za-z_]\w*/g));
    const free = [...constants, ...visible].filter((v) => used.has(v));
    const changed = free.filter((v) => mutable.has(v) && text.includes(`${v} = `));
    const name = `part_${counter++}`;
    handed = Math.max(handed, changed.length);
    const out = changed.map((v, i) => `out[${i}] = ${v};`).join(" ");
    functions.push(`function ${name}(${free.join(", ")}) {\n${text}\n${out}\n}`);
    line(`${name}(${free.join(", ")});`);
    changed.forEach((v, i) => {
      const kind = scalarOf(mutable.get(v)!);
      line(
        `${v} = ${kind === "f32" ? `fround(out[${i}])` : kind === "i32" ? `out[${i}] | 0` : `out[${i}] !== 0`};`,
      );
    });
  };

  const block = (parent: string, stmts: readonly Stmt[], inLane: boolean) => {
    const at = (i: number) => void (path = place(parent, i, stmts[i]!));
    if (inLane || W === 1)
      return stmts.forEach((s, i) => {
        at(i);
        statement(s, false);
      });
    for (let i = 0; i < stmts.length;) {
      at(i);
      const s = stmts[i]!;
      if (meets(s)) {
        together(s);
        i++;
        continue;
      }
      const start = i;
      while (i < stmts.length && !meets(stmts[i]!)) i++;
      const end = i;
      const before = lines;
      lines = [];
      const sight = visible.length;
      for (let j = start; j < end; j++) {
        at(j);
        statement(stmts[j]!, true);
      }
      const own = lines;
      lines = before;
      visible.splice(sight);
      add([`for (let l = 0; l < ${W}; l++) {`, ...own, "}"]);
    }
  };

  const statement = (s: Stmt, locked: boolean) => {
    const here = path;
    switch (s.s) {
      case "let":
      case "var": {
        define(s.name, s.value, translate(s.value)(s.value), locked, s.s === "var");
        return notNaN(S, s.value, S.lookup(s.name));
      }
      case "set":
        return assign(s.name, s.value, translate(s.value)(s.value));
      case "store": {
        if (!arrays.writable(s.to)) return line(fail("access", `stores to '${s.to}', which is only read`));
        const value = translate(s.index, s.value);
        const index = value(s.index)[0]!;
        const i = /^\w+$/.test(index) ? index : bind(index, "i");
        return arrays.write(s.to, i, defined(S, s.value, value(s.value)));
      }
      case "for": {
        const value = translate(s.from, s.to);
        const [from, to] = [bind(value(s.from)[0]!, "from"), bind(value(s.to)[0]!, "to")];
        return add(
          apart(() => {
            const js = declare(s.name);
            names.set(s.name, { type: "i32", value: [js] });
            line(`for (let ${js} = ${from}; ${js} < ${to}; ${js} += ${s.step}) {`);
            block(here, s.body, true);
            line("}");
          }),
        );
      }
      case "if": {
        line(`if (${translate(s.cond)(s.cond)[0]!}) {`);
        apart(() => block(here, s.then, true)).forEach(line);
        if (s.else !== undefined) {
          line("} else {");
          apart(() => block(here, s.else!, true)).forEach(line);
        }
        return line("}");
      }
      case "exchange":
        line(fail("uniform", "an exchange in a group of one lane"));
        names.set(s.name, { type: s.value.type, value: lanes(s.value.type).map(() => "0") });
        return;
      // With one lane there is nobody to wait for.
      case "barrier":
      case "comment":
        return;
    }
  };

  /** Lanes hand each other a value: all give theirs before the first takes another's. */
  const swap = (s: Extract<Stmt, { s: "exchange" }>) => {
    if (W % 4 !== 0) line(fail("uniform", `an exchange among ${W} lanes, which is no multiple of four`));
    const given = lanes(s.value.type).map(() =>
      local(s.name, `env.perLane[${perLane.push(`new ${array[scalarOf(s.value.type)]}(${W})`) - 1}]`),
    );
    const own = apart(() => {
      const value = defined(S, s.value, translate(s.value)(s.value));
      given.forEach((js, k) => line(`${js}[l] = ${value[k]!};`));
    });
    add([`for (let l = 0; l < ${W}; l++) {`, ...own, "}"]);
    names.set(s.name, { type: s.value.type, value: given.map((js) => `${js}[l ^ ${s.mask}]`) });
  };

  /** A statement in which lanes wait for each other: its condition or bounds must be the same for every lane. */
  const together = (s: Stmt) => {
    const here = path;
    const agree = (roots: readonly Expr[], what: string): string[] => {
      const shared = roots.map(() => declare("u"));
      line(`let ${shared.join(", ")};`);
      const own = apart(() => {
        const value = translate(...roots);
        const mine = roots.map((e) => bind(value(e)[0]!, "mine"));
        line(`if (l === 0) { ${shared.map((u, i) => `${u} = ${mine[i]};`).join(" ")} }`);
        const differs = shared.map((u, i) => `${u} !== ${mine[i]}`).join(" || ");
        line(
          `else if (${differs}) ${fail("uniform", `lanes disagree on ${what}, which has a barrier or an exchange inside`)}`,
        );
      });
      line([`for (let l = 0; l < ${W}; l++) {`, ...own, "}"].join("\n"));
      return shared;
    };
    switch (s.s) {
      case "barrier":
        return line("epoch++;");
      case "exchange":
        return swap(s);
      case "for": {
        const [from, to] = agree([s.from, s.to], "the bounds of a loop");
        return void apart(() => {
          const js = declare(s.name);
          names.set(s.name, { type: "i32", value: [js] });
          line(`for (let ${js} = ${from}; ${js} < ${to}; ${js} += ${s.step}) {`);
          block(here, s.body, false);
          line("}");
        }).forEach((text) => line(text));
      }
      case "if": {
        const [cond] = agree([s.cond], "the condition of an if");
        line(`if (${cond}) {`);
        apart(() => block(here, s.then, false)).forEach(line);
        if (s.else !== undefined) {
          line("} else {");
          apart(() => block(here, s.else!, false)).forEach(line);
        }
        return line("}");
      }
      default:
        throw new Error(`heddle: internal: '${s.s}' cannot contain a barrier`);
    }
  };

  block("", kernel.body, false);

  const text = [
    `"use strict";`,
    "const { fail, out, fround, imul, min, max, abs, sqrt, floor, log2, nearest, bitsOf, unbitsOf, toF16, toBf16 } = env;",
    "const { laneReads, laneWrites, groupReads, groupWrites } = env;",
    `env.perLane = [${perLane.join(", ")}];`,
    "let serial = 0, clock = 0;",
    ...functions,
    "return (g) => {",
    "const l = 0;",
    "serial++;",
    "let epoch = ++clock;",
    ...head,
    ...lines,
    "clock = epoch;",
    "};",
  ].join("\n");
  return { text, sites, out: handed };
}
