/** The meaning of a tile kernel, element by element in f64, straight from the sentences of src/kernel.ts. */
import type { Element, Expr, Stmt, Tile, TileKernel } from "../../src/kernel.ts";

type Value = number | boolean;
type Block = { readonly rows: number; readonly cols: number; readonly data: Float64Array };
export type Memory = { readonly [name: string]: Float32Array | Int32Array };
type Here = { readonly i: number; readonly j: number };

export function direct(
  kernel: TileKernel,
  buffers: Memory,
  scalars: { readonly [name: string]: number },
  groups: number,
): void {
  for (let group = 0; group < groups; group++) runGroup(kernel, buffers, scalars, group);
}

function runGroup(
  kernel: TileKernel,
  buffers: Memory,
  scalars: { readonly [name: string]: number },
  group: number,
): void {
  const tiles = new Map<string, Block>(
    kernel.tiles.map(({ name, rows, cols }) => [
      name,
      { rows, cols, data: new Float64Array(rows * cols).fill(NaN) },
    ]),
  );
  const names = new Map<string, Value>(Object.entries(scalars));
  const tables = new Map(kernel.tables.map((t) => [t.name, t.values]));
  const tile = (name: string): Block => {
    const t = tiles.get(name);
    if (t === undefined) throw new Error(`no tile ${name}`);
    return t;
  };
  const get = (name: string, i: number, j: number): number => {
    const t = tile(name);
    if (i >= t.rows || j >= t.cols) throw new Error(`${name}[${i}, ${j}]`);
    return t.data[i * t.cols + j] ?? NaN;
  };

  const evaluate = (e: Expr<Element>, here: Here): Value => {
    const number = (x: Expr<Element>): number => Number(evaluate(x, here));
    switch (e.e) {
      case "const":
        return e.type === "bool" ? e.value !== 0 : e.value;
      case "ref": {
        const v = names.get(e.name);
        if (v === undefined) throw new Error(`no name ${e.name}`);
        return v;
      }
      case "builtin":
        return e.name === "group" ? group : 0;
      case "row":
        return here.i;
      case "col":
        return here.j;
      case "at": {
        const t = tile(e.tile);
        const j = t.cols === 1 ? 0 : here.j;
        const k = e.pick === "flip" ? j ^ 1 : e.pick === "even" ? j & ~1 : e.pick === "odd" ? j | 1 : j;
        return get(e.tile, t.rows === 1 ? 0 : here.i, t.cols === 1 ? 0 : k);
      }
      case "load": {
        const at = number(e.index);
        const from = buffers[e.from] ?? tables.get(e.from);
        const v = from?.[at];
        if (v === undefined) throw new Error(`${e.from}[${at}]`);
        return v;
      }
      case "op": {
        const isInt = e.type === "i32";
        const [a = 0, b = 0, c = 0] = e.args.map((x) => evaluate(x, here));
        const [x, y, z] = [Number(a), Number(b), Number(c)];
        const int = (v: number) => (isInt ? v | 0 : v);
        switch (e.op) {
          case "add":
            return int(x + y);
          case "sub":
            return int(x - y);
          case "mul":
            return isInt ? Math.imul(x, y) : x * y;
          case "div":
            return isInt ? Math.trunc(x / y) : x / y;
          case "rem":
            return x % y;
          case "min":
            return Math.min(x, y);
          case "max":
            return Math.max(x, y);
          case "neg":
            return -x;
          case "abs":
            return Math.abs(x);
          case "sqrt":
            return Math.sqrt(x);
          case "floor":
            return Math.floor(x);
          case "madd":
            return x * y + z;
          case "exp2":
            return 2 ** x;
          case "log2":
            return Math.log2(x);
          case "eq":
            return a === b;
          case "ne":
            return a !== b;
          case "lt":
            return x < y;
          case "le":
            return x <= y;
          case "gt":
            return x > y;
          case "ge":
            return x >= y;
          case "and":
            return typeof a === "boolean" ? a && Boolean(b) : x & y;
          case "or":
            return typeof a === "boolean" ? a || Boolean(b) : x | y;
          case "xor":
            return typeof a === "boolean" ? a !== b : x ^ y;
          case "not":
            return !a;
          case "shl":
            return x << y;
          case "shr":
            return x >> y;
          case "select":
            return a === true ? b : c;
          case "float":
            return x;
          case "int":
            return Math.trunc(x);
          default:
            throw new Error(`the direct evaluation has no '${e.op}'`);
        }
      }
    }
  };
  const scalar = (e: Expr): number => Number(evaluate(e, { i: 0, j: 0 }));

  const rowStart = (rows: Extract<Tile, { s: "copy" }>["rows"], i: number): number => {
    const { gather } = rows;
    const at = gather === undefined ? i : Number(buffers[gather.buffer]?.[scalar(gather.base) + i]);
    return scalar(rows.base) + at * scalar(rows.stride);
  };
  const each = (t: Block, value: (i: number, j: number) => number): void => {
    const out = Float64Array.from(t.data, (_, at) => value(Math.floor(at / t.cols), at % t.cols));
    t.data.set(out);
  };

  const spell = (s: Tile): void => {
    switch (s.s) {
      case "copy": {
        const count = scalar(s.rows.count);
        const scale = s.scale === undefined ? 1 : scalar(s.scale);
        each(tile(s.tile), (i, j) => {
          if (i >= count || j >= s.rows.cols) return 0;
          const v = buffers[s.rows.buffer]?.[rowStart(s.rows, i) + j];
          if (v === undefined) throw new Error(`copy past the end of ${s.rows.buffer}`);
          return v * scale;
        });
        return;
      }
      case "write": {
        const count = Math.min(scalar(s.rows.count), tile(s.tile).rows);
        const to = buffers[s.rows.buffer];
        for (let i = 0; i < count; i++)
          for (let j = 0; j < s.rows.cols; j++) {
            const at = rowStart(s.rows, i) + j;
            if (to === undefined || at >= to.length)
              throw new Error(`write past the end of ${s.rows.buffer}`);
            to[at] = s.value === undefined ? get(s.tile, i, j) : Number(evaluate(s.value, { i, j }));
          }
        return;
      }
      case "fill": {
        const v = scalar(s.value);
        each(tile(s.tile), () => v);
        return;
      }
      case "mma": {
        const a = tile(s.a);
        const acc = tile(s.acc);
        const { b } = s;
        const right =
          typeof b === "string"
            ? (k: number, j: number) => (s.transposed === true ? get(b, j, k) : get(b, k, j))
            : (k: number, j: number) => {
                const [row, col] = [scalar(b.row) + k, scalar(b.col) + j];
                const at = scalar(b.base) + Math.floor(col / 8) * b.depth * 8 + row * 8 + (col % 8);
                return buffers[b.buffer]?.[at] ?? NaN;
              };
        each(acc, (i, j) => {
          let sum = get(s.acc, i, j);
          for (let k = 0; k < a.cols; k++) sum += get(s.a, i, k) * right(k, j);
          return sum;
        });
        return;
      }
      case "map":
        each(tile(s.tile), (i, j) => Number(evaluate(s.value, { i, j })));
        return;
      case "reduce": {
        const from = tile(s.from);
        each(tile(s.into), (i) => {
          let v = get(s.into, i, 0);
          for (let j = 0; j < from.cols; j++) {
            const x = get(s.from, i, j);
            v = s.op === "add" ? v + x : Math.max(v, x);
          }
          return v;
        });
      }
    }
  };

  const run = (body: readonly Stmt<Tile>[]): void => {
    for (const s of body)
      switch (s.s) {
        case "let":
        case "var":
        case "set":
          names.set(s.name, evaluate(s.value, { i: 0, j: 0 }));
          break;
        case "for":
          for (let at = scalar(s.from); at < scalar(s.to); at += s.step) {
            names.set(s.name, at);
            run(s.body);
          }
          break;
        case "if":
          run(evaluate(s.cond, { i: 0, j: 0 }) === true ? s.then : (s.else ?? []));
          break;
        case "store":
        case "barrier":
        case "exchange":
        case "comment":
          break;
        default:
          spell(s);
      }
  };
  run(kernel.body);
}
