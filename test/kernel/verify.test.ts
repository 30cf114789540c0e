import { describe, expect, test } from "vitest";
import * as x from "../../src/expr.ts";
import type { Element, Expr, Kernel, Rows, Stmt, Tile, TileKernel, Type } from "../../src/kernel.ts";
import type { Graph, Node } from "../../src/graph.ts";
import type { Plan } from "../../runtime/plan.ts";
import {
  verified,
  verifiedTiles,
  verifyGraph,
  verifyKernel,
  verifyPlan,
  verifyTileKernel,
} from "../../src/verify.ts";
import { graph, plan } from "./samples.ts";
import { barrier, both, kernel, loop, read, when, write } from "./kernels.ts";

const { i32, f32, ref, load, store, let_, var_, set } = x;
/** A node as no constructor makes it. */
const raw = (op: Extract<Expr, { e: "op" }>["op"], type: Type, args: Expr[], imm?: number[]): Expr =>
  imm === undefined ? { e: "op", op, type, args } : { e: "op", op, type, args, imm };
const constant = (type: "f32" | "i32" | "bool", value: number): Expr => ({ e: "const", type, value });

describe("kernels: each invariant broken once", () => {
  const base: Partial<Kernel> = {
    buffers: [read("a"), read("n", "i32"), write("o"), both("b")],
    scalars: [{ name: "s", type: "i32" }],
    tables: [{ name: "T", type: "i32", values: [1, 2] }],
    shared: [{ name: "S", type: "f32", length: 8 }],
  };
  const cases: readonly (readonly [
    title: string,
    body: readonly Stmt[],
    problem: string,
    rest?: Partial<Kernel>,
  ])[] = [
    ["undefined name", [let_("t", ref("u"))], "body[0] let t: 'u' is not defined here"],
    ["used before", [let_("t", ref("u")), let_("u", i32(1))], "'u' is not defined here"],
    [
      "out of its block",
      [when(x.bool(true), [let_("t", i32(1))]), let_("u", ref("t"))],
      "body[1] let u: 't' is not defined here",
    ],
    ["loop counter after the loop", [loop("i", 0, 2, []), let_("u", ref("i"))], "'i' is not defined here"],
    ["declared twice", [let_("t", i32(1)), let_("t", i32(2))], "body[1] let t: 't' is visible already"],
    [
      "shadowed",
      [let_("t", i32(1)), loop("i", 0, 2, [var_("t", i32(2))])],
      "body[1] for i › [0] var t: 't' is visible already",
    ],
    ["shadowing counter", [loop("s", 0, 2, [])], "'s' is visible already"],
    ["name of an array", [let_("S", i32(1))], "'S' is the name of an array or a tile"],
    ["set of a let", [let_("t", i32(1)), set("t", i32(2))], "'t' is a let, which cannot be set"],
    ["set of a counter", [loop("i", 0, 2, [set("i", i32(2))])], "'i' is a loop, which cannot be set"],
    ["set of nothing", [set("t", i32(2))], "body[0] set t: 't' is not defined here"],
    ["set to another type", [var_("t", i32(1)), set("t", f32(2))], "'t' is i32, set to f32"],
    ["type of a ref", [let_("t", ref("s", "f32"))], "'s' is i32, read as f32"],
    ["operands", [let_("t", raw("add", "i32", [i32(1), f32(1)]))], "'add' mixes i32, f32 (got i32, f32)"],
    ["result", [let_("t", raw("lt", "i32", [i32(1), i32(1)]))], "'lt' gives bool, said to be i32"],
    [
      "immediate",
      [let_("t", raw("lane", "f32", [x.splat(f32(1))], [4]))],
      "'lane' takes one vector of f32 and a lane of it",
    ],
    [
      "deep inside",
      [let_("t", x.add(load("a", raw("rem", "i32", [f32(1), f32(1)])), f32(1)))],
      "'rem' does not take f32",
    ],
    ["constant NaN", [let_("t", constant("f32", NaN))], "NaN is no f32"],
    ["constant that is no f32", [let_("t", constant("f32", 0.1))], "0.1 is no f32"],
    ["constant that is no i32", [let_("t", constant("i32", 2 ** 31))], "2147483648 is no i32"],
    ["constant that is no bool", [let_("t", constant("bool", 2))], "2 is no bool"],
    ["index type", [let_("t", load("a", f32(1)))], "the index of 'a' is f32, not i32"],
    ["loaded as another type", [let_("t", load("n", i32(0)))], "'n' holds i32, loaded as f32"],
    ["unknown array", [let_("t", load("z", i32(0)))], "there is no array 'z'"],
    ["store to an unknown array", [store("z", i32(0), f32(0))], "there is no array 'z'"],
    ["store index", [store("o", f32(0), f32(0))], "f32 where i32 belongs"],
    ["store into a read buffer", [store("a", i32(0), f32(0))], "body[0] store a: 'a' is only read"],
    ["store into a table", [store("T", i32(0), i32(0))], "'T' is only read"],
    ["store of another type", [store("o", i32(0), i32(0))], "'o' holds f32, i32 is stored"],
    ["store of a bool", [store("o", i32(0), x.bool(true))], "'o' holds f32, bool is stored"],
    ["condition", [when(i32(1), [])], "i32 where bool belongs"],
    ["bounds", [loop("i", 0, f32(2), [])], "f32 where i32 belongs"],
    ["step", [loop("i", 0, 2, [], 0)], "a step of 0"],
    [
      "unroll without constant bounds",
      [{ s: "for", name: "i", from: i32(0), to: ref("s"), step: 1, unroll: true, body: [] }],
      "asks to be unrolled",
    ],
    ["two arrays of one name", [], "'a' is declared twice", { buffers: [read("a"), read("a")] }],
    ["empty table", [], "table 'T' is empty", { tables: [{ name: "T", type: "i32", values: [] }] }],
    [
      "table values",
      [],
      "table 'T' holds what is no finite i32",
      { tables: [{ name: "T", type: "i32", values: [0.5] }] },
    ],
    ["shared length", [], "shared 'S' has 0 elements", { shared: [{ name: "S", type: "f32", length: 0 }] }],
    ["lanes", [], "a workgroup of 0 lanes", { workgroup: 0 }],
  ];
  for (const [title, body, problem, rest] of cases)
    test(title, () => {
      const found = verifyKernel(kernel(body, { ...base, ...rest }));
      expect(found.join("\n")).toContain(problem);
      expect(found.length).toBe(1);
    });

  test("limits, where given", () => {
    const k = kernel([], { ...base, workgroup: 8 });
    expect(verifyKernel(k)).toEqual([]);
    expect(verifyKernel(k, { sharedBytes: 31, workgroup: 4 })).toEqual([
      "32 bytes of shared memory, the target has 31",
      "8 lanes, the target allows 4",
    ]);
    expect(() => verified(k, { workgroup: 4 })).toThrow(
      "heddle: internal: kernel 'test' is not sound:\n  8 lanes",
    );
    expect(verified(k)).toBe(k);
  });

  test("names may be used again in blocks beside each other", () => {
    const t = [let_("t", i32(1))];
    expect(verifyKernel(kernel([when(x.bool(true), t, t), loop("t", 0, 1, []), ...t], base))).toEqual([]);
  });

  test("barriers stand where all lanes come", () => {
    const at = (...body: Stmt[]) => verifyKernel(kernel(body, { ...base, workgroup: 2 }));
    const inside = (cond: Expr) => when(cond, [barrier]);
    const positive = (e: Expr) => x.gt(e, i32(0));
    expect(at(inside(x.eq(x.laneId, i32(0))))).toEqual([
      "body[0] if › [0] barrier: a barrier in control flow that may differ between lanes, by body[0] if",
    ]);
    const diverging: readonly Stmt[][] = [
      [loop("i", 0, x.laneId, [barrier])],
      [let_("t", x.mul(x.laneId, i32(2))), inside(positive(ref("t")))],
      [loop("i", 0, x.laneId, [loop("j", 0, 2, [barrier])])],
      [inside(x.gt(load("S", i32(0)), f32(0)))],
      [inside(x.gt(load("b", i32(0)), f32(0)))],
      [inside(x.gt(load("a", x.laneId), f32(0)))],
      [var_("t", i32(0)), when(positive(x.laneId), [set("t", i32(1))]), inside(positive(ref("t")))],
      // Set at the end of a loop, read at its beginning.
      [var_("t", i32(0)), loop("i", 0, 2, [inside(positive(ref("t"))), set("t", x.laneId)])],
      // And by way of another variable, one round later.
      [
        var_("t", i32(0)),
        var_("u", i32(0)),
        loop("i", 0, 3, [inside(positive(ref("t"))), set("t", ref("u")), set("u", x.laneId)]),
      ],
      [when(positive(x.laneId), [], [barrier])],
    ];
    for (const body of diverging) expect(at(...body).length).toBe(1);
    const together: readonly Stmt[][] = [
      [inside(positive(ref("s")))],
      [loop("i", 0, x.group, [inside(positive(ref("i")))])],
      [inside(positive(load("n", ref("s"), "i32")))],
      [inside(positive(load("T", i32(0), "i32")))],
      [var_("t", i32(0)), loop("i", 0, 2, [inside(positive(ref("t"))), set("t", x.group)])],
      [when(positive(x.laneId), []), barrier],
    ];
    for (const body of together) expect(at(...body)).toEqual([]);
    expect(verifyKernel(kernel([inside(x.eq(x.laneId, i32(0)))], base))).toEqual([]);
  });
});

describe("tile kernels: each invariant broken once", () => {
  const rows = (over: Partial<Rows> = {}): Rows => ({
    buffer: "a", base: i32(0), stride: i32(4), count: i32(8), cols: 4, ...over,
  }); // prettier-ignore
  const tile = (body: readonly (Stmt | Tile)[], rest: Partial<TileKernel> = {}): TileKernel => ({
    ...kernel([], { buffers: [read("a"), read("g", "i32"), write("o")] }),
    tiles: [
      { name: "Q", rows: 8, cols: 4 },
      { name: "K", rows: 6, cols: 4 },
      { name: "S", rows: 8, cols: 6 },
      { name: "m", rows: 8, cols: 1 },
      { name: "odd", rows: 8, cols: 5 },
    ],
    ...rest,
    body,
  });
  const fill = (name: string): Tile => ({ s: "fill", tile: name, value: f32(0) });
  const ready = ["Q", "K", "S", "m", "odd"].map(fill);
  const map = (name: string, value: Expr<Element>): Tile => ({ s: "map", tile: name, value });
  const mma = (over: Partial<Extract<Tile, { s: "mma" }>> = {}): Tile => ({
    s: "mma",
    acc: "S",
    a: "Q",
    b: "K",
    transposed: true,
    ...over,
  });
  const panels = (over: object = {}) => ({
    buffer: "a",
    base: i32(0),
    depth: 4,
    row: i32(0),
    col: i32(8),
    ...over,
  });

  test("a sound kernel", () => {
    const k = tile([
      { s: "copy", tile: "Q", rows: rows(), scale: f32(0.5) },
      { s: "copy", tile: "K", rows: rows({ count: i32(6), gather: { buffer: "g", base: i32(1) } }) },
      fill("S"), mma(), fill("m"),
      { s: "reduce", into: "m", from: "S", op: "max" },
      map("S", x.exp2(x.sub<Element>(x.at("S"), x.at("m")))),
      map("Q", x.select<Element>(x.lt<Element>(x.row, x.col), x.at("Q", "flip"), x.at("Q"))),
      { s: "mma", acc: "Q", a: "S", b: "K" },
      { s: "mma", acc: "S", a: "Q", b: panels() },
      { s: "write", tile: "Q", rows: rows({ buffer: "o" }), value: x.div<Element>(x.at("Q"), x.at("m")) },
    ]); // prettier-ignore
    expect(verifyTileKernel(k)).toEqual([]);
    expect(verifiedTiles(k)).toBe(k);
    expect(() => verifiedTiles(tile([mma()]))).toThrow("heddle: internal: tile kernel 'test'");
  });

  const cases: readonly (readonly [title: string, s: Stmt | Tile, problem: string])[] = [
    ["unknown tile", fill("Z"), "there is no tile 'Z'"],
    ["fill type", { s: "fill", tile: "Q", value: i32(0) }, "i32 where f32 belongs"],
    ["copy from nowhere", { s: "copy", tile: "Q", rows: rows({ buffer: "z" }) }, "there is no buffer 'z'"],
    ["copy of integers", { s: "copy", tile: "Q", rows: rows({ buffer: "g" }) }, "buffer 'g' holds i32"],
    [
      "too many columns",
      { s: "copy", tile: "Q", rows: rows({ cols: 5 }) },
      "rows of 5 columns and a tile of 4",
    ],
    ["too many rows", { s: "copy", tile: "Q", rows: rows({ count: i32(9) }) }, "9 rows and a tile of 8"],
    ["stride type", { s: "copy", tile: "Q", rows: rows({ stride: f32(1) }) }, "f32 where i32 belongs"],
    [
      "gather by floats",
      { s: "copy", tile: "Q", rows: rows({ gather: { buffer: "a", base: i32(0) } }) },
      "'a' is no array of i32",
    ],
    ["scale type", { s: "copy", tile: "Q", rows: rows(), scale: i32(1) }, "i32 where f32 belongs"],
    ["write into what is read", { s: "write", tile: "Q", rows: rows() }, "'a' is only read"],
    [
      "mma: sum as factor",
      mma({ acc: "S", a: "S", b: "K", transposed: false }),
      "'S' is both sum and factor",
    ],
    ["mma: rows", mma({ acc: "K", a: "Q", b: "Q", transposed: true }), "'Q' has 8 rows and 'K' 6"],
    ["mma: depth", mma({ transposed: false }), "depth 4 of 'Q' meets depth 6 of 'K'"],
    ["mma: columns", mma({ acc: "odd" }), "'K' gives 6 columns and 'odd' has 5"],
    [
      "panels: buffer",
      { s: "mma", acc: "S", a: "Q", b: panels({ buffer: "g" }) },
      "there is no f32 buffer 'g'",
    ],
    [
      "panels: column",
      { s: "mma", acc: "S", a: "Q", b: panels({ col: i32(4) }) },
      "panel column 4 is no multiple of 8",
    ],
    [
      "panels: rows",
      { s: "mma", acc: "S", a: "Q", b: panels({ row: i32(1) }) },
      "rows 1 … 4 of panels of depth 4",
    ],
    ["panels: transposed", mma({ b: panels() }), "panels have no transposed form"],
    ["map: broadcast", map("Q", x.at("S")), "'S' of 8 × 6 does not broadcast to 8 × 4"],
    ["map: type", map("Q", x.row), "i32 where f32 belongs"],
    ["map: pairs of odd columns", map("odd", x.at("odd", "even")), "'odd' picks pairs from 5 columns"],
    ["map: unknown tile", map("Q", x.at("Z")), "there is no tile 'Z'"],
    [
      "reduce: shape",
      { s: "reduce", into: "Q", from: "S", op: "add" },
      "'Q' of 8 × 4 takes no row sums of 8 × 6",
    ],
    ["reduce: into itself", { s: "reduce", into: "m", from: "m", op: "add" }, "'m' is reduced into itself"],
    [
      "a leaf elsewhere",
      { s: "let", name: "t", value: x.at("Q") as unknown as Expr },
      "'at' stands outside map and write",
    ],
    [
      "a leaf in fill",
      { s: "fill", tile: "Q", value: x.float(x.row as unknown as Expr) },
      "'row' stands outside map and write",
    ],
  ];
  for (const [title, s, problem] of cases)
    test(title, () => {
      const found = verifyTileKernel(tile([...ready, s]));
      expect(found.join("\n")).toContain(problem);
      expect(found.length).toBeLessThan(3);
    });

  test("tiles are filled before they are read, have sizes and names of their own", () => {
    expect(verifyTileKernel(tile([mma()])).length).toBe(3);
    expect(verifyTileKernel(tile([map("S", x.at("m"))]))[0]).toContain(
      "tile 'm' is read before anything fills it",
    );
    expect(verifyTileKernel(tile([], { tiles: [{ name: "a", rows: 0, cols: 1 }] }))).toEqual([
      "'a' is declared twice",
      "tile 'a' is 0 × 1",
    ]);
  });
});

describe("graphs", () => {
  test("a sound graph", () => expect(verifyGraph(graph)).toEqual([]));
  const nodes = (...all: Node[]): Partial<Graph> => ({ nodes: all });
  const [embed, norm, linear, attention, head] = graph.nodes as readonly [Node, Node, Node, Node, Node];
  const shape = (id: string, dims: readonly (number | "N" | "B")[]): Partial<Graph> => ({
    values: graph.values.map((v) => (v.id === id ? { ...v, shape: dims } : v)),
  });
  const cases: readonly (readonly [string, Partial<Graph>, string])[] = [
    [
      "use before definition",
      nodes(norm, embed, linear, attention, head),
      "node 0 norm n: 'x' is not defined yet",
    ],
    [
      "two definitions",
      nodes(embed, norm, linear, attention, head, head),
      "node 5 linear y: 'y' is defined twice",
    ],
    ["a value nobody makes", nodes(embed, norm, linear, attention), "'y' has a shape and no definition"],
    ["a value without shape", { values: graph.values.slice(0, -1) }, "node 4 linear y: 'y' has no shape"],
    ["linear shape", shape("y", ["B", "N", 15]), "'y' is f32[B, N, 15], not f32[B, N, 16]"],
    ["norm shape", shape("n", ["B", "N", 7]), "'n' is f32[B, N, 7], not f32[B, N, 8]"],
    ["attention shape", shape("lse", ["B", "N", 2]), "'lse' is f32[B, N, 2], not f32[B, 2, N]"],
    ["key width", shape("k", ["B", "N", 8]), "'k' is f32[B, N, 8], not f32[B, N, 4]"],
    ["unknown output", { outputs: [{ name: "out", value: "z" }] }, "output 'out': 'z' is not defined"],
    ["unknown hidden", { hidden: ["z"] }, "hidden: 'z' is not defined"],
    ["alias of nothing", { aliases: [{ alias: "a", of: "b" }] }, "alias 'a' of an unknown weight 'b'"],
    [
      "name taken twice",
      { ignored: [{ name: "k.weight", shape: [1] }] },
      "checkpoint name 'k.weight' is taken twice",
    ],
  ];
  for (const [title, change, problem] of cases)
    test(title, () => expect(verifyGraph({ ...graph, ...change }).join("\n")).toContain(problem));
});

describe("plans", () => {
  test("a sound plan", () => expect(verifyPlan(plan)).toEqual([]));
  const [v] = plan.variants as readonly [Plan["variants"][number]];
  const [first, second] = v.steps as readonly [(typeof v.steps)[number], (typeof v.steps)[number]];
  const steps = (...all: (typeof v.steps)[number][]): Partial<Plan> => ({ variants: [{ ...v, steps: all }] });
  const slot = { in: "slot", index: 0 } as const;
  const output = { in: "output", index: 0 } as const;
  const cases: readonly (readonly [string, Partial<Plan>, string])[] = [
    [
      "read before written",
      steps(second, first),
      "step 0 'twice': reads slot 0, which no step before has written",
    ],
    ["output nobody writes", steps(first), "no step writes output 'out'"],
    ["unknown kernel", steps(first, { ...second, kernel: 7 }), "there is no kernel 7"],
    [
      "unknown slot",
      steps(first, { ...second, buffers: [{ in: "slot", index: 3 }, output] }),
      "'x': there is no slot 3",
    ],
    ["too few buffers", steps(first, { ...second, buffers: [slot] }), "1 buffers for the 2 of twice"],
    ["too many scalars", steps(first, { ...second, scalars: ["N"] }), "1 scalars for the 0 of twice"],
    [
      "an input is written",
      steps(first, second, { ...second, buffers: [slot, { in: "weight", index: 0 }] }),
      "'o' is written, but bound to weight 0",
    ],
    [
      "one slot twice",
      steps(first, second, { ...second, buffers: [slot, slot] }),
      "'o' is written and shares slot 0 with 'x'",
    ],
    [
      "dtype",
      steps(first, { ...second, buffers: [{ in: "input", index: 0 }, output] }),
      "'x' is f32 and input 0 i32",
    ],
    [
      "a negative grid",
      steps(first, { ...second, grid: { op: "sub", args: ["N", 2] } }),
      "grid: N - 2 is -1 at N = 1",
    ],
    [
      "a fractional slot",
      { variants: [{ ...v, slots: [{ op: "mul", args: ["N", 0.5] }] }] },
      "slot 0: N * 0.5 is 0.5",
    ],
    [
      "lengths that do not grow",
      {
        variants: [
          { ...v, upTo: 8 },
          { ...v, upTo: 8 },
        ],
      },
      "variant 1: no length is left",
    ],
    ["no end but the last", { variants: [v, v] }, "variant 0: no length is left"],
    [
      "one entry for two kernels",
      { kernels: [...plan.kernels, plan.kernels[0]!] },
      "two kernels are exported as 'embed'",
    ],
  ];
  for (const [title, change, problem] of cases)
    test(title, () => expect(verifyPlan({ ...plan, ...change }).join("\n")).toContain(problem));
});
