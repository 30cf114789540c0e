/** Weights in panels of 8 outputs, as they are loaded, into the wider panels of a processor's register blocks. */

/** `data`: ⌈out / 8⌉ panels of 8 outputs × `inputs`. */
export function widePanels(data: Float32Array, out: number, inputs: number, panel: number): Float32Array {
  const packed = new Float32Array(Math.ceil(out / panel) * panel * inputs);
  const narrow = Math.ceil(out / 8);
  for (let p = 0; p < narrow; p++) {
    const first = Math.floor((8 * p) / panel) * panel * inputs + ((8 * p) % panel);
    const from = 8 * p * inputs;
    for (let k = 0; k < inputs; k++)
      for (let j = 0; j < 8; j++) packed[first + k * panel + j] = data[from + 8 * k + j] ?? 0;
  }
  return packed;
}

/** Elements of a weight [out, …] in panels of `panel` outputs. */
export function widePanelsLength(shape: readonly number[], panel: number): number {
  const [out = 1, ...rest] = shape;
  return rest.reduce((product, d) => product * d, Math.ceil(out / panel) * panel);
}
