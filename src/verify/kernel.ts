/** Kernels, with or without tiles. The invariants are listed in src/verify.ts. */
import { scalarOf } from "../expr.ts";
import type { Kernel, Stmt, Tile, TileDecl, TileKernel } from "../kernel.ts";
import type { Warp } from "../warp.ts";
import { place } from "../show/place.ts";
import { arraysOf, problemsOf } from "./expression.ts";
import type { Name, Scope } from "./expression.ts";
import { tileProblems } from "./tiles.ts";
import { divergentBarriers } from "./uniform.ts";
import { warpProblems } from "./warp.ts";

/** What a target allows; what is absent is not checked. */
export type Limits = { readonly sharedBytes?: number; readonly workgroup?: number };

export function verifyKernel(k: Kernel<Warp>, limits: Limits = {}): string[] {
  return [...declarations(k, [], limits), ...statements(k, []), ...divergentBarriers(k)];
}

export function verifyTileKernel(k: TileKernel, limits: Limits = {}): string[] {
  return [...declarations(k, k.tiles, limits), ...statements(k, k.tiles)];
}

function declarations(k: Kernel<Tile | Warp>, tiles: readonly TileDecl[], limits: Limits): string[] {
  const problems: string[] = [];
  const seen = new Set<string>();
  for (const { name } of [
    ...k.buffers,
    ...k.scalars,
    ...k.tables,
    ...k.shared,
    ...(k.registers ?? []),
    ...tiles,
  ]) {
    if (seen.has(name)) problems.push(`'${name}' is declared twice`);
    seen.add(name);
  }
  for (const t of k.tables) {
    const right = t.type === "i32" ? (v: number) => (v | 0) === v : (v: number) => Number.isFinite(v);
    if (t.values.length === 0) problems.push(`table '${t.name}' is empty`);
    if (!t.values.every(right)) problems.push(`table '${t.name}' holds what is no finite ${t.type}`);
  }
  const whole = (n: number) => Number.isInteger(n) && n > 0;
  for (const s of k.shared)
    if (!whole(s.length)) problems.push(`shared '${s.name}' has ${s.length} elements`);
  for (const r of k.registers ?? [])
    if (!whole(r.length)) problems.push(`registers '${r.name}' have ${r.length} elements`);
  for (const t of tiles)
    if (!whole(t.rows) || !whole(t.cols)) problems.push(`tile '${t.name}' is ${t.rows} × ${t.cols}`);
  if (!whole(k.workgroup)) problems.push(`a workgroup of ${k.workgroup} lanes`);
  const bytes = k.shared.reduce((sum, s) => sum + 4 * s.length, 0);
  if (limits.sharedBytes !== undefined && bytes > limits.sharedBytes)
    problems.push(`${bytes} bytes of shared memory, the target has ${limits.sharedBytes}`);
  if (limits.workgroup !== undefined && k.workgroup > limits.workgroup)
    problems.push(`${k.workgroup} lanes, the target allows ${limits.workgroup}`);
  return problems;
}

function statements(k: Kernel<Tile | Warp>, tiles: readonly TileDecl[]): string[] {
  const problems: string[] = [];
  const arrays = arraysOf(k);
  const shapes = new Map(tiles.map((t) => [t.name, t]));
  const filled = new Set<string>();

  const walk = (
    parent: string,
    block: readonly Stmt<Tile | Warp>[],
    outer: ReadonlyMap<string, Name>,
  ): void => {
    const names = new Map(outer);
    const scope: Scope = { names, arrays };
    block.forEach((s, i) => {
      const here = place(parent, i, s);
      const say = (text: string) => void problems.push(`${here}: ${text}`);
      const check = (...found: readonly string[]) => found.forEach(say);
      const unused = (name: string) => {
        if (names.has(name)) say(`'${name}' is visible already`);
        if (arrays.has(name) || shapes.has(name)) say(`'${name}' is the name of an array or a tile`);
      };
      switch (s.s) {
        case "let":
        case "var":
          check(...problemsOf(s.value, scope));
          unused(s.name);
          names.set(s.name, { type: s.value.type, kind: s.s });
          return;
        case "exchange":
          check(...problemsOf(s.value, scope));
          if (s.value.type !== "f32" && s.value.type !== "f32x4")
            say(`lanes exchange f32 or f32x4, not ${s.value.type}`);
          if (s.mask !== 1 && s.mask !== 2)
            say(`an exchange by ${String(s.mask)}: only 1 and 2 stay within four lanes`);
          if (k.workgroup % 4 !== 0)
            say(`an exchange among ${k.workgroup} lanes, which is no multiple of four`);
          unused(s.name);
          names.set(s.name, { type: s.value.type, kind: "let" });
          return;
        case "set": {
          check(...problemsOf(s.value, scope));
          const to = names.get(s.name);
          if (to === undefined) say(`'${s.name}' is not defined here`);
          else if (to.kind !== "var") say(`'${s.name}' is a ${to.kind}, which cannot be set`);
          else if (to.type !== s.value.type) say(`'${s.name}' is ${to.type}, set to ${s.value.type}`);
          return;
        }
        case "store": {
          check(...problemsOf(s.index, scope, "i32"), ...problemsOf(s.value, scope));
          const to = arrays.get(s.to);
          if (to === undefined) say(`there is no array '${s.to}'`);
          else if (!to.writable) say(`'${s.to}' is only read`);
          else if (to.type !== scalarOf(s.value.type))
            say(`'${s.to}' holds ${to.type}, ${s.value.type} is stored`);
          return;
        }
        case "for":
          check(...problemsOf(s.from, scope, "i32"), ...problemsOf(s.to, scope, "i32"));
          if (!(Number.isInteger(s.step) && s.step > 0)) say(`a step of ${s.step}`);
          if (s.unroll !== undefined && s.unroll !== false && (s.from.e !== "const" || s.to.e !== "const"))
            say("asks to be unrolled, but its bounds are not constants");
          unused(s.name);
          return walk(here, s.body, new Map([...names, [s.name, { type: "i32", kind: "loop" }]]));
        case "if":
          check(...problemsOf(s.cond, scope, "bool"));
          walk(here, s.then, names);
          if (s.else !== undefined) walk(`${here} else`, s.else, names);
          return;
        case "barrier":
        case "comment":
          return;
        case "warp":
          check(...warpProblems(s, scope, k.workgroup));
          return;
        default:
          check(...tileProblems(s, scope, shapes, filled));
      }
    });
  };
  walk("", k.body, new Map(k.scalars.map((p) => [p.name, { type: p.type, kind: "scalar" }])));
  return problems;
}
