// @ts-check
/** The text coloured by how many bits its bytes cost. */

/** Bits per byte at which each colour begins; below the first there is none. */
const STEPS = [1, 2, 4, 7];

/** @param {number} bits */
const heatOf = (bits) => STEPS.filter((step) => bits >= step).length;

/**
 * Runs of characters of one colour. A character of several bytes has their mean; the first byte of a text costs nothing, because
 * nothing is predicted there.
 * @param {string} text
 * @param {Float64Array} bits of bytes 1 … n−1 of the text in UTF-8
 * @returns {{ text: string, heat: number, bits: number, bytes: number }[]}
 */
export function runsOf(text, bits) {
  const encoder = new TextEncoder();
  const runs = [];
  let at = 0;
  let run = { text: "", heat: 0, bits: 0, bytes: 0 };
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    const bytes = code < 0x80 ? 1 : encoder.encode(character).length;
    let sum = 0;
    for (let i = at; i < at + bytes; i++) sum += i === 0 ? 0 : (bits[i - 1] ?? 0);
    const heat = heatOf(sum / bytes);
    if (run.text !== "" && run.heat !== heat) {
      runs.push(run);
      run = { text: "", heat, bits: 0, bytes: 0 };
    }
    run.heat = heat;
    run.text += character;
    run.bits += sum;
    run.bytes += bytes;
    at += bytes;
  }
  if (run.text !== "") runs.push(run);
  return runs;
}

/**
 * @param {Element} place
 * @param {string} text
 * @param {Float64Array} bits
 */
export function showSurprise(place, text, bits) {
  const all = document.createDocumentFragment();
  for (const { text: part, heat, bits: sum, bytes } of runsOf(text, bits)) {
    const span = document.createElement("span");
    span.textContent = part;
    span.title = `${sum.toFixed(1)} bits for ${bytes} byte${bytes === 1 ? "" : "s"}`;
    if (heat > 0) span.dataset["heat"] = String(heat);
    all.append(span);
  }
  place.replaceChildren(all);
  place.scrollTop = 0;
}

/** @param {Element} place */
export function showLegend(place) {
  [0, ...STEPS].forEach((from, heat) => {
    const span = document.createElement("span");
    const to = STEPS[heat];
    span.textContent =
      to === undefined ? `${from} and more` : heat === 0 ? `below ${to}` : `${from} to ${to}`;
    span.dataset["heat"] = String(heat);
    place.append(span);
  });
}
