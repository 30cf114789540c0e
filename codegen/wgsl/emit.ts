/**
 * A legal kernel as WGSL. No decision is taken here but how arrays are reached (arrays.ts): statements print one by one, and
 * bindings are left to the runtime (`Shader` in runtime/plan.ts).
 */
import { isVector } from "../../src/expr.ts";
import type { Expr, Kernel, Stmt, Table } from "../../src/kernel.ts";
import type { Shader } from "../../runtime/plan.ts";
import { bodyOf, indent, plus } from "../clike/statement.ts";
import { reaches, type Reach } from "./arrays.ts";
import { divisorsOf, quarter, shifted } from "../divisor.ts";
import { helpers, printer, typeText } from "./expression.ts";
import { identifiers } from "./names.ts";
import { byInvocation, bySubgroup, emulatedSubgroups, exchanges } from "./subgroup.ts";

export type EmitOptions = {
  /** First line, for a reader. */
  readonly title?: string;
  /** What becomes of the kernel's own comments. */
  readonly comment?: (text: string) => string;
  /** For tests: subgroups of this size in workgroup memory instead of the device's. */
  readonly emulated?: number;
};

/** The text of a kernel with its entry point `main`. */
export function emitShader(kernel: Kernel, options: EmitOptions = {}): Shader {
  const known = divisorsOf(kernel);
  const reach = reaches(kernel, known);
  const reachOf = (name: string): Reach => {
    const found = reach.get(name);
    if (found === undefined)
      throw new Error(`heddle: internal: wgsl: '${kernel.name}' has no array '${name}'`);
    return found;
  };
  const accessors = [
    ...kernel.buffers.flatMap((b) => ["at", "at4", "put", "put4"].map((v) => `${b.name}_${v}`)),
    ...kernel.tables.map((t) => `${t.name}_at`),
  ];
  const prologue = !exchanges(kernel)
    ? byInvocation
    : options.emulated === undefined
      ? bySubgroup
      : emulatedSubgroups(options.emulated, kernel.workgroup);
  const name = identifiers([...accessors, ...prologue.names]);
  // Parameters and arrays keep their names; locals make way.
  for (const part of [kernel.buffers, kernel.scalars, kernel.tables, kernel.shared])
    for (const x of part) name(x.name);
  const buffers = new Set(kernel.buffers.map((b) => b.name));
  const scalars = new Set(kernel.scalars.map((s) => s.name));
  const tables = new Set(kernel.tables.map((t) => t.name));

  const load = (e: Extract<Expr, { readonly e: "load" }>): string => {
    const four = isVector(e.type);
    if (buffers.has(e.from)) return `${name(e.from)}_at${four ? "4" : ""}(${print(e.index)})`;
    if (tables.has(e.from)) return four ? vectorOf(e.type, e.from, e.index) : look(e.from, e.index);
    if (reachOf(e.from).layout === "one")
      return four ? vectorOf(e.type, e.from, e.index) : `${name(e.from)}[${print(e.index)}]`;
    if (four) return `${name(e.from)}[${print(quarter(e.index, known) ?? shifted(e.index))}]`;
    const { index } = e;
    if (index.e === "const") return `${name(e.from)}[${index.value >> 2}].${"xyzw"[index.value & 3]}`;
    return `${name(e.from)}[${print(shifted(index))}][${print(lowBits(index))}]`;
  };
  /** Four neighbours that start anywhere. */
  const vectorOf = (type: Expr["type"], from: string, index: Expr): string =>
    `${typeText[type]}(${[0, 1, 2, 3]
      .map((k) => plus(index, k))
      .map((i) => (tables.has(from) ? look(from, i) : `${name(from)}[${print(i)}]`))
      .join(", ")})`;
  const look = (table: string, i: Expr): string =>
    i.e === "const"
      ? `tables.${name(table)}[${i.value >> 2}].${"xyzw"[i.value & 3]}`
      : `${name(table)}_at(${print(i)})`;
  const print = printer({
    ref: (n) => (scalars.has(n) ? `params.${name(n)}` : name(n)),
    load,
  });

  const store = (s: Extract<Stmt, { readonly s: "store" }>): string[] => {
    const four = isVector(s.value.type);
    if (buffers.has(s.to))
      return [`${name(s.to)}_put${four ? "4" : ""}(${print(s.index)}, ${print(s.value)});`];
    const to = name(s.to);
    if (reachOf(s.to).layout === "four")
      return [`${to}[${print(quarter(s.index, known) ?? shifted(s.index))}] = ${print(s.value)};`];
    if (!four) return [`${to}[${print(s.index)}] = ${print(s.value)};`];
    const v = temporary();
    return [
      `let ${v} = ${print(s.value)};`,
      ...[0, 1, 2, 3].map((k) => `${to}[${print(plus(s.index, k))}] = ${v}.${"xyzw"[k]};`),
    ];
  };
  let temporaries = 0;
  const temporary = (): string => name(`four ${temporaries++}`);

  // What one lane writes to a buffer another may read after a barrier.
  const shares = kernel.buffers.some(
    (b) => b.access !== "read" && reachOf(b.name).uses.some((u) => u.startsWith("at")),
  );
  const barrier = ["workgroupBarrier();", ...(shares ? ["storageBarrier();"] : [])];
  const text = bodyOf(kernel, {
    name,
    print,
    fixed: (s) => `let ${name(s.name)} = ${print(s.value)};`,
    variable: (s) => `var ${name(s.name)} = ${print(s.value)};`,
    assigned: (s) => `${name(s.name)} = ${print(s.value)};`,
    counter: (i, from) => `var ${i} = ${from}`,
    bound: (end, to) => `let ${end} = ${to};`,
    store,
    barrier,
    exchange: (s) => `let ${name(s.name)} = ${prologue.exchange(print(s.value), s)};`,
    comment: options.comment ?? String,
    warp: (s: never) => s,
  });
  const body = indent(text);
  const code = [
    ...prologue.enable,
    ...(options.title === undefined ? [] : [`// ${options.title}`]),
    "struct Params {",
    "  first_group: u32,",
    "  groups: u32,",
    "  low: f32, // -infinity, for which WGSL has no literal",
    "  first_row: u32, // of a chunk, in tensors of several bindings",
    ...kernel.scalars.map((s) => `  ${name(s.name)}: ${s.type},`),
    "}",
    "@group(0) @binding(0) var<uniform> params: Params;",
    ...tableDeclarations(kernel.tables.map((t) => ({ ...t, name: name(t.name) }))),
    ...kernel.shared.map((s) => {
      const four = reachOf(s.name).layout === "four";
      const element = four ? typeText[`${s.type}x4`] : s.type;
      return `var<workgroup> ${name(s.name)}: array<${element}, ${four ? s.length / 4 : s.length}>;`;
    }),
    ...prologue.declarations,
    ...Object.entries(helpers).flatMap(([called, text]) =>
      body.some((line) => line.includes(`${called}(`)) ? [text] : [],
    ),
    "",
    `@compute @workgroup_size(${kernel.workgroup})`,
    "fn main(",
    "  @builtin(workgroup_id) workgroup: vec3u,",
    "  @builtin(num_workgroups) workgroups: vec3u,",
    ...prologue.builtins.map((x) => `  ${x},`),
    ") {",
    "  let index = params.first_group + workgroup.x + workgroup.y * workgroups.x;",
    "  if (index >= params.groups) {",
    "    return;",
    "  }",
    "  let group = i32(index);",
    ...indent(prologue.body),
    ...body,
    "}",
    "",
  ].join("\n");
  return {
    buffers: kernel.buffers.map((b) => ({
      name: name(b.name),
      dtype: b.dtype,
      access: b.access,
      layout: reachOf(b.name).layout,
      uses: reachOf(b.name).uses,
    })),
    ...(kernel.tables.length === 0
      ? {}
      : { tables: kernel.tables.map(({ type, values, ...t }) => ({ name: name(t.name), type, values })) }),
    code,
  };
}

/** Bytes of a uniform that every device can bind. */
const MOST_UNIFORM_BYTES = 65536;

/** See `ShaderTable` in runtime/plan.ts. */
function tableDeclarations(tables: readonly Table[]): readonly string[] {
  if (tables.length === 0) return [];
  const vectors = tables.map((t) => Math.ceil(t.values.length / 4));
  const bytes = 16 * vectors.reduce((sum, n) => sum + n, 0);
  if (bytes > MOST_UNIFORM_BYTES)
    throw new Error(`heddle: internal: wgsl: tables of ${bytes} bytes, a uniform has ${MOST_UNIFORM_BYTES}`);
  return [
    "struct Tables {",
    ...tables.map(
      (t, i) =>
        `  ${t.name}: array<${typeText[`${t.type}x4`]}, ${vectors[i]}>, // ${t.values.length} numbers`,
    ),
    "}",
    "@group(1) @binding(0) var<uniform> tables: Tables;",
    ...tables.map(
      (t) => `fn ${t.name}_at(i: i32) -> ${t.type} {\n  return tables.${t.name}[i >> 2u][i & 3];\n}`,
    ),
  ];
}

const lowBits = (e: Expr): Expr => ({
  e: "op",
  type: "i32",
  op: "and",
  args: [e, { e: "const", type: "i32", value: 3 }],
});
