/** Statements as lines of a language with C's control flow: what WGSL and CUDA C++ share, but for a few words. */
import type { Expr, Kernel, Stmt } from "../../src/kernel.ts";
import type { Warp } from "../../src/warp.ts";
import { statements, type Block, type For } from "../rewrite.ts";

type Of<S extends Stmt["s"]> = Extract<Stmt, { readonly s: S }>;

/** The words of one language, for kernels with warp statements or without. Lines come without indentation. */
export type StatementWords<X extends Warp = never> = {
  readonly name: (name: string) => string;
  readonly print: (e: Expr) => string;
  /** A value that never changes, by name and text. */
  readonly fixed: (s: Of<"let">) => string;
  readonly variable: (s: Of<"var">) => string;
  readonly assigned: (s: Of<"set">) => string;
  /** Where a loop starts, and the value of its end where that must be kept. */
  readonly counter: (name: string, from: string) => string;
  readonly bound: (name: string, to: string) => string;
  readonly store: (s: Of<"store">) => readonly string[];
  readonly barrier: readonly string[];
  readonly exchange: (s: Of<"exchange">) => string;
  /** What becomes of the kernel's own comments. */
  readonly comment: (text: string) => string;
  /** Lines before a loop. */
  readonly ahead?: (loop: For<X>) => readonly string[];
  readonly warp: (s: X) => readonly string[];
};

/** The lines of a kernel's body. */
export function bodyOf<X extends Warp = never>(kernel: Kernel<X>, words: StatementWords<X>): string[] {
  const { name, print } = words;
  const variables = new Set([...statements<X>(kernel.body)].flatMap((s) => (s.s === "var" ? [s.name] : [])));
  const block = (body: Block<X>): string[] => body.flatMap(statement);
  const statement = (s: Stmt<X>): readonly string[] => {
    switch (s.s) {
      case "let":
        return [words.fixed(s)];
      case "var":
        return [words.variable(s)];
      case "set":
        return [words.assigned(s)];
      case "store":
        return words.store(s);
      case "for": {
        const i = name(s.name);
        // Bounds are evaluated once, so one that may change meanwhile is kept.
        const steady = s.to.e === "const" || (s.to.e === "ref" && !variables.has(s.to.name));
        const end = steady ? print(s.to) : name(`${s.name}_end`);
        const head = steady ? [] : [words.bound(end, print(s.to))];
        const step = s.step === 1 ? `${i}++` : `${i} += ${s.step}`;
        const loop = [
          ...head,
          ...(words.ahead?.(s) ?? []),
          `for (${words.counter(i, print(s.from))}; ${i} < ${end}; ${step}) {`,
          ...indent(block(s.body)),
          "}",
        ];
        return head.length === 0 ? loop : ["{", ...indent(loop), "}"];
      }
      case "if":
        return [
          `if (${print(s.cond)}) {`,
          ...indent(block(s.then)),
          ...(s.else === undefined || s.else.length === 0 ? [] : ["} else {", ...indent(block(s.else))]),
          "}",
        ];
      case "barrier":
        return words.barrier;
      case "exchange":
        return [words.exchange(s)];
      case "comment":
        return words
          .comment(s.text)
          .split("\n")
          .map((line) => `// ${line}`);
      default:
        return words.warp(s);
    }
  };
  return block(kernel.body);
}

export const indent = (lines: readonly string[]): string[] => lines.map((l) => (l === "" ? l : `  ${l}`));

/** The index k elements further. */
export const plus = (e: Expr, k: number): Expr =>
  k === 0
    ? e
    : e.e === "const"
      ? { ...e, value: e.value + k }
      : { e: "op", type: "i32", op: "add", args: [e, { e: "const", type: "i32", value: k }] };
