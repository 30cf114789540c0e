/**
 * The page: everything that happens to a program, in order, with a check after each pass. A check that fails here is our
 * bug and says so; what is wrong with a user's program comes out of `readSpec` as diagnostics.
 *
 *     text → AST → Spec → Graph → fused graph → tile kernels → kernels → simplified → unrolled → legal → artifact, Plan
 *
 * A target is a backend: limits and figures for the planner, tilings, a machine, the operations it has. WebGPU has several, one
 * for each set of features and limits that a device may offer; the runtime takes the first that fits.
 */
import { emitCuda } from "../codegen/cuda/emit.ts";
import { cudaOps } from "../codegen/cuda/expression.ts";
import { CUDA_TILINGS, cudaMachine, cudaTarget } from "../codegen/cuda/target.ts";
import { CUDA_OPTIONS } from "../codegen/cuda/text.ts";
import type { CudaKernelText } from "../codegen/cuda/text.ts";
import { decodeGraphs } from "../codegen/decode.ts";
import type { DecodeGraphs } from "../codegen/decode.ts";
import { distribute } from "../codegen/distribute.ts";
import { fuse } from "../codegen/fuse.ts";
import { legalize } from "../codegen/legalize.ts";
import type { Supported } from "../codegen/legalize.ts";
import { lower } from "../codegen/lower/index.ts";
import type { Launch } from "../codegen/lower/launch.ts";
import { CPU_TILINGS } from "../codegen/lower/tilings.ts";
import type { Tilings } from "../codegen/lower/tilings.ts";
import { simd, simdMachine } from "../codegen/machine/simd.ts";
import { panelOf } from "../codegen/machine/simd/layout.ts";
import { emitNative } from "../codegen/native/emit.ts";
import { nativeOps } from "../codegen/native/expression.ts";
import { NATIVE_VARIANTS, nativeTarget, nativeTilings } from "../codegen/native/target.ts";
import type { NativeVariant } from "../codegen/native/target.ts";
import { makePlan } from "../codegen/plan.ts";
import type { LoweredDecoding, LoweredEntry, LoweredVariant, PlanResult } from "../codegen/plan.ts";
import { simplify } from "../codegen/simplify.ts";
import { unroll } from "../codegen/unroll.ts";
import { verifyLaunches } from "../codegen/verify-launches.ts";
import { emitModule } from "../codegen/wasm/module.ts";
import { wasmOps } from "../codegen/wasm/value.ts";
import { wasmTarget } from "../codegen/wasm/target.ts";
import { emitShader } from "../codegen/wgsl/emit.ts";
import { wgslOps } from "../codegen/wgsl/expression.ts";
import { GPU_TILINGS, gpuMachine, WGSL_VARIANTS, wgslTarget } from "../codegen/wgsl/target.ts";
import { read } from "../grammar/index.ts";
import type { MapsDefinition } from "../runtime/definition.ts";
import { entryOf } from "../runtime/plan.ts";
import type { EntryName } from "../runtime/plan.ts";
import type {
  CudaProgram,
  NativeProgram,
  NativeVectors,
  Plan,
  Program,
  Shader,
  WasmModules,
  WgslProgram,
} from "../runtime/plan.ts";
import type { Anchors } from "./anchors.ts";
import type * as Ast from "./ast.ts";
import { check } from "./check.ts";
import { inOrder, isError } from "./diagnostic.ts";
import type { Diagnostic } from "./diagnostic.ts";
import type { Graph } from "./graph.ts";
import type { Kernel, TileKernel } from "./kernel.ts";
import { mappedLayers, mapsDefinition, relevanceOf, withMaps } from "./maps.ts";
import { attentionGraph, modelGraph } from "./model.ts";
import { choose, rangesOf } from "./planner.ts";
import type { LengthRange, Target, Wish } from "./planner.ts";
import type { Schedule, ScheduleKind } from "./schedule.ts";
import { showGraph, showKernel, showPlan, showTiles } from "./show.ts";
import type { AttentionSpec, ModelSpec, Spec } from "./spec.ts";
import { NARROW, WIDE } from "./storage.ts";
import type { Storage } from "./storage.ts";
import { sound, verified, verifiedTiles, verifyGraph, verifyPlan } from "./verify.ts";
import type { Warp } from "./warp.ts";

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

export type TargetName = "wasm" | "wgsl" | "cuda" | "native";

export type CompileOptions = {
  /** One or several: a program then holds the kernels of each. */
  readonly target: TargetName | readonly TargetName[];
  /** Attentions and models to compile; all of them unless given. */
  readonly names?: readonly string[];
  /** For `native`: only for these vectors, say those of this machine. For all of them unless given. */
  readonly vectors?: readonly NativeVectors[];
  /** Overrides the planner and the spec's own hints. */
  readonly schedule?: ScheduleKind;
  /** Compile for this one length, with the schedule that suits it best. Otherwise one artifact serves every length. */
  readonly length?: number;
  /** Makes the hidden values of models outputs. */
  readonly hidden?: boolean;
  /** Adds to models that predict tokens what generates with them; `modelReach` of codegen/decode.ts says which and how far. */
  readonly generate?: boolean;
  /**
   * Adds to models what attention maps are made from (`heddle/runtime/maps`): queries, keys and lse of these layers, or of all, become
   * outputs, and `relevance` a program of its own where the attention is symmetric.
   */
  readonly maps?: true | readonly number[];
  /** Makes every value of the fused graph an output under its id, so that each kernel's own result can be checked. */
  readonly values?: boolean;
  /**
   * Rows of a chunk (codegen/chunks.ts), on GPUs up to a multiple of `CHUNK_ALIGN`; null: sequences run whole. By default what suits the
   * target.
   */
  readonly chunk?: number | null;
  /** Turns the comments of shaders and CUDA C++ into references to the source: see `anchorsOf` in src/anchors.ts. */
  readonly anchors?: Anchors;
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
  /** Modules and shaders are shared by all programs of one compilation. */
  readonly program: Program;
  /**
   * The kernels of `program.plan.kernels`, in that order, and the tile kernels they were made from. None where the program is for CUDA
   * only: those of CUDA stand in `cuda`.
   */
  readonly kernels: readonly Kernel[];
  readonly tiles: readonly TileKernel[];
  /** Beside `program.webgpu`: the kernels of each of its plans, and the tile kernels they were made from. */
  readonly wgsl?: readonly { readonly kernels: readonly Kernel[]; readonly tiles: readonly TileKernel[] }[];
  /** Beside `program.cuda`, likewise. */
  readonly cuda?: readonly {
    readonly kernels: readonly Kernel<Warp>[];
    readonly tiles: readonly TileKernel[];
  }[];
  /** Beside `program.native`, likewise. */
  readonly native?: readonly { readonly kernels: readonly Kernel[]; readonly tiles: readonly TileKernel[] }[];
  /** Where the hidden values are, embedding first; empty unless asked for. */
  readonly hidden: PlanResult["hidden"];
  /** Of a model compiled with attention maps. */
  readonly maps?: MapsDefinition;
  /** Of the whole compilation. */
  readonly stats: CompileStats;
};
export type CompileStats = {
  /** Kernels of all targets. */
  readonly kernels: number;
  /** Of WebAssembly, and of the text of all shaders, of all CUDA C++ and of all C; 0 where the target was not asked for. */
  readonly bytes: {
    readonly base: number;
    readonly relaxed: number;
    readonly wgsl: number;
    readonly cuda: number;
    readonly native: number;
  };
  /** Wall time. */
  readonly ms: number;
};

/** name "ScheduleError": the attention cannot be computed as asked for (its schedule, its dtype); the message says why. */
export type ScheduleError = Error & { readonly name: "ScheduleError" };

/** What one target, or one variant of it, makes of a graph. */
type Backend<X extends Warp = never> = {
  readonly target: Target;
  readonly tilings: Tilings;
  /** From a verified tile kernel to one that the target can print. */
  readonly machine: (kernel: TileKernel) => Kernel<X>;
  readonly ops: Supported;
  /** Rows of a chunk, where sequences are to run in chunks. */
  readonly chunk?: number;
  /** Whether devices may have products of their own for linear layers. */
  readonly linears?: boolean;
};

/**
 * Compiles attentions and models of a checked spec. Throws a ScheduleError where a wished schedule is not legal; any
 * other error is internal.
 */
export function compileSpec(spec: Spec, options: CompileOptions): readonly CompiledProgram[] {
  const start = performance.now();
  const targets = typeof options.target === "string" ? [options.target] : options.target;
  if (targets.length === 0) throw new Error("heddle: internal: no target to compile for");
  const wanted = <T extends { readonly name: string }>(items: readonly T[]): readonly T[] =>
    items.filter((i) => options.names?.includes(i.name) ?? true);
  const mapped = options.maps === undefined ? [] : wanted(spec.models);
  const relevances = [
    ...new Map(mapped.flatMap((m) => relevanceOf(m) ?? []).map((a) => [a.name, a])).values(),
  ];
  /** Processors store f32 whatever a spec asks for; GPUs store what it says. */
  const drafts = (storage: Storage): readonly Draft[] => [
    ...wanted(spec.attentions).map((a) => ({
      item: { kind: "attention", spec: a } as const,
      attention: a,
      graph: prepared(attentionGraph(a, storage), options),
    })),
    ...wanted(spec.models).map((m) => ({
      item: { kind: "model", spec: m } as const,
      attention: m.attention,
      ...modelDraft(m, storage, options),
    })),
    // At the end, so that positions of what was asked for stay theirs.
    ...relevances.map((a) => ({
      item: { kind: "attention", spec: a } as const,
      attention: a,
      graph: prepared(attentionGraph(a, storage), {}),
    })),
  ];

  const wasm = targets.includes("wasm") ? compileWasm(drafts(WIDE), spec, options) : null;
  const wide = targets.includes("native") ? drafts(WIDE) : [];
  const native = NATIVE_VARIANTS.filter(
    ({ vectors }) => targets.includes("native") && (options.vectors?.includes(vectors) ?? true),
  ).map((variant) => compileNative(wide, spec, options, variant));
  const narrow = targets.some((t) => t === "wgsl" || t === "cuda") ? drafts(NARROW) : [];
  const wgsl = targets.includes("wgsl")
    ? WGSL_VARIANTS.map((variant) => compileWgsl(narrow, spec, options, variant))
    : [];
  const cuda = targets.includes("cuda") ? [compileCuda(narrow, spec, options)] : [];
  const ms = performance.now() - start;
  const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
  const programs = (wasm?.drafts ?? (wide.length > 0 ? wide : narrow)).map(
    ({ item, graph }, i): CompiledProgram => {
      const [shaders, texts] = [wgsl.map((v) => at(v.programs, i)), cuda.map((v) => at(v.programs, i))];
      const units = native.map((v) => at(v.programs, i));
      const scalar = wasm === null ? (shaders.at(-1) ?? units.at(-1)) : at(wasm.programs, i);
      const main = scalar ?? at(texts, texts.length - 1);
      for (const { plan } of [...shaders, ...texts, ...units]) sameTensors(main.plan, plan);
      return {
        name: graph.name,
        item,
        graph,
        program: {
          plan: main.plan,
          ...(wasm === null ? {} : { wasm: wasm.modules }),
          ...(shaders.length === 0 ? {} : { webgpu: shaders.map((v) => v.program) }),
          ...(texts.length === 0 ? {} : { cuda: texts.map((v) => v.program) }),
          ...(units.length === 0 ? {} : { native: units.map((v) => v.program) }),
        },
        kernels: scalar?.kernels ?? [],
        tiles: scalar?.tiles ?? [],
        ...(shaders.length === 0 ? {} : { wgsl: shaders.map(({ kernels, tiles }) => ({ kernels, tiles })) }),
        ...(texts.length === 0 ? {} : { cuda: texts.map(({ kernels, tiles }) => ({ kernels, tiles })) }),
        ...(units.length === 0 ? {} : { native: units.map(({ kernels, tiles }) => ({ kernels, tiles })) }),
        hidden: main.hidden,
        stats: {
          kernels: (wasm?.kernels ?? 0) + sum([...wgsl, ...cuda, ...native].map((v) => v.kernels)),
          bytes: {
            base: wasm?.modules.base.length ?? 0,
            relaxed: wasm?.modules.relaxed.length ?? 0,
            wgsl: sum(wgsl.map((v) => v.bytes)),
            cuda: sum(cuda.map((v) => v.bytes)),
            native: sum(native.map((v) => v.bytes)),
          },
          ms,
        },
      };
    },
  );
  if (options.maps === undefined) return programs;
  const { maps } = options;
  return programs.slice(0, programs.length - relevances.length).map((compiled) => {
    if (compiled.item.kind !== "model") return compiled;
    const model = compiled.item.spec;
    const name = relevanceOf(model)?.name;
    const relevance = programs.find((p, i) => i >= programs.length - relevances.length && p.name === name);
    return { ...compiled, maps: mapsDefinition(model, maps, relevance?.program) };
  });
}

const at = <T>(items: readonly T[], i: number): T => {
  const found = items[i];
  if (found === undefined) throw new Error("heddle: internal: a program was lost");
  return found;
};

type Draft = {
  readonly item: CompiledProgram["item"];
  readonly attention: AttentionSpec;
  readonly graph: Graph;
  readonly decoding?: DecodeGraphs;
};

/** A model's graph, and those that generate with it where that is asked for and possible. */
function modelDraft(
  m: ModelSpec,
  storage: Storage,
  options: CompileOptions,
): Pick<Draft, "graph" | "decoding"> {
  const whole = modelGraph(m, storage);
  const { maps } = options;
  const graph = prepared(maps === undefined ? whole : withMaps(whole, mappedLayers(m, maps)), options);
  const made = options.generate === true ? decodeGraphs(m, whole) : null;
  if (made === null) return { graph };
  const run = (g: Graph) => prepared(g, {});
  const promote = made.promote === null ? null : run(made.promote);
  return { graph, decoding: { ...made, prefill: run(made.prefill), step: run(made.step), promote } };
}

/** The graph as it is run. */
function prepared(whole: Graph, options: Pick<CompileOptions, "hidden" | "values">): Graph {
  sound(`graph '${whole.name}'`, verifyGraph(whole));
  const fused = fuse(options.hidden === true ? whole : { ...whole, hidden: [] });
  const outputs = fused.values.map(({ id }) => ({ name: id, value: id }));
  const graph = options.values === true ? { ...fused, outputs } : fused;
  sound(`fused graph '${graph.name}'`, verifyGraph(graph));
  return graph;
}

const scheduled = (schedule: Schedule | null): Schedule => {
  if (schedule === null) throw new Error("heddle: internal: a step has no attention to schedule");
  return schedule;
};

type Planned<X extends Warp = never> = PlanResult<Kernel<X>> & { readonly tiles: readonly TileKernel[] };

/** Every program for one backend, and the kernels they share. */
function plansFor<X extends Warp = never>(
  drafts: readonly Draft[],
  spec: Spec,
  options: CompileOptions,
  backend: Backend<X>,
): { readonly plans: readonly Planned<X>[]; readonly kernels: readonly Kernel<X>[] } {
  const trace = tracing(options);
  const passes = passesOf(backend, trace);
  const launchesOf = (graph: Graph, schedule: Schedule | null) =>
    graph.nodes
      .flatMap((node) => lower(node, graph, () => scheduled(schedule), backend.tilings))
      .map((launch) => passes.run(launch));
  const planned = (attention: AttentionSpec, graph: Graph): readonly LoweredVariant<Kernel<X>>[] => {
    trace(3, () => showGraph(graph));
    return rangesFor(attention, spec, options, backend.target).map(
      ({ upTo, schedule }): LoweredVariant<Kernel<X>> => {
        const label = `${schedule.kind} ${schedule.rows}x${schedule.keys}`;
        trace(
          2,
          () =>
            `schedule ${graph.name} on ${backend.target.name} ${upTo === null ? "any N" : `N <= ${upTo}`}: ${label}\n`,
        );
        return { upTo, schedule: label, launches: launchesOf(graph, schedule) };
      },
    );
  };
  /** What decodes has no rows to schedule. */
  const single = (graph: Graph): LoweredEntry<Kernel<X>> => {
    trace(3, () => showGraph(graph));
    return { graph, variants: [{ upTo: null, schedule: "decode", launches: launchesOf(graph, null) }] };
  };
  const decodingOf = (attention: AttentionSpec, made: DecodeGraphs): LoweredDecoding<Kernel<X>> => {
    const { states, rows, moves, reach, grows, fingerprint, prefill, step, promote } = made;
    return {
      states,
      entries: {
        prefill: { graph: prefill, variants: planned(attention, prefill) },
        step: single(step),
        ...(promote === null ? {} : { promote: single(promote) }),
      },
      rows,
      moves,
      reach: reach.why === null ? null : { tokens: reach.tokens, why: reach.why },
      grows,
      spec: fingerprint,
    };
  };
  const plans = drafts.map(({ attention, graph, decoding }): Planned<X> => {
    const variants = planned(attention, graph);
    const input = {
      name: graph.name,
      graph,
      variants,
      hidden: options.hidden === true,
      ...(backend.chunk === undefined ? {} : { chunk: backend.chunk }),
      linears: backend.linears === true,
      ...(decoding === undefined ? {} : { decoding: decodingOf(attention, decoding) }),
    };
    const result = makePlan(input);
    verifyLaunches(result.plan, input);
    sound(`plan '${result.plan.name}'`, verifyPlan(result.plan));
    trace(1, () => showPlan(result.plan));
    return { ...result, tiles: result.kernels.map(passes.tilesOf) };
  });
  return { plans, kernels: passes.kernels() };
}

/**
 * Rows of a chunk. On WebAssembly: enough that threads have work to share in each step (32 tiles of a linear's rows), few enough that the
 * hidden rows of an FFN of 3072 are 12 MiB. On GPUs: enough that a linear of 768 outputs has two tiles of 128 × 128 and more for each
 * multiprocessor of the largest (384 for 132), few enough that those hidden rows are 96 MiB, 48 in 16 bits.
 */
const CHUNK_ROWS = { wasm: 1024, gpu: 8192 } as const;
/** Rows of a width in whole 16-bit elements begin at multiples of 256 bytes then, where WebGPU lets a binding begin. */
export const CHUNK_ALIGN = 128;

/** What a backend of this kind takes of the option `chunk`. */
function chunked({ chunk }: CompileOptions, on: keyof typeof CHUNK_ROWS): Pick<Backend, "chunk"> {
  if (chunk === null) return {};
  const rows = chunk ?? CHUNK_ROWS[on];
  return { chunk: on === "wasm" ? rows : CHUNK_ALIGN * Math.ceil(rows / CHUNK_ALIGN) };
}

function compileWasm(drafts: readonly Draft[], spec: Spec, options: CompileOptions) {
  const { plans, kernels } = plansFor(drafts, spec, options, {
    target: wasmTarget,
    tilings: CPU_TILINGS,
    machine: distribute(simd),
    ops: wasmOps,
    ...chunked(options, "wasm"),
  });
  const [base, relaxed] = [false, true].map((flag) => emitModule(kernels, { relaxed: flag }));
  if (base === undefined || relaxed === undefined) throw new Error("heddle: internal: no module");
  for (const { sharedBytes, entry } of plans.flatMap((p) => p.plan.kernels))
    for (const { scratch } of [base, relaxed])
      if ((scratch.get(entry) ?? Infinity) > sharedBytes)
        throw new Error(`heddle: internal: '${entry}' needs more scratch memory than its plan says`);
  const modules: WasmModules = {
    base: base.bytes,
    relaxed: relaxed.bytes,
    memoryFlag: { base: base.memoryFlag, relaxed: relaxed.memoryFlag },
    dataEnd: Math.max(base.dataEnd, relaxed.dataEnd),
  };
  tracing(options)(
    5,
    () =>
      `module of ${kernels.length} kernels: ${base.bytes.length} bytes, relaxed ${relaxed.bytes.length}\n`,
  );
  return { drafts, programs: plans, modules, kernels: kernels.length };
}

function compileWgsl(
  drafts: readonly Draft[],
  spec: Spec,
  options: CompileOptions,
  variant: (typeof WGSL_VARIANTS)[number],
) {
  const { plans, kernels } = plansFor(drafts, spec, options, {
    target: wgslTarget(variant),
    tilings: GPU_TILINGS,
    machine: gpuMachine(variant),
    ops: wgslOps,
    ...chunked(options, "gpu"),
  });
  const shaders = new Map<Kernel, Shader>();
  const trace = tracing(options);
  const programs = plans.map((p, i) => {
    const { item, attention } = at(drafts, i);
    const own = p.kernels.map((kernel, k) => {
      const known = shaders.get(kernel);
      if (known !== undefined) return known;
      const title = at(p.plan.kernels, k).title;
      const made = emitShader(kernel, titled(title, item, attention, options.anchors));
      shaders.set(kernel, made);
      trace(5, () => made.code);
      return made;
    });
    const program: WgslProgram = { features: variant.features, plan: p.plan, shaders: own };
    return { ...p, program };
  });
  const bytes = [...shaders.values()].reduce((n, s) => n + s.code.length, 0);
  return { programs, kernels: kernels.length, bytes };
}

function compileCuda(drafts: readonly Draft[], spec: Spec, options: CompileOptions) {
  const { plans, kernels } = plansFor<Warp>(drafts, spec, options, {
    target: cudaTarget,
    tilings: CUDA_TILINGS,
    machine: cudaMachine,
    ops: cudaOps,
    ...chunked(options, "gpu"),
    linears: true,
  });
  const texts = new Map<Kernel<Warp>, CudaKernelText>();
  const trace = tracing(options);
  const programs = plans.map((p, i) => {
    const { item, attention } = at(drafts, i);
    const own = p.kernels.map((kernel, k) => {
      const { title, workgroup, sharedBytes } = at(p.plan.kernels, k);
      const made = texts.get(kernel) ?? emitCuda(kernel, titled(title, item, attention, options.anchors));
      if (made.workgroup !== workgroup || made.sharedBytes !== sharedBytes)
        throw new Error(`heddle: internal: '${made.entry}' is not launched as its plan says`);
      if (!texts.has(kernel)) trace(5, () => made.code);
      texts.set(kernel, made);
      return { entry: made.entry, code: made.code };
    });
    const program: CudaProgram = { capability: 80, options: CUDA_OPTIONS, plan: p.plan, sources: own };
    return { ...p, program };
  });
  const bytes = [...texts.values()].reduce((n, t) => n + t.code.length, 0);
  return { programs, kernels: kernels.length, bytes };
}

function compileNative(
  drafts: readonly Draft[],
  spec: Spec,
  options: CompileOptions,
  variant: NativeVariant,
) {
  const { plans, kernels } = plansFor(drafts, spec, options, {
    target: nativeTarget(variant),
    tilings: nativeTilings(variant),
    machine: distribute(simdMachine(variant.shape)),
    ops: nativeOps,
    ...chunked(options, "wasm"),
  });
  const { vectors, shape } = variant;
  const trace = tracing(options);
  let bytes = 0;
  const programs = plans.map((p, i) => {
    const { item, attention } = at(drafts, i);
    const own = p.kernels.map((kernel, k) => {
      const { title, comment } = titled(at(p.plan.kernels, k).title, item, attention, options.anchors);
      return { kernel, title, comment };
    });
    const { code, scratchBytes } = emitNative(own, `${item.kind} ${item.spec.name}, for ${vectors}`);
    trace(5, () => code);
    bytes += code.length;
    const program: NativeProgram = { vectors, panel: panelOf(shape), scratchBytes, plan: p.plan, code };
    return { ...p, program };
  });
  return { programs, kernels: kernels.length, bytes };
}

/** The first line of a kernel's text, and where its comments point. */
function titled(
  title: string,
  item: CompiledProgram["item"],
  attention: AttentionSpec,
  anchors: Anchors | undefined,
) {
  const own = title.startsWith(`${attention.name}: `) ? attention.name : item.spec.name;
  const spot = (line: number | null | undefined) => (line == null ? "" : `spec:${line} `);
  return {
    title: `${spot(anchors?.item(own))}${item.kind} ${item.spec.name}: ${title}`,
    comment: (text: string): string => {
      const branch = /^branch (\d+):/.exec(text)?.[1];
      return branch === undefined ? text : `${spot(anchors?.branch(attention, Number(branch)))}${text}`;
    },
  };
}

/** Weights, inputs and outputs are handed to whichever plan runs, by position, and weights in their layout. */
function sameTensors(a: Plan, b: Plan): void {
  const names = ({ inputs, outputs, weights }: Plan) =>
    JSON.stringify([
      ...[inputs, outputs].map((list) => list.map((t) => [t.name, t.shape])),
      weights.map((w) => [w.name, w.shape, w.layout]),
    ]);
  const entries = Object.keys(a.decoding?.entries ?? {}) as EntryName[];
  const differ = names(a) !== names(b) || entries.some((n) => names(entryOf(a, n)) !== names(entryOf(b, n)));
  if (differ) throw new Error(`heddle: internal: the plans of '${a.name}' take different tensors`);
}

type Trace = (level: number, text: () => string) => void;
const tracing =
  ({ trace }: CompileOptions): Trace =>
  (level, text) => {
    if (trace !== undefined && trace.level >= level) trace.write(text());
  };

/** Schedules by length: the planner's, bent by what the caller or the spec asks for. */
function rangesFor(
  attention: AttentionSpec,
  spec: Spec,
  options: CompileOptions,
  target: Target,
): readonly LengthRange[] {
  const known = (["wgsl", "cuda", "native"] as const).find((name) => name === target.name);
  const asked = wishFor(spec, attention, options.schedule, known ?? "wasm");
  const { rows, ...open } = asked;
  // A variant of native code for other vectors than a height was chosen for leaves it to the planner.
  const wish = known === "native" && rows !== undefined && rows % target.limits.rowStep !== 0 ? open : asked;
  return scheduling(() =>
    options.length === undefined
      ? rangesOf(attention, target, wish)
      : [{ upTo: null, schedule: choose(attention, options.length, target, wish).chosen }],
  );
}

/** What the spec asks for an attention on a target; a `kind` given here counts more. */
export function wishFor(
  spec: Spec,
  { name }: AttentionSpec,
  given?: ScheduleKind,
  target: TargetName = "wasm",
): Wish {
  const hint = spec.schedules.find((s) => s.attention === name && s.target === target);
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
function passesOf<X extends Warp = never>({ machine, ops }: Backend<X>, trace: Trace) {
  const done = new Map<string, Kernel<X>>();
  const origin = new Map<Kernel<X>, TileKernel>();
  const names = new Set<string>();
  const compile = (tiles: TileKernel): Kernel<X> => {
    verifiedTiles(tiles);
    trace(3, () => showTiles(tiles));
    const kernel = verified<X>(machine(tiles));
    const small = verified<X>(simplify<X>(kernel));
    const flat = verified<X>(simplify<X>(verified<X>(unroll<X>(small))));
    const legal = verified<X>(simplify<X>(verified<X>(legalize<X>(flat, ops))));
    trace(4, () => showKernel(legal));
    origin.set(legal, tiles);
    return legal;
  };
  return {
    run: (launch: Launch<TileKernel>): Launch<Kernel<X>> => {
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
    kernels: (): readonly Kernel<X>[] => [...done.values()],
    tilesOf: (kernel: Kernel<X>): TileKernel => {
      const found = origin.get(kernel);
      if (found === undefined) throw new Error(`heddle: internal: nobody made kernel '${kernel.name}'`);
      return found;
    },
  };
}
