/**
 * The interpreter's memory beside the values: who touched which element when. All of it is plain typed arrays, so that
 * the generated script can look things up with a few loads.
 */

/** Last write and last read of each element: barrier epoch and lane. A reader of −1 means several lanes. */
export type LaneLog = {
  readonly writeEpoch: Int32Array;
  readonly writer: Int32Array;
  readonly readEpoch: Int32Array;
  readonly reader: Int32Array;
};

export const laneLog = (length: number): LaneLog => ({
  writeEpoch: new Int32Array(length),
  writer: new Int32Array(length),
  readEpoch: new Int32Array(length),
  reader: new Int32Array(length),
});

/** Records a read; true when another lane wrote the element in this epoch. */
export function laneReads(log: LaneLog, i: number, lane: number, epoch: number): boolean {
  if (log.writeEpoch[i] === epoch && log.writer[i] !== lane) return true;
  if (log.readEpoch[i] !== epoch) {
    log.readEpoch[i] = epoch;
    log.reader[i] = lane;
  } else if (log.reader[i] !== lane) log.reader[i] = -1;
  return false;
}

/** Records a write; true when another lane wrote or read the element in this epoch. */
export function laneWrites(log: LaneLog, i: number, lane: number, epoch: number): boolean {
  if (log.writeEpoch[i] === epoch && log.writer[i] !== lane) return true;
  if (log.readEpoch[i] === epoch && log.reader[i] !== lane) return true;
  log.writeEpoch[i] = epoch;
  log.writer[i] = lane;
  return false;
}

/** The group that wrote each element of a buffer, and the one that read it: −1 none, −2 several. */
export type GroupLog = { readonly writer: Int32Array; readonly reader: Int32Array };

export const groupLog = (length: number): GroupLog => ({
  writer: new Int32Array(length).fill(-1),
  reader: new Int32Array(length).fill(-1),
});

/** Records a read; true when another group wrote the element in this launch. */
export function groupReads(log: GroupLog, i: number, group: number): boolean {
  const writer = log.writer[i];
  if (writer !== -1 && writer !== group) return true;
  const reader = log.reader[i];
  if (reader !== group) log.reader[i] = reader === -1 ? group : -2;
  return false;
}

/** Records a write; true when another group wrote or read the element in this launch. */
export function groupWrites(log: GroupLog, i: number, group: number): boolean {
  const writer = log.writer[i];
  const reader = log.reader[i];
  if ((writer !== -1 && writer !== group) || (reader !== -1 && reader !== group)) return true;
  log.writer[i] = group;
  return false;
}

const float = new Float32Array(1);
const word = new Int32Array(float.buffer);

/** The bits of an f32, and back. */
export function bitsOf(x: number): number {
  float[0] = x;
  return word[0] as number;
}
export function unbitsOf(x: number): number {
  word[0] = x;
  return float[0] as number;
}

/** Rounds an f32 to the nearest value of a storage type, ties to even. */
export function toBf16(x: number): number {
  const b = bitsOf(x);
  return unbitsOf((b + 0x7fff + ((b >>> 16) & 1)) & 0xffff0000);
}
export function toF16(x: number): number {
  const size = Math.abs(x);
  if (size >= 65520) return x < 0 ? -Infinity : Infinity;
  // Below 2^-14 the spacing is a constant 2^-24: rounding to it is rounding x·2^24 to an integer.
  if (size < 2 ** -14) return nearest(x * 2 ** 24) * 2 ** -24;
  const b = bitsOf(x);
  return unbitsOf((b + 0xfff + ((b >>> 13) & 1)) & ~0x1fff);
}

/** The nearest integer, ties to even; keeps the sign of zero, as the targets do. */
export function nearest(x: number): number {
  if (Math.abs(x) >= 8388608) return x;
  const r = x + 6755399441055744 - 6755399441055744;
  if (r !== 0) return r;
  return x < 0 || Object.is(x, -0) ? -0 : 0;
}
