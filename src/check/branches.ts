/** The branches of an attention: lists and loops written out, numbers closed, each dilation inside its segment. */
import type * as Ast from "../ast.ts";
import { diagnostic } from "../diagnostic.ts";
import type { Branch } from "../spec.ts";
import { compile, evaluate } from "./expression.ts";
import type { Formula, Report } from "./expression.ts";
import { integerAt, largestInteger, shown } from "./fields.ts";
import type { Constants } from "./fields.ts";
import { notReserved, validName } from "./names.ts";

export const mostBranches = 4096;

/** A branch and the place that made it. */
export type PlacedBranch = Branch & { readonly span: Ast.Span };

const integer = (expr: Ast.Expr, value: number, what: string, report: Report) =>
  integerAt(value, expr.span, { what, least: 1, most: largestInteger }, report);

/** Rows of a loop or list: what to evaluate, with the loop's variable, and where it stands. */
type Row = {
  readonly segment: Ast.Expr;
  readonly dilation: Ast.Expr;
  readonly span: Ast.Span;
};

const pair = (
  row: Row,
  segment: number | null,
  dilation: number | null,
  report: Report,
): PlacedBranch | null => {
  if (segment === null || dilation === null) return null;
  const w = segment === Infinity ? Infinity : integer(row.segment, segment, "A segment", report);
  const r = integer(row.dilation, dilation, "A dilation", report);
  if (w === null || r === null) return null;
  if (r > w) {
    report(
      diagnostic(
        "dilation-exceeds-segment",
        row.dilation.span,
        { dilation: r, segment: w },
        { expected: `at most ${w}`, hint: "Each segment must hold at least one row of every head." },
      ),
    );
    return null;
  }
  return { segment: w, dilation: r, span: row.span };
};

/** `all` as Infinity, everything else through `run`. */
const segmentOf = (expr: Ast.Expr, run: (e: Ast.Expr) => number | null): number | null =>
  expr.is === "all" ? Infinity : run(expr);

const single = (row: Row, constants: Constants, report: Report): PlacedBranch | null => {
  const run = (e: Ast.Expr) => evaluate(e, constants, report);
  return pair(row, segmentOf(row.segment, run), run(row.dilation), report);
};

const loop = (
  field: Ast.BranchField,
  over: Ast.Range,
  constants: Constants,
  report: Report,
): readonly PlacedBranch[] | null => {
  validName(over.name, report);
  notReserved(over.name, report);
  const ends = [over.from, over.to].map((e, i) => {
    const value = evaluate(e, constants, report);
    const bounds = { what: i === 0 ? "The start of a range" : "The end of a range", least: -largestInteger };
    return value === null ? null : integerAt(value, e.span, { ...bounds, most: largestInteger }, report);
  });
  const scope = { constants, variables: [over.name.text] };
  const formula = (e: Ast.Expr): Formula | "all" | null =>
    e.is === "all" ? "all" : compile(e, scope, report);
  const [segment, dilation] = [formula(field.segment), compile(field.dilation, scope, report)];
  const [from, to] = [ends[0] ?? null, ends[1] ?? null];
  if (from === null || to === null || segment === null || dilation === null) return null;
  if (to < from) {
    const hint = `\`a..b\` is a, a + 1, … b; write ${to}..${from} to count from ${to} up to ${from}.`;
    report(diagnostic("empty-range", over.to.span, { from, to }, { hint }));
    return null;
  }
  if (to - from >= mostBranches) {
    const args = { name: "This range", count: to - from + 1 };
    report(diagnostic("too-many-branches", over.to.span, args, { expected: `at most ${mostBranches}` }));
    return null;
  }
  const out: PlacedBranch[] = [];
  for (let i = from; i <= to; i++) {
    const w = segment === "all" ? Infinity : segment.run([i]);
    if (w === null && segment !== "all") segment.explain(report, ` for ${over.name.text} = ${i}`);
    const r = dilation.run([i]);
    if (r === null) dilation.explain(report, ` for ${over.name.text} = ${i}`);
    const branch = pair(field, w, r, report);
    // One bad value of i says enough: the others usually fail in the same way.
    if (branch === null) return null;
    out.push(branch);
  }
  return out;
};

const lists = (field: Ast.BranchesField, constants: Constants, report: Report) => {
  const { segments, dilations } = field;
  const whole = ![...segments, ...dilations].some((e) => e.is === "hole");
  if (whole && segments.length !== dilations.length) {
    const args = { segments: segments.length, dilations: dilations.length };
    report(diagnostic("lengths-differ", field.span, args, { hint: "Give each segment its dilation." }));
    return null;
  }
  if (segments.length > mostBranches) return segments.map(() => null);
  return segments.map((segment, i) => {
    const dilation = dilations[i] ?? segment;
    return single({ segment, dilation, span: segment.span }, constants, report);
  });
};

/**
 * All branches in the order of the file, null where one is not usable (and reported). `sound`: none is missing; otherwise the
 * others can still be looked at, so that their own problems are said in the same run.
 */
export const branchesOf = (
  attention: Ast.Attention,
  constants: Constants,
  report: Report,
): { readonly all: readonly (PlacedBranch | null)[]; readonly sound: boolean } | null => {
  const all: (PlacedBranch | null)[] = [];
  let [count, sound] = [0, true];
  for (const field of attention.fields) {
    if (field.field !== "branch" && field.field !== "branches") continue;
    const some =
      field.field === "branches"
        ? lists(field, constants, report)
        : field.over === null
          ? [single(field, constants, report)]
          : loop(field, field.over, constants, report);
    if (some === null) sound = false;
    for (const branch of some ?? []) {
      count++;
      if (branch === null) sound = false;
      all.push(branch);
    }
  }
  if (count > mostBranches) {
    const args = { name: `\`${attention.name.text}\``, count: shown(count) };
    const expected = `at most ${mostBranches}`;
    report(diagnostic("too-many-branches", attention.name.span, args, { expected }));
    return null;
  }
  return { all, sound };
};
