/** `heddle tune`: times the legal schedules of attentions here, and says which to ask for in the spec. */
import { inputError } from "../../runtime/input-error.ts";
import { writeWhole } from "../../runtime/node.ts";
import type * as Ast from "../ast.ts";
import { fastest } from "../bench/tune.ts";
import type { Entrant } from "../bench/tune.ts";
import { readSpec } from "../compile.ts";
import { choose } from "../planner.ts";
import type { Target } from "../planner.ts";
import { legal, scheduleKinds } from "../schedule.ts";
import type { ScheduleChoice } from "../schedule.ts";
import { seal } from "../spec.ts";
import type { AttentionSpec, ScheduleHint, Spec } from "../spec.ts";
import { openBenchDevices } from "./bench/devices.ts";
import type { BenchDeviceName } from "./bench/devices.ts";
import { readyFor } from "./bench/works.ts";
import type { BenchDevice } from "./bench/works.ts";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { grouped, progressOn } from "./io.ts";
import type { Io } from "./io.ts";
import { checkedSpec, itemsNamed } from "./spec-file.ts";
import type { Format } from "./spec-file.ts";

export type TuneCommand = {
  readonly length: readonly number[];
  readonly device: BenchDeviceName;
  readonly threads: number;
  readonly rounds: number;
  /** Percent. */
  readonly margin: number;
  /** Changes the spec file. */
  readonly write: boolean;
  readonly json: boolean;
  readonly format: Format;
};

/** What was found of an attention at a length. */
export type TunedAttention = {
  readonly attention: string;
  readonly target: ScheduleHint["target"];
  readonly length: number;
  /** What the planner takes. */
  readonly planned: ScheduleChoice;
  readonly fastest: ScheduleChoice;
  /** The planner's time over the fastest's; 1 where the planner's stays. */
  readonly gain: number;
  readonly schedules: readonly (ScheduleChoice & { readonly ms: number })[];
};

export async function tune(
  path: string,
  name: string | undefined,
  options: TuneCommand,
  io: Io,
): Promise<ExitCode> {
  const file = await checkedSpec(path, options.format, io);
  if (file === null) return exitCodes.diagnostics;
  const attentions = attentionsOf(file.spec, name, path);
  const progress = progressOn(io);
  const [on] = await openBenchDevices([options.device], [options.threads], io.env);
  if (on === undefined) throw new Error("heddle: internal: no device");
  const found: TunedAttention[] = [];
  try {
    for (const attention of attentions)
      for (const length of options.length)
        found.push(await tuned(file.spec, attention, length, on, options, progress.say));
  } finally {
    progress.end();
    await on.device.dispose();
  }
  const hints = attentions.flatMap((a) => hintOf(found.filter((f) => f.attention === a.name)) ?? []);
  if (options.json) io.out(`${JSON.stringify({ found, schedules: hints }, null, 2)}\n`);
  else io.out(textOf(found, hints, on.name));
  if (options.write && hints.length > 0) {
    await writeWhole(path, withHints(file.source.text, file.ast, hints, path));
    if (!options.json) io.out(`${path}: ${hints.length} schedule${hints.length === 1 ? "" : "s"} written\n`);
  }
  return exitCodes.ok;
}

function attentionsOf(spec: Spec, name: string | undefined, path: string): readonly AttentionSpec[] {
  const all = itemsNamed(spec, name, path).map((item) =>
    item.kind === "attention" ? item.spec : item.spec.attention,
  );
  return [...new Map(all.map((a) => [a.name, a])).values()];
}

const shown = ({ kind, rows, keys }: ScheduleChoice): string => `${kind} ${rows}×${keys}`;

/** A schedule that is asked for serves every length, so it must be legal at all of them. */
export function choicesOf(attention: AttentionSpec, target: Target): readonly ScheduleChoice[] {
  return scheduleKinds.flatMap((kind) =>
    target
      .tiles(attention, kind)
      .map(([rows, keys]) => ({ kind, rows, keys }))
      .filter((choice) => legal(attention, choice, target.limits, null).ok),
  );
}

async function tuned(
  spec: Spec,
  attention: AttentionSpec,
  length: number,
  on: BenchDevice,
  { rounds, margin }: TuneCommand,
  say: (text: string) => void,
): Promise<TunedAttention> {
  const target = on.target;
  const { chosen } = choose(attention, length, on.planner);
  const planned: ScheduleChoice = { kind: chosen.kind, rows: chosen.rows, keys: chosen.keys };
  const same = (a: ScheduleChoice) => shown(a) === shown(planned);
  const choices = [planned, ...choicesOf(attention, on.planner).filter((c) => !same(c))];
  const work = { item: { kind: "attention", spec: attention }, what: "attention", length, batch: 1 } as const;
  const entrants = choices.map(({ kind, rows, keys }): Entrant => ({
    name: shown({ kind, rows, keys }),
    open: () => {
      const wish = { attention: attention.name, target, kind, rows, keys };
      return readyFor(seal({ ...spec, schedules: [wish] }), work, on, undefined);
    },
  }));
  const progress = (text: string) => say(`${attention.name}, ${grouped(length)} tokens: ${text}`);
  const { winner, ms, gain } = await fastest(entrants, { rounds, margin: margin / 100, progress });
  return {
    attention: attention.name,
    target,
    length,
    planned,
    fastest: choices[winner] ?? planned,
    gain,
    schedules: choices.map((choice, i) => ({ ...choice, ms: ms[i] ?? NaN })).sort((a, b) => a.ms - b.ms),
  };
}

/** The schedule that gains most over the lengths, where one was faster at some and none was slower at any; null to leave it to the planner. */
export function hintOf(found: readonly TunedAttention[]): ScheduleHint | null {
  const winners = found.filter(({ gain }) => gain > 1);
  const gains = winners.map(({ fastest: choice }) => {
    const each = found.map(({ schedules, planned }) => {
      const ms = (wanted: ScheduleChoice) => schedules.find((s) => shown(s) === shown(wanted))?.ms ?? NaN;
      return ms(planned) / ms(choice);
    });
    return { choice, least: Math.min(...each), mean: each.reduce((a, b) => a * b, 1) ** (1 / each.length) };
  });
  const [best] = gains.filter(({ least }) => least >= 1).sort((a, b) => b.mean - a.mean);
  const [first] = found;
  if (best === undefined || first === undefined) return null;
  const { kind, rows, keys } = best.choice;
  return { attention: first.attention, target: first.target, kind, rows, keys };
}

const blockOf = ({ attention, target, kind, rows, keys }: ScheduleHint): string =>
  `schedule ${attention} on ${target} { kind ${kind}  rows ${rows}  keys ${keys} }`;

function textOf(found: readonly TunedAttention[], hints: readonly ScheduleHint[], device: string): string {
  const lines = found.flatMap(({ attention, length, planned, fastest: choice, gain, schedules }) => [
    `${attention}, ${grouped(length)} tokens on ${device}`,
    ...schedules.map((s) => {
      const mark = shown(s) === shown(choice) ? "→" : " ";
      const note = shown(s) === shown(planned) ? "  the planner's" : "";
      return `  ${mark} ${shown(s).padEnd(16)} ${s.ms.toFixed(s.ms < 10 ? 2 : 1).padStart(9)} ms${note}`;
    }),
    gain > 1
      ? `    ${shown(choice)} takes ${((1 - 1 / gain) * 100).toFixed(0)} % less time than the planner's choice`
      : "    nothing is faster than the planner's choice by more than noise",
    "",
  ]);
  const blocks = hints.length === 0 ? [] : ["To ask for it (--write does it):", ...hints.map(blockOf), ""];
  return [...lines, ...blocks].join("\n");
}

/** The spec with these schedules in the place of those it has for the same attention and target, or at its end. */
export function withHints(
  text: string,
  ast: Ast.Program,
  hints: readonly ScheduleHint[],
  path: string,
): string {
  const old = ast.items.flatMap((item) =>
    item.item === "schedule" && "start" in item.span ? [{ ...item, place: item.span }] : [],
  );
  const edits = hints.map((hint) => {
    const known = old.find((o) => o.attention.text === hint.attention && o.target.text === hint.target);
    const end = { start: text.length, end: text.length };
    return { span: known?.place ?? end, text: blockOf(hint), added: known === undefined };
  });
  const made = [...edits]
    .sort((a, b) => b.span.start - a.span.start)
    .reduce((whole, { span, text: block, added }) => {
      const before = whole.slice(0, span.start);
      const gap = added && before !== "" ? (before.endsWith("\n") ? "" : "\n") : "";
      return `${before}${gap}${block}${added ? "\n" : ""}${whole.slice(span.end)}`;
    }, text);
  const { spec, diagnostics } = readSpec(made, path);
  if (spec === null)
    throw inputError(
      `the schedules do not fit into ${path}: ${diagnostics.map((d) => d.message).join("; ")}`,
    );
  return made;
}
