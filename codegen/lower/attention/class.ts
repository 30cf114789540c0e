/**
 * Schedule `class`: a tile's rows lie in the same segments and branches, so one launch walks all branches of a tile with
 * one state, and a key that several branches hold is scored once, with its multiplicity as a weight of its column.
 */
import {
  add,
  and,
  at,
  col,
  eq,
  f32,
  float,
  floor,
  ge,
  group,
  i32,
  lt,
  mul,
  not,
  op,
  ref,
  rem,
  select,
  sub,
  type AnyExpr,
} from "../../../src/expr.ts";
import {
  classShape,
  classTile,
  foldInto,
  hasPhantoms,
  passKeys,
  passPhantoms,
  type Fold,
} from "../../../src/geometry.ts";
import type { Element, Expr, Stmt, Tile, TileKernel } from "../../../src/kernel.ts";
import { gridSize } from "../../../src/planner.ts";
import type { Schedule } from "../../../src/schedule.ts";
import type { Launch } from "../launch.ts";
import { expressions, newBlock, offsetTable, type Block } from "./integers.ts";
import { absorbZeros, attentionTiles, empty, fill, finish, map } from "./state.ts";
import {
  decayTables,
  headColumn,
  headRows,
  kernelName,
  N,
  readQueries,
  scoreKeys,
  type AttentionNode,
} from "./tiles.ts";

type Folds = readonly Fold<Expr, Expr>[];

/** mult[0, j] += 1 where slot j0 + j of the pass is folded from a later branch. */
function countFold(b: Block, fold: Fold<Expr, Expr>, j0: Expr): Stmt<Tile> {
  const start = b.bind("fold_from", sub(fold.from, j0));
  const end = b.bind("fold_to", sub(fold.to, j0));
  let inside: AnyExpr = and<Element>(ge<Element>(col, start), lt<Element>(col, end));
  for (const x of fold.except) {
    const within = and<Element>(
      ge<Element>(col, b.bind("except_from", sub(x.from, j0))),
      lt<Element>(col, b.bind("except_to", sub(x.to, j0))),
    );
    inside = and<Element>(inside, not<Element>(and<Element>(within, x.active)));
  }
  if (fold.period > 1) {
    // (j0 + j − phase) mod period in f32: the dividend is below period + width, where ⌊x / period⌋ is exact.
    const residue = b.bind(
      "residue_0",
      rem(add(rem(j0, i32(fold.period)), sub(i32(fold.period), fold.phase)), i32(fold.period)),
    );
    const x: AnyExpr = float(add<Element>(col, residue));
    const period = f32(fold.period);
    const onGrid = eq<Element>(x, mul<Element>(floor(op<Element>("div", [x, period])), period));
    inside = and<Element>(inside, onGrid);
  }
  return map("mult", add<Element>(at("mult"), select<Element>(inside, f32(1), f32(0))));
}

function classKernel(node: AttentionNode, schedule: Schedule): TileKernel {
  const { spec } = node;
  const { rows, keys } = schedule;
  const shape = classShape(spec);
  const b = newBlock();
  const I = expressions(b, spec);
  const tile = classTile(I, spec, shape, { group, N, rows });
  const { batch, head, first } = tile;
  const step = i32(shape.lattice);
  const rowsAt = { batch, head, position: first, step, count: tile.rows };

  const keyRange = (dilation: number, base: Expr, folds: Folds, from: Expr, to: Expr): void => {
    const j0 = ref("j0");
    const loop = b.nested(() => {
      const key = b.bind("key", add(base, mul(j0, i32(dilation))));
      const count = b.bind("width", I.min(i32(keys), sub(to, j0)));
      const multiplicity = b.nested(() => {
        b.push(fill("mult", 1));
        for (const fold of folds) {
          const counted = b.nested(() => b.push(countFold(b, fold, j0)));
          if (fold.active.e === "const") b.push(...(fold.active.value === 0 ? [] : counted));
          else b.push({ s: "if", cond: fold.active, then: counted });
        }
      });
      scoreKeys(b, node, {
        batch,
        head,
        tokens: { position: key, step: i32(dilation), count },
        queryBlock,
        width: keys,
        causal: spec.causal
          ? { keyStep: dilation, rowStep: shape.lattice, lead: b.bind("lead", sub(first, key)) }
          : null,
        multiplicity: folds.length === 0 ? null : multiplicity,
      });
    });
    b.push({ s: "for", name: "j0", from, to, step: keys, body: loop });
  };

  let queryBlock: Expr = i32(0);
  const body = b.nested(() => {
    queryBlock = readQueries(b, node, rowsAt);
    b.push(...empty);
    shape.order.forEach((branch, p) => {
      const pass = tile.passes[p];
      const dilation = spec.branches[branch]?.dilation ?? 1;
      if (pass === undefined) return;
      const statements = b.nested(() => {
        const slots = passKeys(I, spec, shape, tile, p);
        const folds = shape.order.flatMap((_, child) => {
          const fold = foldInto(I, spec, shape, tile, p, child);
          return fold === null ? [] : [shareFold(b, fold)];
        });
        if ((shape.parents[p] ?? []).length === 0) {
          keyRange(dilation, slots.base, folds, i32(0), slots.real);
        } else {
          // Slots before and after what the parents hold: one loop body serves both sides.
          const side = ref("side");
          const sides = b.nested(() => {
            const from = b.bind("side_from", select(eq(side, i32(0)), i32(0), slots.after));
            const to = b.bind("side_to", select(eq(side, i32(0)), slots.before, slots.real));
            keyRange(dilation, slots.base, folds, from, to);
          });
          b.push({ s: "for", name: "side", from: i32(0), to: i32(2), step: 1, body: sides });
        }
      });
      const named: readonly Stmt<Tile>[] = [
        { s: "comment", text: `segment ${spec.branches[branch]?.segment ?? "all"}, dilation ${dilation}` },
      ];
      b.push(...named);
      if (pass.covers.e === "const") b.push(...statements);
      else b.push({ s: "if", cond: pass.covers, then: statements });
    });
    if (hasPhantoms(spec) && !spec.causal) {
      const zeros = shape.order.map((_, p) => passPhantoms(I, spec, shape, tile, p, N));
      b.push(
        ...absorbZeros(
          b.bind(
            "zeros",
            zeros.reduce((x, y) => add(x, y), i32(0)),
          ),
        ),
      );
    }
    b.push(
      ...finish(headRows("out", spec.heads, spec.headDim, rowsAt), headColumn("lse", spec.heads, rowsAt)),
    );
  });
  b.push({ s: "if", cond: lt(i32(0), tile.rows), then: body });

  return {
    name: `${kernelName(node)}_class_${rows}x${keys}`,
    buffers: [
      { name: "q", dtype: "f32", access: "read" },
      { name: "k", dtype: "f32", access: "read" },
      { name: "v", dtype: "f32", access: "read" },
      { name: "out", dtype: "f32", access: "write" },
      { name: "lse", dtype: "f32", access: "write" },
    ],
    scalars: [{ name: "N", type: "i32" }],
    tables: [offsetTable(spec), ...decayTables(node)],
    shared: [],
    workgroup: 1,
    tiles: [...attentionTiles(rows, keys, spec.headDim), { name: "mult", rows: 1, cols: keys }],
    body: b.out,
  };
}

const shareFold = (b: Block, fold: Fold<Expr, Expr>): Fold<Expr, Expr> => ({
  ...fold,
  phase: b.bind("phase", fold.phase),
  from: b.bind("from_slot", fold.from),
  to: b.bind("to_slot", fold.to),
});

/** The single launch of a `class` schedule. */
export const lowerClass = (node: AttentionNode, schedule: Schedule): readonly Launch<TileKernel>[] => [
  {
    title: `${node.spec.name}: class`,
    kernel: classKernel(node, schedule),
    bind: {
      q: { value: node.q },
      k: { value: node.k },
      v: { value: node.v },
      out: { value: node.out },
      lse: { value: node.lse },
    },
    scalars: { N: "N" },
    grid: gridSize(node.spec, schedule, 0),
  },
];
