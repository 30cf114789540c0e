/** Generated modules: as text, to the type checker, and as programs that import nothing but `heddle/runtime`. */
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { declared, printData } from "../../codegen/ts/print.ts";
import { memorySource, writeSafetensors } from "../../runtime/safetensors.ts";
import type { Attention, Model } from "../../runtime/index.ts";
import { attentionMaps } from "../../runtime/maps.ts";
import { readSpec } from "../../src/compile.ts";
import { attentionGraph, modelGraph } from "../../src/model.ts";
import { runReference } from "../../src/reference.ts";
import { heddle, noise } from "../cli/session.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
// Inside the project, so that `heddle/runtime` is found as for a user.
const place = mkdtempSync(join(root, "test/generated/.tmp-"));
afterAll(() => rmSync(place, { recursive: true }));

const text = `attention small {
  heads 4  head_dim 8  kv_heads 2  causal true
  branch segment 8 dilation 1  branch segment all dilation 2
}
attention other { heads 2 head_dim 8 branch segment 4 dilation 1 branch segment 16 dilation 4 compat torchscale }
attention delete { heads 1 head_dim 4 branch segment all dilation 1 }
model tokens {
  kind decoder  vocab 32  dim 32  layers 2  ffn 40 relu  attention small  position xpos base 64  norm sub_ln  head tied
}
model features { kind encoder  input features  dim 16  layers 1  ffn 16 swish  attention other  norm post_ln  head none }
`;
const spec = (() => {
  const found = readSpec(text);
  if (found.spec === null) throw new Error(found.diagnostics.map((d) => d.message).join("\n"));
  return found.spec;
})();

const generated = join(place, "demo.generated.ts");
beforeAll(async () => {
  writeFileSync(join(place, "demo.heddle"), text);
  const { code, err } = await heddle(["compile", join(place, "demo.heddle")]);
  expect({ code, err: err.replaceAll(/warning[^]*?\n\n/g, "") }).toMatchObject({ code: 0 });
});

/** All that a strict project may ask of its sources. */
const strict = {
  target: "ES2022",
  module: "NodeNext",
  moduleResolution: "NodeNext",
  lib: ["ES2022"],
  types: ["node"],
  typeRoots: [join(root, "node_modules/@types")],
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  noPropertyAccessFromIndexSignature: true,
  noImplicitOverride: true,
  noUnusedLocals: true,
  noUnusedParameters: true,
  verbatimModuleSyntax: true,
  isolatedModules: true,
  erasableSyntaxOnly: true,
  allowImportingTsExtensions: true,
  noEmit: true,
  // Declarations as they are shipped (`npm test` builds them): they name no type that such a project lacks.
  skipLibCheck: false,
  paths: {
    "heddle/runtime": [join(root, "dist/runtime/index.d.ts")],
    "heddle/runtime/maps": [join(root, "dist/runtime/maps.d.ts")],
    "heddle/runtime/node": [join(root, "dist/runtime/node.d.ts")],
  },
};

async function typeErrors(name: string, source: string): Promise<string> {
  const project = join(place, name);
  mkdirSync(project, { recursive: true });
  writeFileSync(join(project, "package.json"), '{ "type": "module" }');
  writeFileSync(join(project, "use.ts"), source);
  writeFileSync(
    join(project, "tsconfig.json"),
    JSON.stringify({ compilerOptions: strict, files: ["use.ts"] }),
  );
  return promisify(execFile)(join(root, "node_modules/.bin/tsc"), ["-p", project]).then(
    () => "",
    (error: { stdout: string }) => error.stdout,
  );
}

describe("a generated module", () => {
  it("type-checks in the strictest project, with literal types", async () => {
    const use = `
      import { fileSource } from "heddle/runtime/node";
      import { delete as removed, features, other, small, tokens } from "../demo.generated.ts";
      const heads: 4 = small.heads;
      const [headDim, kvHeads]: [8, 2] = [small.headDim, small.kvHeads];
      const vocab: 32 = tokens.vocab;
      const gone: 1 = removed.heads;
      export async function use(data: Float32Array): Promise<number> {
        const session = await small.create({ threads: 1 });
        const { out, lse } = await session.run({ q: data, k: data, v: data, batch: 1, length: 4 });
        session.dispose();
        const model = await tokens.create({ weights: await fileSource("weights.safetensors") });
        const { logits } = await model.forward([1, 2, 3]);
        const { mean } = await model.bits(new Int32Array(9), { window: 4 });
        const encoder = await features.create({ weights: await fileSource("weights.safetensors") });
        const { out: hidden } = await encoder.forward(data, { batch: 2 });
        return out.length + lse.length + logits.length + mean + hidden.length + heads + headDim + kvHeads + vocab + gone + other.heads;
      }
      export async function misuse(): Promise<void> {
        // @ts-expect-error heads are a literal
        const wrong: 5 = small.heads;
        // @ts-expect-error a model needs its weights
        await tokens.create({});
        const model = await tokens.create({ weights: await fileSource("weights.safetensors") });
        // @ts-expect-error it gives logits
        (await model.forward([1])).out.fill(wrong);
        const encoder = await features.create({ weights: await fileSource("weights.safetensors") });
        // @ts-expect-error features are Float32Array
        await encoder.forward([1, 2]);
      }
    `;
    expect(await typeErrors("good", use)).toBe("");
    expect(
      await typeErrors(
        "bad",
        `import { small } from "../demo.generated.ts";\nexport const x: 5 = small.heads;\n`,
      ),
    ).toMatch(/TS2322/);
  });

  it("computes what the reference computes", async () => {
    const url = pathToFileURL(generated).href;
    const module = (await import(/* @vite-ignore */ url)) as Readonly<Record<string, unknown>>;
    expect(Object.keys(module).sort()).toEqual(["delete", "features", "other", "small", "tokens"]);

    for (const a of spec.attentions) {
      const [B, N] = [2, 21];
      const q = noise(B * N * a.heads * a.headDim, 1);
      const [k, v] = [2, 3].map((seed) => noise(B * N * a.kvHeads * a.headDim, seed)) as [
        Float32Array,
        Float32Array,
      ];
      const wanted = runReference(attentionGraph(a), { q, k, v }, new Map(), { N, B }).outputs;
      const planned = (module[a.name] as Attention).plan({ length: N, batch: B });
      const session = await (module[a.name] as Attention).create({ threads: 1 });
      const found = await session.run({ q, k, v, batch: B });
      close(found.out, wanted["out"]);
      close(found.lse, wanted["lse"]);
      expect(session.memory({ length: N, batch: B })).toEqual(planned);
      await expect(session.run({ q, k: q.subarray(1), v })).rejects.toThrow(/k has \d+ elements; \[1, 42, /);
      session.dispose();
      await expect(session.run({ q, k, v })).rejects.toThrow(/has been disposed/);
    }

    for (const m of spec.models) {
      const [B, N] = [2, 13];
      const graph = modelGraph(m);
      const weights = graph.weights.map(({ name, shape }, i) => {
        const sizes = shape as readonly number[];
        return {
          name,
          shape: sizes,
          dtype: "F32" as const,
          data: noise(
            sizes.reduce((n, d) => n * d, 1),
            i + 7,
          ),
        };
      });
      const checkpoint = memorySource(writeSafetensors(weights));
      const input =
        m.input === "tokens"
          ? Int32Array.from({ length: B * N }, (_, i) => (i * 5) % m.vocab)
          : noise(B * N * m.dim, 9);
      const values = new Map(weights.map((w) => [w.name, w.data]));
      const wanted = runReference(graph, { [m.input]: input, padding_mask: new Int32Array(B * N) }, values, {
        N,
        B,
      }).outputs;
      const planned = (module[m.name] as Model).plan({ length: N, batch: B });
      const session = await (module[m.name] as Model).create({ weights: checkpoint, threads: 1 });
      const found = (await session.forward(Float32Array.from(input), { batch: B })) as Readonly<
        Record<string, Float32Array>
      >;
      const output = m.head === "none" ? "out" : "logits";
      close(found[output], wanted[output]);
      expect(session.memory({ length: N, batch: B })).toEqual(planned);
      // What is in use is that, each tensor up to a line of 64 bytes, and the device's own scratch memory.
      const { scratch, total: pages, ...used } = session.memoryInUse();
      const held = Object.values(used).reduce((x, y) => x + y, 0);
      expect(held).toBeGreaterThanOrEqual(planned.total);
      expect(held).toBeLessThan(planned.total + 64 * (graph.weights.length + 40));
      expect(pages).toBeGreaterThanOrEqual(held + scratch);
      expect(() => (module[m.name] as Model).plan({ length: N, device: "cuda" })).toThrow(
        /was not compiled for CUDA: compile it with --kernels cuda/,
      );
      // Two at once wait for each other and give the same bits.
      const again = await Promise.all(
        [1, 2].map(() => session.forward(Float32Array.from(input), { batch: B })),
      );
      for (const one of again) expect((one as typeof found)[output]).toEqual(found[output]);
      if (m.head === "none") await expect(session.bits([1, 2])).rejects.toThrow(/it predicts no tokens/);
      session.dispose();
    }
  });
});

describe("a generated module with attention maps", () => {
  const mapped = join(place, "mapped.generated.ts");
  beforeAll(async () => {
    const { code, err } = await heddle(["compile", join(place, "demo.heddle"), "--maps", "--out", mapped]);
    expect(code, err).toBe(0);
  });

  it("type-checks in the strictest project", async () => {
    const use = `
      import { attentionMaps } from "heddle/runtime/maps";
      import { fileSource } from "heddle/runtime/node";
      import { features } from "../mapped.generated.ts";
      export async function use(data: Float32Array): Promise<number> {
        const session = await attentionMaps(features, { weights: await fileSource("weights.safetensors") });
        const map = await session.read(data);
        const { tokens, weights } = map.attentionOf(0, 0, 1);
        const { total } = features.plan({ length: 100_000, device: "webgpu" });
        return tokens.length + weights.length + total + (await map.relevance({ of: 3 })).length;
      }
    `;
    expect(await typeErrors("mapped", use)).toBe("");
  });

  it("tells what its queries attend", async () => {
    const module = (await import(/* @vite-ignore */ pathToFileURL(mapped).href)) as {
      readonly features: Model;
    };
    const { features } = module;
    const [found] = spec.models.filter((m) => m.name === "features");
    if (found === undefined) throw new Error("no model");
    const weights = memorySource(
      writeSafetensors(
        modelGraph(found).weights.map(({ name, shape }, i) => {
          const data = noise(
            shape.reduce((n, d) => n * d, 1),
            i + 3,
          );
          return { name, shape, dtype: "F32" as const, data };
        }),
      ),
    );
    const session = await attentionMaps(features, { weights, threads: 1 });
    const N = 24;
    const map = await session.read(noise(N * found.dim, 5));
    const plain = await features.create({ weights, threads: 1 });
    expect(map.result).toEqual(
      ((await plain.forward(noise(N * found.dim, 5))) as { readonly out: Float32Array }).out,
    );
    plain.dispose();
    const relevance = new Float64Array(N);
    for (let head = 0; head < 2; head++) {
      // Head 1 starts at row 1 in the second branch, and head 0 at row 0.
      const { tokens, weights: shares } = map.attentionOf(13, 0, head);
      expect([...tokens]).toEqual(head === 1 ? [1, 5, 9, 12, 13, 14, 15] : [12, 13, 14, 15]);
      tokens.forEach((token, i) => (relevance[token] = (relevance[token] ?? 0) + (shares[i] ?? NaN) / 2));
    }
    // The one layer's attention alone, which is symmetric, on the device.
    const carried = await map.relevance({ of: 13, residual: 0 });
    carried.forEach((r, i) => expect(Math.abs(r - (relevance[i] ?? NaN))).toBeLessThan(1e-6));
    session.dispose();
  });
});

function close(found: Float32Array | undefined, wanted: Float64Array | undefined): void {
  expect(found?.length).toBe(wanted?.length);
  const scale =
    wanted?.reduce((most, x) => (Number.isFinite(x) ? Math.max(most, Math.abs(x)) : most), 0) ?? 0;
  wanted?.forEach((x, i) => {
    const y = found?.[i] ?? NaN;
    if (x !== y && !(Math.abs(x - y) <= 2e-5 * scale)) throw new Error(`at ${i}: ${y}, not ${x}`);
  });
}

describe("data as source", () => {
  it("reads back as the same value", () => {
    const value = {
      a: [1, -2.5e-7, null, true],
      "not a name": { b: 'say "so"\u2028', c: [] },
      long: Array.from({ length: 60 }, (_, i) => `item ${i}`),
    };
    // oxlint-disable-next-line no-eval
    expect((0, eval)(`(${printData(value)})`)).toEqual(value);
    expect(() => printData([Infinity])).toThrow(/internal/);
  });
  it("keeps TypeScript's own words out of declarations", () => {
    expect(["small", "delete", "default", "await"].map(declared)).toEqual([
      "small",
      "delete_",
      "default_",
      "await_",
    ]);
  });
});
