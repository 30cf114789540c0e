/** The tuner's judgement, on clocks that are made up: the truth is known, and so is the noise. */
import { describe, expect, it } from "vitest";
import { measure, median, ratio, spread } from "../../src/bench/rounds.ts";
import { fastest } from "../../src/bench/tune.ts";
import type { Entrant } from "../../src/bench/tune.ts";
import { readSpec } from "../../src/compile.ts";
import { hintOf, withHints } from "../../src/cli/tune.ts";
import type { TunedAttention } from "../../src/cli/tune.ts";
import { seeded, uniform } from "../../runtime/random.ts";

/** Entrants that take so many ms, give or take a share, slowed down together now and then. */
function field(ms: readonly number[], noise: number, seed: number) {
  let state = seeded(seed);
  const next = (): number => {
    const [value, after] = uniform(state);
    state = after;
    return value;
  };
  const alive = { now: 0, most: 0 };
  const entrants = ms.map((time, i): Entrant => ({
    name: `e${i}`,
    open: async () => {
      alive.most = Math.max(alive.most, ++alive.now);
      return {
        run: async () => time * 1e6 * (1 + noise * (2 * next() - 1)) * (next() < 0.1 ? 1.5 : 1),
        dispose: async () => void alive.now--,
      };
    },
  }));
  return { entrants, alive };
}

describe("the tuner", () => {
  it("finds what is faster, and holds few open at once", async () => {
    const { entrants, alive } = field([100, 130, 80, 200, 90, 95, 99, 81], 0.02, 3);
    const { winner, gain, ms } = await fastest(entrants, { rounds: 9, margin: 0.03 });
    expect([2, 7]).toContain(winner);
    expect(gain).toBeGreaterThan(1.15);
    expect(ms).toHaveLength(8);
    expect(ms[3]).toBeGreaterThan(180);
    expect(alive).toEqual({ now: 0, most: 5 });
  });

  it("keeps the default where nothing is faster by more than noise", async () => {
    for (let seed = 0; seed < 40; seed++) {
      const { entrants } = field([100, 100, 99, 101, 100.5, 98], 0.05, seed);
      const { winner } = await fastest(entrants, { rounds: 9, margin: 0.03 });
      // What is chosen all the same is no slower.
      expect([0, 2, 5]).toContain(winner);
    }
    const { entrants } = field([100, 120], 0.3, 5);
    expect((await fastest(entrants, { rounds: 9, margin: 0.03 })).winner).toBe(0);
  });

  it("ends what it opened where one fails", async () => {
    const { entrants, alive } = field([100, 90], 0, 1);
    const broken: Entrant = {
      name: "broken",
      open: async () => ({ run: () => Promise.reject(new Error("no")), dispose: async () => void 0 }),
    };
    await expect(fastest([...entrants, broken], { rounds: 3, margin: 0.03 })).rejects.toThrow("no");
    expect(alive.now).toBe(0);
  });
});

describe("rounds", () => {
  it("start with another contender each time, after the warming", async () => {
    const order: string[] = [];
    const contender = (name: string) => ({ name, run: async () => (order.push(name), 1e6) });
    const measured = await measure([contender("a"), contender("b")], { rounds: 3, warmMs: 0 });
    expect(order.join("")).toBe("aabb" + "ab" + "ba" + "ab");
    expect(measured).toEqual([
      { name: "a", ms: [1, 1, 1] },
      { name: "b", ms: [1, 1, 1] },
    ]);
  });
  it("are told by medians, the distance of quartiles and ratios of the same round", () => {
    expect([median([3, 1, 2]), median([4, 1, 2, 3])]).toEqual([2, 2.5]);
    expect(spread([10, 10, 10, 10, 100])).toBe(0);
    expect(spread([8, 9, 10, 11, 12])).toBeCloseTo(0.1);
    expect(ratio({ name: "a", ms: [10, 1000, 20] }, { name: "b", ms: [5, 500, 10] })).toBe(2);
  });
});

const tuned = (length: number, winner: string, times: Readonly<Record<string, number>>): TunedAttention => {
  const choice = (text: string) => {
    const [kind = "", rows, keys] = text.split(" ");
    return { kind: kind as "branch", rows: Number(rows), keys: Number(keys) };
  };
  const planned = choice("class 32 32");
  const base = times["class 32 32"] ?? NaN;
  return {
    attention: "a",
    target: "wasm",
    length,
    planned,
    fastest: choice(winner),
    gain: base / (times[winner] ?? NaN),
    schedules: Object.entries(times).map(([text, ms]) => ({ ...choice(text), ms })),
  };
};

describe("what is asked for", () => {
  it("is faster at some length and slower at none", () => {
    const one = tuned(100, "branch 64 64", { "class 32 32": 10, "branch 64 64": 8, "branch 32 32": 9 });
    const two = tuned(900, "class 32 32", { "class 32 32": 50, "branch 64 64": 60, "branch 32 32": 49 });
    const three = tuned(900, "branch 32 32", { "class 32 32": 50, "branch 64 64": 60, "branch 32 32": 40 });
    expect(hintOf([one])).toEqual({ attention: "a", target: "wasm", kind: "branch", rows: 64, keys: 64 });
    expect(hintOf([one, two])).toBeNull();
    expect(hintOf([one, three])).toEqual({
      attention: "a",
      target: "wasm",
      kind: "branch",
      rows: 32,
      keys: 32,
    });
    expect(hintOf([two])).toBeNull();
  });

  it("takes the place of what the spec asked for before, and leaves the rest as it was", () => {
    const text = `// mine
attention a { heads 1 head_dim 8 branch segment 8 dilation 1 } // kept
schedule a on wasm { rows 32 } // and this
schedule a on cuda { kind branch }`;
    const hint = { attention: "a", target: "wasm", kind: "class", rows: 16, keys: 32 } as const;
    const made = withHints(text, readSpec(text).ast, [hint], "a.heddle");
    expect(made).toBe(text.replace("{ rows 32 }", "{ kind class  rows 16  keys 32 }"));
    const bare = text.split("\n").slice(0, 2).join("\n");
    expect(withHints(bare, readSpec(bare).ast, [hint], "a.heddle")).toBe(
      `${bare}\nschedule a on wasm { kind class  rows 16  keys 32 }\n`,
    );
  });
});
