/**
 * Legal kernels as one translation unit of C. A kernel is a function that runs groups begin … end − 1 with one thread's scratch
 * memory; what it is called with is the same for all, so that a runtime needs one signature only (`KernelFunction` in
 * runtime/native/cpu/team.c).
 */
import { isVector, lanesOf, widened } from "../../src/expr.ts";
import type { Expr, Kernel, Type } from "../../src/kernel.ts";
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

  const print: (e: Expr) => { readonly text: string; readonly level: number } = printer({
    ref: name,
    load: (e) => {
      const index = print(e.index).text;
      if (!isVector(e.type)) return `${name(e.from)}[${index}]`;
      return `${use("at", e.type)}(${name(e.from)}${index === "0" ? "" : ` + (${index})`})`;
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
      const index = print(s.index).text;
      const value = print(s.value).text;
      if (!isVector(s.value.type)) return [`${name(s.to)}[${index}] = ${value};`];
      const type = widened(s.value.type.startsWith("i32") ? "i32" : "f32", lanesOf(s.value.type));
      return [`${use("put", type)}(${name(s.to)}${index === "0" ? "" : ` + (${index})`}, ${value});`];
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
