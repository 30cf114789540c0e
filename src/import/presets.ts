/** Published sizes: Prov-GigaPath's LongNetConfig.py (09d8e876) and torchscale's LongViT (examples/longvit, 4d1e0e82). */

export type EncoderPreset = {
  readonly dim: number;
  readonly layers: number;
  readonly ffn: number;
  readonly heads: number;
  readonly segments: readonly number[];
  readonly dilations: readonly number[];
};

const five = { segments: [1024, 2048, 4096, 8192, 16384], dilations: [1, 2, 4, 8, 16] };
const three = { segments: [512, 1024, 2048], dilations: [1, 2, 4] };
const dense = { segments: [10_000_000], dilations: [1] };
const preset = (
  layers: number,
  dim: number,
  ffn: number,
  heads: number,
  branches: Pick<EncoderPreset, "segments" | "dilations"> = five,
): EncoderPreset => ({ layers, dim, ffn, heads, ...branches });

/** By name. Prov-GigaPath replaces their segments by `optimalSegments`. */
export const longnetPresets: ReadonlyMap<string, EncoderPreset> = new Map([
  ["LongNet_8_layers_256_dim", preset(8, 256, 1024, 16)],
  ["LongNet_12_layers_256_dim", preset(12, 256, 1024, 16)],
  ["LongNet_8_layers_256_dim_mlp2", preset(8, 256, 512, 16, three)],
  ["LongNet_12_layers_256_dim_mlp2", preset(12, 256, 512, 16, three)],
  ["LongNet_3_layers_384_dim", preset(3, 384, 1536, 16)],
  ["LongNet_6_layers_384_dim", preset(6, 384, 1536, 16)],
  ["LongNet_12_layers_384_dim", preset(12, 384, 1536, 16)],
  ["LongNet_12_layers_512_dim", preset(12, 512, 1024, 8, three)],
  ["LongNet_3_layers_768_dim", preset(3, 768, 3072, 16)],
  [
    "LongNet_6_layers_768_dim",
    preset(6, 768, 3072, 16, { ...five, segments: [1024, 4096, 8192, 16384, 65536] }),
  ],
  ["LongNet_8_layers_768_dim", preset(8, 768, 3072, 16)],
  ["LongNet_12_layers_768_dim", preset(12, 768, 3072, 16)],
  ["LongNet_8_layers_1024_dim", preset(8, 1024, 4096, 16)],
  ["LongNet_24_layers_1024_dim", preset(24, 1024, 4096, 16)],
  ["LongNet_3_layers_1536_dim", preset(3, 1536, 6144, 16)],
  ["LongNet_6_layers_1536_dim", preset(6, 1536, 6144, 16)],
  ["LongNet_8_layers_1536_dim", preset(8, 1536, 6144, 16)],
  ["LongNet_12_layers_1536_dim", preset(12, 1536, 6144, 16)],
  ["LongNet_Vanilla_12_layers_256_dim", preset(12, 256, 512, 8, dense)],
  ["LongNet_Vanilla_6_layers_768_dim", preset(6, 768, 3072, 16, dense)],
  ["LongNet_Vanilla_6_layers_1536_dim", preset(6, 1536, 6144, 16, dense)],
  ["LongNet_test", preset(1, 192, 192, 8, three)],
]);

/** `gigapath_slide_enc12l768d` and the like: layers and width. */
export const slideEncoders: ReadonlyMap<string, { readonly depth: number; readonly dim: number }> = new Map([
  ["gigapath_slide_enc12l768d", { depth: 12, dim: 768 }],
  ["gigapath_slide_enc24l1024d", { depth: 24, dim: 1024 }],
  ["gigapath_slide_enc12l1536d", { depth: 12, dim: 1536 }],
]);

/**
 * Five segments from 1024 tokens to the tiles of the largest slide, in even steps of their logarithms (Prov-GigaPath
 * `get_optimal_segment_length`). Sizes in pixels of one side.
 */
export function optimalSegments(slide: number, tile: number): readonly number[] {
  const last = Math.floor(Math.log2(Math.floor(slide / tile) ** 2));
  return Array.from({ length: 5 }, (_, i) => Math.floor(2 ** (10 + ((last - 10) / 4) * i)));
}

/** LongViT's segments by the side of its images in pixels; the first for all sizes that have none of their own. */
export const imageSegments: ReadonlyMap<number, readonly number[]> = new Map([
  [1024, [64, 128, 256, 512, 1024]],
  [4096, [1024, 2048, 4096, 8192, 16384]],
  [8192, [1024, 4096, 8192, 16384, 65536]],
  [16384, [1024, 4096, 16384, 65536, 262144]],
  [32768, [1024, 4096, 32768, 262144, 1048576]],
]);
