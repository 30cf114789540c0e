import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { writeSafetensors } from "../../runtime/safetensors.ts";
import { attentionNumbers } from "../../src/cli/explain/numbers.ts";
import { attentionText } from "../../src/cli/explain/text.ts";
import { longestPath } from "../../src/cli/explain/path.ts";
import { readSpec } from "../../src/compile.ts";
import type { AttentionSpec } from "../../src/spec.ts";
import { folder, heddle, tinyModel } from "./session.ts";

const here = folder();
const home = process.cwd();
afterAll(() => {
  process.chdir(home);
  here.remove();
});

const attentionOf = (text: string): AttentionSpec => {
  const [first] = readSpec(text).spec?.attentions ?? [];
  if (first === undefined) throw new Error("the spec is wrong");
  return first;
};

describe("heddle explain", () => {
  it("counts what can be counted by hand", async () => {
    const path = here.at("tiny.heddle");
    writeFileSync(path, tinyModel);
    const { code, out } = await heddle(["explain", path, "--length", "8", "--json"]);
    expect(code).toBe(0);
    const [attention, model] = JSON.parse(out) as Record<string, unknown>[];
    // Per head: two causal segments of 4 (10 pairs each), and one of four rows of every second token (10 pairs).
    expect(attention).toMatchObject({ pairs: 60, densePairs: 72, flops: 60 * 32, bytes: 4 * 8 * (64 + 2) });
    expect(attention?.["branches"]).toMatchObject([
      { segment: 4, dilation: 1, pairs: 40, coverage: 1 },
      { segment: 8, dilation: 2, pairs: 20, coverage: 0.5 },
    ]);
    const schedules = attention?.["schedules"] as { kind: string; chosen: boolean; refused: string | null }[];
    expect(schedules.map((s) => s.kind).sort()).toEqual([
      "annulus",
      "annulus_list",
      "branch",
      "class",
      "dense",
    ]);
    expect(schedules.filter((s) => s.chosen).length).toBe(1);
    expect(schedules.every((s) => s.chosen || s.refused !== "")).toBe(true);

    const layer = 4 * (16 * 16 + 16) + 2 * 16 + 2 * 16 + (24 * 16 + 24) + 2 * 24 + (16 * 24 + 16) + 2 * 16;
    expect(model).toMatchObject({ parameters: 256 * 16 + 34 * 16 + layer + 2 * 16 + 256 * 16 });
    const memory = model?.["memory"] as Record<string, number>;
    expect(memory["weights"]).toBe(4 * Number(model?.["parameters"]));
    expect(memory["outputs"]).toBe(4 * 8 * 256);
    expect(memory["inputs"]).toBe(4 * 8);
    const flops = model?.["flops"] as Record<string, number>;
    expect(flops["linear"]).toBe(8 * 2 * (4 * 256 + 2 * 24 * 16 + 256 * 16));
    expect(flops["attention"]).toBe(60 * 32);
  });

  it("writes a page for a reader", async () => {
    const path = here.at("tiny.heddle");
    writeFileSync(path, tinyModel);
    const { code, out } = await heddle(["explain", path, "one", "--length", "64"]);
    expect(code).toBe(0);
    expect(out).toMatch(/model one, 64 tokens/);
    expect(out).toMatch(/→ (branch|class|annulus|annulus_list) /);
    // It has learned positions for 32 tokens.
    expect(out).not.toContain("cache of generation");
    const near = await heddle(["explain", path, "one", "--length", "30"]);
    expect(near.out).toMatch(/cache of generation +[\d.,]+ \w+ \(dense [\d.,]+ \w+\)/);
    expect(out).toContain("dense: 'dense' computes one branch with 'segment all' and dilation 1");
    expect(out).toMatch(/dependency path: \d+ layers? from each token to all later ones/);
    const misspelt = await heddle(["explain", path, "onne", "--length", "64"]);
    expect(misspelt).toMatchObject({ code: 1 });
    expect(misspelt.err).toMatch(/it has 'tiny', 'one'\. Did you mean 'one'\?/);
  });

  it("says which steps run for some rows at a time, and what that leaves of the memory", async () => {
    const path = here.at("chunks.heddle");
    writeFileSync(path, tinyModel);
    const told = async (...more: readonly string[]) => (await heddle(["explain", path, "one", ...more])).out;
    const numbers = async (length: string, target: string) =>
      JSON.parse(await told("--length", length, "--target", target, "--json")) as {
        steps: number;
        chunks: { rows: number; steps: number } | null;
        memory: { activations: number };
      };
    for (const [target, rows] of [
      ["wasm", 1024],
      ["wgsl", 8192],
    ] as const) {
      const far = await numbers("20000", target);
      expect(far.chunks?.rows, target).toBe(rows);
      expect(far.chunks?.steps).toBeGreaterThan(3);
      expect(far.chunks?.steps).toBeLessThan(far.steps);
      const near = await numbers(String(rows), target);
      expect(near.chunks).toBeNull();
      // More rows take less of it each.
      expect(far.memory.activations / 20_000).toBeLessThan((0.9 * near.memory.activations) / rows);
    }
    expect(await told("--length", "20000")).toMatch(/^ +1,024 rows at a time +\d+ of them$/m);
  });

  it("shows both forms of annulus on a GPU, with launches and waves, and takes the list where launches would wait", () => {
    const branches = "segments [1024, 5792, 32768, 185363, 1048576] dilations [1, 2, 4, 8, 16]";
    const text = `attention slides { heads 16 head_dim 48 dtype bf16 compat torchscale branches ${branches} }`;
    const { spec } = readSpec(text);
    const numbers = (N: number) => {
      if (spec === null) throw new Error("the spec is wrong");
      return attentionNumbers(attentionOf(text), N, spec, "cuda");
    };
    const short = numbers(10_000);
    const of = (kind: string) => short.schedules.find((s) => s.kind === kind);
    // Five passes and what rounds their state; one list and its merge.
    expect(of("annulus")).toMatchObject({ launches: 6, chosen: false });
    expect(of("annulus_list")).toMatchObject({ launches: 2, chosen: true });
    expect(of("annulus_list")?.work).toBeLessThan(0.95);
    // The last wave of each launch need not be full, and some groups find nothing to do.
    expect(Math.abs((of("annulus_list")?.waves ?? 0) - (of("annulus_list")?.groups ?? 0) / 264)).toBeLessThan(
      2,
    );
    const page = attentionText(short, false);
    expect(page).toMatch(/schedule \(cuda\) +rows×keys +launches +groups +waves/);
    expect(page).toMatch(/→ annulus_list +\d+×\d+ +2 /);
    expect(page).toMatch(/ {2}annulus +\d+×\d+ +6 /);
    // A million tokens fill a GPU by themselves, and parts would have to be written and read.
    expect(numbers(1 << 20).schedules.find((s) => s.chosen)?.kind).not.toBe("annulus_list");
  });

  it("plans a billion tokens at once", async () => {
    const { code, out } = await heddle([
      "explain",
      "examples/paper.heddle",
      "dense",
      "--length",
      "1000000000",
      "--json",
    ]);
    expect(code).toBe(0);
    // 12 heads · N (N + 1) / 2, beyond 2^53.
    expect((JSON.parse(out) as { pairs: unknown }).pairs).toBe(String(6n * 1_000_000_000n * 1_000_000_001n));
  });
});

/** By the definition: edges of one layer, closed until nothing is new. */
function byDefinition(spec: AttentionSpec, N: number): { layers: number; unreached: number } {
  const meet = (i: number, j: number): boolean =>
    (!spec.causal || j <= i) &&
    spec.branches.some(({ segment, dilation }, b) => {
      const w = Math.min(segment, N);
      if (Math.floor(i / w) !== Math.floor(j / w)) return false;
      const [ri, rj] = [(i % w) % dilation, (j % w) % dilation];
      return ri === rj && (spec.offsets[b] ?? []).includes(ri);
    });
  let [layers, unreached] = [0, 0];
  for (let source = 0; source < N; source++) {
    const reached = new Set([source]);
    for (let layer = 1; ; layer++) {
      const added = Array.from({ length: N }, (_, i) => i).filter(
        (i) => !reached.has(i) && [...reached].some((j) => meet(i, j)),
      );
      if (added.length === 0) break;
      layers = Math.max(layers, layer);
      added.forEach((i) => reached.add(i));
    }
    unreached += (spec.causal ? N - source : N) - reached.size;
  }
  return { layers, unreached: unreached / (spec.causal ? (N * (N - 1)) / 2 : N * (N - 1)) };
}

describe("the longest dependency path", () => {
  const text = (causal: boolean, branches: string, heads = 4) =>
    `attention a { heads ${heads} head_dim 8 causal ${causal} ${branches} }`;
  const geometric = "branch i in 0..3 { segment 8 * 2 ** i dilation 2 ** i }";
  it.each([
    ["dense", text(false, "branch segment all dilation 1")],
    ["geometric", text(false, geometric)],
    ["geometric, causal", text(true, geometric)],
    ["few heads", text(false, "branch segment 4 dilation 1 branch segment all dilation 5", 2)],
    ["few heads, causal", text(true, "branch segment 4 dilation 1 branch segment all dilation 5", 2)],
    ["segments that do not nest", text(false, "branch segment 7 dilation 1 branch segment 16 dilation 3")],
    ["blocks only", text(true, "branch segment 8 dilation 1")],
  ])("%s", (_, source) => {
    const spec = attentionOf(source);
    for (const N of [1, 2, 9, 33, 50]) {
      const found = longestPath(spec, N);
      const { layers, unreached } = byDefinition(spec, N);
      expect([N, found.layers, found.exact]).toEqual([N, layers, true]);
      expect(found.unreached).toBeCloseTo(N === 1 ? 0 : unreached, 12);
    }
  });
  it("samples what is too long, and says so", () => {
    const branches = "branch segment 1024 dilation 1 branch segment all dilation 16";
    const seen = { unreached: 0, exact: false, length: 2 ** 20 };
    // Sixteen heads start at every residue; two leave most tokens to go by way of their segment.
    expect(longestPath(attentionOf(text(false, branches, 16)), 5_000_000)).toEqual({ layers: 2, ...seen });
    expect(longestPath(attentionOf(text(false, branches, 2)), 5_000_000)).toEqual({ layers: 3, ...seen });
  });
});

describe("heddle import", () => {
  const config = {
    architecture: "LongNetDecoder",
    vocab_size: 101,
    decoder_embed_dim: 64,
    decoder_attention_heads: 4,
    decoder_ffn_embed_dim: 128,
    decoder_layers: 3,
    segment_length: "[8,16,32]",
    dilated_ratio: "[1,2,4]",
    flash_attention: true,
    xpos_rel_pos: true,
  };

  it("prints a spec that checks", async () => {
    const path = here.at("config.json");
    writeFileSync(path, JSON.stringify(config));
    const { code, out } = await heddle(["import", path, "--name", "d1", "--stdout"]);
    expect(code).toBe(0);
    const { spec } = readSpec(out);
    expect(spec?.models[0]).toMatchObject({ name: "d1", vocab: 101, layers: 3, xpos: { base: 512 } });
    expect(spec?.attentions[0]?.offsets[1]).toEqual([0, 0, 1, 1]);
  });

  it("writes NAME.heddle, but not over another file", async () => {
    const path = here.at("config.json");
    writeFileSync(path, JSON.stringify(config));
    process.chdir(here.path);
    expect(await heddle(["import", path])).toMatchObject({ code: 0, out: "config.heddle\n" });
    expect(readSpec(readFileSync("config.heddle", "utf8")).spec).not.toBeNull();
    expect(await heddle(["import", path])).toMatchObject({ code: 1 });
    expect(await heddle(["import", path, "--force"])).toMatchObject({ code: 0 });
    process.chdir(home);
  });

  it("takes learned positions from a checkpoint", async () => {
    const path = here.at("config.json");
    writeFileSync(path, JSON.stringify(config));
    const shape = [66, 64];
    const data = new Float32Array(66 * 64);
    const weights = here.at("positions.safetensors");
    writeFileSync(weights, writeSafetensors([{ name: "embed_positions.weight", dtype: "F32", shape, data }]));
    const { out } = await heddle(["import", path, "--weights", weights, "--stdout"]);
    expect(readSpec(out).spec?.models[0]).toMatchObject({ positions: { rows: 66 }, xpos: { base: 512 } });
  });

  it("refuses what is no configuration", async () => {
    writeFileSync(here.at("text.json"), "{ not json");
    expect(await heddle(["import", here.at("text.json"), "--stdout"])).toMatchObject({ code: 1, out: "" });
    writeFileSync(here.at("bad.json"), JSON.stringify({ ...config, decoder_attention_heads: 5, xpos: 1 }));
    const { code, out, err } = await heddle(["import", here.at("bad.json"), "--stdout"]);
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toContain("decoder_attention_heads");
    expect(existsSync("bad.heddle")).toBe(false);
  });
});

describe("heddle devices", () => {
  it("lists what there is and what not, and what `auto` takes", async () => {
    // What is built to look for CUDA goes where tests keep such things.
    const env = { HEDDLE_CACHE: resolve("node_modules/.cache/heddle-test") };
    const { code, out } = await heddle(["devices", "--json"], env);
    expect(code).toBe(0);
    const { devices, auto } = JSON.parse(out) as {
      devices: { name: string; available: boolean; detail: string }[];
      auto: string;
    };
    expect(devices.map((d) => d.name)).toEqual([
      "reference",
      "interpret",
      "wasm",
      "native",
      "webgpu",
      "cuda",
    ]);
    const line = (name: string) => devices.find((d) => d.name === name);
    for (const name of ["reference", "interpret", "wasm"]) expect(line(name)?.available).toBe(true);
    expect(line("wasm")?.detail).toMatch(/SIMD.*\d+ threads?/);
    const native = line("native");
    expect(native?.detail).toMatch(
      native?.available === true ? /\d+ lanes of f32; \S+: .*by name$/ : /install/,
    );
    const gpu = line("webgpu");
    // What is missing says what to do; software is never `auto`.
    expect(gpu?.detail).toMatch(gpu?.available === true ? /^WebGPU .*workgroup storage/ : /install/i);
    const real = gpu?.available === true && !gpu.detail.includes("(software)");
    const cuda = line("cuda");
    expect(cuda?.detail).toMatch(cuda?.available === true ? /NVRTC/ : /install/i);
    expect(auto).toBe(cuda?.available === true ? "cuda" : real ? "webgpu" : "wasm");
    expect((await heddle(["devices"], env)).out).toMatch(/^`--device auto` is (wasm: |webgpu: |cuda$)/m);
  });
});
