import type * as Ast from "../../src/ast.ts";
import { attentionWords, modelNumbers, modelWords } from "../../src/ast.ts";
import fc from "fast-check";

/** The example of language.md. */
export const example = `// The paper's 32k model: five branches, head h starts at row h mod r of every segment.
attention paper_32k {
  heads     12
  head_dim  64
  causal    true
  branch    segment 2048   dilation 1
  branch    segment 4096   dilation 2
  branch    segment 8192   dilation 4
  branch    segment 16384  dilation 6
  branch    segment 32768  dilation 12
  offset    head % dilation
}

// Prov-GigaPath's slide encoder, exactly as the published weights expect it.
attention gigapath {
  heads     16
  head_dim  48
  branches  segments [1024, 5792, 32768, 185363, 1048576]  dilations [1, 2, 4, 8, 16]
  compat    torchscale
}

// Progressions are written as progressions.
let base = 256
attention small {
  heads 8  head_dim 32  causal true
  branch i in 0..3 { segment base * 2 ** i  dilation 2 ** i }
  compat torchscale
}

model jargon {
  kind       decoder
  vocab      256
  dim        256
  layers     4
  ffn        1024 gelu
  attention  small
  position   xpos base 512
  norm       sub_ln
}

schedule small on wgsl { rows 64  keys 32 }  // optional; never changes a result
`;

/** A tree without its spans and without fields that are undefined, to compare programs by. */
export const bare = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(bare);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([k, v]) => (k === "span" || v === undefined ? [] : [[k, bare(v)]])),
  );
};

const span: Ast.Span = { path: "random" };
const words = ["a", "b_2", "Zeta", "heads", "dilation", "offset", "base", "in", "let", "xpos", "true", "f32"];
const text = fc.constantFrom(...words);
const name = text.map((t): Ast.Name => ({ text: t, span }));

const number = fc
  .oneof(
    fc.nat({ max: 100000 }),
    fc.double({ min: 0, max: 1e300, noNaN: true }),
    fc.constantFrom(1e21, 1e-7, 0.5, 5e-324, 2 ** 53),
  )
  .map((value): Ast.Expr => ({ is: "number", value: value === 0 ? 0 : value, span }));
const leaf = fc.oneof(
  number,
  text.map((n): Ast.Expr => ({ is: "name", name: n, span })),
  fc.constant<Ast.Expr>({ is: "all", span }),
);

/** Any expression the language can hold. */
export const expression: fc.Arbitrary<Ast.Expr> = fc.letrec<{ e: Ast.Expr }>((tie) => ({
  e: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    leaf,
    tie("e").map((of): Ast.Expr => ({ is: "minus", of, span })),
    fc
      .record({
        op: fc.constantFrom<Ast.BinaryOp>("+", "-", "*", "/", "%", "**"),
        left: tie("e"),
        right: tie("e"),
      })
      .map((r): Ast.Expr => ({ is: "binary", ...r, span })),
    fc
      .record({ fn: name, args: fc.array(tie("e"), { maxLength: 3 }) })
      .map((r): Ast.Expr => ({ is: "call", ...r, span })),
  ),
})).e;

const few = <T>(of: fc.Arbitrary<T>) => fc.array(of, { maxLength: 4 });
const oneOf = <T>(field: fc.Arbitrary<T>): fc.Arbitrary<T & { readonly span: Ast.Span }> =>
  field.map((f) => ({ ...f, span }));

const attentionField: fc.Arbitrary<Ast.AttentionField> = fc.oneof(
  oneOf(
    fc.record({
      field: fc.constantFrom("heads", "head_dim", "kv_heads", "scale", "offset"),
      value: expression,
    }),
  ),
  oneOf(fc.record({ field: fc.constantFrom(...attentionWords), value: name })),
  oneOf(
    fc.record({
      field: fc.constant("branch"),
      segment: expression,
      dilation: expression,
      over: fc.option(fc.record({ name, from: expression, to: expression })),
    }),
  ),
  oneOf(fc.record({ field: fc.constant("branches"), segments: few(expression), dilations: few(expression) })),
  oneOf(fc.record({ field: fc.constant("offsets"), rows: few(few(expression)) })),
);

const modelField: fc.Arbitrary<Ast.ModelField> = fc.oneof(
  oneOf(fc.record({ field: fc.constantFrom(...modelNumbers), value: expression })),
  oneOf(fc.record({ field: fc.constantFrom(...modelWords), value: name })),
  oneOf(
    fc.record({
      field: fc.constant("ffn"),
      dim: expression,
      activation: fc.option(
        fc.constantFrom("gelu", "relu", "swish", "tanh").map((t): Ast.Name => ({ text: t, span })),
      ),
    }),
  ),
  oneOf(
    fc.oneof(
      fc.record({
        field: fc.constant("position"),
        value: fc.constant<Ast.Name>({ text: "xpos", span }),
        base: fc.option(expression),
        rows: fc.constant(null),
        tile: fc.constant(null),
      }),
      fc.record({
        field: fc.constant("position"),
        value: fc.constant<Ast.Name>({ text: "learned", span }),
        base: fc.constant(null),
        rows: expression,
        tile: fc.constant(null),
      }),
      fc.record({
        field: fc.constant("position"),
        value: fc.constant<Ast.Name>({ text: "grid", span }),
        base: fc.constant(null),
        rows: expression,
        tile: fc.option(expression),
      }),

      fc.record({
        field: fc.constant("position"),
        value: fc.constantFrom("none", "sinusoidal").map((t): Ast.Name => ({ text: t, span })),
        base: fc.constant(null),
        rows: fc.constant(null),
        tile: fc.constant(null),
      }),
    ),
  ),
);

const scheduleField: fc.Arbitrary<Ast.ScheduleField> = fc.oneof(
  oneOf(fc.record({ field: fc.constantFrom("rows", "keys"), value: expression })),
  oneOf(fc.record({ field: fc.constant("kind"), value: name })),
);

const item: fc.Arbitrary<Ast.Item> = fc.oneof(
  oneOf(fc.record({ item: fc.constant("let"), name, value: expression })),
  oneOf(fc.record({ item: fc.constant("attention"), name, fields: few(attentionField) })),
  oneOf(fc.record({ item: fc.constant("model"), name, fields: few(modelField) })),
  oneOf(
    fc.record({ item: fc.constant("schedule"), attention: name, target: name, fields: few(scheduleField) }),
  ),
);

/** Any program the language can hold, sensible or not. */
export const program: fc.Arbitrary<Ast.Program> = fc
  .array(item, { maxLength: 5 })
  .map((items) => ({ items, span }));
