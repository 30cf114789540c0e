/** `generate`: what it says is what forward passes would say, whatever it is cut into; and everything it refuses. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { modelDefinition } from "../../codegen/ts/definition.ts";
import { generation } from "../../runtime/generate.ts";
import type {
  GenerateOptions,
  GenerationOptions,
  GenerationSession,
  Prompt,
} from "../../runtime/generate.ts";
import { model } from "../../runtime/model.ts";
import { compileSpec, readSpec } from "../../src/compile.ts";
import { checkpointOf, tokensFor } from "../decode/parity.ts";

const BYTES = `attention a { heads 4 head_dim 8 causal true
    branch segment 8 dilation 1  branch segment 16 dilation 2  branch segment 48 dilation 4 }
  model bytes { kind decoder vocab 256 dim 32 layers 2 ffn 40 gelu attention a position xpos base 64 norm sub_ln }`;

function definitionOf(text: string, generate = true) {
  const { spec, diagnostics } = readSpec(text);
  if (spec === null) throw new Error(diagnostics.map((d) => d.message).join("\n"));
  const [compiled] = compileSpec(spec, { target: "wasm", names: spec.models.map((m) => m.name), generate });
  if (compiled?.item.kind !== "model") throw new Error("no model");
  return { ...modelDefinition(compiled.item.spec), program: compiled.program };
}
const definition = definitionOf(BYTES);
const weights = checkpointOf(definition.program);
const open = (options: Omit<GenerationOptions, "weights"> = {}, of = definition) =>
  generation(of, { weights, threads: 1, poison: true, ...options });

async function all(session: GenerationSession, prompt: Prompt, options: GenerateOptions) {
  const tokens: number[][] = [];
  const texts: string[] = [];
  const ends: (string | null)[] = [];
  for await (const { sequence, token, text, end } of session.generate(prompt, options)) {
    (tokens[sequence] ??= []).push(token);
    texts[sequence] = (texts[sequence] ?? "") + text;
    ends[sequence] = end;
  }
  return { tokens, texts, ends };
}

const prompts = [[5], [...tokensFor(256, 21, 3)], [...tokensFor(256, 70, 4)]];

describe("generation", () => {
  let session: GenerationSession;
  beforeAll(async () => {
    session = await open({ batch: 3 });
  });
  afterAll(() => session.dispose());

  it("at temperature 0 says what forward passes over everything so far would, for three sequences at once", async () => {
    const { tokens, ends } = await all(session, prompts, { temperature: 0, maxTokens: 60 });
    expect(ends).toEqual(["length", "length", "length"]);
    const forward = await model(definition).create({ weights, threads: 1 });
    for (const [i, prompt] of prompts.entries()) {
      const whole = [...prompt, ...(tokens[i] ?? [])];
      const { logits } = (await forward.forward(whole)) as { readonly logits: Float32Array };
      tokens[i]?.forEach((token, n) => {
        const row = logits.subarray((prompt.length + n - 1) * 256, (prompt.length + n) * 256);
        expect(row[token]).toBeGreaterThan(Math.max(...row) - 1e-4);
      });
    }
    forward.dispose();
    expect(session.cache().tokens).toEqual(prompts.map((p) => p.length + 59));
  });

  it("draws the same tokens from the same seed, others from another, and each sequence as if it were alone", async () => {
    const options = { maxTokens: 30, seed: 7, topK: 40, topP: 0.95, repetitionPenalty: 1.1 };
    const first = await all(session, prompts, options);
    expect(await all(session, prompts, options)).toEqual(first);
    expect((await all(session, prompts, { ...options, seed: 8 })).tokens).not.toEqual(first.tokens);
    const alone = await all(session, prompts.slice(0, 1), options);
    expect(alone.tokens[0]).toEqual(first.tokens[0]);
  });

  it("goes on where it ended, also from saved bytes in another session, as if it had never stopped", async () => {
    const options = { seed: 3, repetitionPenalty: 1.2 };
    const whole = await all(session, prompts, { ...options, maxTokens: 50 });
    const begun = await all(session, prompts, { ...options, maxTokens: 20 });
    const bytes = await session.save();
    const empty = prompts.map(() => []);
    const rest = { repetitionPenalty: 1.2, maxTokens: 30, resume: true };
    const other = await open({ batch: 3 });
    await other.restore(bytes);
    for (const goes of [session, other]) {
      const went = await all(goes, empty, rest);
      expect(begun.tokens.map((t, i) => [...t, ...(went.tokens[i] ?? [])])).toEqual(whole.tokens);
    }
    other.dispose();
  });

  it("reads a prompt after a resumed text as if all had been one prompt", async () => {
    const [a, b] = [tokensFor(256, 30, 8), tokensFor(256, 25, 9)].map((t) => [...t]);
    if (a === undefined || b === undefined) throw new Error("no prompts");
    const first = await all(session, [a], { temperature: 0, maxTokens: 1 });
    const joined = [...a, ...(first.tokens[0] ?? []), ...b];
    const whole = await all(session, [joined], { temperature: 0, maxTokens: 10 });
    await all(session, [a], { temperature: 0, maxTokens: 1 });
    const went = await all(session, [b], { temperature: 0, maxTokens: 10, resume: true });
    expect(went.tokens).toEqual(whole.tokens);
  });

  it("keeps a cache of the same size, whatever was said", async () => {
    const { bytes } = session.cache();
    await all(session, [prompts[2] ?? []], { maxTokens: 200 });
    expect(session.cache().bytes).toBe(bytes);
    // As was planned before anything was opened.
    expect(model(definition).plan({ length: 10, batch: 3, capacity: 100 }).cache).toBe(bytes);
    // Keys and values of 4 heads × 8, in f32, of 2 layers: 8, (16 − 8)/2 and (48 − 16)/4 rows a head, for 3 sequences.
    expect(bytes).toBe(3 * 2 * 4 * (8 + 4 + 8) * 2 * 8 * 4);
    expect(session.cache().dense).toBe(session.cache().tokens.reduce((a, b) => a + b) * 2 * 2 * 32 * 4);
  });

  it("gives texts of bytes, and ends at stop texts and stop tokens without showing them", async () => {
    const options = { temperature: 0, maxTokens: 40 };
    const { texts, tokens } = await all(session, "The hacker", options);
    const said = texts[0] ?? "";
    expect(new TextDecoder().decode(Uint8Array.from(tokens[0] ?? []))).toBe(said);
    const [from, to] = [Math.floor(said.length / 2), Math.floor(said.length / 2) + 2];
    const stop = said.slice(from, to);
    const stopped = await all(session, "The hacker", { ...options, stop: ["never said", stop] });
    expect(stopped.ends).toEqual(["stop"]);
    expect(stopped.texts[0]).toBe(said.slice(0, said.indexOf(stop)));
    const token = tokens[0]?.[5] ?? 0;
    const ended = await all(session, "The hacker", { ...options, stopTokens: [token] });
    expect(ended.ends).toEqual(["stop"]);
    expect(ended.tokens[0]?.length).toBe((tokens[0]?.indexOf(token) ?? 0) + 1);
  });

  it("ends one sequence while others go on", async () => {
    const { tokens } = await all(session, prompts, { temperature: 0, maxTokens: 12 });
    const token = tokens[0]?.[3] ?? 0;
    const ended = await all(session, prompts, { temperature: 0, maxTokens: 12, stopTokens: [token] });
    expect(ended.tokens[0]).toEqual(tokens[0]?.slice(0, (tokens[0].indexOf(token) ?? 0) + 1));
    expect(ended.tokens.slice(1).map((t) => t.length)).toEqual(
      tokens.slice(1).map((t) => (t.includes(token) ? t.indexOf(token) + 1 : 12)),
    );
  });

  it("stops when it is aborted, and when the loop is left, and can go on after both", async () => {
    const abort = new AbortController();
    let count = 0;
    const aborted = async () => {
      for await (const _ of session.generate([1, 2, 3], { maxTokens: 50, signal: abort.signal }))
        if (++count === 5) abort.abort(new Error("enough"));
    };
    await expect(aborted()).rejects.toThrow("enough");
    expect(count).toBe(5);
    for await (const _ of session.generate([1, 2, 3], { maxTokens: 50 })) if (++count === 8) break;
    expect((await all(session, "", { maxTokens: 3, resume: true })).tokens[0]).toHaveLength(3);
  });

  it("is refused while another runs, and for what makes no sense", async () => {
    const running = session.generate([1], { maxTokens: 5 });
    await running.next();
    await expect(session.generate([1]).next()).rejects.toThrow(/a generation of 'bytes' is running/);
    expect(() => session.save()).toThrow(/is running/);
    await running.return();
    const refused = async (prompt: Prompt, options: GenerateOptions, why: RegExp) =>
      expect(session.generate(prompt, options).next()).rejects.toMatchObject({
        name: "InputError",
        message: expect.stringMatching(why) as string,
      });
    await refused([[1], [1], [1], [1]], {}, /4 prompts; model 'bytes' was opened for 1 to 3/);
    await refused("", {}, /prompt 0 is empty/);
    await refused([1, 999], {}, /vocabulary is 0 … 255/);
    await refused([1], { temperature: -1 }, /^temperature/);
    await refused([1], { maxTokens: 0 }, /maxTokens/);
    await refused([1], { seed: -1 }, /seed/);
  });
});

describe("saved bytes", () => {
  it("are refused with the reason, when they are of something else or damaged", async () => {
    const session = await open();
    await all(session, [1, 2, 3], { maxTokens: 3 });
    const bytes = await session.save();
    const cases: readonly (readonly [RegExp, Uint8Array])[] = [
      [/do not begin like one/, bytes.slice(1)],
      [/do not begin like one/, new Uint8Array(5)],
      [/version 9/, changed(bytes, 12, 9)],
      [/cut off/, bytes.slice(0, 40)],
      [/cut off/, bytes.slice(0, -4)],
      [/go on behind/, Uint8Array.of(...bytes, 0)],
      [/header is damaged/, changed(bytes, 20, 0)],
    ];
    for (const [why, damaged] of cases) await expect(session.restore(damaged)).rejects.toThrow(why);
    await expect(session.restore(bytes)).resolves.toBeUndefined();
    session.dispose();
    const other = definitionOf(BYTES.replace("segment 48", "segment 64"));
    const openings: readonly (readonly [RegExp, Promise<GenerationSession>])[] = [
      [/another spec/, open({}, other)],
      [/they hold 1 sequences, and here there are 2/, open({ batch: 2 })],
      [/room for/, open({ capacity: 100 })],
      [/they are of model 'bytes'/, open({}, definitionOf(BYTES.replace("model bytes", "model more")))],
    ];
    for (const [why, opening] of openings) {
      const wrong = await opening;
      await expect(wrong.restore(bytes)).rejects.toThrow(why);
      wrong.dispose();
    }
  });
});
const changed = (bytes: Uint8Array, at: number, to: number): Uint8Array => {
  const copy = bytes.slice();
  copy[at] = to;
  return copy;
};

describe("what cannot generate", () => {
  it("a model that was compiled for forward passes only, or that is not causal", async () => {
    await expect(open({}, definitionOf(BYTES, false))).rejects.toThrow(/was not compiled for generation/);
    const encoder = BYTES.replace("causal true", "causal false").replace("kind decoder", "kind encoder");
    await expect(open({}, definitionOf(encoder))).rejects.toThrow(/was not compiled for generation/);
  });

  it("a branch over everything without a capacity, and past it", async () => {
    const everything = definitionOf(BYTES.replace("segment 48", "segment all"));
    await expect(open({}, everything)).rejects.toThrow(/grows with every token: say with 'capacity'/);
    const session = await open({ capacity: 20 }, everything);
    expect((await all(session, [1, 2, 3], {})).tokens[0]).toHaveLength(18);
    await expect(all(session, [1, 2, 3], { maxTokens: 19 })).rejects.toThrow(
      /3 tokens and shall get 19 more.*room for 20/,
    );
    const { bytes } = session.cache();
    session.dispose();
    const larger = await open({ capacity: 40 }, everything);
    expect(larger.cache().bytes).toBeGreaterThan(bytes);
    larger.dispose();
  });

  it("rows that 'align ceil' moves: as far as none is moved, and then with the branch that does it", async () => {
    const moving = definitionOf(BYTES.replace("segment 48 dilation 4", "segment 50 dilation 4 align ceil"));
    await expect(open({ capacity: 51 }, moving)).rejects.toThrow(
      /at most 50 tokens, not 51: branch 2 .* moves rows/,
    );
    const session = await open({}, moving);
    expect((await all(session, [1], { maxTokens: 50 })).tokens[0]).toHaveLength(50);
    await expect(all(session, [1, 2], { maxTokens: 50 })).rejects.toThrow(/room for 50: branch 2/);
    session.dispose();
  });

  it("more sequences than kernels can count, before memory is asked for", async () => {
    await expect(open({ batch: 4_000_000 })).rejects.toThrow(/kernels count to 2\^31/);
  });

  it("texts without a tokenizer", async () => {
    const small = definitionOf(BYTES.replace("vocab 256", "vocab 37"));
    const session = await generation(small, { weights: checkpointOf(small.program), threads: 1 });
    await expect(session.generate("hello").next()).rejects.toThrow(/opened without a tokenizer/);
    const { tokens, texts } = await all(session, [1, 2], { maxTokens: 3 });
    expect([tokens[0]?.length, texts[0]]).toEqual([3, ""]);
    session.dispose();
  });
});
