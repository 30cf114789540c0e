/** `heddle bench` and `heddle tune` as a stranger would use them: what they count and write, not how fast this machine is. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import type { BenchRun } from "../../src/cli/bench.ts";
import type { TunedAttention } from "../../src/cli/tune.ts";
import { countPairs } from "../../src/planner.ts";
import { readSpec } from "../../src/compile.ts";
import { folder, heddle, tiny, tinyModel } from "../cli/session.ts";

const here = folder();
afterAll(here.remove);
const spec = here.at("tiny.heddle");
writeFileSync(spec, tinyModel);
const quick = ["--rounds", "2", "--warm", "0"];

describe("heddle bench", { timeout: 60_000 }, () => {
  it("counts what was asked for and what tiles add, and compares outputs", async () => {
    const ran = await heddle([
      "bench",
      spec,
      "tiny",
      "--length",
      "40,64",
      "--threads",
      "1,2",
      ...quick,
      "--json",
    ]);
    expect(ran.code, ran.err).toBe(0);
    const run = JSON.parse(ran.out) as BenchRun;
    const [attention] = readSpec(tiny).spec?.attentions ?? [];
    if (attention === undefined) throw new Error("no attention");
    // Without relaxed SIMD, which this engine may have.
    const rows = run.rows.filter((row) => !row.device.includes("relaxed"));
    expect(rows.map((row) => `${row.what} ${row.length} ${row.device}`)).toEqual([
      "attention 40 wasm, 1 thread",
      "attention 40 wasm, 2 threads",
      "attention 64 wasm, 1 thread",
      "attention 64 wasm, 2 threads",
    ]);
    for (const row of rows) {
      const { usefulFlops, executedFlops, bytes, tokens } = row.counts;
      expect(usefulFlops).toBe(4 * 8 * Number(countPairs(attention, row.length).total));
      expect(executedFlops).toBeGreaterThanOrEqual(usefulFlops);
      expect([bytes, tokens]).toEqual([4 * row.length * (8 * 8 + 2), row.length]);
      expect(row.rounds).toHaveLength(2);
      expect(row.ms).toBeGreaterThan(0);
      expect(row.peak?.gflops).toBeGreaterThan(0.1);
    }
    expect(run.rows.map((row) => row.difference ?? 0).every((d) => d < 1e-5)).toBe(true);
    expect(rows[1]?.difference).toBe(0);
  });

  it("prints a table, and draws time and rate over the lengths", async () => {
    const svg = here.at("tiny.svg");
    const ran = await heddle(["bench", spec, "one", "--length", "40,90", ...quick, "--svg", svg]);
    expect(ran.code, ran.err).toBe(0);
    expect(ran.out).toMatch(/^forward one, 40 tokens\n {2}device +ms +± +GFLOP\/s/);
    expect(ran.out).toMatch(/\n {2}wasm, 1 thread +[\d.]+ /);
    expect(ran.out).toContain("Medians of 2 interleaved rounds");
    const drawn = readFileSync(svg, "utf8");
    expect(drawn).toMatch(/^<svg xmlns=/);
    expect(drawn.match(/<circle /g)?.length).toBeGreaterThanOrEqual(4);
    expect(drawn).toContain("linear in N");
  });

  it("times decoding, and refuses what there is not", async () => {
    const ran = await heddle(["bench", spec, "one", "--length", "9", "--decode", ...quick, "--json"]);
    expect(ran.code, ran.err).toBe(0);
    expect((JSON.parse(ran.out) as BenchRun).rows[0]).toMatchObject({
      what: "decode",
      counts: { tokens: 16 },
    });
    const far = await heddle(["bench", spec, "one", "--length", "29", "--decode", ...quick, "--json"]);
    expect((JSON.parse(far.out) as BenchRun).rows[0]).toMatchObject({ counts: { tokens: 2 } });
    expect((await heddle(["bench", spec, "one", "--length", "31", "--decode"])).err).toContain(
      "cannot generate after 31 tokens",
    );
    expect((await heddle(["bench", spec, "tiny", "--decode"])).err).toContain("--decode is of models");
    expect((await heddle(["bench", spec, "--threads", "4096"])).err).toContain(
      "--threads 4096: this machine has",
    );
    expect((await heddle(["bench", spec, "--device", "abacus"])).err).toContain("Devices are wasm");
  });
});

describe("heddle tune", { timeout: 60_000 }, () => {
  it("times the legal schedules, and writes what is faster into the spec, or nothing", async () => {
    const own = here.at("tuned.heddle");
    writeFileSync(own, tinyModel);
    const ran = await heddle(["tune", own, "one", "--length", "48", "--rounds", "3", "--write", "--json"]);
    expect(ran.code, ran.err).toBe(0);
    const { found, schedules } = JSON.parse(ran.out) as {
      found: TunedAttention[];
      schedules: { kind: string }[];
    };
    expect(found).toHaveLength(1);
    const kinds = new Set(found[0]?.schedules.map((s) => s.kind));
    expect([...kinds].sort()).toEqual(expect.arrayContaining(["annulus", "branch", "class"]));
    expect(found[0]?.schedules.every((s) => s.ms > 0)).toBe(true);
    const after = readFileSync(own, "utf8");
    expect(after.startsWith(tinyModel)).toBe(true);
    expect(readSpec(after).spec?.schedules).toHaveLength(schedules.length);
    expect(existsSync(own)).toBe(true);
  });
});
