/** Text → AST: tokens, misspellings, CST, and from that the tree; every problem becomes a diagnostic. */
import type { CstNode, IToken } from "chevrotain";
import type * as Ast from "../src/ast.ts";
import { attentionFields, modelFields, scheduleFields } from "../src/ast.ts";
import { diagnostic, inOrder, limited } from "../src/diagnostic.ts";
import type { Diagnostic } from "../src/diagnostic.ts";
import { divisionComments } from "./comments.ts";
import { expressionReader } from "./expression.ts";
import { nodes, quote, spanOf, spanOfNode, tokens } from "./place.ts";
import { repair } from "./repair.ts";
import { parse } from "./rules.ts";
import type { Stumbles } from "./syntax.ts";
import { stumbles, syntaxErrors, tooDeep, tooLarge, unreadable } from "./syntax.ts";
import { tokenize } from "./tokens.ts";

const fieldsOf = { attention: attentionFields, model: modelFields, schedule: scheduleFields };
type Body = keyof typeof fieldsOf;

const reader = (report: (d: Diagnostic) => void, stumbled: Stumbles) => {
  const expression = expressionReader(report);

  const nameIn = (node: CstNode | undefined, at: Ast.Span): Ast.Name => {
    const [token] = tokens(node, "Word");
    return token === undefined ? { text: "", span: at } : { text: token.image, span: spanOf(token) };
  };

  /** `heads 8`, `causal true`: a field name with an expression or a word behind it. */
  const simple = <N extends string, W extends string>(
    node: CstNode,
    span: Ast.Span,
    numbers: string,
    words: string,
  ) => {
    const [number] = tokens(node, numbers);
    if (number !== undefined) {
      const value = expression(nodes(nodes(node, "value")[0], "expression")[0], spanOf(number));
      return { field: number.tokenType.LABEL as N, value, span };
    }
    const [word] = tokens(node, words);
    if (word === undefined) return null;
    return { field: word.tokenType.LABEL as W, value: nameIn(nodes(node, "word")[0], spanOf(word)), span };
  };

  const cut = (node: CstNode | undefined, at: Ast.Span) => {
    const parts = nodes(node, "expression");
    return { segment: expression(parts[0], at), dilation: expression(parts[1], at) };
  };

  const branch = (node: CstNode, span: Ast.Span): Ast.BranchField => {
    const sizes = cut(nodes(node, "cut")[0], span);
    const [name] = nodes(node, "name");
    if (name === undefined) return { field: "branch", ...sizes, over: null, span };
    const [from, to] = nodes(node, "expression");
    const over = { name: nameIn(name, span), from: expression(from, span), to: expression(to, span) };
    return { field: "branch", ...sizes, over, span };
  };

  const list = (node: CstNode | undefined, at: Ast.Span): readonly Ast.Expr[] => {
    const items = nodes(node, "expression").map((e) => expression(e, at));
    // A list that recovery cut short has lost items; the hole keeps its length from being compared.
    return node === undefined || node.recoveredNode === true ? [...items, { is: "hole", span: at }] : items;
  };

  const attentionField = (node: CstNode): Ast.AttentionField | null => {
    const span = spanOfNode(node, { start: 0, end: 0 });
    const [one] = nodes(node, "branch");
    if (one !== undefined) return branch(one, span);
    const [many] = nodes(node, "branches");
    if (many !== undefined) {
      const lists = nodes(many, "list");
      return { field: "branches", segments: list(lists[0], span), dilations: list(lists[1], span), span };
    }
    const [table] = nodes(node, "offsets");
    if (table !== undefined) {
      const rows = nodes(table, "list").map((row) => list(row, span));
      const whole = table.recoveredNode !== true;
      return { field: "offsets", rows: whole ? rows : [...rows, [{ is: "hole", span }]], span };
    }
    return simple<(typeof Ast.attentionNumbers)[number], (typeof Ast.attentionWords)[number]>(
      node,
      span,
      "AttentionNumber",
      "AttentionWord",
    );
  };

  const modelField = (node: CstNode): Ast.ModelField | null => {
    const span = spanOfNode(node, { start: 0, end: 0 });
    const [ffn] = nodes(node, "ffn");
    if (ffn !== undefined) {
      const dim = expression(nodes(nodes(ffn, "value")[0], "expression")[0], span);
      return {
        field: "ffn",
        dim,
        activation: tokens(ffn, "Word").length > 0 ? nameIn(ffn, span) : null,
        span,
      };
    }
    const [position] = nodes(node, "position");
    if (position !== undefined) {
      const [how] = [
        ...tokens(position, "Xpos"),
        ...tokens(position, "Learned"),
        ...tokens(position, "Grid"),
        ...tokens(position, "Word"),
      ];
      const [tileWord] = tokens(position, "Tile");
      const behindTile = (n: CstNode) =>
        tileWord !== undefined && (n.location?.startOffset ?? 0) > tileWord.startOffset;
      const numbers = nodes(position, "expression");
      const number = numbers.find((n) => !behindTile(n));
      const tile = numbers.find(behindTile);
      const value = { text: how?.tokenType.LABEL ?? "", span: how === undefined ? span : spanOf(how) };
      const amount = number === undefined ? null : expression(number, span);
      const xpos = value.text === "xpos";
      return {
        field: "position",
        value:
          how !== undefined && tokens(position, "Word").length > 0 ? { ...value, text: how.image } : value,
        base: xpos ? (amount ?? (tokens(position, "Base").length > 0 ? { is: "hole", span } : null)) : null,
        rows: xpos ? null : amount,
        tile:
          tileWord === undefined ? null : tile === undefined ? { is: "hole", span } : expression(tile, span),
        span,
      };
    }
    return simple<(typeof Ast.modelNumbers)[number], (typeof Ast.modelWords)[number]>(
      node,
      span,
      "ModelNumber",
      "ModelWord",
    );
  };

  const scheduleField = (node: CstNode): Ast.ScheduleField | null =>
    simple<(typeof Ast.scheduleNumbers)[number], (typeof Ast.scheduleWords)[number]>(
      node,
      spanOfNode(node, { start: 0, end: 0 }),
      "ScheduleNumber",
      "ScheduleWord",
    );

  const bodyOf = <F>(item: CstNode, body: Body, read: (node: CstNode) => F | null): readonly F[] =>
    nodes(item, `${body}Field`).flatMap((node) => {
      for (const d of unreadable(node, body, stumbled)) report(d);
      return read(node) ?? [];
    });

  const damage = (node: CstNode, name: Ast.Name): { readonly damaged?: "head" | "end" } =>
    name.text === "" || (node.recoveredNode === true && tokens(node, "LCurly").length === 0)
      ? { damaged: "head" }
      : node.recoveredNode === true || tokens(node, "RCurly").length === 0
        ? { damaged: "end" }
        : {};

  return (cst: CstNode): Ast.Program => {
    const items: Ast.Item[] = [];
    const place = (node: CstNode) => spanOfNode(node, { start: 0, end: 0 });
    for (const node of nodes(cst, "let")) {
      const span = place(node);
      const value = expression(nodes(nodes(node, "value")[0], "expression")[0], span);
      items.push({ item: "let", name: nameIn(nodes(node, "name")[0], span), value, span });
    }
    for (const node of nodes(cst, "attention")) {
      const [span, name] = [place(node), nameIn(nodes(node, "name")[0], place(node))];
      const fields = bodyOf(node, "attention", attentionField);
      items.push({ item: "attention", name, fields, span, ...damage(node, name) });
    }
    for (const node of nodes(cst, "model")) {
      const [span, name] = [place(node), nameIn(nodes(node, "name")[0], place(node))];
      const fields = bodyOf(node, "model", modelField);
      items.push({ item: "model", name, fields, span, ...damage(node, name) });
    }
    for (const node of nodes(cst, "schedule")) {
      const span = place(node);
      const [attention, target] = [0, 1].map((i) => nameIn(nodes(node, "name")[i], span));
      const fields = bodyOf(node, "schedule", scheduleField);
      if (attention === undefined || target === undefined) continue;
      items.push({ item: "schedule", attention, target, fields, span, ...damage(node, target) });
    }
    const start = (i: Ast.Item) => ("path" in i.span ? 0 : i.span.start);
    items.sort((a, b) => start(a) - start(b));
    const lost = unreadable(cst, "program", stumbled);
    for (const d of lost) report(d);
    const nameless = items.some((i) => i.item !== "schedule" && i.name.text === "");
    return { items, span: place(cst), ...(lost.length > 0 || nameless ? { damaged: "head" } : {}) };
  };
};

/** All that reading a file gives; `cst`, `tokens` and `comments` are what the layout works on. */
export type Reading = {
  readonly ast: Ast.Program;
  readonly diagnostics: readonly Diagnostic[];
  readonly tokens: readonly IToken[];
  readonly comments: readonly IToken[];
  readonly cst: CstNode;
};

const empty: CstNode = { name: "program", children: {} };

export const readWhole = (text: string): Reading => {
  const all = { start: 0, end: text.length };
  const refuse = (d: Diagnostic): Reading => ({
    ast: { items: [], span: all, damaged: "head" },
    diagnostics: [d],
    tokens: [],
    comments: [],
    cst: empty,
  });
  const large = tooLarge(text);
  if (large !== null) return refuse(large);
  const { tokens: found, comments, errors: bad } = tokenize(text);
  const deep = tooDeep(found);
  if (deep !== null) return refuse(deep);

  const diagnostics: Diagnostic[] = bad.map((e) =>
    diagnostic(
      "unexpected-character",
      { start: e.offset, end: e.offset + e.length },
      { found: quote(text.slice(e.offset, e.offset + e.length)) },
    ),
  );
  diagnostics.push(...repair(found));
  const { cst, errors } = parse(found);
  diagnostics.push(...syntaxErrors(errors, cst, text));
  const tree = reader((d) => void diagnostics.push(d), stumbles(errors, bad))(cst);
  const ast: Ast.Program = { ...tree, span: all };
  diagnostics.push(...divisionComments(ast, found, comments));
  return { ast, diagnostics: limited(inOrder(diagnostics)), tokens: found, comments, cst };
};

/**
 * Reads a file. The AST holds whatever could be read, with holes for the rest; `diagnostics` has every problem of the
 * text, in order of place (the first thousand of them). Never throws on any input. `file` is not needed for reading:
 * `render` names it.
 */
export const read = (
  text: string,
  _file = "",
): { readonly ast: Ast.Program; readonly diagnostics: readonly Diagnostic[] } => {
  const { ast, diagnostics } = readWhole(text);
  return { ast, diagnostics };
};
