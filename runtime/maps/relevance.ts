/** One step of attention rollout: from the relevance of a layer's outputs to that of its inputs, without the matrix between them. */
import type { AttentionMeaning } from "../definition.ts";
import { openDevice } from "../open.ts";
import type { DeviceOptions } from "../open.ts";
import type { Program } from "../plan.ts";
import { attend } from "./attended.ts";
import type { LayerRows } from "./attended.ts";

/** A layer as a pass left it; `lse` [heads, N]. */
export type MappedLayer = LayerRows & { readonly lse: Float32Array };

/** Σ_i r_i · A_ij for every token j, A the mean of the heads' weights. */
export type Reaching = {
  readonly through: (layer: MappedLayer, relevance: Float64Array) => Promise<Float64Array>;
  readonly dispose: () => void;
};

/** Whether rows carry their own queries: `align ceil` moves those of segments after the first whose length is no multiple of the dilation. */
const inPlace = ({ align, branches }: AttentionMeaning, N: number): boolean =>
  align === "segment" ||
  branches.every(({ segment, dilation }) => segment === null || N <= segment || segment % dilation === 0);

/** On the device where there is a program and the length allows it, otherwise on the host. */
export function reachingOf(
  a: AttentionMeaning,
  program: Program | undefined,
  options: DeviceOptions,
): Reaching {
  const host = onHost(a);
  if (program === undefined) return host;
  const device = onDevice(a, program, options);
  return {
    through: (layer, relevance) => (inPlace(a, relevance.length) ? device : host).through(layer, relevance),
    dispose: device.dispose,
  };
}

/** On the host, query by query: for attention that is not symmetric. */
function onHost(a: AttentionMeaning): Reaching {
  return {
    through: async (layer, relevance) => {
      const N = relevance.length;
      const reached = new Float64Array(N);
      for (let i = 0; i < N; i++) {
        const share = (relevance[i] ?? 0) / a.heads;
        if (share === 0) continue;
        for (let head = 0; head < a.heads; head++)
          attend(a, layer, N, head, i, (j, weight) => (reached[j] = (reached[j] ?? 0) + share * weight));
      }
      return reached;
    },
    dispose: () => undefined,
  };
}

/**
 * On a device, by the attention of `relevanceOf` in src/maps.ts: key j stands as a query, with 1 in the added column, and query i as a key,
 * with −lse_i/scale there, so that their score is log A_ij and never above 0. Its value is r_i; what comes out is a mean over i, and
 * its lse the logarithm of what the mean was divided by.
 */
function onDevice(a: AttentionMeaning, program: Program, options: DeviceOptions): Reaching {
  const { heads, kvHeads, headDim: D, scale } = a;
  const W = D + 4;
  let loaded: ReturnType<typeof openDevice> | undefined;
  return {
    through: async ({ q, k, lse }, relevance) => {
      const N = relevance.length;
      const [asQuery, asKey, value] = [0, 1, 2].map(() => new Float32Array(N * heads * W));
      if (asQuery === undefined || asKey === undefined || value === undefined)
        throw new Error("heddle: internal: no arrays");
      for (let n = 0; n < N; n++)
        for (let h = 0; h < heads; h++) {
          const to = (n * heads + h) * W;
          const own = (n * heads + h) * D;
          const other = (n * kvHeads + Math.floor(h / (heads / kvHeads))) * D;
          asKey.set(q.subarray(own, own + D), to);
          asQuery.set(k.subarray(other, other + D), to);
          asQuery[to + D] = 1;
          // A row that no branch covers is no key of any.
          const sum = lse[h * N + n] ?? NaN;
          asKey[to + D] = sum === -Infinity ? 0 : -sum / scale;
          value[to] = relevance[n] ?? 0;
        }
      const device = await (loaded ??= openDevice(program, options));
      const [out, logs] = await device.run({ N, B: 1 }, [asQuery, asKey, value]);
      const reached = new Float64Array(N);
      for (let n = 0; n < N; n++)
        for (let h = 0; h < heads; h++) {
          const mean = out?.[(n * heads + h) * W] ?? NaN;
          reached[n] = (reached[n] ?? 0) + (mean * Math.exp(logs?.[h * N + n] ?? NaN)) / heads;
        }
      return reached;
    },
    dispose: () => void loaded?.then((device) => device.dispose()),
  };
}
