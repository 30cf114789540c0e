/**
 * torchscale's own configuration → a heddle program. The names, defaults and rules are those of EncoderConfig and
 * DecoderConfig (microsoft/torchscale 4d1e0e82); see semantics.md 4. Strings such as "[8,16]" are read as lists of
 * integers; torchscale evaluates them as Python, heddle does not.
 */
import type * as Ast from "./ast.ts";
import { attention, branches, model, program, torchscale } from "./builder.ts";
import { diagnostic, isError, nearest } from "./diagnostic.ts";
import type { Diagnostic } from "./diagnostic.ts";
import { forms, keyRoles } from "./import/keys.ts";
import type { Config, Form, Side } from "./import/keys.ts";
import { reading } from "./import/reading.ts";
import { importPictures, picturesOf } from "./import/slides.ts";

export const architectures = ["LongNetDecoder", "LongNetEncoder", "LongNetViT", "LongViT"] as const;
export type Architecture = (typeof architectures)[number];

export type ImportOptions = {
  /** The model's name; its attention is called `<name>_attention`. */
  readonly name?: string;
  /** Overrides the configuration's own `architecture`; without either the names of its keys decide. */
  readonly architecture?: Architecture;
};

/** `ast` is null when there is an error. Warnings name what the configuration holds in vain. */
export type Imported = { readonly ast: Ast.Program | null; readonly diagnostics: readonly Diagnostic[] };

const root = { path: "config" };

const sideOf = (config: Config, options: ImportOptions): Side | null => {
  const named = options.architecture ?? config["architecture"];
  if (named === "LongNetDecoder") return "decoder";
  if (named === "LongNetEncoder") return "encoder";
  if (named !== undefined) return null;
  const has = (side: Side) =>
    Object.keys(config).some((k) => k.startsWith(`${side}_`) || k === `share_${side}_input_output_embed`);
  return has("decoder") === has("encoder") ? null : has("decoder") ? "decoder" : "encoder";
};

const titles: { readonly [F in Form]: string } = {
  decoder: "LongNet decoder",
  encoder: "LongNet encoder",
  gigapath: "slide encoder of Prov-GigaPath",
  longvit: "LongViT",
};

/** Every key has its use, is known to mean nothing here, is not supported, or is unknown. */
const judgeKeys = (config: Config, side: Form): readonly Diagnostic[] =>
  Object.entries(config).flatMap(([key, value]) => {
    const span = { path: `config.${key}` };
    const role = keyRoles(side).get(key);
    if (role === undefined) {
      const meant = nearest(key, keyRoles(side).keys());
      const other = forms.some((f) => f !== side && keyRoles(f).has(key));
      const hint = other
        ? `It belongs to another kind of model; this is a ${titles[side]}.`
        : meant === null
          ? null
          : `Did you mean \`${meant}\`?`;
      return diagnostic("import-unknown-key", span, { key: `\`${key}\`` }, { hint });
    }
    if (role.does === "unsupported" && value !== false && value !== 0 && value !== null) {
      const args = { what: role.what, key: `\`${key}\``, value: JSON.stringify(value) };
      return diagnostic("import-unsupported", span, args);
    }
    if (role.does === "random" && value !== 0) {
      return diagnostic("import-dropout", span, { key: `\`${key}\``, value: JSON.stringify(value) });
    }
    return [];
  });

type Norm = "sub_ln" | "pre_ln" | "post_ln" | "deepnorm";

/**
 * torchscale's rules: deepnorm turns sub-LN off, sub-LN turns deepnorm off. Both of them then set
 * *encoder*_normalize_before, in a decoder too, so a decoder keeps its own flag, and two combinations come out that no
 * LongNet has been published with: heddle does not have them.
 */
const normOf = (
  side: Side,
  flags: { readonly deepnorm: boolean; readonly subln: boolean; readonly before: boolean },
  report: (d: Diagnostic) => void,
): Norm | null => {
  const deepnorm = flags.deepnorm;
  const subln = flags.subln && !deepnorm;
  const key = `${side}_normalize_before`;
  const span = { path: `config.${key}` };
  const before = side === "decoder" ? flags.before : deepnorm ? false : subln || flags.before;
  if (deepnorm && before) {
    const args = { what: "DeepNorm with norms before the layers", key: `\`${key}\``, value: "true" };
    const hint = `In a decoder deepnorm does not clear it: add "${key}": false if the model was made with it.`;
    report(diagnostic("import-unsupported", span, args, { hint }));
    return null;
  }
  if (subln && !before) {
    const args = { what: "sub-LN with norms behind the layers", key: `\`${key}\``, value: "false" };
    const hint = `Add "subln": false if the model was made with it.`;
    report(diagnostic("import-unsupported", span, args, { hint }));
    return null;
  }
  return deepnorm ? "deepnorm" : subln ? "sub_ln" : before ? "pre_ln" : "post_ln";
};

/** Makes a program of one attention and one model from a parsed JSON value. Never throws, never evaluates. */
export const importConfig = (json: unknown, options: ImportOptions = {}): Imported => {
  const diagnostics: Diagnostic[] = [];
  const report = (d: Diagnostic): void => void diagnostics.push(d);
  const stop = (): Imported => ({ ast: null, diagnostics });

  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    const found = json === null ? "null" : Array.isArray(json) ? "a list" : `a ${typeof json}`;
    report(diagnostic("import-not-object", root, { found }));
    return stop();
  }
  const config: Config = Object.fromEntries(Object.entries(json));
  const architecture = options.architecture ?? config["architecture"];
  const pictures = picturesOf(config, architecture);
  if (pictures !== null) {
    diagnostics.push(...judgeKeys(config, pictures));
    const ast = importPictures(pictures, config, architecture, options.name ?? pictures, report);
    return diagnostics.some(isError) ? stop() : { ast, diagnostics };
  }
  const side = sideOf(config, options);
  if (side === null) {
    const found = config["architecture"] === undefined ? undefined : JSON.stringify(config["architecture"]);
    const hint = `Add "architecture": ${architectures.map((a) => `"${a}"`).join(", ")} or the name of a published model.`;
    report(
      diagnostic(
        "import-architecture",
        root,
        {},
        { found, expected: "LongNetDecoder, LongNetEncoder, LongNetViT or LongViT", hint },
      ),
    );
    return stop();
  }
  diagnostics.push(...judgeKeys(config, side));

  const { flag, count, list, positive, word } = reading(config, report);
  const decoder = side === "decoder";
  const dim = count(`${side}_embed_dim`, 768);
  const heads = count(`${side}_attention_heads`, 12);
  const layers = count(`${side}_layers`, 12);
  const ffn = count(`${side}_ffn_embed_dim`, 3072);
  const activation = word("activation_fn", ["gelu", "relu", "swish"], "gelu");
  // -1, torchscale's default, means none.
  const vocab = config["vocab_size"] === -1 ? 0 : count("vocab_size", 0);
  const segments = list("segment_length");
  const dilations = list("dilated_ratio");
  const norm = normOf(
    side,
    {
      deepnorm: flag("deepnorm", false),
      subln: flag("subln", true),
      before: flag(`${side}_normalize_before`, true),
    },
    report,
  );
  const xpos = flag("xpos_rel_pos", false);
  const base = positive("xpos_scale_base", 512);
  const eps = positive("layernorm_eps", 1e-5);
  const scaled = !flag("no_scale_embedding", true);
  const embedNorm = flag("layernorm_embedding", false);
  const tied = flag(`share_${side}_input_output_embed`, false);
  const headless = flag("no_output_layer", false);
  const normalizeOutput = flag("normalize_output", true);
  const positions = config["positions"] === undefined ? null : count("positions", 0);

  if (segments !== null && dilations !== null && segments.length !== dilations.length) {
    const args = { segments: segments.length, dilations: dilations.length };
    report(diagnostic("lengths-differ", { path: "config.dilated_ratio" }, args));
  }
  if (dim !== null && heads !== null && dim % heads !== 0) {
    const span = { path: `config.${side}_attention_heads` };
    const args = { key: `\`${side}_attention_heads\``, found: heads };
    report(
      diagnostic("import-value", span, args, { expected: `a divisor of ${dim}, the embedding's width` }),
    );
  }
  if (diagnostics.some(isError)) return stop();
  if (dim === null || heads === null || layers === null || ffn === null || vocab === null) return stop();
  if (segments === null || dilations === null || norm === null || base === null || eps === null)
    return stop();
  if (activation === null) return stop();

  const name = options.name ?? "longnet";
  const used = attention(`${name}_attention`, {
    heads,
    headDim: dim / heads,
    causal: decoder,
    branches: branches.list(segments.map((w, i) => [w, dilations[i] ?? 1] as const)),
    ...torchscale,
  });
  const head = vocab === 0 || headless ? "none" : tied ? "tied" : "separate";
  const pre = norm === "sub_ln" || norm === "pre_ln";
  const position = {
    ...(xpos ? { xpos: { base } } : {}),
    ...(positions === null ? {} : { learned: positions }),
  };
  const longnet = model(name, {
    kind: side,
    ...(vocab === 0 ? { input: "features" } : { vocab }),
    dim,
    layers,
    ffn: { dim: ffn, activation },
    attention: used,
    ...(xpos || positions !== null ? { position } : {}),
    norm,
    ...(scaled ? { embedScale: "sqrt(dim)" } : {}),
    ...(embedNorm ? { embedNorm } : {}),
    head,
    ...(!decoder && pre && !normalizeOutput ? { finalNorm: false } : {}),
    ...(eps === 1e-5 ? {} : { eps }),
  });
  return { ast: program([used, longnet]), diagnostics };
};
