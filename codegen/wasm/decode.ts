/**
 * Modules back from bytes, by the table that wrote them. Knows only what `emitModule` writes and fails at anything else.
 */
import { control, instructions, NO_RESULT, typeByte } from "./encode.ts";
import type { Immediate, Instruction, Row, ValType } from "./encode.ts";

export type Decoded =
  /** A table instruction with its immediates as `Code.op` takes them. */
  | { readonly op: Instruction; readonly imm: readonly number[] }
  | { readonly op: "drop" | "select" }
  | { readonly op: "local.get" | "local.set" | "local.tee" | "call" | "br_if"; readonly index: number }
  | { readonly op: "loop"; readonly body: readonly Decoded[] }
  | { readonly op: "if"; readonly body: readonly Decoded[]; readonly otherwise: readonly Decoded[] };

export type DecodedFunction = {
  readonly params: readonly ValType[];
  readonly locals: readonly ValType[];
  readonly body: readonly Decoded[];
};

export type DecodedModule = {
  /** Pages of 64 KiB. */
  readonly memory: {
    readonly from: string;
    readonly name: string;
    readonly min: number;
    readonly max: number;
    readonly shared: boolean;
  };
  readonly functions: readonly DecodedFunction[];
  /** Names by function. */
  readonly exports: ReadonlyMap<number, string>;
  readonly data: readonly { readonly at: number; readonly bytes: Uint8Array }[];
};

const fail = (why: string): never => {
  throw new Error(`heddle: internal: wasm: ${why}`);
};

type Reader = {
  readonly bytes: Uint8Array;
  at: number;
};
function byte(r: Reader): number {
  const found = r.bytes[r.at] ?? fail(`ends at byte ${r.at}`);
  r.at += 1;
  return found;
}
function leb(r: Reader, signed: boolean): number {
  let [value, shift] = [0, 0];
  for (;;) {
    const b = byte(r);
    value |= (b & 0x7f) << shift;
    shift += 7;
    if (b < 0x80) {
      if (signed) return shift < 32 && (b & 0x40) !== 0 ? value | (-1 << shift) : value;
      return value >>> 0;
    }
    if (shift > 28) fail(`a number of more than 32 bits at byte ${r.at}`);
  }
}
const u32 = (r: Reader): number => leb(r, false);
function take(r: Reader, count: number): Uint8Array {
  if (r.at + count > r.bytes.length) fail(`ends before byte ${r.at + count}`);
  r.at += count;
  return r.bytes.subarray(r.at - count, r.at);
}
const vector = <T>(r: Reader, item: () => T): readonly T[] => Array.from({ length: u32(r) }, item);
const utf8 = (r: Reader): string => new TextDecoder("utf-8", { fatal: true }).decode(take(r, u32(r)));
function expect(r: Reader, wanted: number, what: string): void {
  const found = byte(r);
  if (found !== wanted) fail(`${what}: byte ${found} at ${r.at - 1}, not ${wanted}`);
}

const types = new Map((Object.keys(typeByte) as ValType[]).map((t) => [typeByte[t], t]));
const valType = (r: Reader): ValType => {
  const found = byte(r);
  return types.get(found) ?? fail(`value type ${found}`);
};

/** Opcodes of more than one byte are a prefix and a number. */
const key = (code: readonly number[]): string => code.join();
const PREFIXES: ReadonlySet<number> = new Set([0xfc, 0xfd]);
const byCode = new Map<string, Instruction>(
  (Object.keys(instructions) as Instruction[]).map((name) => [key(instructions[name].code), name]),
);
type Control = keyof typeof control;
const byByte = new Map<number, Control>(
  (Object.keys(control) as Control[]).map((name) => [control[name], name]),
);

export function decodeModule(bytes: Uint8Array): DecodedModule {
  const whole: Reader = { bytes, at: 0 };
  for (const b of [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0]) expect(whole, b, "the header");
  const sections = new Map<number, Reader>();
  while (whole.at < bytes.length) {
    const id = byte(whole);
    sections.set(id, { bytes: take(whole, u32(whole)), at: 0 });
  }
  const read = <T>(id: number, item: (r: Reader) => T): readonly T[] => {
    const r = sections.get(id);
    if (r === undefined) return [];
    sections.delete(id);
    const items = vector(r, () => item(r));
    if (r.at !== r.bytes.length) fail(`section ${id} is longer than its items`);
    return items;
  };

  const signatures = read(1, (r) => {
    expect(r, 0x60, "a type");
    const params = vector(r, () => valType(r));
    expect(r, 0, "results of a function");
    return params;
  });
  const [memory, more] = read(2, memoryImport);
  if (memory === undefined || more !== undefined) return fail("not just one import");
  const typeOf = read(3, u32);
  const exports = read(7, (r) => {
    const name = utf8(r);
    expect(r, 0, "the kind of an export");
    return [u32(r), name] as const;
  });
  const code = read(10, body);
  const data = read(11, (r) => {
    expect(r, 0, "the kind of a data segment");
    const where = sequence(r);
    const [only] = where.list;
    if (where.end !== "end" || where.list.length !== 1 || only?.op !== "i32.const")
      return fail("the place of a data segment");
    return { at: only.imm[0] ?? 0, bytes: take(r, u32(r)) };
  });
  for (const id of sections.keys()) fail(`section ${id}`);
  if (code.length !== typeOf.length) fail(`${code.length} bodies for ${typeOf.length} functions`);
  const functions = code.map((c, i): DecodedFunction => ({
    params: signatures[typeOf[i] ?? -1] ?? fail(`no type of ${i}`),
    ...c,
  }));
  return { memory, functions, exports: new Map(exports), data };
}

function memoryImport(r: Reader): DecodedModule["memory"] {
  const [from, name] = [utf8(r), utf8(r)];
  expect(r, 2, "the kind of an import");
  const flag = byte(r);
  if (flag !== 1 && flag !== 3) fail(`limits flag ${flag}`);
  return { from, name, min: u32(r), max: u32(r), shared: flag === 3 };
}

function body(r: Reader): Omit<DecodedFunction, "params"> {
  const length = u32(r);
  const end = r.at + length;
  const runs = vector(r, () => {
    const count = u32(r);
    const type = valType(r);
    return Array.from({ length: count }, () => type);
  });
  const { list, end: how } = sequence(r);
  if (how !== "end" || r.at !== end) fail(`a body that ends at ${r.at}, not ${end}`);
  return { locals: runs.flat(), body: list };
}

/** Instructions up to `end` or `else`. */
function sequence(r: Reader): { readonly list: readonly Decoded[]; readonly end: "end" | "else" } {
  const list: Decoded[] = [];
  for (;;) {
    const first = byte(r);
    const name = byByte.get(first);
    switch (name) {
      case "end":
      case "else":
        return { list, end: name };
      case "drop":
      case "select":
        list.push({ op: name });
        break;
      case "local.get":
      case "local.set":
      case "local.tee":
      case "call":
      case "br_if":
        list.push({ op: name, index: u32(r) });
        break;
      case "loop": {
        expect(r, NO_RESULT, "the type of a loop");
        list.push({ op: name, body: sequence(r).list });
        break;
      }
      case "if": {
        expect(r, NO_RESULT, "the type of an if");
        const then = sequence(r);
        list.push({ op: name, body: then.list, otherwise: then.end === "else" ? sequence(r).list : [] });
        break;
      }
      case undefined:
        list.push(instruction(r, first));
    }
  }
}

function instruction(r: Reader, first: number): Decoded {
  const start = r.at;
  if (PREFIXES.has(first)) u32(r);
  const code = [first, ...r.bytes.subarray(start, r.at)];
  const op = byCode.get(key(code)) ?? fail(`opcode ${code.join(" ")}`);
  const row: Row = instructions[op];
  return { op, imm: immediates(r, row.imm) };
}

function immediates(r: Reader, kind: Immediate): readonly number[] {
  switch (kind) {
    case "none":
      return [];
    case "i32":
      return [leb(r, true)];
    case "f32": {
      const four = take(r, 4);
      return [new DataView(four.buffer, four.byteOffset).getFloat32(0, true)];
    }
    case "memory":
      expect(r, 2, "an alignment");
      return [u32(r)];
    case "lane":
      return [byte(r)];
    case "bytes16":
      return [...take(r, 16)];
    case "local":
      return [u32(r)];
    case "copy":
      expect(r, 0, "a memory");
      expect(r, 0, "a memory");
      return [];
    case "fill":
      expect(r, 0, "a memory");
      return [];
  }
}
