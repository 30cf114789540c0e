/** The golden files of test/fixtures/golden as values, for every test that compares with torchscale. */
import { plainModel } from "./plain-model.ts";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { memorySource, readHeader, readTensor } from "../runtime/safetensors.ts";
import { logSumExp } from "../src/reference.ts";
import { seal } from "../src/spec.ts";
import type { AttentionShape, AttentionSpec, ModelShape, ModelSpec } from "../src/spec.ts";

const folder = new URL("./fixtures/golden/", import.meta.url);

export type Tensors = ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>;

/** Path of a golden file, named as in the manifest. */
export const goldenPath = (file: string): string => fileURLToPath(new URL(file, folder));

/** All tensors of a golden file; integers become Float32Array too (tokens and masks are small). */
export async function goldenTensors(file: string): Promise<Tensors> {
  const source = memorySource(readFileSync(goldenPath(file)), file);
  const header = await readHeader(source);
  const tensors = new Map<string, { shape: readonly number[]; data: Float32Array }>();
  for (const entry of header.tensors.values())
    tensors.set(entry.name, {
      shape: entry.shape,
      data: Float32Array.from(await readTensor(source, entry)),
    });
  return tensors;
}

export function tensor(tensors: Tensors, name: string): Float32Array {
  const found = tensors.get(name);
  if (found === undefined) throw new Error(`no golden tensor '${name}'`);
  return found.data;
}

type AttentionEntry = {
  readonly id: string;
  readonly file: string;
  readonly B: number;
  readonly N: number;
  readonly H: number;
  readonly D: number;
  readonly segment_length: readonly number[];
  readonly dilated_ratio: readonly number[];
  readonly is_causal: boolean;
};
type ModelEntry = {
  readonly id: string;
  readonly kind: "decoder" | "encoder" | "xpos" | "attention_block";
  readonly config: Readonly<Record<string, unknown>>;
  readonly weights: string;
  readonly io: string;
};
export type SlideEntry = {
  readonly id: string;
  readonly io: string;
  readonly weights: string;
  readonly model_kwargs: { readonly slide_ngrids: number; readonly in_chans: number };
  readonly encoder: {
    readonly layers: number;
    readonly embed_dim: number;
    readonly ffn: number;
    readonly heads: number;
    readonly segment_length: readonly number[];
    readonly dilated_ratio: readonly number[];
  };
  readonly n_tiles: number;
  readonly tile_size: number;
};
type Manifest = {
  readonly attention: readonly AttentionEntry[];
  readonly models: readonly ModelEntry[];
  readonly gigapath: readonly SlideEntry[];
};

export const manifest = JSON.parse(readFileSync(goldenPath("manifest.json"), "utf8")) as Manifest;

/** torchscale: ⌈heads/r⌉ neighbouring heads share an offset. */
export const blockOffsets = (heads: number, r: number): readonly number[] =>
  Array.from({ length: heads }, (_head, h) => Math.floor(h / Math.ceil(heads / r)));
/** The paper: head mod r. */
export const modOffsets = (heads: number, r: number): readonly number[] =>
  Array.from({ length: heads }, (_head, h) => h % r);

/** An AttentionShape of torchscale's choices (`compat torchscale`), with anything overridden. */
export function torchscaleShape(
  name: string,
  heads: number,
  headDim: number,
  branches: AttentionShape["branches"],
  rest: Partial<AttentionShape> = {},
): AttentionShape {
  return {
    name,
    heads,
    headDim,
    kvHeads: heads,
    causal: false,
    branches,
    offsets: branches.map(({ dilation }) => blockOffsets(heads, dilation)),
    padding: "zero",
    align: "ceil",
    combine: "softmax",
    gradient: "detached",
    scale: headDim ** -0.5,
    dtype: "f32",
    ...rest,
  };
}

const zipBranches = (segments: readonly number[], dilations: readonly number[]) =>
  segments.map((segment, b) => ({ segment, dilation: dilations[b] ?? 1 }));

export type AttentionCase = {
  readonly id: string;
  readonly file: string;
  readonly B: number;
  readonly N: number;
  /** compat torchscale */
  readonly spec: AttentionSpec;
  /** [B, N, heads, headDim] */
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly out: Float32Array;
  /** Per branch [B, heads, N]; −∞ where the branch does not cover the row. */
  readonly lse: readonly Float32Array[];
  /** [B, heads, N]: log-sum-exp over the covering branches, −∞ where there is none. */
  readonly lseUnion: Float32Array;
  /** torchscale's offsets, rows in place, padding masked: spec and its output. */
  readonly fixed: { readonly spec: AttentionSpec; readonly out: Float32Array };
  /** The paper: offset h mod r, rows in place, padding masked. */
  readonly paper: { readonly spec: AttentionSpec; readonly out: Float32Array };
};

async function attentionCase(entry: AttentionEntry): Promise<AttentionCase> {
  const { id, file, B, N, H, D } = entry;
  const tensors = await goldenTensors(file);
  const get = (name: string) => tensor(tensors, name);
  const branches = zipBranches(entry.segment_length, entry.dilated_ratio);
  const shape = torchscaleShape(id, H, D, branches, { causal: entry.is_causal });
  const all = get("lse").map((value) => (value === -1e8 ? -Infinity : value));
  const lse = branches.map((_branch, b) => all.slice(b * B * H * N, (b + 1) * B * H * N));
  const plain = { padding: "masked", align: "segment" } as const;
  return {
    id,
    file,
    B,
    N,
    spec: seal(shape),
    q: get("q"),
    k: get("k"),
    v: get("v"),
    out: get("out"),
    lse,
    lseUnion: Float32Array.from({ length: B * H * N }, (_row, i) =>
      logSumExp(lse.map((one) => one[i] ?? NaN)),
    ),
    fixed: { spec: seal({ ...shape, ...plain }), out: get("out_fixed") },
    paper: {
      spec: seal({
        ...shape,
        ...plain,
        offsets: branches.map(({ dilation }) => modOffsets(H, dilation)),
      }),
      out: get("out_paper"),
    },
  };
}

/** All 26 attention cases, in the order of the manifest. */
export const attentionCases = (): Promise<AttentionCase[]> =>
  Promise.all(manifest.attention.map(attentionCase));

export type ModelCase = {
  readonly id: string;
  readonly spec: ModelSpec;
  /** The checkpoint as a file and as tensors by name. */
  readonly weightsFile: string;
  readonly weights: Tensors;
  readonly B: number;
  readonly N: number;
  /** [B, N] */
  readonly tokens: Int32Array;
  /** [B, N], 1 for padding. */
  readonly paddingMask: Int32Array;
  /** What the model's program takes. */
  readonly inputs: { readonly [name: string]: Int32Array };
  /** [B, N, vocab] */
  readonly logits: Float32Array;
  /** [layers+1, B, N, dim]: embedding output, then each layer's output before the final norm. */
  readonly hidden: Float32Array;
};

/** `[8,16]` as torchscale writes lists. */
const list = (value: unknown): number[] => JSON.parse(String(value)) as number[];

function modelSpec({ id, kind, config }: ModelEntry, weights: Tensors): ModelSpec {
  const side = kind === "decoder" ? "decoder" : "encoder";
  const number = (name: string) => Number(config[`${side}_${name}`]);
  const [dim, heads] = [number("embed_dim"), number("attention_heads")];
  const deepnorm = config["deepnorm"] === true;
  const activation = config["activation_fn"] ?? "gelu";
  if (activation !== "gelu" && activation !== "relu" && activation !== "swish")
    throw new Error(`golden ${id}: activation ${String(activation)}`);
  const branches = zipBranches(list(config["segment_length"]), list(config["dilated_ratio"]));
  const rows = weights.get("embed_positions.weight")?.shape[0];
  const shape: ModelShape = {
    name: id,
    kind: side,
    input: "tokens",
    vocab: Number(config["vocab_size"]),
    dim,
    layers: number("layers"),
    ffn: { dim: number("ffn_embed_dim"), activation },
    attention: seal(
      torchscaleShape(`${id}_attention`, heads, dim / heads, branches, { causal: side === "decoder" }),
    ),
    xpos: config["xpos_rel_pos"] === true ? { base: Number(config["xpos_scale_base"] ?? 512) } : null,
    positions: rows === undefined ? null : { rows },
    norm: deepnorm ? "deepnorm" : "sub_ln",
    embedScale: config["no_scale_embedding"] === false ? Math.sqrt(dim) : 1,
    embedNorm: config["layernorm_embedding"] === true,
    head: config[`share_${side}_input_output_embed`] === true ? "tied" : "separate",
    finalNorm: !deepnorm,
    eps: 1e-5,
    ...plainModel,
  };
  return seal(shape);
}

async function modelCase(entry: ModelEntry): Promise<ModelCase> {
  const weights = await goldenTensors(entry.weights);
  const io = await goldenTensors(entry.io);
  const spec = modelSpec(entry, weights);
  const [B = 0, N = 0] = io.get("tokens")?.shape ?? [];
  const tokens = Int32Array.from(tensor(io, "tokens"));
  const mask = io.get("encoder_padding_mask")?.data;
  const paddingMask = mask === undefined ? new Int32Array(tokens.length) : Int32Array.from(mask);
  return {
    id: entry.id,
    spec,
    weightsFile: entry.weights,
    weights,
    B,
    N,
    inputs: spec.kind === "encoder" ? { tokens, padding_mask: paddingMask } : { tokens },
    tokens,
    paddingMask,
    logits: tensor(io, io.has("logits") ? "logits" : "encoder_out"),
    hidden: tensor(io, "hidden"),
  };
}

/** Decoders d1, d2, d4 and encoders e1 (its second sequence padded) and e3. */
export const modelCases = (): Promise<ModelCase[]> =>
  Promise.all(manifest.models.filter(({ kind }) => kind === "decoder" || kind === "encoder").map(modelCase));
