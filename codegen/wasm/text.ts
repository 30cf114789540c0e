/**
 * The modules that `emitModule` writes, as WebAssembly text for a reader: expressions folded, statements on lines of their own.
 * It is valid text: parsed again it is the same module.
 */
import type { Kernel } from "../../src/kernel.ts";
import { showFloat } from "../../src/show/size.ts";
import { decodeModule } from "./decode.ts";
import type { Decoded, DecodedFunction, DecodedModule } from "./decode.ts";
import { instructions } from "./encode.ts";
import type { Instruction, Row } from "./encode.ts";

/** Lines break after this column where they can. */
const WIDTH = 110;
const INDENT = "  ";

/** A folded instruction: what it takes stands inside. One that gives no value is a statement. */
type Tree = { readonly head: string; readonly parts: readonly Tree[]; readonly gives: boolean };
type Named = DecodedFunction & { readonly name: string; readonly names: readonly string[] };

const fail = (why: string): never => {
  throw new Error(`heddle: internal: wasm text: ${why}`);
};

/**
 * The text of a module. With the kernels it was made from, the parameters of exported functions carry their names; every other
 * local is `$n`, its index. Functions that are not exported are loop nests, `$loop_n`. Throws where it meets what heddle never writes.
 */
export function wasmText(bytes: Uint8Array, kernels: readonly Kernel[] = []): string {
  const module = decodeModule(bytes);
  const { memory } = module;
  const functions = module.functions.map((f, i) => named(f, i, module.exports.get(i), kernels));
  const limits = `(memory ${memory.min} ${memory.max}${memory.shared ? " shared" : ""})`;
  return [
    "(module",
    `${INDENT}(import ${quoted(memory.from)} ${quoted(memory.name)} ${limits})`,
    ...module.data.flatMap(dataLines),
    ...functions.flatMap((f, i) => functionLines(f, module.exports.get(i), functions)),
    ")",
    "",
  ].join("\n");
}

function named(
  f: DecodedFunction,
  index: number,
  exported: string | undefined,
  kernels: readonly Kernel[],
): Named {
  const kernel = kernels.find((k) => k.name === exported);
  const given =
    kernel === undefined
      ? []
      : [
          "begin",
          "end",
          "scratch",
          ...kernel.buffers.map((b) => b.name),
          ...kernel.scalars.map((s) => s.name),
        ];
  const names = [...f.params, ...f.locals].map((_, i) => `$${given[i] ?? i}`);
  return { ...f, name: exported === undefined ? `$loop_${index}` : `$${exported}`, names };
}

/** Four-byte words in a comment, as integers where they look it. */
function dataLines({ at, bytes }: DecodedModule["data"][number]): readonly string[] {
  const words = wordsOf(bytes);
  const shown = words.every(isSmall) ? words.map(String) : words.map((w) => showFloat(floatOf(w)));
  const hex = Array.from(bytes, (b) => `\\${b.toString(16).padStart(2, "0")}`).join("");
  return ["", ...wrapped(shown, `${INDENT};; `), `${INDENT}(data (i32.const ${at}) "${hex}")`];
}

function wrapped(words: readonly string[], start: string, next = start): readonly string[] {
  const lines: string[] = [];
  let line = start;
  for (const word of words) {
    if (line.length + word.length > WIDTH) {
      lines.push(line.trimEnd());
      line = next;
    }
    line += `${word} `;
  }
  return [...lines, line.trimEnd()];
}

function functionLines(f: Named, exported: string | undefined, all: readonly Named[]): readonly string[] {
  const declared = f.names.map((name, i) => ({ name, type: f.params[i] ?? f.locals[i - f.params.length] }));
  const list = (word: string, of: typeof declared) => of.map((d) => `(${word} ${d.name} ${d.type})`);
  const params = list("param", declared.slice(0, f.params.length));
  const heads = [`(func ${f.name}`, ...(exported === undefined ? [] : [`(export ${quoted(exported)})`])];
  return [
    "",
    ...wrapped([...heads, ...params], INDENT, INDENT.repeat(3)),
    ...wrapped(list("local", declared.slice(f.params.length)), INDENT.repeat(2)).filter(
      (l) => l.trim() !== "",
    ),
    ...folded(f.body, f, all, []).flatMap((tree) => lines(tree, 2)),
    `${INDENT})`,
  ];
}

/** Instructions as trees: each takes the values before it, and what stands between those without giving one. */
function folded(
  list: readonly Decoded[],
  f: Named,
  all: readonly Named[],
  labels: readonly (string | null)[],
): readonly Tree[] {
  const stack: Tree[] = [];
  const push = (head: string, takes: number, gives: boolean, inner: readonly Tree[] = []) => {
    let [first, missing] = [stack.length, takes];
    while (missing > 0) {
      first -= 1;
      const tree = stack[first] ?? fail(`'${head}' takes ${takes} values`);
      if (tree.gives) missing -= 1;
    }
    stack.push({ head, parts: [...stack.splice(first), ...inner], gives });
  };
  const local = (index: number): string => f.names[index] ?? fail(`no local ${index}`);
  for (const d of list) {
    switch (d.op) {
      case "local.get":
        push(`local.get ${local(d.index)}`, 0, true);
        break;
      case "local.set":
        push(`local.set ${local(d.index)}`, 1, false);
        break;
      case "local.tee":
        push(`local.tee ${local(d.index)}`, 1, true);
        break;
      case "select":
        push("select", 3, true);
        break;
      case "drop":
        push("drop", 1, false);
        break;
      case "call": {
        const to = all[d.index] ?? fail(`no function ${d.index}`);
        push(`call ${to.name}`, to.params.length, false);
        break;
      }
      case "br_if":
        push(`br_if ${labels.at(-1 - d.index) ?? fail(`no label ${d.index}`)}`, 1, false);
        break;
      case "loop": {
        // Its depth tells it from the other labels in sight.
        const label = `$again_${labels.length}`;
        push(`loop ${label}`, 0, false, folded(d.body, f, all, [...labels, label]));
        break;
      }
      case "if": {
        const block = (head: string, body: readonly Decoded[]): Tree => ({
          head,
          parts: folded(body, f, all, [...labels, null]),
          gives: false,
        });
        const otherwise = d.otherwise.length === 0 ? [] : [block("else", d.otherwise)];
        push("if", 1, false, [block("then", d.body), ...otherwise]);
        break;
      }
      default: {
        const row: Row = instructions[d.op];
        push([d.op, ...immediateText(d.op, row, d.imm)].join(" "), row.takes.length, row.gives !== null);
      }
    }
  }
  return stack;
}

function immediateText(op: Instruction, { imm }: Row, values: readonly number[]): readonly string[] {
  const first = values[0] ?? 0;
  switch (imm) {
    case "f32":
      return [showFloat(first)];
    case "memory": {
      // The text's default alignment is the access's own size; ours is always 4.
      const wide = op === "v128.load" || op === "v128.store";
      return [...(first === 0 ? [] : [`offset=${first}`]), ...(wide ? ["align=4"] : [])];
    }
    case "bytes16": {
      if (op !== "v128.const") return values.map(String);
      const words = wordsOf(Uint8Array.from(values));
      if (words.every(isSmall) || words.some((w) => Number.isNaN(floatOf(w))))
        return ["i32x4", ...words.map(String)];
      return ["f32x4", ...words.map((w) => showFloat(floatOf(w)))];
    }
    default:
      return values.map(String);
  }
}

/** Values share lines where they fit, statements never do; what an `if` asks stands behind it. */
function lines(tree: Tree, depth: number): readonly string[] {
  const indent = INDENT.repeat(depth);
  const short = flat(tree, WIDTH - indent.length);
  if (short !== null) return [indent + short];
  const [first, ...rest] = tree.parts;
  const asked = tree.head === "if" && first !== undefined ? flat(first, WIDTH - indent.length - 4) : null;
  const inner = (asked === null ? tree.parts : rest).flatMap((part) => lines(part, depth + 1));
  const head = `${indent}(${tree.head}${asked === null ? "" : ` ${asked}`}`;
  return [head, ...inner.slice(0, -1), `${inner.at(-1) ?? ""})`];
}

/** One line, or null where it would be longer than `room` or holds a statement. */
function flat(tree: Tree, room: number): string | null {
  let text = `(${tree.head}`;
  for (const part of tree.parts) {
    const one = part.gives ? flat(part, room - text.length - 2) : null;
    if (one === null) return null;
    text += ` ${one}`;
  }
  return text.length + 1 > room ? null : `${text})`;
}

/** Little-endian 32-bit words of bytes, a multiple of 4. */
function wordsOf(bytes: Uint8Array): readonly number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: bytes.length / 4 }, (_, i) => view.getInt32(4 * i, true));
}
const floatOf = (word: number): number => new Float32Array(Int32Array.of(word).buffer)[0] ?? 0;
/** Words this small are integers, or floats that nobody writes. */
const isSmall = (word: number): boolean => Math.abs(word) < 2 ** 23;

const quoted = (text: string): string =>
  `"${text.replace(/[^ !#-[\]-~]/gu, (c) => [...new TextEncoder().encode(c)].map((b) => `\\${b.toString(16).padStart(2, "0")}`).join(""))}"`;
