import { beforeAll, describe, expect, it } from "vitest";
import wabt from "wabt";
import { codeOf, instructions, leb, localsOf, sleb, typeByte } from "../../codegen/wasm/encode.ts";
import type { Code, Instruction, Row, ValType } from "../../codegen/wasm/encode.ts";

export const features = { simd: true, threads: true, relaxed_simd: true, bulk_memory: true } as const;
let tools: Awaited<ReturnType<typeof wabt>>;
beforeAll(async () => {
  tools = await wabt();
});

const vec = (items: readonly (readonly number[])[]) => [...leb(items.length), ...items.flat()];
const section = (id: number, body: readonly number[]) => [id, ...leb(body.length), ...body];

/** A module of one function over a memory, as text of one instruction per line. */
function disassembled(types: readonly ValType[], build: (code: Code) => void): readonly string[] {
  const locals = localsOf(types);
  const code = codeOf(locals);
  build(code);
  const results = code.stack.map((t) => typeByte[t]);
  const body = [...vec(locals.types.slice(types.length).map((t) => [1, typeByte[t]])), ...code.bytes, 0x0b];
  const bytes = new Uint8Array([
    0,
    0x61,
    0x73,
    0x6d,
    1,
    0,
    0,
    0, // prettier-ignore
    ...section(1, vec([[0x60, ...vec(types.map((t) => [typeByte[t]])), ...vec(results.map((r) => [r]))]])),
    ...section(3, vec([[0]])),
    ...section(5, vec([[0, 1]])),
    ...section(10, vec([[...leb(body.length), ...body]])),
  ]);
  const module = tools.readWasm(bytes, features);
  module.validate();
  const lines = module
    .toText({ foldExprs: false })
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !/^\((module|type|func|memory)|^\(local/.test(line));
  // The function's closing parenthesis stands behind its last instruction.
  return lines.map((line, i) => (i === lines.length - 1 ? line.slice(0, -1) : line));
}

const names = Object.keys(instructions) as Instruction[];
const immediates: {
  readonly [K in Row["imm"]]: { readonly given: readonly number[]; readonly shown: string };
} = {
  none: { given: [], shown: "" },
  i32: { given: [-123456], shown: " -123456" },
  f32: { given: [1.5], shown: " 0x1.8p+0 (;=1.5;)" },
  memory: { given: [70000], shown: " offset=70000" },
  lane: { given: [3], shown: " 3" },
  bytes16: { given: Array.from({ length: 16 }, (_, i) => i), shown: "" },
  local: { given: [0], shown: " 0" },
  copy: { given: [], shown: "" },
  fill: { given: [], shown: "" },
};
/** wabt says the alignment when it is not the natural one of a vector, and lists 16 bytes in ways of its own. */
const shown = (name: Instruction): string => {
  const row: Row = instructions[name];
  if (name === "v128.const") return "v128.const i32x4 0x03020100 0x07060504 0x0b0a0908 0x0f0e0d0c";
  if (row.imm === "bytes16") return `${name} ${Array.from({ length: 16 }, (_, i) => i).join(" ")}`;
  const wide = name === "v128.load" || name === "v128.store";
  return name + immediates[row.imm].shown + (wide ? " align=4" : "");
};

describe("every instruction of the table", () => {
  it.each(names)("%s disassembles to its own name", (name) => {
    const row: Row = instructions[name];
    const lines = disassembled(row.takes, (code) => {
      row.takes.forEach((_, i) => code.get(i));
      code.op(name, ...immediates[row.imm].given);
      expect(code.stack).toEqual(row.gives === null ? [] : [row.gives]);
    });
    expect(lines).toEqual([...row.takes.map((_, i) => `local.get ${i}`), shown(name)]);
  });

  it("has no opcode twice", () => {
    const codes = Object.values(instructions).map((row: Row) => row.code.join());
    expect(new Set(codes).size).toBe(codes.length);
  });

  it.each(names.filter((n) => instructions[n].takes.length > 0))("%s refuses a wrong operand", (name) => {
    const row: Row = instructions[name];
    row.takes.forEach((type, wrong) => {
      const other: ValType = type === "f32" ? "i32" : "f32";
      const code = codeOf(localsOf(row.takes.map((t, i) => (i === wrong ? other : t))));
      row.takes.forEach((_, i) => code.get(i));
      expect(() => code.op(name, ...immediates[row.imm].given)).toThrow(
        `wasm '${name}': needs ${type}, got ${other}`,
      );
    });
    expect(() => codeOf(localsOf([])).op(name, ...immediates[row.imm].given)).toThrow(
      `wasm '${name}': needs`,
    );
  });
});

it("builds structured code", () => {
  const lines = disassembled(["i32", "f32", "f32"], (code) => {
    const locals = localsOf(["i32", "f32", "f32"]);
    const [then, otherwise, body] = [codeOf(locals), codeOf(locals), codeOf(locals)];
    then.get(1);
    then.drop();
    otherwise.get(2);
    otherwise.set(1);
    body.get(0);
    code.get(0);
    code.when(then, otherwise);
    code.repeat(body);
    code.get(1);
    code.get(2);
    code.get(0);
    code.select();
    code.tee(1);
  });
  expect(lines.join("; ")).toBe(
    "local.get 0; if  ;; label = @1; local.get 1; drop; else; local.get 2; local.set 1; end; " +
      "loop  ;; label = @1; local.get 0; br_if 0 (;@1;); end; " +
      "local.get 1; local.get 2; local.get 0; select; local.tee 1",
  );
});

it("refuses unbalanced blocks, unknown locals and immediates that do not fit", () => {
  const locals = localsOf(["i32", "f32"]);
  const fresh = () => codeOf(locals);
  const one = fresh();
  one.get(0);
  const on = (build: (code: Code) => void) => () => {
    const code = fresh();
    code.get(0);
    build(code);
  };
  expect(on((c) => c.when(one))).toThrow("wasm 'if': a block leaves [i32] instead of []");
  expect(on((c) => c.when(fresh(), one))).toThrow("wasm 'else': a block leaves [i32] instead of []");
  expect(on((c) => c.repeat(fresh()))).toThrow("wasm 'loop': a block leaves [] instead of [i32]");
  expect(on((c) => c.append(one))).toThrow("wasm 'append'");
  expect(on((c) => c.set(1))).toThrow("wasm 'local.set': needs f32, got i32");
  expect(on((c) => c.get(2))).toThrow("wasm 'local.get': no local 2");
  expect(on((c) => c.op("f32.load", -1))).toThrow("wasm 'f32.load': offset -1");
  expect(on((c) => c.op("f32.load"))).toThrow("wasm 'f32.load': takes 1 immediate values, got 0");
});

it("writes numbers as LEB128", () => {
  expect(leb(624485)).toEqual([0xe5, 0x8e, 0x26]);
  expect(leb(2 ** 32 - 1)).toEqual([0xff, 0xff, 0xff, 0xff, 0x0f]);
  expect(sleb(-123456)).toEqual([0xc0, 0xbb, 0x78]);
  expect([sleb(0), sleb(63), sleb(64), sleb(-64), sleb(-65)]).toEqual([
    [0],
    [63],
    [0xc0, 0],
    [0x40],
    [0xbf, 0x7f],
  ]);
  expect(sleb(-(2 ** 31))).toEqual([0x80, 0x80, 0x80, 0x80, 0x78]);
});
