/**
 * Every sentence heddle can say about a user's program, one row per code. The keys between `${}` are literal types, so a
 * diagnostic without one of its arguments, or with a code that has no row, does not compile.
 */
export type Severity = "error" | "warning";

type Message<K extends string> = {
  readonly severity: Severity;
  /** The sentence with its arguments filled in. */
  readonly say: (args: Readonly<Record<K, string | number>>) => string;
};

const tag =
  (severity: Severity) =>
  <const K extends string>(parts: TemplateStringsArray, ...keys: readonly K[]): Message<K> => ({
    severity,
    say: (args) => parts.reduce((text, part, i) => text + String(args[keys[i - 1] as K]) + part),
  });
const error = tag("error");
const warning = tag("warning");

const messages = {
  // The text
  "unexpected-character": error`${"found"} has no meaning in heddle.`,
  "malformed-number": error`${"found"} is not a number.`,
  syntax: error`Expected ${"expected"} after ${"previous"}, found ${"found"}.`,
  "syntax-start": error`Expected ${"expected"}, found ${"found"}.`,
  "unexpected-end": error`The file ends after ${"previous"}, where ${"expected"} should follow.`,
  "nesting-too-deep": error`Brackets are nested ${"depth"} deep.`,
  "file-too-large": error`The file holds ${"length"} characters.`,
  "expression-too-long": error`This expression has ${"count"} operations.`,
  "too-many-problems": error`There are ${"left"} more problems than the ${"most"} shown.`,
  "unknown-item": error`There is no item called ${"name"}.`,
  "unknown-field": error`${"item"} has no field ${"name"}.`,
  "comment-division": warning`This is a comment, although it reads like the divisor of an integer division.`,

  // Names and fields
  "empty-program": warning`Nothing is declared here.`,
  "invalid-name": error`${"name"} is not a name.`,
  "reserved-name": error`${"name"} already has a meaning in expressions and cannot be redefined.`,
  "duplicate-item": error`The name ${"name"} is declared twice.`,
  "duplicate-field": error`${"field"} is given twice.`,
  "conflicting-fields": error`${"field"} and ${"other"} exclude each other.`,
  "missing-field": error`${"item"} has no ${"field"}.`,
  "unknown-word": error`${"field"} cannot be ${"found"}.`,
  "unknown-name": error`Nothing is called ${"name"} here.`,
  "unknown-function": error`There is no function ${"name"}.`,
  "wrong-arguments": error`${"name"} takes ${"arity"}, not ${"count"}.`,
  "unknown-attention": error`No attention is called ${"name"}.`,
  "let-cycle": error`${"name"} is defined through itself: ${"chain"}.`,
  "misplaced-all": error`\`all\` is a length only where a segment stands.`,

  // Numbers
  "not-integer": error`${"what"} must be an integer, not ${"value"}.`,
  "out-of-range": error`${"what"} must be ${"expected"}, not ${"value"}.`,
  "number-too-large": error`${"what"} is ${"value"}, past the largest integer 2^31 − 1.`,
  "division-by-zero": error`This divides by zero${"where"}.`,
  "not-a-number": error`${"what"} is not a real number${"where"}.`,
  overflow: error`This is larger than any number a computer holds${"where"}.`,
  "empty-range": error`The range ${"from"}..${"to"} is empty.`,
  "too-many-branches": error`${"name"} has ${"count"} branches.`,
  "table-too-large": error`${"heads"} heads in ${"branches"} branches need a table of ${"entries"} offsets.`,

  // Attentions
  "lengths-differ": error`There are ${"segments"} segments but ${"dilations"} dilations.`,
  "dilation-exceeds-segment": error`A dilation of ${"dilation"} does not fit into a segment of ${"segment"}.`,
  "kv-heads-divide": error`${"heads"} heads cannot share ${"kvHeads"} key/value heads evenly.`,
  "offset-outside": error`Head ${"head"} would start at row ${"offset"} in branch ${"branch"}, whose dilation is ${"dilation"}.`,
  "offset-not-integer": error`Head ${"head"} would start at row ${"offset"} in branch ${"branch"}.`,
  "offsets-shape": error`The offsets have ${"found"}, but the attention has ${"expected"}.`,
  "uncovered-heads": warning`${"heads"} of ${"name"} see nothing at token ${"token"}: no branch covers it, so the output there is zero.`,
  "identical-branches": warning`Branches ${"first"} and ${"second"} are identical for ${"heads"}: their keys count twice.`,
  "align-moves-rows": warning`\`align ceil\` moves rows in branch ${"branch"}: dilation ${"dilation"} does not divide segment ${"segment"}, so in inputs longer than ${"segment"} tokens segment s lands s·${"shift"} rows late.`,

  // Models
  "dim-mismatch": error`A width of ${"dim"} is not ${"heads"} heads × ${"headDim"}.`,
  "decoder-not-causal": error`${"attention"} lets a decoder see the future.`,
  "encoder-causal": error`${"attention"} is causal, but ${"model"} is an encoder.`,
  "xpos-odd-head-dim": error`xPos rotates pairs of numbers; a head_dim of ${"headDim"} is odd.`,
  "missing-vocab": error`${"model"} has ${"part"} but no vocab.`,
  "tied-without-tokens": error`The head of ${"model"} cannot share an embedding that features do not have.`,
  "vocab-unused": warning`${"model"} has neither an embedding nor a head; its vocab is not used.`,
  "needs-field": error`${"field"} needs ${"other"} in ${"model"}.`,
  "encoder-only": error`${"field"} is for encoders, but ${"model"} is a decoder.`,
  "grid-dim": error`2-D sin-cos positions divide a row into four parts; a dim of ${"dim"} is no multiple of 4.`,
  "missing-cells": error`A grid needs a number of cells.`,
  "missing-rows": error`Learned positions need a number of rows.`,

  // Schedules
  "not-multiple": error`${"what"} must be a multiple of ${"of"}, not ${"value"}.`,
  "duplicate-schedule": error`${"attention"} already has a schedule on ${"target"}.`,

  // Shaders, with `heddle check --validate`
  "invalid-shader": error`WebGPU refuses kernel ${"kernel"} of ${"item"}: ${"message"}.`,

  // Import of torchscale configurations
  "import-not-object": error`A torchscale configuration is an object, not ${"found"}.`,
  "import-architecture": error`This is the configuration of no model that heddle knows.`,
  "import-missing": error`The configuration has no ${"key"}.`,
  "import-value": error`${"key"} cannot be ${"found"}.`,
  "import-unsupported": error`heddle does not have ${"what"} (${"key"} = ${"value"}).`,
  "import-unknown-key": warning`torchscale has no argument ${"key"}; it is ignored.`,
  "import-weights": error`These are not the weights of a LongNet.`,
  "import-prefix": warning`The names of the weights begin with ${"prefix"}, those of the model do not.`,
  "import-assumed": warning`Nothing says ${"what"}; assumed: ${"value"}.`,
  "import-dropout": warning`${"key"} = ${"value"} is ignored: torchscale applies it even in eval(), which makes its output random.`,
} as const;

type Messages = typeof messages;
export type Code = keyof Messages;
type KeysOf<M> = M extends Message<infer K> ? K : never;
/** What the sentence of a code needs. */
export type Args<C extends Code> = Readonly<Record<KeysOf<Messages[C]>, string | number>>;

export const codes = Object.keys(messages) as readonly Code[];
export const severityOf = (code: Code): Severity => messages[code].severity;

/** The sentence of `code` about `args`. */
export const sentence = <C extends Code>(code: C, args: Args<C>): string =>
  (messages[code] as Message<string>).say(args);
