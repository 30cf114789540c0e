/** Where each head starts in each segment of each branch: the table heads × branches. */
import type * as Ast from "../ast.ts";
import { diagnostic } from "../diagnostic.ts";
import type { Branch } from "../spec.ts";
import { compile, evaluate } from "./expression.ts";
import type { Report } from "./expression.ts";
import { shown } from "./fields.ts";
import type { Constants } from "./fields.ts";

export type Offsets = readonly (readonly number[])[];

/** The paper's rule, heads taken in turn; and torchscale's, blocks of neighbouring heads. */
export const inTurn = (heads: number, branches: readonly Branch[]): Offsets =>
  branches.map((b) => Array.from({ length: heads }, (_, h) => h % b.dilation));
export const inBlocks = (heads: number, branches: readonly Branch[]): Offsets =>
  branches.map((b) => Array.from({ length: heads }, (_, h) => Math.floor(h / Math.ceil(heads / b.dilation))));

/** One offset, or null after reporting; branches are counted from 0 as in the expression. */
const legal = (
  value: number,
  at: { readonly head: number; readonly branch: number; readonly dilation: number; readonly span: Ast.Span },
  report: Report,
): number | null => {
  const { head, branch, dilation, span } = at;
  const expected = dilation === 1 ? "row 0, the only one" : `an integer from 0 to ${dilation - 1}`;
  const offset = shown(value);
  if (!Number.isInteger(value)) {
    const hint = "Integer division is floor(a / b).";
    report(diagnostic("offset-not-integer", span, { head, branch, offset }, { expected, hint }));
    return null;
  }
  if (value < 0 || value >= dilation) {
    const hint = "The default is head % dilation.";
    report(diagnostic("offset-outside", span, { head, branch, offset, dilation }, { expected, hint }));
    return null;
  }
  return value;
};

const variables = ["head", "heads", "dilation", "branch"];

/** What can be said of a rule before heads and branches are known: that its names and functions exist. */
export const checkRule = (rule: Ast.Expr, constants: Constants, report: Report): void =>
  void compile(rule, { constants, variables }, report);

/**
 * Evaluates `offset` for every head of every branch that is known; the first bad place is reported, the others are like it.
 */
export const byRule = (
  rule: Ast.Expr,
  heads: number,
  branches: readonly (Branch | null)[],
  constants: Constants,
  report: Report,
): Offsets | null => {
  const formula = compile(rule, { constants, variables }, report);
  if (formula === null) return null;
  const table: number[][] = [];
  for (const [branch, known] of branches.entries()) {
    if (known === null) continue;
    const { dilation } = known;
    const row: number[] = [];
    for (let head = 0; head < heads; head++) {
      const value = formula.run([head, heads, dilation, branch]);
      if (value === null) {
        formula.explain(report, ` for head ${head} of branch ${branch}`);
        return null;
      }
      const offset = legal(value, { head, branch, dilation, span: rule.span }, report);
      if (offset === null) return null;
      row.push(offset);
    }
    table.push(row);
  }
  return table;
};

const counted = (n: number, one: string, many: string): string => `${n} ${n === 1 ? one : many}`;

/** Checks offsets that are written out. */
export const byTable = (
  field: Ast.OffsetsField,
  heads: number,
  branches: readonly Branch[],
  constants: Constants,
  report: Report,
): Offsets | null => {
  const { rows, span } = field;
  if (rows.some((row) => row.some((e) => e.is === "hole"))) return null;
  const shape = (found: string, expected: string): null => {
    report(
      diagnostic(
        "offsets-shape",
        span,
        { found, expected },
        { hint: "One list per branch, one number per head." },
      ),
    );
    return null;
  };
  if (rows.length !== branches.length) {
    return shape(counted(rows.length, "list", "lists"), counted(branches.length, "branch", "branches"));
  }
  const odd = rows.findIndex((row) => row.length !== heads);
  if (odd >= 0)
    return shape(
      `${counted(rows[odd]?.length ?? 0, "number", "numbers")} for branch ${odd}`,
      counted(heads, "head", "heads"),
    );
  let sound = true;
  const table = rows.map((row, branch) =>
    row.map((e, head) => {
      const value = evaluate(e, constants, report);
      const dilation = branches[branch]?.dilation ?? 1;
      const offset = value === null ? null : legal(value, { head, branch, dilation, span: e.span }, report);
      if (offset === null) sound = false;
      return offset ?? 0;
    }),
  );
  return sound ? table : null;
};
