/** AST → Spec: names resolved, defaults filled, numbers closed, every rule of the language held, or all reasons why not. */
import type * as Ast from "./ast.ts";
import { checkAttention, largestProgram } from "./check/attention.ts";
import { newBudget } from "./check/coverage.ts";
import { checkModel } from "./check/model.ts";
import type { Attentions } from "./check/model.ts";
import { constantsOf, unique, validName } from "./check/names.ts";
import { checkSchedule } from "./check/schedule.ts";
import { diagnostic, inOrder, isError, limited } from "./diagnostic.ts";
import type { Diagnostic } from "./diagnostic.ts";
import { seal } from "./spec.ts";
import type { Spec } from "./spec.ts";

/**
 * Checks a whole program. `spec` is null when there is an error; `diagnostics` then has all of them, and warnings, in
 * order of place. What the reader could not read and has reported is passed over in silence, so a program that was
 * damaged may come back without diagnostics of its own, and without a Spec.
 */
export const check = (
  program: Ast.Program,
): { readonly spec: Spec | null; readonly diagnostics: readonly Diagnostic[] } => {
  const diagnostics: Diagnostic[] = [];
  const report = (d: Diagnostic): void => void diagnostics.push(d);
  const of = <K extends Ast.Item["item"]>(kind: K) =>
    program.items.filter((i): i is Extract<Ast.Item, { item: K }> => i.item === kind);

  const incomplete = program.damaged !== undefined;
  let damaged = incomplete;
  const constants = constantsOf(of("let"), report);
  const named = program.items.filter((i) => i.item === "attention" || i.item === "model");
  const kept = new Set<Ast.Item>(
    unique(
      named.filter((i) => validName(i.name, report)),
      report,
    ).values(),
  );

  const budget = { entries: largestProgram, search: newBudget() };
  const attentions: Attentions = new Map(
    of("attention").flatMap((item) => {
      const checked = checkAttention(item, constants, budget, report);
      if (checked.spec === null) damaged = true;
      return kept.has(item) ? [[item.name.text, { item, ...checked }] as const] : [];
    }),
  );
  const models = of("model").flatMap((item) => {
    const spec = checkModel(item, attentions, constants, incomplete, report);
    if (spec === null) damaged = true;
    return spec ?? [];
  });
  const seen = new Set<string>();
  const schedules = of("schedule").flatMap((item) => {
    const hint = checkSchedule(item, attentions, constants, incomplete, seen, report);
    if (hint === null) damaged = true;
    return hint ?? [];
  });
  if ([...constants.values()].includes(null)) damaged = true;
  if (named.length === 0 && !damaged) {
    const hint =
      "Declare an attention: `attention name { heads 12 head_dim 64 branch segment all dilation 1 }`.";
    const { span } = program;
    const start = "path" in span ? span : { start: span.start, end: span.start };
    report(diagnostic("empty-program", start, {}, { hint }));
  }

  const ordered = limited(inOrder(diagnostics));
  if (damaged || diagnostics.some(isError)) return { spec: null, diagnostics: ordered };
  const specs = [...attentions.values()].flatMap((a) => a.spec ?? []);
  return { spec: seal({ attentions: specs, models, schedules }), diagnostics: ordered };
};
