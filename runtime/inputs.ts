/** What callers hand over, checked before anything is computed. */
import type { ModelDefinition } from "./definition.ts";
import { inputError } from "./input-error.ts";

/** Learned positions are read from row 2 on (fairseq), so N tokens need N + 2 rows. */
export function positionsFit(
  { name, positions, placed }: Pick<ModelDefinition, "name" | "positions" | "placed">,
  N: number,
): void {
  if (placed === true && N !== positions)
    throw inputError(
      `${N} patches do not fit model '${name}': it has a position for each of ${positions} places`,
    );
  if (placed === true) return;
  if (positions !== null && N + 2 > positions)
    throw inputError(
      `${N} tokens are too many for model '${name}': its ${positions} learned positions serve ${positions - 2}`,
    );
}

/** Checks that every token is in the vocabulary. `N`: tokens per sequence, for the message. */
export function tokensOf(tokens: ArrayLike<number>, N: number, vocab: number): Int32Array {
  const result = new Int32Array(tokens.length);
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i] ?? NaN;
    if (!Number.isInteger(token) || token < 0 || token >= vocab) {
      const row = tokens.length > N ? ` of sequence ${Math.floor(i / N)}` : "";
      throw inputError(
        `the token at position ${i % N}${row} is ${token}; the vocabulary is 0 … ${vocab - 1}`,
      );
    }
    result[i] = token;
  }
  return result;
}

/** A whole number of at least `least`. */
export function whole(value: number, name: string, least: number): number {
  if (!Number.isSafeInteger(value) || value < least)
    throw inputError(`the ${name} must be a whole number from ${least} on, found ${value}`);
  return value;
}

/** Whether an array has as many elements as its shape. */
export function fits(name: string, data: ArrayLike<number>, shape: readonly number[]): void {
  const wanted = shape.reduce((product, d) => product * d, 1);
  if (data.length !== wanted)
    throw inputError(`${name} has ${data.length} elements; [${shape.join(", ")}] needs ${wanted}`);
}
