/**
 * A legal kernel as CUDA C++. No decision is taken here but two that only concern the text: a vector access is one access where
 * its index is known to be a multiple of four, and an index is computed in 64 bits where it may need them.
 */
import { isVector } from "../../src/expr.ts";
import type { Dtype, Expr, Kernel, Stmt } from "../../src/kernel.ts";
import { warpOps, type Warp } from "../../src/warp.ts";
import { ATOM, LOOSE, UNARY, within, type Text } from "../clike/expression.ts";
import { bodyOf, indent } from "../clike/statement.ts";
import { divisorsOf } from "../divisor.ts";
import { exprsOf, statements, type Block, type For } from "../rewrite.ts";
import { constantText, printer, typeText, vectorFunction, vectorWords } from "./expression.ts";
import { elementText, prelude, preludeWords, type Verb } from "./prelude.ts";
import { rangesOf } from "./ranges.ts";
import type { CudaKernelText } from "./text.ts";
import { identifiers } from "./words.ts";

export type EmitOptions = {
  /** First line, for a reader. */
  readonly title?: string;
  /** What becomes of the kernel's own comments. */
  readonly comment?: (text: string) => string;
};

/** The text of a kernel, as one translation unit. */
export function emitCuda(kernel: Kernel<Warp>, options: EmitOptions = {}): CudaKernelText {
  const divisors = divisorsOf<Warp>(kernel);
  const ranges = rangesOf(kernel);
  const name = identifiers([...preludeWords, ...vectorWords]);
  const entry = name(kernel.name);
  // Parameters and arrays keep their names; locals make way.
  const registers = kernel.registers ?? [];
  for (const part of [kernel.buffers, kernel.scalars, kernel.tables, kernel.shared, registers])
    for (const x of part) name(x.name);
  const dtypes = new Map<string, Dtype>(
    [...kernel.tables, ...kernel.shared].map((x): [string, Dtype] => [x.name, x.type]),
  );
  for (const b of kernel.buffers) dtypes.set(b.name, b.dtype);
  const buffers = new Set(kernel.buffers.map((b) => b.name));
  const held = new Set(registers.map((r) => r.name));

  /** What the text asks of the prelude. */
  const used = new Set<string>();
  const verb = (array: string, v: Verb): string => {
    const dtype = dtypes.get(array);
    if (dtype === undefined)
      throw new Error(`heddle: internal: cuda: '${kernel.name}' has no array '${array}'`);
    used.add(`${v} ${dtype}`);
    return v;
  };
  const four = (stem: "at" | "put", index: Expr): Verb =>
    divisors.of(index) % 4 === 0 ? `${stem}4` : `${stem}4_any`;

  const load = (e: Extract<Expr, { readonly e: "load" }>): string => {
    if (held.has(e.from)) return `${name(e.from)}[${print(e.index).text}]`;
    const v = verb(e.from, isVector(e.type) ? four("at", e.index) : "at");
    return `${v}(${name(e.from)}, ${indexOf(e.from, e.index)})`;
  };
  const print = printer({
    ref: (n) => (ranges.wide.has(n) ? { text: `(int)${name(n)}`, level: UNARY } : name(n)),
    load,
  });
  /** An integer in 64 bits: of every operation at least one operand is. */
  const long = (e: Expr): Text => {
    if (!ranges.isWide(e)) {
      const { text, level } = print(e);
      return { text: `(i64)${within({ text, level }, UNARY)}`, level: UNARY };
    }
    if (e.e === "ref") return { text: name(e.name), level: ATOM };
    if (e.e !== "op") throw new Error("heddle: internal: cuda: 64 bits of what is no operation");
    const [a, b, c] = e.args;
    if (a === undefined) throw new Error("heddle: internal: cuda: an operation without operands");
    if (b === undefined) return { text: `-${within(long(a), UNARY + 1)}`, level: UNARY };
    if (e.op === "select" && c !== undefined)
      return {
        text: `${within(print(a), LOOSE)} ? ${within(long(b), LOOSE)} : ${within(long(c), LOOSE)}`,
        level: 0,
      };
    if (e.op === "min" || e.op === "max")
      return { text: `${e.op}(${long(a).text}, ${long(b).text})`, level: ATOM };
    const sign = { add: "+", sub: "-", mul: "*", div: "/", rem: "%" } as const;
    const symbol = sign[e.op as keyof typeof sign];
    const level = symbol === "+" || symbol === "-" ? 5 : 6;
    // One side in 64 bits makes the other one so.
    const x = ranges.isWide(b) && !ranges.isWide(a) ? print(a) : long(a);
    const y = ranges.isWide(b) ? long(b) : print(b);
    return { text: `${within(x, level)} ${symbol} ${within(y, level + 1)}`, level };
  };
  const indexOf = (array: string, index: Expr): string =>
    (buffers.has(array) && ranges.isWide(index) ? long(index) : print(index)).text;

  const declared = (s: Extract<Stmt, { readonly s: "let" | "var" | "exchange" }>): string =>
    `${typeText[s.value.type]} ${name(s.name)}`;
  /** Registers have no addresses: their indices are constants once the loops that say so are unrolled. Others stay loops. */
  const ahead = (s: For<Warp>): readonly string[] => {
    if (s.unroll === "late") return ["#pragma unroll"];
    return s.from.e === "const" && s.to.e === "const" && hasWarps(s.body) ? ["#pragma unroll 1"] : [];
  };
  const warp = (s: Warp): readonly string[] => {
    used.add(snippetOf(s, dtypes));
    const places = s.places.map(({ array, index }) => {
      if (!held.has(array)) return `${name(array)}, ${indexOf(array, index)}`;
      return index.e === "const" && index.value === 0
        ? name(array)
        : `${name(array)} + ${within(print(index), 5)}`;
    });
    const values = s.values.map((v) => print(v).text);
    const called = s.dtype !== undefined ? `${s.op}_${s.dtype}` : s.op === "wait" ? `wait<${s.imm}>` : s.op;
    return [`${called}(${[...places, ...values].join(", ")});`];
  };
  const body = bodyOf<Warp>(kernel, {
    ahead,
    warp,
    name,
    print: (e) => print(e).text,
    fixed: (s) => {
      if (!ranges.wide.has(s.name)) return `const ${declared(s)} = ${print(s.value).text};`;
      return `const i64 ${name(s.name)} = ${long(s.value).text};`;
    },
    variable: (s) =>
      ranges.wide.has(s.name)
        ? `i64 ${name(s.name)} = ${long(s.value).text};`
        : `${declared(s)} = ${print(s.value).text};`,
    assigned: (s) => `${name(s.name)} = ${(ranges.wide.has(s.name) ? long(s.value) : print(s.value)).text};`,
    counter: (i, from) => `int ${i} = ${from}`,
    bound: (end, to) => `const int ${end} = ${to};`,
    store: (s) => {
      if (held.has(s.to)) return [`${name(s.to)}[${print(s.index).text}] = ${print(s.value).text};`];
      const v = verb(s.to, isVector(s.value.type) ? four("put", s.index) : "put");
      return [`${v}(${name(s.to)}, ${indexOf(s.to, s.index)}, ${print(s.value).text});`];
    },
    barrier: ["__syncthreads();"],
    exchange: (s) => {
      used.add(`exchange ${s.value.type}`);
      return `const ${declared(s)} = exchange(${print(s.value).text}, ${s.mask});`;
    },
    comment: options.comment ?? String,
  });

  const functions = vectorFunctions(kernel, body.join("\n"));
  const { arrays, bytes } = sharedArrays(kernel);
  const parameters = [
    ...kernel.buffers.map((b) => {
      const way = b.access === "read" ? "In" : "Out";
      used.add(way);
      if (b.dtype === "f16" || b.dtype === "bf16") used.add(b.dtype);
      return `${way}<${elementText[b.dtype]}> ${name(b.name)}`;
    }),
    ...kernel.scalars.map((s) => `const ${s.type === "i32" ? "int" : "float"} ${name(s.name)}`),
    "const int first_group",
  ];
  if (arrays.length > 0) used.add("shared");
  const text = [...functions, ...body].join("\n");
  for (const word of ["i64", "vec4", "ivec4", "bvec4", "exp2_approx"])
    if (new RegExp(`\\b${word}\\b`).test(text)) used.add(word);
  const code = [
    ...(options.title === undefined ? [] : [`// ${options.title}`]),
    `// ${kernel.workgroup} threads, ${bytes} bytes of shared memory`,
    "#ifndef HEDDLE_HOST",
    ...prelude(used),
    "#endif",
    ...functions,
    ...kernel.tables.map((t) => {
      const values = t.values.map((value) => constantText({ e: "const", type: t.type, value }));
      // Lanes read a table of floats by their own columns; one of integers is read by all lanes at one place.
      const space = t.type === "i32" ? "__constant__" : "__device__";
      return `alignas(16) static ${space} const ${elementText[t.type]} ${name(t.name)}[${values.length}] = {${values.join(", ")}};`;
    }),
    "",
    `extern "C" __global__ void __launch_bounds__(${kernel.workgroup}, 1)`,
    `${entry}(${parameters.join(", ")}) {`,
    ...indent([
      ...arrays.map(
        ({ array, byte, length, type }) =>
          `const Shared<${elementText[type]}> ${name(array)} = shared<${elementText[type]}>(${byte}, ${length});`,
      ),
      // A tile that one schedule fills and another leaves alone is no reason for a warning.
      ...registers.map((r) => `[[maybe_unused]] ${elementText[r.type]} ${name(r.name)}[${r.length}];`),
      "const int group = first_group + (int)blockIdx.x;",
      "const int lane = (int)threadIdx.x;",
      ...body,
    ]),
    "}",
    "",
  ].join("\n");
  return {
    entry,
    code,
    workgroup: kernel.workgroup,
    sharedBytes: bytes,
    buffers: kernel.buffers.map((b) => ({ name: name(b.name), dtype: b.dtype, access: b.access })),
    scalars: kernel.scalars.map((s) => ({ name: name(s.name), type: s.type })),
  };
}

/** Where each shared array starts: at multiples of 16 bytes, in order. */
function sharedArrays(kernel: Kernel<Warp>) {
  let byte = 0;
  const arrays = kernel.shared.map(({ name, length, type }) => {
    const start = byte;
    byte += 16 * Math.ceil(length / 4);
    return { array: name, byte: start, length, type };
  });
  return { arrays, bytes: byte };
}

/** Definitions of the vector operations that a kernel has, each once. */
function vectorFunctions(kernel: Kernel<Warp>, body: string): readonly string[] {
  const found = new Set<string>();
  const visited = new Set<Expr>();
  const visit = (e: Expr): void => {
    if (visited.has(e)) return;
    visited.add(e);
    if (e.e === "load") visit(e.index);
    if (e.e !== "op") return;
    e.args.forEach(visit);
    const text = vectorFunction(e);
    const called = /(\w+)\(/.exec(text ?? "")?.[1];
    if (text !== null && (text.includes("operator") || (called !== undefined && body.includes(`${called}(`))))
      found.add(text);
  };
  for (const s of statements<Warp>(kernel.body)) exprsOf<Warp>(s).forEach(visit);
  return [...found].sort();
}

const hasWarps = (body: Block<Warp>): boolean => [...statements<Warp>(body)].some((s) => s.s === "warp");

/** The word of the prelude that a warp statement calls. */
function snippetOf(s: Warp, dtypes: ReadonlyMap<string, Dtype>): string {
  const word = s.dtype === undefined ? s.op : `${s.op}_${s.dtype}`;
  const at = warpOps[s.op].places.findIndex((p) => p.memory === "buffer");
  const array = s.places[at]?.array;
  return array === undefined ? word : `${word} ${dtypes.get(array)}`;
}
