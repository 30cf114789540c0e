/**
 * WebAssembly as bytes: the instruction table and a code builder with a type stack.
 *
 * Instructions are rows: opcode, operand types, result, immediate. The builder pops and pushes those types at build
 * time, so a wrong operand fails at the line that emitted it, with the instruction named, and not in an engine.
 * Opcodes: WebAssembly core specification 2.0, appendix "Index of Instructions"; relaxed SIMD: its proposal overview.
 */

export type ValType = "i32" | "f32" | "v128";

/** `memory`: alignment hint and offset; `lane`: one lane number; `bytes16`: 16 literal bytes; `local`: index. */
export type Immediate = "none" | "i32" | "f32" | "memory" | "lane" | "bytes16" | "local" | "copy" | "fill";

export type Row = {
  readonly code: readonly number[];
  readonly takes: readonly ValType[];
  readonly gives: ValType | null;
  readonly imm: Immediate;
};

const simd = (opcode: number): readonly number[] => [0xfd, ...leb(opcode)];
const of = (
  code: readonly number[],
  takes: readonly ValType[],
  gives: ValType | null,
  imm: Immediate = "none",
): Row => ({ code, takes, gives, imm });
const unary = (opcode: number, from: ValType, to: ValType = from) => of([opcode], [from], to);
const binary = (opcode: number, type: ValType, to: ValType = type) => of([opcode], [type, type], to);
const v1 = (opcode: number) => of(simd(opcode), ["v128"], "v128");
const v2 = (opcode: number) => of(simd(opcode), ["v128", "v128"], "v128");
const v3 = (opcode: number) => of(simd(opcode), ["v128", "v128", "v128"], "v128");
const vshift = (opcode: number) => of(simd(opcode), ["v128", "i32"], "v128");
const loads = (code: readonly number[], to: ValType) => of(code, ["i32"], to, "memory");
const stores = (code: readonly number[], from: ValType) => of(code, ["i32", from], null, "memory");

/** Every instruction of a fixed type. Control, locals, `select` and `drop` are methods of the builder. */
export const instructions = {
  "i32.const": of([0x41], [], "i32", "i32"),
  "f32.const": of([0x43], [], "f32", "f32"),
  "i32.load": loads([0x28], "i32"),
  "f32.load": loads([0x2a], "f32"),
  "i32.store": stores([0x36], "i32"),
  "f32.store": stores([0x38], "f32"),
  "memory.copy": of([0xfc, 10], ["i32", "i32", "i32"], null, "copy"),
  "memory.fill": of([0xfc, 11], ["i32", "i32", "i32"], null, "fill"),

  "i32.eqz": unary(0x45, "i32"),
  "i32.eq": binary(0x46, "i32"),
  "i32.ne": binary(0x47, "i32"),
  "i32.lt_s": binary(0x48, "i32"),
  "i32.lt_u": binary(0x49, "i32"),
  "i32.gt_s": binary(0x4a, "i32"),
  "i32.gt_u": binary(0x4b, "i32"),
  "i32.le_s": binary(0x4c, "i32"),
  "i32.le_u": binary(0x4d, "i32"),
  "i32.ge_s": binary(0x4e, "i32"),
  "i32.ge_u": binary(0x4f, "i32"),
  "f32.eq": binary(0x5b, "f32", "i32"),
  "f32.ne": binary(0x5c, "f32", "i32"),
  "f32.lt": binary(0x5d, "f32", "i32"),
  "f32.gt": binary(0x5e, "f32", "i32"),
  "f32.le": binary(0x5f, "f32", "i32"),
  "f32.ge": binary(0x60, "f32", "i32"),

  "i32.add": binary(0x6a, "i32"),
  "i32.sub": binary(0x6b, "i32"),
  "i32.mul": binary(0x6c, "i32"),
  "i32.div_s": binary(0x6d, "i32"),
  "i32.div_u": binary(0x6e, "i32"),
  "i32.rem_s": binary(0x6f, "i32"),
  "i32.rem_u": binary(0x70, "i32"),
  "i32.and": binary(0x71, "i32"),
  "i32.or": binary(0x72, "i32"),
  "i32.xor": binary(0x73, "i32"),
  "i32.shl": binary(0x74, "i32"),
  "i32.shr_s": binary(0x75, "i32"),
  "i32.shr_u": binary(0x76, "i32"),
  "f32.abs": unary(0x8b, "f32"),
  "f32.neg": unary(0x8c, "f32"),
  "f32.floor": unary(0x8e, "f32"),
  "f32.nearest": unary(0x90, "f32"),
  "f32.sqrt": unary(0x91, "f32"),
  "f32.add": binary(0x92, "f32"),
  "f32.sub": binary(0x93, "f32"),
  "f32.mul": binary(0x94, "f32"),
  "f32.div": binary(0x95, "f32"),
  "f32.min": binary(0x96, "f32"),
  "f32.max": binary(0x97, "f32"),
  "f32.convert_i32_s": unary(0xb2, "i32", "f32"),
  "i32.reinterpret_f32": unary(0xbc, "f32", "i32"),
  "f32.reinterpret_i32": unary(0xbe, "i32", "f32"),
  "i32.trunc_sat_f32_s": of([0xfc, 0], ["f32"], "i32"),

  "v128.load": loads(simd(0), "v128"),
  "v128.load32_splat": loads(simd(9), "v128"),
  "v128.store": stores(simd(11), "v128"),
  "v128.const": of(simd(12), [], "v128", "bytes16"),
  "i8x16.shuffle": of(simd(13), ["v128", "v128"], "v128", "bytes16"),
  "i32x4.splat": of(simd(17), ["i32"], "v128"),
  "f32x4.splat": of(simd(19), ["f32"], "v128"),
  "i32x4.extract_lane": of(simd(27), ["v128"], "i32", "lane"),
  "i32x4.replace_lane": of(simd(28), ["v128", "i32"], "v128", "lane"),
  "f32x4.extract_lane": of(simd(31), ["v128"], "f32", "lane"),
  "f32x4.replace_lane": of(simd(32), ["v128", "f32"], "v128", "lane"),
  "i32x4.eq": v2(55),
  "i32x4.ne": v2(56),
  "i32x4.lt_s": v2(57),
  "i32x4.gt_s": v2(59),
  "i32x4.le_s": v2(61),
  "i32x4.ge_s": v2(63),
  "f32x4.eq": v2(65),
  "f32x4.ne": v2(66),
  "f32x4.lt": v2(67),
  "f32x4.gt": v2(68),
  "f32x4.le": v2(69),
  "f32x4.ge": v2(70),
  "v128.not": v1(77),
  "v128.and": v2(78),
  "v128.or": v2(80),
  "v128.xor": v2(81),
  "v128.bitselect": v3(82),
  "f32x4.floor": v1(104),
  "f32x4.nearest": v1(106),
  "i32x4.neg": v1(161),
  "i32x4.shl": vshift(171),
  "i32x4.shr_s": vshift(172),
  "i32x4.add": v2(174),
  "i32x4.sub": v2(177),
  "i32x4.mul": v2(181),
  "i32x4.min_s": v2(182),
  "i32x4.max_s": v2(184),
  "f32x4.abs": v1(224),
  "f32x4.neg": v1(225),
  "f32x4.sqrt": v1(227),
  "f32x4.add": v2(228),
  "f32x4.sub": v2(229),
  "f32x4.mul": v2(230),
  "f32x4.div": v2(231),
  "f32x4.min": v2(232),
  "f32x4.max": v2(233),
  "f32x4.pmin": v2(234),
  "f32x4.pmax": v2(235),
  "i32x4.trunc_sat_f32x4_s": v1(248),
  "f32x4.convert_i32x4_s": v1(250),
  "f32x4.relaxed_madd": v3(0x105),
  "i32x4.relaxed_laneselect": v3(0x10b),
} as const satisfies Record<string, Row>;

export type Instruction = keyof typeof instructions;

/** The opcodes of the builder's own methods. */
export const control = {
  loop: 0x03,
  if: 0x04,
  else: 0x05,
  end: 0x0b,
  br_if: 0x0d,
  call: 0x10,
  drop: 0x1a,
  select: 0x1b,
  "local.get": 0x20,
  "local.set": 0x21,
  "local.tee": 0x22,
} as const;
/** The type of a block that leaves nothing. */
export const NO_RESULT = 0x40;

/** Unsigned LEB128 of an integer in [0, 2³²). */
export function leb(value: number): number[] {
  const bytes: number[] = [];
  let rest = value >>> 0;
  do {
    const low = rest & 0x7f;
    rest >>>= 7;
    bytes.push(rest === 0 ? low : low | 0x80);
  } while (rest !== 0);
  return bytes;
}

/** Signed LEB128 of an i32. */
export function sleb(value: number): number[] {
  const bytes: number[] = [];
  let rest = value | 0;
  for (;;) {
    const low = rest & 0x7f;
    rest >>= 7;
    const done = (rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0);
    bytes.push(done ? low : low | 0x80);
    if (done) return bytes;
  }
}

/** The four little-endian bytes of a float. */
export function f32Bytes(value: number): number[] {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value, true);
  return [0, 1, 2, 3].map((i) => view.getUint8(i));
}

export const typeByte: Readonly<Record<ValType, number>> = { i32: 0x7f, f32: 0x7d, v128: 0x7b };

/** The locals of one function: parameters first, then what the code asks for. */
export type Locals = {
  readonly types: readonly ValType[];
  readonly params: number;
  fresh(type: ValType): number;
};

export function localsOf(params: readonly ValType[]): Locals {
  const types = [...params];
  return {
    types,
    params: params.length,
    fresh(type) {
      types.push(type);
      return types.length - 1;
    },
  };
}

/** A piece of straight or nested code with the types it leaves on the stack. */
export type Code = {
  readonly bytes: readonly number[];
  readonly stack: readonly ValType[];
  /** Emits a table instruction; `imm` as its row asks (memory: byte offset; bytes16: 16 numbers). */
  op(name: Instruction, ...imm: readonly number[]): void;
  get(local: number): void;
  set(local: number): void;
  tee(local: number): void;
  /** Takes yes, no, condition; gives yes where the condition is not 0. */
  select(): void;
  drop(): void;
  /** Adds code that was built apart. It must leave nothing. */
  append(code: Code): void;
  /** Calls a function that gives nothing. */
  call(index: number, takes: readonly ValType[]): void;
  /** Takes a condition. */
  when(then: Code, otherwise?: Code): void;
  /** Runs `body` again while it leaves a condition that is not 0. */
  repeat(body: Code): void;
};

export function codeOf(locals: Locals): Code {
  const bytes: number[] = [];
  const stack: ValType[] = [];
  const fail = (name: string, why: string): never => {
    throw new Error(`heddle: internal: wasm '${name}': ${why}`);
  };
  const pop = (name: string, want?: ValType): ValType => {
    const have = stack.pop();
    if (have === undefined) return fail(name, `needs ${want ?? "an operand"}, the stack is empty`);
    return want === undefined || have === want ? have : fail(name, `needs ${want}, got ${have}`);
  };
  const typeOf = (name: string, local: number): ValType =>
    locals.types[local] ?? fail(name, `no local ${local}`);
  const put = (more: readonly number[]) => {
    for (const byte of more) bytes.push(byte);
  };
  const leaves = (name: string, code: Code, want: readonly ValType[]) => {
    if (code.stack.length !== want.length || code.stack.some((t, i) => t !== want[i]))
      fail(name, `a block leaves [${code.stack.join(", ")}] instead of [${want.join(", ")}]`);
  };
  const immediate = (name: Instruction, kind: Immediate, imm: readonly number[]) => {
    const first = imm[0] ?? 0;
    const counts: Record<Immediate, number> = {
      none: 0,
      i32: 1,
      f32: 1,
      memory: 1,
      lane: 1,
      bytes16: 16,
      local: 1,
      copy: 0,
      fill: 0,
    };
    if (imm.length !== counts[kind]) fail(name, `takes ${counts[kind]} immediate values, got ${imm.length}`);
    switch (kind) {
      case "none":
        return;
      case "i32":
        return put(sleb(first));
      case "f32":
        return put(f32Bytes(first));
      case "memory":
        // The hint says 4-byte alignment: that is all an element index promises.
        if (!Number.isInteger(first) || first < 0 || first >= 2 ** 32) fail(name, `offset ${first}`);
        return put([2, ...leb(first)]);
      case "lane":
        if (first < 0 || first > 3) fail(name, `lane ${first}`);
        return put([first]);
      case "bytes16":
        return put(imm.map((b) => b & 0xff));
      case "local":
        return put(leb(first));
      case "copy":
        return put([0, 0]);
      case "fill":
        return put([0]);
    }
  };
  const code: Code = {
    bytes,
    stack,
    op(name, ...imm) {
      const row: Row = instructions[name];
      for (let i = row.takes.length - 1; i >= 0; i--) pop(name, row.takes[i]);
      put(row.code);
      immediate(name, row.imm, imm);
      if (row.gives !== null) stack.push(row.gives);
    },
    get(local) {
      stack.push(typeOf("local.get", local));
      put([control["local.get"], ...leb(local)]);
    },
    set(local) {
      pop("local.set", typeOf("local.set", local));
      put([control["local.set"], ...leb(local)]);
    },
    tee(local) {
      pop("local.tee", typeOf("local.tee", local));
      stack.push(typeOf("local.tee", local));
      put([control["local.tee"], ...leb(local)]);
    },
    select() {
      pop("select", "i32");
      const no = pop("select");
      stack.push(pop("select", no));
      put([control.select]);
    },
    drop() {
      pop("drop");
      put([control.drop]);
    },
    append(more) {
      leaves("append", more, []);
      put(more.bytes);
    },
    call(index, takes) {
      for (let i = takes.length - 1; i >= 0; i--) pop("call", takes[i]);
      put([control.call, ...leb(index)]);
    },
    when(then, otherwise) {
      pop("if", "i32");
      leaves("if", then, []);
      put([control.if, NO_RESULT]);
      put(then.bytes);
      if (otherwise !== undefined && otherwise.bytes.length > 0) {
        leaves("else", otherwise, []);
        put([control.else]);
        put(otherwise.bytes);
      }
      put([control.end]);
    },
    repeat(body) {
      leaves("loop", body, ["i32"]);
      put([control.loop, NO_RESULT]);
      put(body.bytes);
      put([control.br_if, 0, control.end]);
    },
  };
  return code;
}
