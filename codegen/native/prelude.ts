/**
 * What stands before the kernels of a translation unit: vector types, and the functions that the kernels call. Each has a body that
 * any compiler with vector extensions takes; where a processor has an instruction for it, that is chosen by the preprocessor.
 */
import { isVector, lanesOf, scalarOf } from "../../src/expr.ts";
import type { Type, Width } from "../../src/kernel.ts";
import { functionOf, typeText } from "./expression.ts";

/** A function that the text calls. `at` and `put` load and store vectors that lie anywhere. */
export type Called = { readonly op: string; readonly type: Type };

/** One processor's way: a condition of the preprocessor, and a value of the arguments a, b, c. */
type Way = { readonly when: string; readonly value: string };

const X86: {
  readonly [W in Width]: { readonly has: string; readonly prefix: string; readonly fma: string };
} = {
  4: { has: "__SSE4_1__", prefix: "_mm", fma: "__FMA__" },
  8: { has: "__AVX2__", prefix: "_mm256", fma: "__FMA__" },
  16: { has: "__AVX512F__", prefix: "_mm512", fma: "__AVX512F__" },
};

/** Instructions for vectors of f32. */
function wayOf(op: string, lanes: Width): readonly Way[] {
  const { has, prefix, fma } = X86[lanes];
  const x86 = (name: string, args: string): readonly Way[] => [
    { when: `defined ${has}`, value: `${prefix}_${name}(${args})` },
  ];
  const neon = (value: string): readonly Way[] =>
    lanes === 4 ? [{ when: "defined __ARM_NEON", value }] : [];
  const rounding = (mode: string) =>
    lanes === 16 ? x86("roundscale_ps", `a, ${mode}`) : x86("round_ps", `a, ${mode}`);
  switch (op) {
    case "madd":
      return [
        { when: `defined ${fma}`, value: `${prefix}_fmadd_ps(a, b, c)` },
        ...neon("vfmaq_f32(c, a, b)"),
      ];
    case "min":
      return [...x86("min_ps", "a, b"), ...neon("vminq_f32(a, b)")];
    case "max":
      return [...x86("max_ps", "a, b"), ...neon("vmaxq_f32(a, b)")];
    case "sqrt":
      return [...x86("sqrt_ps", "a"), ...neon("vsqrtq_f32(a)")];
    case "floor":
      return [...rounding("_MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC"), ...neon("vrndmq_f32(a)")];
    case "round":
      return [...rounding("_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC"), ...neon("vrndnq_f32(a)")];
    default:
      return [];
  }
}

const f32Scalars: { readonly [op: string]: string } = {
  min: "a < b ? a : b",
  max: "a > b ? a : b",
  abs: "__builtin_fabsf(a)",
  sqrt: "__builtin_sqrtf(a)",
  floor: "__builtin_floorf(a)",
  round: "__builtin_rintf(a)",
  // What a processor has no instruction for would be a call of the library.
  madd: "MADD(a, b, c)",
  int: "(int)a",
};

const parameters = (type: string, count: number) =>
  ["a", "b", "c"]
    .slice(0, count)
    .map((n) => `${type} ${n}`)
    .join(", ");

/** Lane by lane: compilers make vectors of it where they can. */
const eachLane = (lanes: number, result: string, value: string) =>
  `${result} r; for (int i = 0; i < ${lanes}; i++) r[i] = ${value}; return r;`;

const body = (ways: readonly Way[], otherwise: string): readonly string[] => [
  ...ways.flatMap(({ when, value }, i) => [`#${i === 0 ? "if" : "elif"} ${when}`, `  return ${value};`]),
  ...(ways.length === 0 ? [] : ["#else"]),
  `  ${otherwise}`,
  ...(ways.length === 0 ? [] : ["#endif"]),
];

function functionText({ op, type }: Called): readonly string[] {
  const [own, lanes, scalar] = [typeText(type), lanesOf(type), scalarOf(type)];
  const name = functionOf(op, type);
  const define = (result: string, params: string, lines: readonly string[]): readonly string[] => [
    `INLINE ${result} ${name}(${params}) {`,
    ...lines,
    "}",
  ];
  const simple = (result: string, params: string, value: string) =>
    define(result, params, [`  return ${value};`]);
  const other = scalar === "f32" ? "i32" : "f32";
  const turned = lanes === 1 ? (scalar === "f32" ? "int" : "float") : `${other}x${lanes}`;
  const element = scalar === "f32" ? "float" : "int";
  const all = Array.from({ length: lanes }, (_, i) => i);
  switch (op) {
    case "at":
      return simple(own, `const ${element} *p`, `*(const ${own}_any *)p`);
    case "put":
      return define("void", `${element} *p, ${own} a`, [`  *(${own}_any *)p = a;`]);
    case "splat":
      return simple(own, `${element} a`, `(${own}){${all.map(() => "a").join(", ")}}`);
    case "iota":
      return simple(own, "int a", `(${own}){${all.map((i) => (i === 0 ? "a" : `a + ${i}`)).join(", ")}}`);
    case "shuffle":
      return [
        "#if defined __clang__ || __GNUC__ >= 12",
        `#define ${name}(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)`,
        "#else",
        `#define ${name}(a, b, ...) __builtin_shuffle(a, b, (i32x${lanes}){__VA_ARGS__})`,
        "#endif",
      ];
    case "bits":
    case "unbits":
      return isVector(type)
        ? simple(turned, `${own} a`, `(${turned})a`)
        : define(turned, `${own} a`, [
            `  ${turned} r;`,
            "  __builtin_memcpy(&r, &a, sizeof r);",
            "  return r;",
          ]);
    case "float":
    case "int":
      return simple(
        turned,
        `${own} a`,
        isVector(type) ? `__builtin_convertvector(a, ${turned})` : `(${turned})a`,
      );
    case "select": {
      const mask = `i32x${lanes}`;
      const wide = lanes as Width;
      const value =
        wide === 16
          ? "_mm512_mask_blend_ps(_mm512_test_epi32_mask((__m512i)c, (__m512i)c), (__m512)b, (__m512)a)"
          : `${X86[wide].prefix}_blendv_ps((__m${wide * 32})b, (__m${wide * 32})a, (__m${wide * 32})c)`;
      return define(
        own,
        `${mask} c, ${own} a, ${own} b`,
        body(
          [{ when: `defined ${X86[wide].has}`, value: `(${own})${value}` }],
          `return (${own})((c & (${mask})a) | (~c & (${mask})b));`,
        ),
      );
    }
    case "sum":
    case "most": {
      const join = (a: string, b: string) => (op === "sum" ? `${a} + ${b}` : `${a} > ${b} ? ${a} : ${b}`);
      // Neighbours, then neighbours of those: the order that the interpreter of the IR takes.
      const lines: string[] = [];
      for (let n = lanes / 2; n >= 1; n /= 2)
        lines.push(`  for (int i = 0; i < ${n}; i++) a[i] = ${join("a[2 * i]", "a[2 * i + 1]")};`);
      const way: readonly Way[] =
        lanes === 16
          ? [
              {
                when: "defined __AVX512F__",
                value: `_mm512_reduce_${op === "sum" ? "add" : "max"}_ps(a)`,
              },
            ]
          : [];
      return define("float", `${own} v`, [
        ...(way.length === 0
          ? []
          : [`#if ${way[0]?.when}`, `  return ${way[0]?.value.replace("(a)", "(v)")};`, "#else"]),
        `  float a[${lanes}];`,
        "  __builtin_memcpy(a, &v, sizeof a);",
        ...lines,
        "  return a[0];",
        ...(way.length === 0 ? [] : ["#endif"]),
      ]);
    }
    default: {
      const count = op === "madd" ? 3 : op === "min" || op === "max" ? 2 : 1;
      const value = f32Scalars[op];
      if (value === undefined) throw new Error(`heddle: internal: native: no function '${op}' of ${type}`);
      if (!isVector(type)) return simple(own, parameters(own, count), value);
      if (op === "abs") return simple(own, `${own} a`, `(${own})((i32x${lanes})a & 0x7fffffff)`);
      if (op === "madd")
        return define(own, parameters(own, 3), body(wayOf(op, lanes as Width), "return a * b + c;"));
      const perLane = value.replace(/\b([abc])\b(?!\()/g, "$1[i]");
      const ways = scalar === "f32" ? wayOf(op, lanes as Width) : [];
      return define(own, parameters(own, count), body(ways, eachLane(lanes, own, perLane)));
    }
  }
}

/** The types and functions that a text uses, in a fixed order. */
export function prelude(called: readonly Called[]): readonly string[] {
  const byName = new Map(called.map((c) => [functionOf(c.op, c.type), c]));
  const functions = [...byName].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, c]) => c);
  const widths = [...new Set(functions.map((c) => lanesOf(c.type)))]
    .filter((w) => w > 1)
    .sort((a, b) => a - b);
  return [
    "#if defined __x86_64__",
    "#include <immintrin.h>",
    "#elif defined __ARM_NEON",
    "#include <arm_neon.h>",
    "#endif",
    "#define INLINE static inline __attribute__((always_inline, unused))",
    "#ifdef __FP_FAST_FMAF",
    "#define MADD(a, b, c) __builtin_fmaf(a, b, c)",
    "#else",
    "#define MADD(a, b, c) ((a) * (b) + (c))",
    "#endif",
    "",
    ...widths.flatMap((w) =>
      (["f32", "i32"] as const).flatMap((t) => {
        const element = t === "f32" ? "float" : "int";
        return [
          `typedef ${element} ${t}x${w} __attribute__((vector_size(${4 * w})));`,
          `typedef ${element} ${t}x${w}_any __attribute__((vector_size(${4 * w}), aligned(4), may_alias));`,
        ];
      }),
    ),
    "",
    ...functions.flatMap(functionText),
  ];
}
