/** `heddle verify`: what it compares, and that a device which computes something else is found out. */
import { writeFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { wasmSubjects } from "../../src/cli/verify/devices.ts";
import type { Session, Subject } from "../../src/cli/verify/devices.ts";
import { verify } from "../../src/cli/verify.ts";
import { folder, heddle, tiny, tinyModel } from "./session.ts";

const here = folder();
afterAll(here.remove);
writeFileSync(here.at("tiny.heddle"), tiny);
writeFileSync(here.at("model.heddle"), tinyModel);
const lengths = ["--length", "1,7,33"];

describe("heddle verify", () => {
  it("compares every kernel on every schedule, and says on what", async () => {
    const spec = here.at("tiny.heddle");
    const { code, out } = await heddle(["verify", spec, "--device", "interpret", ...lengths, "--json"]);
    expect(code).toBe(0);
    const { rows, ok } = JSON.parse(out) as { ok: boolean; rows: { device: string; kernel: string }[] };
    expect(ok).toBe(true);
    for (const device of ["interpreter, kernels of wasm", "interpreter, kernels of wgsl"])
      for (const kind of ["branch", "class"])
        expect(
          rows.some((r) => r.device === device && r.kernel.includes(kind)),
          `${device} ${kind}`,
        ).toBe(true);
  });

  it("compares a model kernel by kernel and as a whole", async () => {
    const model = here.at("model.heddle");
    const { code, out } = await heddle([
      "verify",
      model,
      "one",
      "--device",
      "wasm",
      "--length",
      "1,7,32",
      "--seed",
      "5",
    ]);
    expect(code).toBe(0);
    const whole = ["logits of the whole model", "logits of 4 steps of generation"];
    for (const kernel of ["embed_16", "linear_16_24_bias_gelu", ...whole])
      expect(out).toMatch(new RegExp(`WebAssembly.*${kernel}.* ok `));
    expect(out).toContain("within tolerance; random inputs of --seed 5");
  });

  it("draws other numbers each time, and the same for a seed", async () => {
    const run = async (...more: readonly string[]) => {
      const spec = here.at("tiny.heddle");
      return (await heddle(["verify", spec, "--device", "wasm", ...lengths, "--json", ...more])).out;
    };
    expect(await run("--seed", "1")).toBe(await run("--seed", "1"));
    expect(await run()).not.toBe(await run());
  });

  it("says what names there are", async () => {
    const { code, err } = await heddle(["verify", here.at("tiny.heddle"), "tini"]);
    expect(code).toBe(1);
    expect(err).toContain("Did you mean 'tiny'?");
  });

  /** WebAssembly with a fault. */
  const faulty = (
    spoil: Session["run"] extends (...a: infer A) => infer R ? (run: Session["run"], ...a: A) => R : never,
  ) =>
    wasmSubjects(1).map((subject): Subject => ({
      ...subject,
      open: async (...given) => {
        const session = await subject.open(...given);
        return { ...session, run: (...a) => spoil(session.run, ...a) };
      },
    }));
  const withFault = async (
    subjects: readonly Subject[],
    spec = "tiny.heddle",
    item?: string,
    length = [9, 33],
  ) => {
    let [out, err] = ["", ""];
    const io = {
      out: (t: string) => void (out += t),
      err: (t: string) => void (err += t),
      env: {},
      terminal: false,
      colour: false,
    };
    const options = { json: false, format: "pretty", length, seed: 3 } as const;
    const code = await verify(here.at(spec), item, options, io, () =>
      Promise.resolve({ subjects, absent: [{ device: "webgpu", why: "a test has none" }] }),
    );
    return { code, out, err };
  };

  it("fails where one number of a device is off by more than rounding", async () => {
    const off = faulty(async (run, inputs, at) => {
      const outputs = await run(inputs, at);
      const [first] = outputs.values();
      if (at.N === 33 && first !== undefined) first[100] = (first[100] ?? 0) + 1e-4;
      return outputs;
    });
    const { code, out } = await withFault(off);
    expect(code).toBe(1);
    expect(out).toMatch(/MISS.* 33 tokens/);
    expect(out).toMatch(/results of kernels on \d devices? missed/);
    expect(out).toContain("not run on webgpu: a test has none");
  });

  it("fails where only generation is off", async () => {
    const subjects = wasmSubjects(1).map((subject): Subject => ({
      ...subject,
      open: async (...given) => {
        const session = await subject.open(...given);
        const { decoding } = session;
        if (decoding === undefined) return session;
        return {
          ...session,
          decoding: {
            ...decoding,
            // The second sequence is remembered in the lane of the first.
            run: (entry, inputs, at) =>
              decoding.run(
                entry,
                entry === "prefill" ? { ...inputs, place: Int32Array.of(0, 0, 31) } : inputs,
                at,
              ),
          },
        };
      },
    }));
    const { code, out } = await withFault(subjects, "model.heddle", "one", [9, 31]);
    expect(code).toBe(1);
    expect(out).toMatch(/logits of 4 steps of generation.*MISS/);
    expect(out).not.toMatch(/whole model.*MISS/);
  });

  it("fails where a device leaves a number open", async () => {
    const open = faulty(async (run, inputs, at) => {
      const outputs = await run(inputs, at);
      [...outputs.values()][0]?.fill(NaN, 3, 4);
      return outputs;
    });
    expect((await withFault(open)).code).toBe(1);
  });

  it("fails where a device cannot run at all", async () => {
    const { code, out } = await withFault(faulty(() => Promise.reject(new Error("the driver is on fire"))));
    expect(code).toBe(1);
    expect(out).toContain("FAILED: the driver is on fire");
  });
});
