/** Which loop nests may become functions of their own, and what they then need as parameters. */
import type { Expr, Stmt } from "../../src/kernel.ts";

/** Statements, those of nested blocks included. */
export const sizeOfBody = (body: readonly Stmt[]): number =>
  body.reduce(
    (n, s) =>
      n +
      1 +
      (s.s === "for" ? sizeOfBody(s.body) : s.s === "if" ? sizeOfBody(s.then) + sizeOfBody(s.else ?? []) : 0),
    0,
  );

/** What a loop uses of its surroundings: names in order of appearance, arrays, the group; and whether it sets any of them. */
export function surroundings(loop: Stmt) {
  const names = new Set<string>();
  const arrays = new Set<string>();
  const declared = new Set<string>();
  let [group, sets] = [false, false];
  const expr = (e: Expr): void => {
    if (e.e === "ref" && !declared.has(e.name)) names.add(e.name);
    else if (e.e === "builtin" && e.name === "group") group = true;
    else if (e.e === "load") {
      arrays.add(e.from);
      expr(e.index);
    } else if (e.e === "op") e.args.forEach(expr);
  };
  const statement = (s: Stmt): void => {
    switch (s.s) {
      case "let":
      case "var":
      case "exchange":
        expr(s.value);
        declared.add(s.name);
        return;
      case "set":
        if (!declared.has(s.name)) sets = true;
        return expr(s.value);
      case "store":
        arrays.add(s.to);
        expr(s.index);
        return expr(s.value);
      case "for":
        expr(s.from);
        expr(s.to);
        declared.add(s.name);
        return s.body.forEach(statement);
      case "if":
        expr(s.cond);
        s.then.forEach(statement);
        return (s.else ?? []).forEach(statement);
      case "barrier":
      case "comment":
        return;
    }
  };
  statement(loop);
  return { names: [...names], arrays: [...arrays], group, sets };
}
