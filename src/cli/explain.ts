/** `heddle explain`: what a spec costs at a length, which schedule is chosen and why. */
import { compileSpec, wishFor } from "../compile.ts";
import { attentionNumbers, modelNumbers, toPlain } from "./explain/numbers.ts";
import type { AttentionNumbers, ModelNumbers } from "./explain/numbers.ts";
import { attentionText, modelText } from "./explain/text.ts";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { progressOn, traceTo } from "./io.ts";
import type { Io } from "./io.ts";
import { checkedSpec, itemsNamed } from "./spec-file.ts";
import type { Format } from "./spec-file.ts";

export type ExplainOptions = { readonly length: number; readonly json: boolean; readonly format: Format };

export async function explain(
  path: string,
  name: string | undefined,
  options: ExplainOptions,
  io: Io,
): Promise<ExitCode> {
  const file = await checkedSpec(path, options.json ? "json" : options.format, io);
  if (file === null) return exitCodes.diagnostics;
  const { spec } = file;
  const wanted = itemsNamed(spec, name, path);
  const progress = progressOn(io);
  const trace = traceTo(io);
  const parts = wanted.map((item): readonly [AttentionNumbers | ModelNumbers, boolean] => {
    progress.say(`explaining ${item.spec.name}`);
    if (item.kind === "attention")
      return [attentionNumbers(item.spec, options.length, wishFor(spec, item.spec)), item.spec.causal];
    const [compiled] = compileSpec(spec, {
      target: "wasm",
      names: [item.spec.name],
      length: options.length,
      ...(trace === undefined ? {} : { trace }),
    });
    if (compiled === undefined) throw new Error("heddle: internal: nothing was compiled");
    const { attention } = item.spec;
    return [modelNumbers(item.spec, compiled, options.length, wishFor(spec, attention)), attention.causal];
  });
  progress.end();
  const all = parts.map(([numbers]) => numbers);
  if (options.json) io.out(`${JSON.stringify(name === undefined ? all : all[0], toPlain, 2)}\n`);
  else
    io.out(
      parts
        .map(([n, causal]) => (n.kind === "model" ? modelText(n, causal) : attentionText(n, causal)))
        .join("\n"),
    );
  return exitCodes.ok;
}
