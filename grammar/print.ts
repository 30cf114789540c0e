import type * as Ast from "../src/ast.ts";
import { layout } from "./layout.ts";
import { parse } from "./rules.ts";
import { tokenize } from "./tokens.ts";

const strength = { "+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "**": 4 } as const;
const minusStrength = 3;
const atom = 5;

const number = (value: number): string =>
  // Only the builder can make these two; the checker refuses both, in either spelling.
  Number.isNaN(value) ? "(0 / 0)" : value === Infinity ? "1e999" : String(value);

/** An expression as text, in brackets where it binds weaker than `least`. */
const expression = (e: Ast.Expr, least = 0): string => {
  const wrap = (own: number, text: string) => (own < least ? `(${text})` : text);
  switch (e.is) {
    case "number":
      return number(e.value);
    case "name":
      return e.name;
    case "all":
      return "all";
    case "call":
      return `${e.fn.text}(${e.args.map((a) => expression(a)).join(", ")})`;
    case "minus":
      return wrap(minusStrength, `-${expression(e.of, minusStrength)}`);
    case "binary": {
      const own = strength[e.op];
      // `**` groups to the right and takes a signed exponent, the others group to the left.
      const [left, right] = e.op === "**" ? [atom, minusStrength] : [own, own + 1];
      return wrap(own, `${expression(e.left, left)} ${e.op} ${expression(e.right, right)}`);
    }
    case "hole":
      throw new Error("heddle: internal: an expression that could not be read cannot be printed");
  }
};

const list = (items: readonly Ast.Expr[]) => `[${items.map((e) => expression(e)).join(", ")}]`;
const sizes = (f: { readonly segment: Ast.Expr; readonly dilation: Ast.Expr }) =>
  `segment ${expression(f.segment)} dilation ${expression(f.dilation)}`;

const field = (f: Ast.AttentionField | Ast.ModelField | Ast.ScheduleField): string => {
  switch (f.field) {
    case "branch":
      return f.over === null
        ? `branch ${sizes(f)}`
        : `branch ${f.over.name.text} in ${expression(f.over.from)}..${expression(f.over.to)} { ${sizes(f)} }`;
    case "branches":
      return `branches segments ${list(f.segments)} dilations ${list(f.dilations)}`;
    case "offsets":
      return `offsets [${f.rows.map(list).join(", ")}]`;
    case "ffn":
      return `ffn ${expression(f.dim)}${f.activation === null ? "" : ` ${f.activation.text}`}`;
    case "position": {
      const base = f.base === null ? "" : ` base ${expression(f.base)}`;
      const rows = f.rows === null ? "" : ` ${expression(f.rows)}`;
      return `position ${f.value.text}${base}${rows}${f.tile === null ? "" : ` tile ${expression(f.tile)}`}`;
    }
    default:
      return `${f.field} ${"text" in f.value ? f.value.text : expression(f.value)}`;
  }
};

const head = (item: Exclude<Ast.Item, Ast.Let>): string =>
  item.item === "schedule"
    ? `schedule ${item.attention.text} on ${item.target.text}`
    : `${item.item} ${item.name.text}`;

const itemText = (item: Ast.Item): string => {
  if (item.item === "let") return `let ${item.name.text} = ${expression(item.value)}\n`;
  if (item.item === "schedule") return `${head(item)} { ${item.fields.map(field).join(" ")} }\n`;
  return `${head(item)} {\n${item.fields.map((f) => `${field(f)}\n`).join("")}}\n`;
};

/**
 * A program as text, laid out as the formatter would: `read` gives the same AST back, apart from spans. The program must
 * be whole (no holes). Names are written as they are; `check` refuses those that cannot be read back.
 */
export const print = (program: Ast.Program): string => {
  const text = program.items
    .map((item, i) => {
      const before = program.items[i - 1];
      const close = before === undefined || (item.item === "let" && before.item === "let");
      return (close ? "" : "\n") + itemText(item);
    })
    .join("");
  const { tokens, comments, errors: bad } = tokenize(text);
  const { cst, errors } = parse(tokens);
  return bad.length > 0 || errors.length > 0 ? text : layout(tokens, comments, cst);
};
