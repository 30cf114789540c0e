/**
 * The page: everything that happens to a program, in order, with a check after each pass. A check that fails here is our
 * bug and says so; what is wrong with a user's program comes out of `readSpec` as diagnostics.
 *
 *     text → AST → Spec → Graph → fused graph → tile kernels → kernels → simplified → unrolled → legal → modules, Plan
 */
import { distribute } from "../codegen/distribute.ts";
import { fuse } from "../codegen/fuse.ts";
import { legalize } from "../codegen/legalize.ts";
import { lower } from "../codegen/lower/index.ts";
import type { Launch } from "../codegen/lower/launch.ts";
import { simd } from "../codegen/machine/simd.ts";
import { makePlan } from "../codegen/plan.ts";
import type { LoweredVariant, PlanResult } from "../codegen/plan.ts";
import { simplify } from "../codegen/simplify.ts";
import { unroll } from "../codegen/unroll.ts";
import { verifyLaunches } from "../codegen/verify-launches.ts";
import { emitModule } from "../codegen/wasm/module.ts";
import { wasmOps } from "../codegen/wasm/value.ts";
import { wasmTarget } from "../codegen/wasm/target.ts";
import { read } from "../grammar/index.ts";
import type { Program, WasmModules } from "../runtime/plan.ts";
import type * as Ast from "./ast.ts";
import { check } from "./check.ts";
import { inOrder, isError } from "./diagnostic.ts";
import type { Diagnostic } from "./diagnostic.ts";
import type { Graph } from "./graph.ts";
import type { Kernel, TileKernel } from "./kernel.ts";
import { attentionGraph, modelGraph } from "./model.ts";
import { choose, rangesOf } from "./planner.ts";
import type { LengthRange, Wish } from "./planner.ts";
import type { ScheduleKind } from "./schedule.ts";
import { showGraph, showKernel, showPlan, showTiles } from "./show.ts";
import type { AttentionSpec, ModelSpec, Spec } from "./spec.ts";
import { sound, verified, verifiedTiles, verifyGraph, verifyPlan } from "./verify.ts";

/** Reads and checks a text. `spec` is null when any diagnostic is an error. `file` is only a name for messages. */
export function readSpec(
  text: string,
  file = "",
): { readonly spec: Spec | null; readonly ast: Ast.Program; readonly diagnostics: readonly Diagnostic[] } {
  const { ast, diagnostics: syntax } = read(text, file);
  const { spec, diagnostics } = check(ast);
  const all = inOrder([...syntax, ...diagnostics]);
  return { spec: all.some(isError) ? null : spec, ast, diagnostics: all };
}

export type CompileOptions = {
  readonly target: "wasm";
  /** Attentions and models to compile; all of them unless given. */
  readonly names?: readonly string[];
  /** Overrides the planner and the spec's own hints. */
  readonly schedule?: ScheduleKind;
  /** Compile for this one length, with the schedule that suits it best. Otherwise one artifact serves every length. */
  readonly length?: number;
  /** Makes the hidden values of models outputs. */
  readonly hidden?: boolean;
  /** What `HEDDLE_DEBUG` asks to see: 1 plan, 2 schedules, 3 tile kernels, 4 kernels, 5 modules. */
  readonly trace?: { readonly level: number; readonly write: (text: string) => void };
};

export type CompiledProgram = {
  readonly name: string;
  readonly item:
    | { readonly kind: "attention"; readonly spec: AttentionSpec }
    | { readonly kind: "model"; readonly spec: ModelSpec };
  /** As it is run: fused. */
  readonly graph: Graph;
  /** The modules are shared by all programs of one compilation. */
  readonly program: Program & { readonly wasm: WasmModules };
  /** The kernels of `program.plan.kernels`, in that order. */
  readonly kernels: readonly Kernel[];
  /** Where the hidden values are, embedding first; empty unless asked for. */
  readonly hidden: PlanResult["hidden"];
  /** Of the whole compilation. */
  readonly stats: CompileStats;
};
export type CompileStats = {
  readonly kernels: number;
  readonly bytes: { readonly base: number; readonly relaxed: number };
  /** Wall time. */
  readonly ms: number;
};

/** name "ScheduleError": the attention cannot be computed as asked for (its schedule, its dtype); the message says why. */
export type ScheduleError = Error & { readonly name: "ScheduleError" };

/**
 * Compiles attentions and models of a checked spec. Throws a ScheduleError where a wished schedule is not legal; any
 * other error is internal.
 */
export function compileSpec(spec: Spec, options: CompileOptions): readonly CompiledProgram[] {
  const start = performance.now();
  const trace = (level: number, text: () => string) => {
    if (options.trace !== undefined && options.trace.level >= level) options.trace.write(text());
  };
  const wanted = <T extends { readonly name: string }>(items: readonly T[]): readonly T[] =>
    items.filter((i) => options.names?.includes(i.name) ?? true);
  const passes = passesOf(trace);

  const drafts = [
    ...wanted(spec.attentions).map((a) => ({
      item: { kind: "attention", spec: a } as const,
      attention: a,
      graph: attentionGraph(a),
    })),
    ...wanted(spec.models).map((m) => ({
      item: { kind: "model", spec: m } as const,
      attention: m.attention,
      graph: modelGraph(m),
    })),
  ].map(({ item, attention, graph: whole }) => {
    storable(attention);
    // An attention alone takes its heads as an axis of their own, which the shape rules of models do not know.
    sound(`graph '${whole.name}'`, verifyGraph(whole));
    const graph = fuse(options.hidden === true ? whole : { ...whole, hidden: [] });
    sound(`fused graph '${graph.name}'`, verifyGraph(graph));
    trace(3, () => showGraph(graph));

    const variants = rangesFor(attention, spec, options).map(({ upTo, schedule }): LoweredVariant => {
      const label = `${schedule.kind} ${schedule.rows}x${schedule.keys}`;
      trace(2, () => `schedule ${graph.name} ${upTo === null ? "any N" : `N <= ${upTo}`}: ${label}\n`);
      const tiled = graph.nodes.flatMap((node) => lower(node, graph, () => schedule));
      return { upTo, schedule: label, launches: tiled.map((launch) => passes.run(launch)) };
    });
    const input = { name: graph.name, graph, variants, hidden: options.hidden === true };
    const { plan, kernels, hidden } = makePlan(input);
    verifyLaunches(plan, input);
    sound(`plan '${plan.name}'`, verifyPlan(plan));
    trace(1, () => showPlan(plan));
    return { name: graph.name, item, graph, plan, kernels, hidden };
  });

  const kernels = passes.kernels();
  const [base, relaxed] = [false, true].map((flag) => emitModule(kernels, { relaxed: flag }));
  if (base === undefined || relaxed === undefined) throw new Error("heddle: internal: no module");
  for (const { sharedBytes, entry } of drafts.flatMap((d) => d.plan.kernels))
    for (const { scratch } of [base, relaxed])
      if ((scratch.get(entry) ?? Infinity) > sharedBytes)
        throw new Error(`heddle: internal: '${entry}' needs more scratch memory than its plan says`);
  const wasm: WasmModules = {
    base: base.bytes,
    relaxed: relaxed.bytes,
    memoryFlag: { base: base.memoryFlag, relaxed: relaxed.memoryFlag },
    dataEnd: Math.max(base.dataEnd, relaxed.dataEnd),
  };
  trace(
    5,
    () =>
      `module of ${kernels.length} kernels: ${base.bytes.length} bytes, relaxed ${relaxed.bytes.length}\n`,
  );
  const stats: CompileStats = {
    kernels: kernels.length,
    bytes: { base: base.bytes.length, relaxed: relaxed.bytes.length },
    ms: performance.now() - start,
  };
  return drafts.map(({ plan, ...draft }) => ({ ...draft, program: { plan, wasm }, stats }));
}

/** Schedules by length: the planner's, bent by what the caller or the spec asks for. */
function rangesFor(attention: AttentionSpec, spec: Spec, options: CompileOptions): readonly LengthRange[] {
  const wish = wishFor(spec, attention, options.schedule);
  return scheduling(() =>
    options.length === undefined
      ? rangesOf(attention, wasmTarget, wish)
      : [{ upTo: null, schedule: choose(attention, options.length, wasmTarget, wish).chosen }],
  );
}

/** WebAssembly kernels store f32 so far: another dtype is refused rather than ignored. */
function storable({ name, dtype }: AttentionSpec): void {
  if (dtype === "f32") return;
  const why = `attention '${name}' has dtype ${dtype}; kernels for WebAssembly store f32 in this version: write \`dtype f32\``;
  throw Object.assign(new Error(why), { name: "ScheduleError" as const });
}

/** What the spec asks for an attention on WebAssembly; a `kind` given here counts more. */
export function wishFor(spec: Spec, { name }: AttentionSpec, given?: ScheduleKind): Wish {
  const hint = spec.schedules.find((s) => s.attention === name && s.target === "wasm");
  const kind = given ?? hint?.kind;
  return {
    ...(kind === undefined ? {} : { kind }),
    ...(hint?.rows === undefined ? {} : { rows: hint.rows }),
    ...(hint?.keys === undefined ? {} : { keys: hint.keys }),
  };
}

/** The planner refuses a wish with a plain sentence; it becomes a ScheduleError, a fault of the wish and not of heddle. */
export function scheduling<T>(plan: () => T): T {
  try {
    return plan();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (message.startsWith("heddle: internal")) throw error;
    throw Object.assign(new Error(message), { name: "ScheduleError" as const });
  }
}

/**
 * Tile kernel to legal kernel, once for each body. Layers repeat their kernels, so results are remembered by what is
 * lowered; two bodies that come under one name get names of their own.
 */
function passesOf(trace: (level: number, text: () => string) => void) {
  const done = new Map<string, Kernel>();
  const names = new Set<string>();
  const compile = (tiles: TileKernel): Kernel => {
    verifiedTiles(tiles);
    trace(3, () => showTiles(tiles));
    const kernel = verified(distribute(simd)(tiles));
    const small = verified(simplify(kernel));
    const flat = verified(simplify(verified(unroll(small))));
    const legal = verified(simplify(verified(legalize(flat, wasmOps))));
    trace(4, () => showKernel(legal));
    return legal;
  };
  return {
    run: (launch: Launch<TileKernel>): Launch<Kernel> => {
      const key = JSON.stringify(launch.kernel, (_, v: unknown) =>
        typeof v === "number" && !Number.isFinite(v) ? String(v) : v,
      );
      let kernel = done.get(key);
      if (kernel === undefined) {
        let name = launch.kernel.name;
        for (let i = 2; names.has(name); i++) name = `${launch.kernel.name}_${i}`;
        names.add(name);
        kernel = compile({ ...launch.kernel, name });
        done.set(key, kernel);
      }
      return { ...launch, kernel };
    },
    kernels: (): readonly Kernel[] => [...done.values()],
  };
}
