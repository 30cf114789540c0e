import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { arenaBytes, elementsOf, makePlan } from "../../codegen/plan.ts";
import type { PlanInput } from "../../codegen/plan.ts";
import { verifyLaunches } from "../../codegen/verify-launches.ts";
import { sizeOf } from "../../runtime/plan.ts";
import type { BufferRef, Plan, Step } from "../../runtime/plan.ts";
import type { Dim } from "../../src/graph.ts";
import { launchOf, toyKernel, toyProgram } from "./toy.ts";
import type { ToyNode } from "./toy.ts";

const shapes: readonly (readonly Dim[])[] = [["B", "N", 4], ["B", "N", 8], ["N", 8], ["B", 3, "N"], [16]];

/** Random straight-line programs in which every read names an earlier value. */
const programs = fc
  .array(
    fc.record({
      shape: fc.constantFrom(...shapes),
      reads: fc.array(fc.nat(1000), { minLength: 1, maxLength: 3 }),
    }),
    {
      minLength: 1,
      maxLength: 40,
    },
  )
  .map((raw) => {
    const ids = ["x"];
    return raw.map((r, i): ToyNode => {
      const reads = [
        ...new Set(r.reads.map((pick) => ids[ids.length - 1 - (pick % Math.min(ids.length, 6))] as string)),
      ];
      ids.push(`v${i}`);
      return { id: `v${i}`, shape: r.shape, reads };
    });
  });

/** Runs a plan whose kernels name what they read: every value becomes the expression tree that made it. */
function run(plan: Plan): readonly string[] {
  const memory = new Map<string, string>();
  const key = (r: BufferRef) => `${r.in} ${r.index}`;
  plan.inputs.forEach((input, index) => memory.set(key({ in: "input", index }), input.name));
  for (const step of plan.variants[0]?.steps ?? []) {
    const reads = step.buffers.slice(0, -1).map((r) => memory.get(key(r)) ?? "nothing");
    const out = step.buffers.at(-1) as BufferRef;
    memory.set(key(out), digest(`${step.title.slice(5)}(${reads.join(" ")})`));
  }
  return plan.outputs.map((_, index) => memory.get(key({ in: "output", index })) ?? "nothing");
}
function digest(text: string): string {
  let hash = 7n;
  for (const c of text) hash = (hash * 1000003n + BigInt(c.charCodeAt(0))) & 0xffff_ffff_ffff_ffffn;
  return hash.toString(16);
}
function meaning(nodes: readonly ToyNode[]): ReadonlyMap<string, string> {
  const values = new Map([["x", "x"]]);
  for (const n of nodes) values.set(n.id, digest(`${n.id}(${n.reads.map((r) => values.get(r)).join(" ")})`));
  return values;
}

describe("makePlan", () => {
  it("computes what the launches compute, whatever shares a slot", () => {
    fc.assert(
      fc.property(programs, fc.boolean(), (nodes, withHidden) => {
        const hidden = withHidden ? nodes.filter((_, i) => i % 3 === 0).map((n) => n.id) : [];
        const input = toyProgram(nodes, hidden);
        const { plan, hidden: places } = makePlan(input);
        verifyLaunches(plan, input);
        const values = meaning(nodes);
        const results = run(plan);
        expect(results[0]).toBe(values.get(nodes.at(-1)?.id ?? ""));
        hidden.forEach((id, i) => expect(results[places[i]?.index ?? -1]).toBe(values.get(id)));
      }),
      { numRuns: 500 },
    );
  });

  it("needs no more slots of a size than values of that size live at once", () => {
    fc.assert(
      fc.property(programs, (nodes) => {
        const { plan } = makePlan(toyProgram(nodes));
        const lastUse = new Map<string, number>();
        nodes.forEach((n, at) => [n.id, ...n.reads].forEach((id) => lastUse.set(id, at)));
        const most = new Map<string, number>();
        nodes.forEach((_, at) => {
          const live = nodes.filter(
            (n, def) => def <= at && (lastUse.get(n.id) ?? 0) >= at && n !== nodes.at(-1),
          );
          for (const size of new Set(live.map((n) => JSON.stringify(elementsOf(n.shape))))) {
            const count = live.filter((n) => JSON.stringify(elementsOf(n.shape)) === size).length;
            most.set(size, Math.max(most.get(size) ?? 0, count));
          }
        });
        const made = new Map<string, number>();
        for (const s of plan.variants[0]?.slots ?? [])
          made.set(JSON.stringify(s), (made.get(JSON.stringify(s)) ?? 0) + 1);
        expect(Object.fromEntries(made)).toEqual(Object.fromEntries(most));
      }),
      { numRuns: 300 },
    );
  });

  it("does not grow with the number of layers", () => {
    const chain = (layers: number): ToyNode[] =>
      Array.from({ length: layers }, (_, l) => [
        { id: `n${l}`, shape: ["B", "N", 4] as const, reads: [l === 0 ? "x" : `o${l - 1}`] },
        { id: `f${l}`, shape: ["B", "N", 8] as const, reads: [`n${l}`] },
        { id: `o${l}`, shape: ["B", "N", 4] as const, reads: [`f${l}`, l === 0 ? "x" : `o${l - 1}`] },
      ]).flat();
    const bytes = (layers: number) => {
      const variant = makePlan(toyProgram(chain(layers))).plan.variants[0];
      return variant === undefined ? -1 : arenaBytes(variant, { N: 100, B: 2 });
    };
    expect(bytes(3)).toBe(bytes(24));
    expect(bytes(3)).toBe(4 * 200 * (4 + 4 + 8));
  });

  it("writes element counts in one way", () => {
    expect(elementsOf(["N", 3, "B", 5])).toEqual(elementsOf(["B", "N", 15]));
    expect(sizeOf(elementsOf(["B", "N", 15]), { N: 7, B: 2 })).toBe(210);
    expect(elementsOf(["N"])).toBe("N");
  });

  it("keeps one kernel of a name and refuses two bodies under it", () => {
    const input = toyProgram([
      { id: "a", shape: ["N"], reads: ["x"] },
      { id: "b", shape: ["N"], reads: ["a"] },
    ]);
    expect(makePlan(input).plan.kernels.map((k) => k.entry)).toEqual(["mix1"]);
    const [first, second] = input.variants[0]?.launches ?? [];
    if (first === undefined || second === undefined) throw new Error("two launches");
    const clash: PlanInput = {
      ...input,
      variants: [{ upTo: null, schedule: "", launches: [first, { ...second, kernel: toyKernel(1, 5) }] }],
    };
    expect(() => makePlan(clash)).toThrow(/two different kernels are called 'mix1'/);
  });

  it("binds one checkpoint tensor in both layouts, and accepts aliases and unused buffers", () => {
    const base = toyProgram([
      { id: "a", shape: ["B", "N", 4], reads: ["x", "w"] },
      { id: "b", shape: ["B", "N", 4], reads: ["a", "w"] },
    ]);
    const launches = base.variants[0]?.launches ?? [];
    const second = launches[1];
    if (second === undefined) throw new Error("two launches");
    const input: PlanInput = {
      ...base,
      graph: {
        ...base.graph,
        weights: [{ id: "w", dtype: "f32", shape: [9, 4], name: "embed_tokens.weight" }],
        aliases: [{ alias: "output_projection.weight", of: "embed_tokens.weight" }],
        ignored: [{ name: "xpos.scale", shape: [2] }],
      },
      variants: [
        {
          upTo: null,
          schedule: "",
          launches: [
            ...launches.slice(0, 1),
            { ...second, bind: { ...second.bind, x1: { value: "w", layout: "panels" } } },
          ],
        },
      ],
    };
    const { plan } = makePlan(input);
    verifyLaunches(plan, input);
    expect(plan.weights.map((w) => [w.name, w.layout])).toEqual([
      ["embed_tokens.weight", "rows"],
      ["embed_tokens.weight", "panels"],
    ]);
    expect(plan.accepts).toEqual([
      { name: "output_projection.weight", shape: [9, 4], sameAs: "embed_tokens.weight" },
      { name: "xpos.scale", shape: [2] },
    ]);
  });

  it("names what a launch leaves open", () => {
    const input = toyProgram([{ id: "a", shape: ["N"], reads: ["x"] }]);
    const broken = (change: object): PlanInput => ({
      ...input,
      variants: [{ upTo: null, schedule: "", launches: [{ ...launchOf("a", ["x"]), ...change }] }],
    });
    expect(() => makePlan(broken({ scalars: {} }))).toThrow(/leaves scalar 'n' open/);
    expect(() => makePlan(broken({ bind: { x0: { value: "x" }, out: { value: "q" } } }))).toThrow(
      /unknown value 'q'/,
    );
    expect(() => makePlan(broken({ scalars: { n: 1, m: 2 } }))).toThrow(/binds scalar 'm'/);
  });
});

describe("verifyLaunches", () => {
  const nodes: readonly ToyNode[] = [
    { id: "a", shape: ["B", "N", 4], reads: ["x"] },
    { id: "b", shape: ["B", "N", 4], reads: ["a"] },
    { id: "c", shape: ["B", "N", 4], reads: ["a", "b"] },
    { id: "d", shape: ["B", "N", 8], reads: ["c"] },
    { id: "e", shape: ["B", "N", 4], reads: ["d", "c"] },
  ];
  const input = toyProgram(nodes);
  const { plan } = makePlan(input);
  const changed = (change: (steps: Step[]) => void): Plan => {
    const copy = structuredClone(plan) as { variants: { steps: Step[] }[] } & Plan;
    const variant = copy.variants[0];
    if (variant !== undefined) change(variant.steps);
    return copy;
  };
  const rebind = (at: number, argument: number, ref: BufferRef) => (steps: Step[]) => {
    const step = steps[at];
    if (step !== undefined)
      steps[at] = { ...step, buffers: step.buffers.map((b, i) => (i === argument ? ref : b)) };
  };

  it("accepts the plan", () => expect(verifyLaunches(plan, input)).toBe(plan));
  it("finds a value overwritten while it lives", () => {
    const slotOfA = plan.variants[0]?.steps[0]?.buffers[1] as BufferRef;
    expect(() => verifyLaunches(changed(rebind(1, 1, slotOfA)), input)).toThrow(
      /has slot 0 twice and writes it/,
    );
    expect(() => verifyLaunches(changed(rebind(2, 2, slotOfA)), input)).toThrow(/twice and writes it/);
  });
  it("finds a stale read", () =>
    expect(() => verifyLaunches(changed(rebind(4, 1, { in: "slot", index: 0 })), input)).toThrow(
      /reads 'c' from slot 0, which holds a/,
    ));
  it("finds a write to an input", () =>
    expect(() => verifyLaunches(changed(rebind(0, 1, { in: "input", index: 0 })), input)).toThrow(
      /writes? input 0|writes it/,
    ));
  it("finds an output that is not written", () =>
    expect(() => verifyLaunches(changed(rebind(4, 2, { in: "slot", index: 0 })), input)).toThrow());
  it("finds a slot of another size", () => {
    const variant = plan.variants[0];
    if (variant === undefined) throw new Error("one variant");
    const wrong: Plan = { ...plan, variants: [{ ...variant, slots: variant.slots.map(() => "N" as const) }] };
    expect(() => verifyLaunches(wrong, input)).toThrow(/has not the size of 'a'/);
  });
  it("finds variants out of order", () => {
    const variant = plan.variants[0];
    const low = input.variants[0];
    if (variant === undefined || low === undefined) throw new Error("one variant");
    const two: Plan = {
      ...plan,
      variants: [
        { ...variant, upTo: 64 },
        { ...variant, upTo: 32 },
      ],
    };
    expect(() => verifyLaunches(two, { ...input, variants: [low, low] })).toThrow(/last variant/);
  });
});
