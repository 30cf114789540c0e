/**
 * The arithmetic of the language, in f64. `%` has the sign of its divisor, as in Python; `**` is a power; `sqrt`,
 * `ceil`, `floor`, `min`, `max`. Division by zero, a result that is no real number and an overflow are errors where they
 * happen, even if the rest of the expression would drop them.
 */
import type { Expr, Name, Span } from "../ast.ts";
import { diagnostic, nearest } from "../diagnostic.ts";
import type { Diagnostic } from "../diagnostic.ts";

export type Report = (d: Diagnostic) => void;

/** Constants by name (null: already reported) and, in order, the names that are only known when it is evaluated. */
export type Scope = {
  readonly constants: ReadonlyMap<string, number | null>;
  readonly variables: readonly string[];
};

type Arity = { readonly least: number; readonly most: number; readonly text: string };
const one: Arity = { least: 1, most: 1, text: "one argument" };
const some: Arity = { least: 1, most: Infinity, text: "at least one argument" };

const functions = new Map<
  string,
  { readonly arity: Arity; readonly of: (args: readonly number[]) => number }
>([
  ["sqrt", { arity: one, of: ([x]) => Math.sqrt(x ?? NaN) }],
  ["ceil", { arity: one, of: ([x]) => Math.ceil(x ?? NaN) }],
  ["floor", { arity: one, of: ([x]) => Math.floor(x ?? NaN) }],
  ["min", { arity: some, of: (args) => Math.min(...args) }],
  ["max", { arity: some, of: (args) => Math.max(...args) }],
]);

/** Names with a meaning of their own, which no `let` and no loop may take. */
export const reserved: ReadonlySet<string> = new Set([
  ...functions.keys(),
  "all",
  "true",
  "false",
  "head",
  "heads",
  "head_dim",
  "dim",
  "dilation",
  "branch",
]);

type Fault = {
  readonly code: "division-by-zero" | "not-a-number" | "overflow";
  readonly span: Span;
  readonly what: string;
};

/** A compiled expression: `run` takes the values of the scope's variables; null means `fault` says why. */
export type Formula = {
  readonly run: (values: readonly number[]) => number | null;
  /** Tells the user about the last failure, with the place it happened at ("" or " for head 3 …"). */
  readonly explain: (report: Report, where: string) => void;
};

type Compute = (values: readonly number[]) => number;

/** All names an expression reads. */
export const namesIn = (e: Expr, into: Set<string> = new Set()): Set<string> => {
  if (e.is === "name") into.add(e.name);
  else if (e.is === "minus") namesIn(e.of, into);
  else if (e.is === "binary") namesIn(e.right, namesIn(e.left, into));
  else if (e.is === "call") for (const a of e.args) namesIn(a, into);
  return into;
};

const unknown = (name: Name, scope: Scope): Diagnostic => {
  const meant = nearest(name.text, [...scope.variables, ...scope.constants.keys()]);
  const known = scope.variables.length > 0 ? scope.variables.map((v) => `\`${v}\``).join(", ") : null;
  return diagnostic(
    "unknown-name",
    name.span,
    { name: `\`${name.text}\`` },
    {
      hint:
        meant !== null
          ? `Did you mean \`${meant}\`?`
          : known !== null
            ? `Known here: ${known}, and every \`let\`.`
            : `Define it with \`let ${name.text} = …\`.`,
    },
  );
};

/** Makes an expression computable, or reports what is wrong with it and gives null (also for holes). */
export const compile = (expr: Expr, scope: Scope, report: Report): Formula | null => {
  let fault: Fault | null = null;
  let sound = true;
  const fail = (code: Fault["code"], span: Span, what = ""): number => {
    fault ??= { code, span, what };
    return NaN;
  };
  const finite = (value: number, span: Span, what: string): number =>
    Number.isFinite(value) ? value : fail(Number.isNaN(value) ? "not-a-number" : "overflow", span, what);
  const broken = (d: Diagnostic | null): Compute => {
    if (d !== null) report(d);
    sound = false;
    return () => NaN;
  };

  const binary = (e: Extract<Expr, { is: "binary" }>): Compute => {
    const [a, b] = [build(e.left), build(e.right)];
    const { op, span } = e;
    if (op === "+") return (v) => finite(a(v) + b(v), span, "This sum");
    if (op === "-") return (v) => finite(a(v) - b(v), span, "This difference");
    if (op === "*") return (v) => finite(a(v) * b(v), span, "This product");
    if (op === "**") {
      return (v) => {
        const [x, y] = [a(v), b(v)];
        return x === 0 && y < 0 ? fail("division-by-zero", span) : finite(x ** y, span, "This power");
      };
    }
    return (v) => {
      const [x, y] = [a(v), b(v)];
      if (y === 0) return fail("division-by-zero", span);
      return op === "/" ? finite(x / y, span, "This quotient") : x - y * Math.floor(x / y);
    };
  };

  const call = (e: Extract<Expr, { is: "call" }>): Compute => {
    const { text: name, span } = e.fn;
    const args = e.args.map(build);
    const fn = functions.get(name);
    if (fn === undefined) {
      const meant = nearest(name, functions.keys());
      const hint =
        meant === null
          ? `The functions are ${[...functions.keys()].map((f) => `\`${f}\``).join(", ")}.`
          : `Did you mean \`${meant}\`?`;
      return broken(diagnostic("unknown-function", span, { name: `\`${name}\`` }, { hint }));
    }
    const { least, most, text: arity } = fn.arity;
    if (args.length < least || args.length > most) {
      return broken(
        diagnostic("wrong-arguments", e.span, { name: `\`${name}\``, arity, count: args.length }),
      );
    }
    return (v) => finite(fn.of(args.map((a) => a(v))), e.span, "This value");
  };

  const build = (e: Expr): Compute => {
    switch (e.is) {
      case "number": {
        const { value, span } = e;
        return () => finite(value, span, "This number");
      }
      case "name": {
        const i = scope.variables.indexOf(e.name);
        if (i >= 0) return (v) => v[i] ?? NaN;
        const value = scope.constants.get(e.name);
        if (value === null) return broken(null);
        if (value !== undefined) return () => value;
        return broken(unknown({ text: e.name, span: e.span }, scope));
      }
      case "minus": {
        const of = build(e.of);
        return (v) => -of(v);
      }
      case "binary":
        return binary(e);
      case "call":
        return call(e);
      case "all":
        return broken(diagnostic("misplaced-all", e.span, {}, { expected: "a number" }));
      case "hole":
        return broken(null);
    }
  };

  const compute = build(expr);
  if (!sound) return null;
  return {
    run: (values) => {
      fault = null;
      const value = compute(values);
      // −0 would print as 0 and compare as 0, but divide differently: there is no reason to let it live.
      return fault === null && !Number.isNaN(value) ? value + 0 : null;
    },
    explain: (say, where) => {
      if (fault === null) throw new Error("heddle: internal: an expression failed without a reason");
      const { code, span, what } = fault;
      if (code === "not-a-number") say(diagnostic(code, span, { what, where }));
      else say(diagnostic(code, span, { where }));
    },
  };
};

/** The value of an expression without variables, or null after reporting. */
export const evaluate = (
  expr: Expr,
  constants: ReadonlyMap<string, number | null>,
  report: Report,
): number | null => {
  const formula = compile(expr, { constants, variables: [] }, report);
  const value = formula?.run([]) ?? null;
  if (formula !== null && value === null) formula.explain(report, "");
  return value;
};
