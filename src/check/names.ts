/** Names of a program: what each `let` stands for, and which attention or model a name means. */
import type * as Ast from "../ast.ts";
import { diagnostic } from "../diagnostic.ts";
import { evaluate, namesIn, reserved } from "./expression.ts";
import type { Report } from "./expression.ts";

/** Whether a name can be used at all; only the builder can make one that cannot. */
export const validName = (name: Ast.Name, report: Report): boolean => {
  if (name.text === "") return false;
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name.text)) return true;
  report(
    diagnostic(
      "invalid-name",
      name.span,
      { name: `"${name.text}"` },
      { expected: "letters, digits and `_`, not beginning with a digit" },
    ),
  );
  return false;
};

export const notReserved = (name: Ast.Name, report: Report): boolean => {
  if (!reserved.has(name.text)) return true;
  const hint = `Choose another name, e.g. \`${name.text}_\`.`;
  report(diagnostic("reserved-name", name.span, { name: `\`${name.text}\`` }, { hint }));
  return false;
};

/** Keeps the first item of each name and reports the others. */
export const unique = <T extends { readonly name: Ast.Name }>(
  items: readonly T[],
  report: Report,
): Map<string, T> => {
  const seen = new Map<string, T>();
  for (const item of items) {
    if (item.name.text === "") continue;
    if (!seen.has(item.name.text)) seen.set(item.name.text, item);
    else {
      const hint = "Rename or remove one of them.";
      report(diagnostic("duplicate-item", item.name.span, { name: `\`${item.name.text}\`` }, { hint }));
    }
  }
  return seen;
};

/** Lets in an order in which each comes after those it reads. A cycle is reported once, its members have no value. */
const ordered = (
  lets: ReadonlyMap<string, Ast.Let>,
  values: Map<string, number | null>,
  report: Report,
): readonly Ast.Let[] => {
  const order: Ast.Let[] = [];
  const done = new Set<string>();
  for (const root of lets.values()) {
    // An explicit stack: a chain of lets may be as long as the file.
    const path: { readonly let: Ast.Let; readonly reads: string[] }[] = [];
    const open = new Map<string, number>();
    const enter = (item: Ast.Let) => {
      open.set(item.name.text, path.length);
      path.push({ let: item, reads: [...namesIn(item.value)].filter((n) => lets.has(n)) });
    };
    if (!done.has(root.name.text)) enter(root);
    for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
      const next = top.reads.pop();
      if (next === undefined) {
        path.pop();
        open.delete(top.let.name.text);
        done.add(top.let.name.text);
        order.push(top.let);
        continue;
      }
      const from = open.get(next);
      const item = lets.get(next);
      if (from !== undefined) {
        const members = path.slice(from).map((p) => p.let.name.text);
        const shownNames = members.length > 6 ? [...members.slice(0, 5), "…"] : members;
        if (!members.some((m) => values.has(m))) {
          report(
            diagnostic(
              "let-cycle",
              path[from]?.let.name.span ?? top.let.span,
              { name: `\`${next}\``, chain: [...shownNames, next].join(" → ") },
              { hint: "Give one of them a value of its own." },
            ),
          );
        }
        for (const m of members) values.set(m, null);
      } else if (!done.has(next) && item !== undefined) enter(item);
    }
  }
  return order;
};

/** The value of every `let`; null where it was reported. */
export const constantsOf = (all: readonly Ast.Let[], report: Report): ReadonlyMap<string, number | null> => {
  const good = new Set(all.filter((l) => validName(l.name, report) && notReserved(l.name, report)));
  const lets = unique([...good], report);
  // A let with an unusable name still counts as declared, so that its uses are not reported too.
  const values = new Map<string, number | null>(
    all.filter((l) => !good.has(l)).map((l) => [l.name.text, null]),
  );
  for (const item of ordered(lets, values, report)) {
    if (!values.has(item.name.text)) values.set(item.name.text, evaluate(item.value, values, report));
  }
  return values;
};
