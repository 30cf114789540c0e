/**
 * Attention maps, as an entry point of its own: what each query attends, and how much every token contributes to a result. Nothing here
 * holds N × N numbers: a query's weights are computed over the keys that it sees, and relevance is carried from layer to layer as
 * one number for each token.
 */
import type { MapsDefinition, ModelDefinition } from "./definition.ts";
import { forward, rowsFor, widthOf } from "./forward.ts";
import type { Forward, Pass } from "./forward.ts";
import { inputError } from "./input-error.ts";
import { whole } from "./inputs.ts";
import { oneAtATime, openWith } from "./model.ts";
import type { CreateOptions, ForwardOptions } from "./model.ts";
import { attend } from "./maps/attended.ts";
import { reachingOf } from "./maps/relevance.ts";
import type { MappedLayer, Reaching } from "./maps/relevance.ts";

/** A token or tile by its place in the input, or the class token. */
export type Place = number | "class";

export type Attended = {
  /** In ascending order; −1 is the class token. */
  readonly tokens: Int32Array;
  /** Of each token. All and `lost` add up to 1; without a head to the mean over the heads. */
  readonly weights: Float64Array;
  /** What goes to padded slots (`padding zero`), and without a head what heads lack whose branches leave the query out. */
  readonly lost: number;
};

export type RelevanceOptions = {
  /** Whose relevance: what a pooled model gives, unless a token is named. */
  readonly of?: Place;
  /** Layers whose attention is followed: all that the model was compiled with, unless given. */
  readonly layers?: readonly number[];
  /** Share of a row that passes a layer beside its attention. Default 0.5, as in attention rollout. */
  readonly residual?: number;
};

/** The attention of one pass over one sequence. */
export type AttentionMaps = {
  /** Tokens or tiles. */
  readonly length: number;
  /** As `forward` of a model gives it: [length, width], or [width] of a pooled model. */
  readonly result: Float32Array;
  /**
   * What `query` attends in a layer, in one head or in the mean of all. @throws InputError where there is no such place, layer or head.
   */
  readonly attentionOf: (query: Place, layer: number, head?: number) => Attended;
  /**
   * How much each token or tile counts in a result, by attention rollout (Abnar and Zuidema 2020, eq. 1): each layer passes on the mean of
   * its heads' weights, and `residual` of the row itself. [length]; what is missing to 1 stayed in the class token or went to padding.
   */
  readonly relevance: (options?: RelevanceOptions) => Promise<Float64Array>;
};

export type MapsSession = {
  readonly device: string;
  /**
   * Runs one sequence: tokens [length] or features [length, width]. The maps keep the queries and keys of all layers,
   * layers · N · (heads + kvHeads) · headDim numbers of 4 bytes, on the host.
   * @throws InputError where the arrays do not fit the model.
   */
  readonly read: (
    input: ArrayLike<number>,
    options?: Omit<ForwardOptions, "batch">,
  ) => Promise<AttentionMaps>;
  readonly dispose: () => void;
};

/**
 * Opens a model for attention maps.
 * @throws InputError where it was not compiled for them; as `create` of a model.
 */
export async function attentionMaps(
  definition: ModelDefinition,
  options: CreateOptions,
): Promise<MapsSession> {
  const { name, maps, program } = definition;
  if (maps === undefined)
    throw inputError(`model '${name}' was not compiled for attention maps (\`heddle compile --maps\`)`);
  const loaded = await openWith(program, options);
  const reaching = reachingOf(maps.attention, maps.relevance, options);
  const turn = oneAtATime(`attention maps of '${name}'`);
  const { outputs } = program.plan;
  return {
    device: loaded.device,
    read: (input, { length, ...given } = {}) =>
      turn.take(async () => {
        const wide = definition.input === "tokens" ? 1 : widthOf(definition);
        const tokens = whole(length ?? input.length / wide, "length", 1);
        const layers = new Map<number, MappedLayer>();
        const pass: Pass = async (at, inputs): Promise<Forward> => {
          const made = await loaded.run(at, inputs);
          const named = (output: string): Float32Array => {
            const found = made[outputs.findIndex((o) => o.name === output)];
            if (found === undefined) throw new Error(`heddle: internal: no output '${output}'`);
            return found;
          };
          for (const layer of maps.layers)
            layers.set(layer, {
              q: named(`q.${layer}`),
              k: named(`k.${layer}`),
              lse: named(`lse.${layer}`),
            });
          return { result: named(definition.output) };
        };
        const { result } = await forward(definition, { input, batch: 1, length: tokens, ...given }, pass);
        return mapsOver(definition, maps, { layers, reaching, turn, result, length: tokens });
      }),
    dispose: () => {
      turn.close();
      reaching.dispose();
      loaded.dispose();
    },
  };
}

function mapsOver(
  definition: ModelDefinition,
  { attention, pool, layers: known }: MapsDefinition,
  pass: {
    readonly layers: ReadonlyMap<number, MappedLayer>;
    readonly reaching: Reaching;
    readonly turn: ReturnType<typeof oneAtATime>;
    readonly result: Float32Array;
    readonly length: number;
  },
): AttentionMaps {
  const { length, layers, result } = pass;
  const { heads } = attention;
  const [[, first] = []] = layers;
  // Fewer than were given where a padding mask hides some.
  const N = (first?.lse.length ?? 0) / heads;
  const before = rowsFor(definition, 0);
  const rowOf = (place: Place): number => {
    if (place === "class") {
      if (before === 0) throw inputError(`model '${definition.name}' has no class token`);
      return 0;
    }
    const row = before + place;
    if (!Number.isInteger(place) || place < 0 || row >= N)
      throw inputError(`there is no token ${place}: the sequence has ${N - before}`);
    return row;
  };
  const layerAt = (layer: number): MappedLayer => {
    const found = layers.get(layer);
    if (found === undefined)
      throw inputError(
        `there is no map of layer ${layer}: model '${definition.name}' was compiled for ${known.length === definition.layers ? `its layers 0 … ${definition.layers - 1}` : `layers ${known.join(", ")}`}`,
      );
    return found;
  };

  return {
    length,
    result,
    attentionOf: (query, layer, head) => {
      const rows = layerAt(layer);
      const row = rowOf(query);
      if (head !== undefined && !(Number.isInteger(head) && head >= 0 && head < heads))
        throw inputError(`there is no head ${head}: there are ${heads}, from 0 on`);
      const weights = new Map<number, number>();
      const chosen = head === undefined ? Array.from({ length: heads }, (_, h) => h) : [head];
      let kept = 0;
      for (const h of chosen)
        attend(attention, rows, N, h, row, (token, weight) => {
          kept += weight / chosen.length;
          weights.set(token, (weights.get(token) ?? 0) + weight / chosen.length);
        });
      const sorted = [...weights].sort(([a], [b]) => a - b);
      return {
        tokens: Int32Array.from(sorted, ([token]) => token - before),
        weights: Float64Array.from(sorted, ([, weight]) => weight),
        lost: Math.max(0, 1 - kept),
      };
    },
    relevance: ({ of, layers: wanted = known, residual = 0.5 } = {}) =>
      pass.turn.take(async () => {
        if (!(residual >= 0 && residual <= 1))
          throw inputError(`the residual share must be from 0 to 1, found ${residual}`);
        if (of === undefined && pool === null)
          throw inputError(`model '${definition.name}' pools nothing: name the token with { of }`);
        let relevance = new Float64Array(N);
        if (of === undefined && pool === "mean") relevance.fill(1 / (N - before), before);
        else relevance[rowOf(of ?? "class")] = 1;
        for (const layer of [...new Set(wanted)].sort((a, b) => b - a)) {
          const reached = await pass.reaching.through(layerAt(layer), relevance);
          relevance = relevance.map((r, n) => residual * r + (1 - residual) * (reached[n] ?? 0));
        }
        const own = new Float64Array(length);
        own.set(relevance.subarray(before));
        return own;
      }),
  };
}
