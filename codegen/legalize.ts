/**
 * Spells the operations a target lacks with those it has. Values used more than once are bound by `let` before the
 * statement that needs them (for a loop: before the loop, whose bounds are evaluated once).
 *
 * Errors of the two polynomials, measured over their ranges by test/kernel/legalize.test.ts:
 * - exp2: at most 1.2 ulp on [−126, 127.4], less with a fused madd; exact at integers. Results below 2^−126.5 are 0, so that
 *   a masked score vanishes whatever its size; arguments from 127.5 on give infinity.
 * - log2: at most 2.9 ulp for positive normal numbers; exact at powers of two.
 */
import { lanesOf, op, scalarOf, splat } from "../src/expr.ts";
import type { Expr, Kernel, Op, Stmt, Type } from "../src/kernel.ts";
import type { Warp } from "../src/warp.ts";
import { type Block, namer, withArgs, withBlocks, withExprs } from "./rewrite.ts";

/** The operations of a target, or which of them it has for which operand type. */
export type Supported = ReadonlySet<Op> | ((op: Op, type: Type) => boolean);

/** What a spelling writes with: operations (legal ones, or spelled in turn) and names for values used twice. */
type Pen = {
  readonly o: (name: Op, ...args: Expr[]) => Expr;
  readonly bind: (e: Expr) => Expr;
  /** A constant of the operands' own width. */
  readonly f32: (x: number) => Expr;
  readonly i32: (x: number) => Expr;
};
type Spelling = (pen: Pen, args: readonly Expr[], imm: readonly number[] | undefined) => Expr;

/** 2^f on [−½, ½] as 1 + f·(…): minimax in relative error, 2.0e-9 before rounding. */
const EXP2 = [
  1.5353361959569156e-4, 1.3398875016719103e-3, 9.61843691766262e-3, 5.5503323674201965e-2,
  0.24022647738456726, 0.6931471824645996, 1,
]; // prettier-ignore
/** log2((1+s)/(1−s)) / s in s², for |s| ≤ 0.1716: minimax in relative error, 6.9e-10 before rounding. */
const LOG2 = [0.4317353665828705, 0.5767143964767456, 0.9617988467216492, 2.885390043258667];

const horner = (p: Pen, x: Expr, coefficients: readonly number[]): Expr =>
  coefficients
    .slice(1)
    .reduce((sum: Expr, c) => p.o("madd", sum, x, p.f32(c)), p.f32(coefficients[0] as number));

/**
 * 2^x = 2^n · 2^f with n the integer nearest to x. Adding 1.5·2^23 + 127 leaves n + 127 in the low bits of the sum, which
 * `shl` moves to the exponent: 13 operations, without a conversion. Clamping x to −127 makes that exponent 0, hence 0.
 */
const exp2: Spelling = (p, [x]) => {
  const magic = 12582912 + 127;
  const y = p.bind(p.o("min", p.o("max", x!, p.f32(-127)), p.f32(128)));
  const t = p.bind(p.o("add", y, p.f32(magic)));
  const f = p.bind(p.o("sub", y, p.o("sub", t, p.f32(magic))));
  const scale = p.o("unbits", p.o("shl", p.o("bits", t), p.i32(23)));
  return p.o("mul", horner(p, f, EXP2), scale);
};

/** log2(x) = e + log2(m) with m in [√½, √2), by s = (m − 1)/(m + 1), which keeps full accuracy around x = 1. */
const log2: Spelling = (p, [x]) => {
  const bits = p.bind(p.o("bits", x!));
  const e = p.bind(p.o("shr", p.o("sub", bits, p.i32(0x3f3504f3)), p.i32(23)));
  const m = p.bind(p.o("unbits", p.o("sub", bits, p.o("shl", e, p.i32(23)))));
  const s = p.bind(p.o("div", p.o("sub", m, p.f32(1)), p.o("add", m, p.f32(1))));
  const series = horner(p, p.bind(p.o("mul", s, s)), LOG2);
  return p.o("madd", s, series, p.o("float", e));
};

const round: Spelling = (p, [given]) => {
  const x = p.bind(given!);
  const size = p.bind(p.o("abs", x));
  // Above 2^23 every f32 is an integer; below, adding 2^23 leaves no room for a fraction.
  const r = p.bind(p.o("sub", p.o("add", size, p.f32(8388608)), p.f32(8388608)));
  const signed = p.o("select", p.o("lt", x, p.f32(0)), p.o("neg", r), r);
  return p.o("select", p.o("lt", size, p.f32(8388608)), signed, x);
};

const floor: Spelling = (p, [given]) => {
  const x = p.bind(given!);
  const r = p.bind(p.o("round", x));
  return p.o("select", p.o("gt", r, x), p.o("sub", r, p.f32(1)), r);
};

const folded =
  (name: Op): Spelling =>
  (p, [given]) => {
    const x = p.bind(given!);
    const fold = (lanes: readonly Expr[]): Expr => {
      const half = lanes.length / 2;
      return half < 1 ? lanes[0]! : p.o(name, fold(lanes.slice(0, half)), fold(lanes.slice(half)));
    };
    return fold(Array.from({ length: lanesOf(x.type) }, (_, i) => p.bind(op("lane", [x], [i]))));
  };
const smaller =
  (first: boolean): Spelling =>
  (p, [x, y]) => {
    const [a, b] = [p.bind(x!), p.bind(y!)];
    return first ? p.o("select", p.o("lt", a, b), a, b) : p.o("select", p.o("lt", a, b), b, a);
  };

/** An operation without a row must be in every target's table. */
const spellings: { readonly [O in Op]?: Spelling } = {
  exp2,
  log2,
  round,
  floor,
  sum: folded("add"),
  most: folded("max"),
  madd: (p, [a, b, c]) => p.o("add", p.o("mul", a!, b!), c!),
  abs: (p, [given]) => {
    const x = p.bind(given!);
    return p.o("max", x, p.o("neg", x));
  },
  neg: (p, [x]) => (scalarOf(x!.type) === "i32" ? p.o("sub", p.i32(0), x!) : p.o("mul", x!, p.f32(-1))),
  min: smaller(true),
  max: smaller(false),
  rem: (p, [x, y]) => {
    const [a, b] = [p.bind(x!), p.bind(y!)];
    return p.o("sub", a, p.o("mul", p.o("div", a, b), b));
  },
  not: (p, [x]) => p.o("xor", x!, widened(yes, x!.type)),
  xor: (p, [x, y]) => {
    const [a, b] = [p.bind(x!), p.bind(y!)];
    if (scalarOf(a.type) === "i32") return p.o("sub", p.o("or", a, b), p.o("and", a, b));
    return p.o("and", p.o("or", a, b), p.o("not", p.o("and", a, b)));
  },
  ne: (p, [a, b]) => p.o("not", p.o("eq", a!, b!)),
  gt: (p, [a, b]) => p.o("lt", b!, a!),
  le: (p, [a, b]) => p.o("ge", b!, a!),
  ge: (p, [a, b]) => p.o("le", b!, a!),
};
const widened = (e: Expr, as: Type): Expr => {
  const lanes = lanesOf(as);
  return lanes === 1 ? e : splat(e, lanes);
};
const yes: Expr = { e: "const", type: "bool", value: 1 };

/** @throws when the target lacks an operation that cannot be spelled with those it has. */
export function legalize<X extends Warp = never>(kernel: Kernel<X>, supported: Supported): Kernel<X> {
  const has = typeof supported === "function" ? supported : (name: Op) => supported.has(name);
  const fresh = namer<X>(kernel);

  const block = (stmts: Block<X>): Block<X> =>
    stmts.flatMap((s): Block<X> => {
      const before: Stmt[] = [];
      const known = new Map<Expr, Expr>();
      const legal = (e: Expr): Expr => {
        const seen = known.get(e);
        if (seen !== undefined) return seen;
        const inner = withArgs(e, legal);
        const result = inner.e === "op" ? spell(inner.op, inner.args, inner.imm, inner, []) : inner;
        known.set(e, result);
        return result;
      };
      const bind = (e: Expr): Expr => {
        if (
          e.e === "const" ||
          e.e === "ref" ||
          (e.e === "op" && e.op === "splat" && e.args[0]!.e === "const")
        )
          return e;
        const name = fresh("t");
        before.push({ s: "let", name, value: e });
        return { e: "ref", type: e.type, name };
      };
      /** `inside` lists the operations being spelled, so that two spellings do not ask each other forever. */
      const spell = (
        name: Op,
        args: readonly Expr[],
        imm: readonly number[] | undefined,
        same: Expr | undefined,
        inside: readonly Op[],
      ): Expr => {
        const type = args[0]!.type;
        if (has(name, type)) return same ?? op(name, args, imm);
        const spelling = spellings[name];
        if (spelling === undefined || inside.includes(name))
          throw new Error(
            `heddle: internal: kernel '${kernel.name}' needs '${name}' of ${type}, which the target lacks`,
          );
        const widen = (e: Expr) => widened(e, type);
        const chain = [...inside, name];
        const pen: Pen = {
          o: (n, ...operands) => spell(n, operands, undefined, undefined, chain),
          bind,
          f32: (x) => widen({ e: "const", type: "f32", value: Math.fround(x) }),
          i32: (x) => widen({ e: "const", type: "i32", value: x }),
        };
        return spelling(pen, args, imm);
      };
      const own = withExprs<X>(s, legal);
      return [...before, withBlocks<X>(own, block)];
    });
  return { ...kernel, body: block(kernel.body) };
}
