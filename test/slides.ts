/** Prov-GigaPath's golden slides as files for the CLI. */
import { writeSafetensors } from "../runtime/safetensors.ts";
import { tensor } from "./golden.ts";
import type { SlideEntry, Tensors } from "./golden.ts";

export const slideSpec = ({ encoder: e, model_kwargs: m, tile_size }: SlideEntry, pool: string): string =>
  `attention slide_attention {
  heads ${e.heads}  head_dim ${e.embed_dim / e.heads}
  branches segments [${e.segment_length.join(", ")}] dilations [${e.dilated_ratio.join(", ")}]
  compat torchscale
}
model slide {
  kind encoder  input features  patch_embed ${m.in_chans}
  dim ${e.embed_dim}  layers ${e.layers}  ffn ${e.ffn} gelu
  attention slide_attention
  position grid ${m.slide_ngrids} tile ${tile_size}
  class_token true
  pool ${pool}  states all
  checkpoint gigapath
}
`;

/** `features` [1, N, in_chans] and `coords` [1, N, 2]. */
export const slideInputs = ({ n_tiles: N, model_kwargs: m }: SlideEntry, io: Tensors): Uint8Array =>
  writeSafetensors([
    { name: "features", dtype: "F32", shape: [1, N, m.in_chans], data: tensor(io, "tile_embeds") },
    { name: "coords", dtype: "F32", shape: [1, N, 2], data: tensor(io, "coords") },
  ]);
