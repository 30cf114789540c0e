/** Tile statements: shapes, operands, and where leaves may stand. */
import type { Element, Expr, Rows, Tile, TileDecl } from "../kernel.ts";
import { problemsOf } from "./expression.ts";
import type { Scope } from "./expression.ts";

/** `filled` collects the tiles that an earlier statement of the text defines. */
export function tileProblems(
  s: Tile,
  scope: Scope,
  tiles: ReadonlyMap<string, TileDecl>,
  filled: Set<string>,
): string[] {
  const problems: string[] = [];
  const say = (text: string) => void problems.push(text);
  const integer = (...es: Expr[]) => es.forEach((e) => problems.push(...problemsOf(e, scope, "i32")));

  const shape = (name: string): TileDecl | undefined => {
    const found = tiles.get(name);
    if (found === undefined) say(`there is no tile '${name}'`);
    return found;
  };
  /** A tile whose contents are used. */
  const used = (name: string): TileDecl | undefined => {
    const found = shape(name);
    if (found !== undefined && !filled.has(name)) say(`tile '${name}' is read before anything fills it`);
    return found;
  };

  const rows = (r: Rows, tile: TileDecl | undefined, writes: boolean) => {
    integer(r.base, r.stride, r.count);
    const buffer = scope.arrays.get(r.buffer);
    if (buffer === undefined || buffer.kind !== "buffer") say(`there is no buffer '${r.buffer}'`);
    else if (buffer.type !== "f32") say(`buffer '${r.buffer}' holds ${buffer.type}`);
    else if (writes && !buffer.writable) say(`'${r.buffer}' is only read`);
    if (r.gather !== undefined) {
      integer(r.gather.base);
      const indices = scope.arrays.get(r.gather.buffer);
      if (indices === undefined || indices.type !== "i32")
        say(`'${r.gather.buffer}' is no array of i32 to gather by`);
    }
    if (!(Number.isInteger(r.cols) && r.cols > 0)) say(`rows of ${r.cols} columns`);
    if (tile === undefined) return;
    if (r.cols > tile.cols) say(`rows of ${r.cols} columns and a tile of ${tile.cols}`);
    if (r.count.e === "const" && r.count.value > tile.rows)
      say(`${r.count.value} rows and a tile of ${tile.rows}`);
  };

  /** An expression over the elements of `over`. */
  const elementwise = (e: Expr<Element>, over: TileDecl | undefined) => {
    const element = (x: Element): string | undefined => {
      if (x.e !== "at") return undefined;
      const t = tiles.get(x.tile);
      if (t === undefined) return `there is no tile '${x.tile}'`;
      if (!filled.has(x.tile)) return `tile '${x.tile}' is read before anything fills it`;
      if (x.pick !== undefined && t.cols % 2 !== 0) return `'${x.tile}' picks pairs from ${t.cols} columns`;
      const fits =
        over === undefined ||
        ((t.rows === over.rows || t.rows === 1) && (t.cols === over.cols || t.cols === 1));
      return fits
        ? undefined
        : `'${x.tile}' of ${t.rows} × ${t.cols} does not broadcast to ${over.rows} × ${over.cols}`;
    };
    problems.push(...problemsOf(e, { ...scope, element }, "f32"));
  };

  switch (s.s) {
    case "copy":
      rows(s.rows, shape(s.tile), false);
      if (s.scale !== undefined) problems.push(...problemsOf(s.scale, scope, "f32"));
      filled.add(s.tile);
      break;
    case "write": {
      const tile = used(s.tile);
      rows(s.rows, tile, true);
      if (s.value !== undefined) elementwise(s.value, tile);
      break;
    }
    case "fill":
      shape(s.tile);
      problems.push(...problemsOf(s.value, scope, "f32"));
      filled.add(s.tile);
      break;
    case "map":
      elementwise(s.value, shape(s.tile));
      filled.add(s.tile);
      break;
    case "mma":
      product(s);
      break;
    case "reduce": {
      const [into, from] = [used(s.into), used(s.from)];
      if (s.into === s.from) say(`'${s.into}' is reduced into itself`);
      if (into !== undefined && from !== undefined && (into.cols !== 1 || into.rows !== from.rows))
        say(`'${s.into}' of ${into.rows} × ${into.cols} takes no row sums of ${from.rows} × ${from.cols}`);
    }
  }
  return problems;

  function product(m: Extract<Tile, { s: "mma" }>) {
    const [acc, a] = [used(m.acc), used(m.a)];
    if (m.acc === m.a || m.acc === m.b) say(`'${m.acc}' is both sum and factor`);
    if (acc !== undefined && a !== undefined && acc.rows !== a.rows)
      say(`'${m.a}' has ${a.rows} rows and '${m.acc}' ${acc.rows}`);
    if (typeof m.b === "string") {
      const b = used(m.b);
      if (acc === undefined || a === undefined || b === undefined) return;
      const [depth, cols] = m.transposed === true ? [b.cols, b.rows] : [b.rows, b.cols];
      if (m.from !== undefined) {
        if (m.transposed === true || m.from % 4 !== 0 || m.from < 0 || m.from + depth > a.cols)
          say(`columns from ${m.from} on of '${m.a}' do not meet ${depth} rows of '${m.b}'`);
      } else if (depth !== a.cols) say(`depth ${a.cols} of '${m.a}' meets depth ${depth} of '${m.b}'`);
      if (cols !== acc.cols) say(`'${m.b}' gives ${cols} columns and '${m.acc}' has ${acc.cols}`);
      return;
    }
    integer(m.b.base, m.b.row, m.b.col);
    const buffer = scope.arrays.get(m.b.buffer);
    if (buffer === undefined || buffer.kind !== "buffer" || buffer.type !== "f32")
      say(`there is no f32 buffer '${m.b.buffer}'`);
    if (!(Number.isInteger(m.b.depth) && m.b.depth > 0)) say(`panels of depth ${m.b.depth}`);
    if (m.transposed === true) say("panels have no transposed form");
    if (m.b.col.e === "const" && m.b.col.value % 8 !== 0)
      say(`panel column ${m.b.col.value} is no multiple of 8`);
    if (m.b.row.e === "const" && a !== undefined && m.b.row.value + a.cols > m.b.depth)
      say(`rows ${m.b.row.value} … ${m.b.row.value + a.cols - 1} of panels of depth ${m.b.depth}`);
  }
}
