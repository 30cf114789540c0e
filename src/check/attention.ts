import type * as Ast from "../ast.ts";
import { diagnostic } from "../diagnostic.ts";
import { seal } from "../spec.ts";
import type { AttentionShape, AttentionSpec } from "../spec.ts";
import { branchesOf } from "./branches.ts";
import { warnings } from "./coverage.ts";
import { evaluate } from "./expression.ts";
import type { Report } from "./expression.ts";
import { integerOf, missing, once, shown, wordOf } from "./fields.ts";
import type { Constants } from "./fields.ts";
import { byRule, byTable, checkRule, inBlocks, inTurn } from "./offsets.ts";
import type { Offsets } from "./offsets.ts";

const mostHeads = 65536;
const mostHeadDim = 1024;
/** Offsets of one attention, and of a whole program. */
const largestTable = 2 ** 20;
export const largestProgram = 2 ** 21;

/** What one program may still spend: entries of offset tables, and steps of the search for uncovered tokens. */
export type Budget = { entries: number; readonly search: { left: number } };

const scaleOf = (
  field: { readonly value: Ast.Expr } | null,
  headDim: number | null,
  constants: Constants,
  report: Report,
): number | null => {
  if (field === null) return headDim === null ? null : 1 / Math.sqrt(headDim);
  const scope = new Map(constants).set("head_dim", headDim);
  const value = evaluate(field.value, scope, report);
  if (value === null || value > 0) return value;
  const [what, expected] = ["`scale`", "a number above 0"];
  const hint = "The default is 1 / sqrt(head_dim).";
  report(diagnostic("out-of-range", field.value.span, { what, expected, value: shown(value) }, { hint }));
  return null;
};

/** What is known of an attention even where something else in it is wrong: enough to check the models that use it. */
export type Outline = {
  readonly name: string;
  readonly heads: number | null;
  readonly headDim: number | null;
  readonly causal: boolean | null;
};

/** Checks one attention; `spec` is null if anything in it is wrong or was damaged. */
export const checkAttention = (
  item: Ast.Attention,
  constants: Constants,
  budget: Budget,
  report: Report,
): { readonly spec: AttentionSpec | null; readonly outline: Outline } => {
  let outline: Outline = { name: item.name.text, heads: null, headDim: null, causal: null };
  const sketch = (known: Omit<Outline, "name">) => void (outline = { ...outline, ...known });
  return { spec: specOf(item, constants, budget, sketch, report), outline };
};

const specOf = (
  item: Ast.Attention,
  constants: Constants,
  budget: Budget,
  sketch: (known: Omit<Outline, "name">) => void,
  report: Report,
): AttentionSpec | null => {
  if (item.damaged === "head") return null;
  const title = `\`${item.name.text}\``;
  const get = once(item.fields, ["branch", "branches"], report);
  const absent = (field: string, hint: string) =>
    item.damaged === undefined ? missing(title, field, item.name.span, hint, report) : null;
  const size = (name: "heads" | "head_dim", most: number, hint: string) => {
    const field = get(name);
    return field === null
      ? absent(name, hint)
      : integerOf(field.value, constants, { what: `\`${name}\``, least: 1, most }, report);
  };

  const heads = size("heads", mostHeads, "Write e.g. `heads 12`.");
  const headDim = size("head_dim", mostHeadDim, "Write e.g. `head_dim 64`.");

  const kvField = get("kv_heads");
  const bounds = { what: "`kv_heads`", least: 1, most: mostHeads };
  const kvHeads = kvField === null ? heads : integerOf(kvField.value, constants, bounds, report);
  const shared = heads === null || kvHeads === null || heads % kvHeads === 0;
  if (!shared && kvField !== null) {
    const near = [...Array(kvHeads).keys()].reverse().find((k) => heads % (k + 1) === 0) ?? 0;
    const hint = `${near + 1} divides ${heads}.`;
    report(
      diagnostic(
        "kv-heads-divide",
        kvField.value.span,
        { heads, kvHeads },
        { expected: `a divisor of ${heads}`, hint },
      ),
    );
  }

  const compat = wordOf(get("compat"), ["torchscale"], "off", report);
  const torchscale = compat === "torchscale";
  // A misspelt `compat` leaves its defaults open; they must not be guessed for what depends on them.
  const causal = wordOf(get("causal"), ["true", "false"], "false", report);
  // A field that could not be read may be the `causal` that is missing.
  const open = causal === null || (item.damaged !== undefined && get("causal") === null);
  sketch({ heads, headDim, causal: open ? null : causal === "true" });
  const padding = wordOf(get("padding"), ["masked", "zero"], torchscale ? "zero" : "masked", report);
  const align = wordOf(get("align"), ["segment", "ceil"], torchscale ? "ceil" : "segment", report);
  const combine = wordOf(get("combine"), ["softmax", "mean"], "softmax", report);
  const gradient = wordOf(get("gradient"), ["full", "detached"], torchscale ? "detached" : "full", report);
  const dtype = wordOf(get("dtype"), ["f32", "f16", "bf16"], "f32", report);
  const scale = scaleOf(get("scale"), headDim, constants, report);

  const written = item.fields.some((f) => f.field === "branch" || f.field === "branches");
  const found = written ? branchesOf(item, constants, report) : null;
  if (!written)
    absent(
      "branch",
      "Write e.g. `branch segment 2048 dilation 1`; dense attention is `branch segment all dilation 1`.",
    );
  if (found?.sound === true && found.all.length === 0) absent("branch", "The lists are empty.");
  const usable = found?.all.filter((b) => b !== null) ?? [];
  const placed = found?.sound === true ? usable : null;

  const [rule, table] = [get("offset"), get("offsets")];
  if (rule !== null && table !== null) {
    const hint = "Keep one of them.";
    report(diagnostic("conflicting-fields", table.span, { field: "`offsets`", other: "`offset`" }, { hint }));
  }
  if (heads === null || placed === null || placed.length === 0) {
    const partly = heads !== null && usable.length > 0 && heads * usable.length <= budget.entries;
    if (rule !== null && partly) byRule(rule.value, heads, found?.all ?? [], constants, report);
    else if (rule !== null) checkRule(rule.value, constants, report);
    return null;
  }

  const entries = heads * placed.length;
  if (entries > largestTable || entries > budget.entries) {
    const expected =
      entries > largestTable
        ? `at most ${largestTable}`
        : `at most ${largestProgram} in all attentions of a program`;
    const args = { heads, branches: placed.length, entries };
    report(diagnostic("table-too-large", item.name.span, args, { expected }));
    return null;
  }
  budget.entries -= entries;

  const branches = placed.map(({ segment, dilation }) => ({ segment, dilation }));
  let offsets: Offsets | null;
  if (table !== null) offsets = byTable(table, heads, branches, constants, report);
  else if (rule !== null) offsets = byRule(rule.value, heads, branches, constants, report);
  else offsets = torchscale ? inBlocks(heads, branches) : inTurn(heads, branches);

  if (headDim === null || kvHeads === null || !shared || offsets === null || scale === null) return null;
  if (compat === null || causal === null || padding === null || align === null) return null;
  if (combine === null || gradient === null || dtype === null) return null;
  const shape: AttentionShape = {
    name: item.name.text,
    heads,
    headDim,
    kvHeads,
    causal: causal === "true",
    branches,
    offsets,
    padding,
    align,
    combine,
    gradient,
    scale,
    dtype,
  };
  warnings(shape, placed, item.name.span, budget.search, report);
  return seal(shape);
};
