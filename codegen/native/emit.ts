/**
 * Legal kernels as one translation unit of C. A kernel is a function that runs groups begin … end − 1 with one thread's scratch
 * memory; what it is called with is the same for all, so that a runtime needs one signature only (`KernelFunction` in
 * runtime/native/cpu/team.c).
 */
import { isVector, lanesOf, widened } from "../../src/expr.ts";
import type { Expr, Kernel, Type } from "../../src/kernel.ts";
import { within } from "../clike/expression.ts";
import { bodyOf, indent } from "../clike/statement.ts";
import { namesAvoiding, wordsOf } from "../names.ts";
import { expressionsIn } from "../rewrite.ts";
import { constantText, functionOf, functionsIn, printer, typeText } from "./expression.ts";
import { prelude, type Called } from "./prelude.ts";

const KEYWORDS = wordsOf(`
auto break case char const continue default do double else enum extern float for goto if inline int long register restrict return short
signed sizeof static struct switch typedef union unsigned void volatile while asm typeof bool true false main linux unix`);
/** The text around a kernel's body. */
const OWN = wordsOf("begin end group scratch buffers scalars word INLINE MADD");

export type NativeText = {
  readonly code: string;
  /** Bytes of scratch memory of one thread, the most that any kernel takes. */
  readonly scratchBytes: number;
};

export type TitledKernel = {
  readonly kernel: Kernel;
  /** First line, for a reader. */
  readonly title: string;
  /** What becomes of the kernel's own comments. */
  readonly comment?: (text: string) => string;
};

/** How tightly a sum binds. */
const SUM = 5;

/** index = rest + constant, the constant ≥ 0. */
function split(index: Expr): { readonly rest: Expr | null; readonly constant: number } {
  if (index.e === "const") return { rest: null, constant: index.value };
  if (index.e === "op" && index.op === "add") {
    const [a, b] = index.args;
    const [term, c] = b?.e === "const" ? [a, b] : [b, a];
    if (term !== undefined && c?.e === "const" && c.value >= 0) {
      const inner = split(term);
      return { rest: inner.rest, constant: inner.constant + c.value };
    }
  }
  return { rest: index, constant: 0 };
}

/** Tiles start at cache lines, so that no vector of an even tile lies across two. */
const LINE = 64;

export function emitNative(kernels: readonly TitledKernel[], heading: string): NativeText {
  const called: Called[] = [];
  const emitted = kernels.map((k) => emitKernel(k, called));
  const code = [
    `// ${heading}`,
    ...prelude(called),
    "",
    "typedef union { int i; float f; } word;",
    ...emitted.flatMap(({ lines }) => ["", ...lines]),
    "",
  ].join("\n");
  return { code, scratchBytes: Math.max(0, ...emitted.map((e) => e.scratchBytes)) };
}

function emitKernel({ kernel, title, comment }: TitledKernel, called: Called[]) {
  if (kernel.workgroup !== 1)
    throw new Error(
      `heddle: internal: native: '${kernel.name}' has ${kernel.workgroup} lanes, a thread is one`,
    );
  const used: Called[] = [];
  const use = (op: string, type: Type): string => {
    used.push({ op, type });
    return functionOf(op, type);
  };
  const functions = expressionsIn(kernel.body).flatMap((e) => (e.e === "op" ? functionsIn(e) : []));
  used.push(...functions);
  const types = [4, 8, 16].flatMap((w) => [`f32x${w}`, `i32x${w}`, `f32x${w}_any`, `i32x${w}_any`]);
  const name = namesAvoiding(
    KEYWORDS,
    OWN,
    types,
    functions.map((f) => functionOf(f.op, f.type)),
    types.flatMap((t) => [`at_${t}`, `put_${t}`]),
    [kernel.name],
  );
  for (const part of [kernel.buffers, kernel.scalars, kernel.tables, kernel.shared])
    for (const x of part) name(x.name);

  /**
   * The place of an element. Constants are added to the pointer, not to the 32-bit index, so that they become part of the instruction:
   * an int and a constant would have to be added and widened first.
   */
  const placeOf = (array: string, index: Expr): string => {
    const { rest, constant } = split(index);
    const parts = [
      name(array),
      ...(rest === null ? [] : [within(print(rest), SUM)]),
      ...(constant === 0 ? [] : [String(constant)]),
    ];
    return parts.join(" + ");
  };
  const print: (e: Expr) => { readonly text: string; readonly level: number } = printer({
    ref: name,
    load: (e) => {
      const place = placeOf(e.from, e.index);
      return isVector(e.type) ? `${use("at", e.type)}(${place})` : `(${place})[0]`;
    },
  });
  const none = (what: string) => (): never => {
    throw new Error(`heddle: internal: native: '${kernel.name}' has ${what}, and a thread is one lane`);
  };
  const body = bodyOf(kernel, {
    name,
    print: (e) => print(e).text,
    fixed: (s) => `const ${typeText(s.value.type)} ${name(s.name)} = ${print(s.value).text};`,
    variable: (s) => `${typeText(s.value.type)} ${name(s.name)} = ${print(s.value).text};`,
    assigned: (s) => `${name(s.name)} = ${print(s.value).text};`,
    counter: (i, from) => `int ${i} = ${from}`,
    bound: (end, to) => `const int ${end} = ${to};`,
    store: (s) => {
      const place = placeOf(s.to, s.index);
      const value = print(s.value).text;
      if (!isVector(s.value.type)) return [`(${place})[0] = ${value};`];
      const type = widened(s.value.type.startsWith("i32") ? "i32" : "f32", lanesOf(s.value.type));
      return [`${use("put", type)}(${place}, ${value});`];
    },
    barrier: [],
    exchange: none("an exchange"),
    comment: comment ?? String,
    warp: none("a warp statement"),
  });
  called.push(...used);

  let scratchBytes = 0;
  const shared = kernel.shared.map((s) => {
    const at = scratchBytes;
    scratchBytes += Math.ceil((4 * s.length) / LINE) * LINE;
    const type = s.type === "f32" ? "float" : "int";
    return `${type} *const restrict ${name(s.name)} = (${type} *)(scratch + ${at});`;
  });
  const element = (dtype: string): string => {
    if (dtype === "f32") return "float";
    if (dtype === "i32") return "int";
    throw new Error(`heddle: internal: native: '${kernel.name}' has a buffer of ${dtype}: widen it at load`);
  };
  const lines = [
    `// ${title}`,
    `__attribute__((visibility("default"))) void ${kernel.name}(int begin, int end, char *scratch, void *const *buffers, const word *scalars) {`,
    ...indent([
      ...kernel.buffers.map((b, i) => {
        const type = `${b.access === "read" ? "const " : ""}${element(b.dtype)}`;
        return `${type} *const ${name(b.name)} = buffers[${i}];`;
      }),
      ...kernel.scalars.map(
        (s, i) =>
          `const ${s.type === "i32" ? "int" : "float"} ${name(s.name)} = scalars[${i}].${s.type === "i32" ? "i" : "f"};`,
      ),
      ...kernel.tables.map((t) => {
        const values = t.values.map((value) => constantText({ e: "const", type: t.type, value }));
        return `static const ${element(t.type)} ${name(t.name)}[${Math.max(1, t.values.length)}] = {${values.join(", ")}};`;
      }),
      ...shared,
      "for (int group = begin; group < end; group++) {",
      ...indent(body),
      "}",
    ]),
    "}",
  ];
  return { lines, scratchBytes };
}
