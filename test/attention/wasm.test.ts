/** torchscale's outputs and random specs through compiled WebAssembly, on every legal schedule, with poisoned outputs. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { wasmDevice } from "../../runtime/wasm.ts";
import { compileSpec } from "../../src/compile.ts";
import { attention } from "../../src/reference.ts";
import { scheduleKinds, type ScheduleKind } from "../../src/schedule.ts";
import { seal, type AttentionSpec } from "../../src/spec.ts";
import { compare } from "../../src/tolerance.ts";
import { attentionCases } from "../golden.ts";
import { nestedSpec, randomSpec } from "../schedule/specs.ts";
import { randomInputs, scheduleFor, type Inputs } from "./run.ts";

const one = wasmDevice({ threads: 1, poison: true });
const two = wasmDevice({ threads: 2, poison: true });
afterAll(async () => {
  await one.dispose();
  await two.dispose();
});

const compiled = (spec: AttentionSpec, schedule: ScheduleKind, length: number) => {
  const [found] = compileSpec(seal({ attentions: [spec], models: [], schedules: [] }), {
    target: "wasm",
    schedule,
    length,
  });
  if (found === undefined) throw new Error("nothing compiled");
  return found.program;
};
const floats = (x: Float32Array | Int32Array | undefined): Float32Array => {
  if (!(x instanceof Float32Array)) throw new Error("no output");
  return x;
};
async function run(
  device: typeof one,
  spec: AttentionSpec,
  kind: ScheduleKind,
  inputs: Inputs,
  at: { N: number; B: number },
) {
  const executable = await device.compile(compiled(spec, kind, at.N));
  const first = await executable.run({ ...inputs }, at);
  const again = await executable.run({ ...inputs }, at);
  await executable.dispose();
  const [out, lse] = [floats(first["out"]), floats(first["lse"])];
  expect(
    Buffer.from(floats(again["out"]).buffer).equals(Buffer.from(out.buffer)),
    "the same bits again",
  ).toBe(true);
  return { out, lse };
}
const same = (a: Float32Array, b: Float32Array) =>
  Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));

const cases = await attentionCases();
const worst = new Map<string, number>();
afterAll(() => {
  console.log(
    `wasm against torchscale, worst of scale: ${[...worst].map(([k, v]) => `${k} ${v.toExponential(1)}`).join(", ")}`,
  );
});

describe.each(cases)("$id", (c) => {
  it("every legal schedule equals torchscale", async () => {
    let ran = 0;
    for (const kind of scheduleKinds) {
      if (scheduleFor(c.spec, { kind, rows: 32, keys: 32 }, c.N) === null) continue;
      ran += 1;
      const { out, lse } = await run(one, c.spec, kind, { q: c.q, k: c.k, v: c.v }, { N: c.N, B: c.B });
      const o = compare(out, c.out, { dtype: "f32", terms: c.N });
      const l = compare(lse, c.lseUnion, { dtype: "f32", terms: c.N, atLeast: 1 });
      expect(o, `${kind} out`).toMatchObject({ ok: true });
      expect(l, `${kind} lse`).toMatchObject({ ok: true });
      worst.set(kind, Math.max(worst.get(kind) ?? 0, o.worst / o.scale, l.worst / l.scale));
    }
    expect(ran).toBeGreaterThan(0);
  });
});

const ragged = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.constantFrom(1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129),
  },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 300 }) },
  { weight: 1, arbitrary: fc.integer({ min: 300, max: 600 }) },
);

const shapes = { maxSegment: 200, headDims: [4, 6, 8, 12, 16, 24, 32] };

describe("random specs", () => {
  it("equal the reference on every legal schedule, the same bits on 1 and 2 threads", async () => {
    const ran = new Map<string, number>();
    let most = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.oneof({ weight: 3, arbitrary: randomSpec(shapes) }, { weight: 1, arbitrary: nestedSpec(shapes) }),
        ragged,
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 1e6 }),
        async (spec, N, B, seed) => {
          const inputs = randomInputs(spec, N, B, seed);
          const f64 = {
            q: Float64Array.from(inputs.q),
            k: Float64Array.from(inputs.k),
            v: Float64Array.from(inputs.v),
          };
          const expected = attention(spec, { ...f64, N, B });
          for (const kind of scheduleKinds) {
            if (scheduleFor(spec, { kind, rows: 32, keys: 32 }, N) === null) continue;
            ran.set(kind, (ran.get(kind) ?? 0) + 1);
            const actual = await run(one, spec, kind, inputs, { N, B });
            const threaded = await run(two, spec, kind, inputs, { N, B });
            expect(same(actual.out, threaded.out) && same(actual.lse, threaded.lse), "threads").toBe(true);
            const out = compare(actual.out, expected.out, { dtype: "f32", terms: N, atLeast: 1 });
            const lse = compare(actual.lse, expected.lse, { dtype: "f32", terms: N, atLeast: 1 });
            most = Math.max(most, out.worst / out.scale, lse.worst / lse.scale);
            expect(out, `${kind} out`).toMatchObject({ ok: true });
            expect(lse, `${kind} lse`).toMatchObject({ ok: true });
          }
        },
      ),
      { numRuns: 75 },
    );
    console.log(`wasm: ${JSON.stringify([...ran])}, worst ${most.toExponential(1)} of scale`);
    expect(ran.get("branch")).toBe(75);
    expect(ran.get("class")).toBeGreaterThan(10);
    expect(ran.get("annulus")).toBeGreaterThan(25);
    expect(ran.get("annulus_list")).toBeGreaterThan(20);
    expect(ran.get("dense")).toBeGreaterThan(0);
  });
});
