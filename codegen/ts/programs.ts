/**
 * Programs as constants of a generated module. What several plans have in common (tensors, steps, kernels) and what several programs
 * run (shaders, CUDA C++) is written once: the variants of a program for WebGPU differ in little.
 */
import type { CudaSource, Plan, Program, Shader } from "../../runtime/plan.ts";
import { printData, template, verbatim } from "./print.ts";
import type { Verbatim } from "./print.ts";

export type NamedProgram = { readonly name: string; readonly program: Program };

export type PrintedPrograms = {
  /** Declarations in order: each uses only those before it. */
  readonly plans: readonly string[];
  readonly shaders: readonly string[];
  readonly sources: readonly string[];
  /** In the order of the programs: the fields `plan`, `webgpu`, `cuda` and `native` of a Program. */
  readonly fields: readonly {
    readonly plan: Verbatim;
    readonly webgpu?: readonly unknown[];
    readonly cuda?: readonly unknown[];
    readonly native?: readonly unknown[];
  }[];
};

/** Names that no two constants share. */
function naming() {
  const taken = new Set<string>();
  return (wish: string): string => {
    let name = wish;
    for (let i = 2; taken.has(name); i++) name = `${wish}_${i}`;
    taken.add(name);
    return name;
  };
}
type Naming = ReturnType<typeof naming>;

export function printPrograms(programs: readonly NamedProgram[]): PrintedPrograms {
  const name = naming();
  const plans = planPrinter(
    programs.flatMap(({ program: { plan, webgpu = [], cuda = [], native = [] } }) => [
      plan,
      ...[...webgpu, ...cuda, ...native].map((v) => v.plan),
    ]),
    name,
  );
  const shaders = textPrinter<Shader>(name, "wgsl", "$Shader", ({ buffers, tables }) => ({
    buffers,
    ...(tables === undefined ? {} : { tables }),
  }));
  const sources = textPrinter<CudaSource>(name, "cuda", "$CudaSource", ({ entry }) => ({ entry }));
  const fields = programs.map(({ name: of, program: { plan, webgpu, cuda, native } }) => {
    const main = plans.constant(plan, `$${of}_plan`, null);
    const own = (variant: Plan, target: string) => plans.constant(variant, `$${of}_plan_${target}`, plan);
    return {
      plan: main,
      ...(webgpu === undefined
        ? {}
        : {
            webgpu: webgpu.map((v) => ({
              features: v.features,
              plan: own(v.plan, "wgsl"),
              shaders: v.shaders.map((s, k) => shaders.constant(s, v.plan.kernels[k]?.entry ?? "shader")),
            })),
          }),
      ...(cuda === undefined
        ? {}
        : {
            cuda: cuda.map(({ sources: texts, ...v }) => ({
              ...v,
              plan: own(v.plan, "cuda"),
              sources: texts.map((t) => sources.constant(t, t.entry)),
            })),
          }),
      ...(native === undefined
        ? {}
        : {
            native: native.map(({ code, ...v }) => ({
              ...v,
              plan: own(v.plan, `native_${v.vectors}`),
              code: verbatim(template(code)),
            })),
          }),
    };
  });
  return {
    plans: plans.declarations(),
    shaders: shaders.declarations,
    sources: sources.declarations,
    fields,
  };
}

/** Entries of a plan's lists that may stand in many plans, and their types. */
const shared = { kernel: `$Plan["kernels"][number]`, step: `$Plan["variants"][number]["steps"][number]` };

function planPrinter(all: readonly Plan[], name: Naming) {
  const uses = new Map<string, number>();
  const different = new Map(all.map((plan) => [JSON.stringify(plan), plan]));
  const partsOf = (plan: Plan) => [...plan.kernels, ...plan.variants.flatMap((v) => v.steps)];
  for (const part of [...different.values()].flatMap(partsOf)) {
    const key = JSON.stringify(part);
    uses.set(key, (uses.get(key) ?? 0) + 1);
  }

  const parts: string[] = [];
  const plans: string[] = [];
  const constants = new Map<string, Verbatim>();
  const part = (kind: keyof typeof shared, value: object): unknown => {
    const key = JSON.stringify(value);
    if ((uses.get(key) ?? 0) < 2) return value;
    const known = constants.get(key);
    if (known !== undefined) return known;
    const constant = name(`$${kind}`);
    parts.push(`const ${constant}: ${shared[kind]} = ${printData(value)};`);
    constants.set(key, verbatim(constant));
    return verbatim(constant);
  };

  return {
    /** The constant of a plan; fields that are those of `like`, which has its constant already, are taken from there. */
    constant: (plan: Plan, wish: string, like: Plan | null): Verbatim => {
      const key = JSON.stringify(plan);
      const known = constants.get(key);
      if (known !== undefined) return known;
      const constant = name(wish);
      const own = Object.entries(plan).filter(
        ([field, value]) => JSON.stringify(like?.[field as keyof Plan]) !== JSON.stringify(value),
      );
      const lists: { readonly [field: string]: unknown } = {
        kernels: plan.kernels.map((k) => part("kernel", k)),
        variants: plan.variants.map((v) => ({ ...v, steps: v.steps.map((s) => part("step", s)) })),
      };
      const from = like === null ? undefined : constants.get(JSON.stringify(like));
      const fields = own.map(([field, value]) => `  ${field}: ${printData(lists[field] ?? value, "  ")},`);
      const spread = from === undefined ? [] : [`  ...${printData(from)},`];
      plans.push([`const ${constant}: $Plan = {`, ...spread, ...fields, "};"].join("\n"));
      constants.set(key, verbatim(constant));
      return verbatim(constant);
    },
    declarations: () => [...(parts.length === 0 ? [] : [parts.join("\n")]), ...plans],
  };
}

/** Texts of kernels, each once, with what else is said of them. */
function textPrinter<T extends { readonly code: string }>(
  name: Naming,
  target: string,
  type: string,
  rest: (text: T) => { readonly [field: string]: unknown },
) {
  const declarations: string[] = [];
  const constants = new Map<string, Verbatim>();
  return {
    declarations,
    constant: (text: T, entry: string): Verbatim => {
      const key = JSON.stringify(text);
      const known = constants.get(key);
      if (known !== undefined) return known;
      const constant = name(`$${target}_${entry.replaceAll(/\W/g, "_")}`);
      declarations.push(
        [
          `const ${constant}: ${type} = {`,
          ...Object.entries(rest(text)).map(([field, value]) => `  ${field}: ${printData(value, "  ")},`),
          `  code: ${template(text.code)},`,
          "};",
        ].join("\n"),
      );
      constants.set(key, verbatim(constant));
      return verbatim(constant);
    },
  };
}
