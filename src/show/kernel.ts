/** Kernels, with or without tiles, as text: what `HEDDLE_DEBUG=3` and `4` print. */
import { lanesOf } from "../expr.ts";
import type { Expr, Kernel, Rows, Stmt, Tile, TileKernel } from "../kernel.ts";
import { access, showExpr } from "./expression.ts";
import type { Warp } from "../warp.ts";
import { showFloat } from "./size.ts";

const indent = (lines: readonly string[]) => lines.map((l) => (l === "" ? "" : `  ${l}`));

export const showKernel = (k: Kernel<Warp>): string => text(k, []);

export const showTiles = (k: TileKernel): string =>
  text(
    k,
    k.tiles.map((t) => `tile ${t.name}[${t.rows}, ${t.cols}]`),
  );

function text(k: Kernel<Tile | Warp>, tiles: readonly string[]): string {
  const parameters = [
    ...k.buffers.map((b) => `${b.name}: ${b.access} ${b.dtype}`),
    ...k.scalars.map((s) => `${s.name}: ${s.type}`),
  ];
  const head = [
    ...k.tables.map((t) => {
      const values = t.values.map((v) => (t.type === "f32" ? showFloat(v) : String(v)));
      return `table ${t.name}: ${t.type}[${t.values.length}] = ${values.join(", ")}`;
    }),
    ...k.shared.map((s) => `shared ${s.name}: ${s.type}[${s.length}]`),
    ...(k.registers ?? []).map((r) => `registers ${r.name}: ${r.type}[${r.length}]`),
    ...tiles,
  ];
  const lanes = k.workgroup === 1 ? "" : ` by ${k.workgroup} lanes`;
  return [
    `kernel ${k.name}(${parameters.join(", ")})${lanes}`,
    ...indent(head),
    ...indent(showBlock(k.body)),
    "",
  ].join("\n");
}

export const showBlock = (block: readonly Stmt<Tile | Warp>[]): string[] => block.flatMap(showStmt);

export function showStmt(s: Stmt<Tile | Warp>): string[] {
  switch (s.s) {
    case "let":
    case "var":
      return [`${s.s} ${s.name} = ${showExpr(s.value)}`];
    case "set":
      return [`${s.name} = ${showExpr(s.value)}`];
    case "store":
      return [`${access(s.to, showExpr(s.index), lanesOf(s.value.type))} = ${showExpr(s.value)}`];
    case "for": {
      const step = s.step === 1 ? "" : ` step ${s.step}`;
      const range = `${showExpr(s.from)} .. ${showExpr(s.to)}`;
      return [
        `for ${s.name} in ${range}${step}${s.unroll === true ? " unroll" : s.unroll === "late" ? " unroll late" : ""}`,
        ...indent(showBlock(s.body)),
      ];
    }
    case "if":
      return [
        `if ${showExpr(s.cond)}`,
        ...indent(showBlock(s.then)),
        ...(s.else === undefined ? [] : ["else", ...indent(showBlock(s.else))]),
      ];
    case "barrier":
      return ["barrier"];
    case "exchange":
      return [`let ${s.name} = ${showExpr(s.value)} of lane ^ ${s.mask}`];
    case "comment":
      return s.text.split("\n").map((line) => `// ${line}`);
    case "warp": {
      const places = s.places.map((p) => `${p.array}[${showExpr(p.index)}]`);
      const parts = [
        ...places,
        ...s.values.map((v) => showExpr(v)),
        ...(s.imm === undefined ? [] : [String(s.imm)]),
      ];
      return [`${s.op}${s.dtype === undefined ? "" : `.${s.dtype}`} ${parts.join(", ")}`.trimEnd()];
    }
    default:
      return [showTile(s)];
  }
}

const sum = (...terms: readonly Expr[]): Expr =>
  terms.reduce((a, b) => ({ e: "op", type: "i32", op: "add", args: [a, b] }));
const times = (a: Expr, b: Expr): Expr => ({ e: "op", type: "i32", op: "mul", args: [a, b] });
const name = (n: string): Expr => ({ e: "ref", type: "i32", name: n });

/** `q[base + i * stride + j]` and where i and j run. */
function rows(r: Rows): readonly [element: string, range: string] {
  const i: Expr =
    r.gather === undefined
      ? name("i")
      : { e: "load", type: "i32", from: r.gather.buffer, index: sum(r.gather.base, name("i")) };
  return [
    `${r.buffer}[${showExpr(sum(r.base, times(i, r.stride), name("j")))}]`,
    `for i < ${showExpr(r.count)}, j < ${r.cols}`,
  ];
}

function showTile(s: Tile): string {
  switch (s.s) {
    case "copy": {
      const [element, range] = rows(s.rows);
      return `copy ${s.tile}[i, j] = ${element}${s.scale === undefined ? "" : ` * ${showExpr(s.scale, 8)}`} ${range}`;
    }
    case "write": {
      const [element, range] = rows(s.rows);
      return `write ${element} = ${s.value === undefined ? s.tile : `${showExpr(s.value)} of ${s.tile}`} ${range}`;
    }
    case "fill":
      return `fill ${s.tile} = ${showExpr(s.value)}`;
    case "mma": {
      const b =
        typeof s.b === "string"
          ? s.b
          : `${s.b.buffer} panels(base ${showExpr(s.b.base)}, depth ${s.b.depth})[${showExpr(s.b.row)}.., ${showExpr(s.b.col)}..]`;
      const a = s.from === undefined ? s.a : `${s.a}[.., ${s.from}..]`;
      return `mma ${s.acc} += ${a} · ${b}${s.transposed === true ? "ᵀ" : ""}`;
    }
    case "map":
      return `map ${s.tile} = ${showExpr(s.value)}`;
    case "reduce":
      return s.op === "add"
        ? `reduce ${s.into} += rows of ${s.from}`
        : `reduce ${s.into} = max(${s.into}, rows of ${s.from})`;
  }
}
