/** Models that `heddle init` writes. Those of examples/ are these texts. */

export type Preset = { readonly name: string; readonly about: string; readonly text: string };

const slide = (name: string, about: string, layers: number, dim: number): Preset => ({
  name,
  about,
  text: `// ${about} (${layers} layers × ${dim}), as its published weights expect it:
//   heddle run ${name}.heddle slide_encoder --weights slide_encoder.safetensors --inputs slide.safetensors --output out.safetensors
// slide.safetensors holds \`features\` [1, tiles, 1536] and \`coords\` [1, tiles, 2] in pixels; \`out\` [1, ${dim}] is the slide's embedding,
// \`states\` [${layers + 1}, 1, ${dim}] that of every layer. \`pool mean\` is global_pool=True.
attention gigapath {
  heads     16
  head_dim  ${dim / 16}
  branches  segments [1024, 5792, 32768, 185363, 1048576]  dilations [1, 2, 4, 8, 16]
  compat    torchscale
}

model slide_encoder {
  kind         encoder
  input        features
  patch_embed  1536
  dim          ${dim}
  layers       ${layers}
  ffn          ${4 * dim} gelu
  attention    gigapath
  position     grid 1000 tile 256
  class_token  true
  norm         sub_ln
  pool         class
  states       all
  checkpoint   gigapath
}
`,
});

const image = (name: string, side: number, segments: readonly number[]): Preset => ({
  name,
  about: `LongViT for images of ${side} × ${side} pixels`,
  text: `// LongViT for images of ${side} × ${side} pixels in patches of 32 (torchscale, examples/longvit), two classes.
// Inputs are \`features\` [1, ${(side / 32) ** 2}, 3072]: the patches row by row, each as channel, row, column. \`logits\` [1, 2].
attention dilated {
  heads     16
  head_dim  24
  branches  segments [${segments.join(", ")}]  dilations [1, 2, 4, 8, 16]
  compat    torchscale
}

model longvit {
  kind         encoder
  input        features
  patch_embed  3 * 32 ** 2
  dim          384
  layers       12
  ffn          1536 gelu
  attention    dilated
  position     learned ${(side / 32) ** 2}
  norm         sub_ln
  final_norm   false
  pool         mean
  classes      2
  checkpoint   longvit
}
`,
});

export const presets: readonly Preset[] = [
  {
    name: "tiny",
    about: "a decoder of bytes that fits anywhere, to begin with",
    text: `// A small decoder of bytes: four branches, each with segments twice as long and keys twice as far apart as the one before.
let base = 256

attention dilated {
  heads     4
  head_dim  32
  causal    true
  branch    i in 0..3 { segment base * 2 ** i  dilation 2 ** i }
}

model tiny {
  kind       decoder
  vocab      256
  dim        128
  layers     2
  ffn        512 gelu
  attention  dilated
  position   xpos base 512
  norm       sub_ln
}
`,
  },
  {
    name: "paper",
    about: "the LongNet paper's language model, 125M",
    text: `// The LongNet paper's language model (Table 3: 12 layers × 768, cl100k_base), with the branches of its 32k runs.
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

model longnet_125m {
  kind       decoder
  vocab      100277
  dim        768
  layers     12
  ffn        3072 gelu
  attention  paper_32k
  position   xpos base 512
  norm       sub_ln
}
`,
  },
  slide("gigapath", "Prov-GigaPath's slide encoder", 12, 768),
  slide("gigapath_24l1024d", "Prov-GigaPath's slide encoder, large", 24, 1024),
  slide("gigapath_12l1536d", "Prov-GigaPath's slide encoder, wide", 12, 1536),
  image("longvit", 1024, [64, 128, 256, 512, 1024]),
  image("longvit_4096", 4096, [1024, 2048, 4096, 8192, 16384]),
  image("longvit_8192", 8192, [1024, 4096, 8192, 16384, 65536]),
  image("longvit_16384", 16384, [1024, 4096, 16384, 65536, 262144]),
  image("longvit_32768", 32768, [1024, 4096, 32768, 262144, 1048576]),
];
