import type * as Ast from "../ast.ts";
import { diagnostic } from "../diagnostic.ts";
import type { ScheduleHint } from "../spec.ts";
import type { Report } from "./expression.ts";
import { integerOf, once, shown, wordOf } from "./fields.ts";
import type { Constants } from "./fields.ts";
import { attentionNamed } from "./model.ts";
import type { Attentions } from "./model.ts";

const mostTile = 1024;

const tile = (
  field: { readonly value: Ast.Expr } | null,
  what: "rows" | "keys",
  of: number,
  constants: Constants,
  report: Report,
): number | "absent" | null => {
  if (field === null) return "absent";
  const value = integerOf(field.value, constants, { what: `\`${what}\``, least: 1, most: mostTile }, report);
  if (value === null || value % of === 0) return value;
  const near = Math.max(of, Math.round(value / of) * of);
  const args = { what: `\`${what}\``, of, value: shown(value) };
  report(diagnostic("not-multiple", field.value.span, args, { hint: `Write \`${what} ${near}\`.` }));
  return null;
};

/** Checks one schedule; null if anything in it is wrong. `seen` holds the (attention, target) pairs before it. */
export const checkSchedule = (
  item: Ast.Schedule,
  attentions: Attentions,
  constants: Constants,
  incomplete: boolean,
  seen: Set<string>,
  report: Report,
): ScheduleHint | null => {
  if (item.damaged === "head") return null;
  const found = attentionNamed(item.attention, attentions, incomplete, report);
  const target = wordOf(
    { field: "on", value: item.target },
    ["wasm", "native", "wgsl", "cuda"],
    null,
    report,
  );
  const get = once(item.fields, [], report);
  const kind = wordOf(get("kind"), ["branch", "class", "dense", "annulus", "annulus_list"], "absent", report);
  const rows = tile(get("rows"), "rows", 4, constants, report);
  const keys = tile(get("keys"), "keys", 8, constants, report);
  if (found === null || target === null || kind === null || rows === null || keys === null) return null;
  const key = `${item.attention.text} ${target}`;
  if (seen.has(key)) {
    const args = { attention: `\`${item.attention.text}\``, target };
    report(diagnostic("duplicate-schedule", item.attention.span, args, { hint: "Keep one of them." }));
    return null;
  }
  seen.add(key);
  return {
    attention: item.attention.text,
    target,
    ...(kind === "absent" ? {} : { kind }),
    ...(rows === "absent" ? {} : { rows }),
    ...(keys === "absent" ? {} : { keys }),
  };
};
