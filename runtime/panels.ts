/** The layout in which kernels multiply by a matrix: panels of 8 outputs. See PlanWeight.layout. */

/**
 * A matrix [out, in] (rows of a checkpoint) as panels of 8 outputs: element (k, j) at ⌊j/8⌋·in·8 + k·8 + j mod 8, with zeros
 * for outputs beyond the last.
 */
export function packPanels(weight: Float32Array, out: number, inputs: number): Float32Array {
  const packed = new Float32Array(Math.ceil(out / 8) * 8 * inputs);
  packed.set(weight.subarray(0, out * inputs));
  packInPlace(packed, out, inputs);
  return packed;
}

/** Rows, and room up to whole eights of them, become panels where they lie: eight rows fill the place of one panel. */
export function packInPlace(data: Float32Array, out: number, inputs: number): void {
  const rows = new Float32Array(8 * inputs);
  for (let first = 0; first < out; first += 8) {
    const panel = data.subarray(first * inputs, (first + 8) * inputs);
    rows.set(panel);
    rows.fill(0, (out - first) * inputs);
    for (let j = 0; j < 8; j++) for (let k = 0; k < inputs; k++) panel[k * 8 + j] = rows[j * inputs + k] ?? 0;
  }
}
