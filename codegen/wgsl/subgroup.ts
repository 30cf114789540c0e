/**
 * Exchanges between lanes as subgroup operations, and which invocation is which lane.
 *
 * WGSL leaves open how the invocations of a workgroup are dealt to subgroups, so lanes are numbered by subgroup: in each one
 * an invocation is elected that takes as many numbers from a counter as the subgroup has members, and every member adds its
 * own number within the subgroup. Lanes 4q … 4q + 3 then sit side by side in one subgroup, where `subgroupShuffleXor` by 1 or 2
 * finds them. Assumed is no more than this: the numbers of the members of a subgroup are 0 … n − 1, and n is a multiple of four.
 * It holds where subgroups are full, of four invocations or more, and where one that is not full holds the rest of a group whose
 * size is a multiple of four. `AdapterInfo.subgroupMinSize` tells the size; groups on the `simt` machine are powers of two.
 *
 * All this runs at the start of `main`, where control flow is uniform, as the builtins ask for.
 */
import type { Kernel, Stmt } from "../../src/kernel.ts";
import { statements } from "../rewrite.ts";

export type Prologue = {
  /** Directives, first in a module. */
  readonly enable: readonly string[];
  readonly declarations: readonly string[];
  /** Parameters of `main`. */
  readonly builtins: readonly string[];
  /** Statements that define `lane`, an i32. */
  readonly body: readonly string[];
  /** The value that the other lane has. */
  readonly exchange: (value: string, s: Exchange) => string;
  /** Identifiers the text above uses. */
  readonly names: readonly string[];
};
type Exchange = Extract<Stmt, { readonly s: "exchange" }>;

export const exchanges = (kernel: Kernel): boolean =>
  [...statements(kernel.body)].some((s) => s.s === "exchange");

const COUNTER = "lanes_taken";

/** A lane is an invocation, by its number in the group. */
export const byInvocation: Prologue = {
  enable: [],
  declarations: [],
  builtins: ["@builtin(local_invocation_index) invocation: u32"],
  body: ["let lane = i32(invocation);"],
  exchange: (_, s) => {
    throw new Error(`heddle: internal: wgsl: '${s.name}' is exchanged without subgroups`);
  },
  names: [],
};

export const bySubgroup: Prologue = {
  enable: ["enable subgroups;"],
  declarations: [`var<workgroup> ${COUNTER}: atomic<u32>;`],
  builtins: ["@builtin(subgroup_invocation_id) member: u32"],
  body: [
    // The counter begins as 0, but SwiftShader clears it for one subgroup after another in kernels without a barrier.
    "workgroupBarrier();",
    "let members = subgroupAdd(1u);",
    "var first_lane = 0u;",
    "if (subgroupElect()) {",
    `  first_lane = atomicAdd(&${COUNTER}, members);`,
    "}",
    "let lane = i32(subgroupBroadcastFirst(first_lane) + member);",
  ],
  exchange: (value, { mask }) => `subgroupShuffleXor(${value}, ${mask}u)`,
  names: [COUNTER, "member", "members", "first_lane"],
};

/**
 * For tests, on devices with or without subgroups: subgroups of `size` invocations in workgroup memory, which takes 16 bytes an
 * invocation and 4 a subgroup. Neighbours by `local_invocation_index` never share one where there are several, and a partner
 * outside of the subgroup gives NaN.
 */
export function emulatedSubgroups(size: number, workgroup: number): Prologue {
  // A prime that does not divide the group deals every invocation another place.
  const stride = [5, 7, 11, 13].find((p) => workgroup % p !== 0);
  if (stride === undefined) throw new Error(`heddle: internal: wgsl: no permutation of ${workgroup} lanes`);
  return {
    enable: [],
    declarations: [
      `var<workgroup> ${COUNTER}: atomic<u32>;`,
      `var<workgroup> first_lanes: array<u32, ${Math.ceil(workgroup / size)}>;`,
      `var<workgroup> exchanged: array<vec4u, ${workgroup}>;`,
      "fn exchange(value: vec4f, place: u32, mask: u32) -> vec4f {",
      "  exchanged[place] = bitcast<vec4u>(value);",
      "  workgroupBarrier();",
      `  let member = (place % ${size}u) ^ mask;`,
      `  let other = place - place % ${size}u + member;`,
      `  let inside = member < ${size}u && other < ${workgroup}u;`,
      `  let found = exchanged[min(other, ${workgroup - 1}u)];`,
      "  workgroupBarrier();",
      "  return bitcast<vec4f>(select(vec4u(0x7fc00000u), found, inside));",
      "}",
    ],
    builtins: ["@builtin(local_invocation_index) invocation: u32"],
    body: [
      `let place = (invocation * ${stride}u + 3u) % ${workgroup}u;`,
      `if (place % ${size}u == 0u) {`,
      `  first_lanes[place / ${size}u] = atomicAdd(&${COUNTER}, min(${size}u, ${workgroup}u - place));`,
      "}",
      "workgroupBarrier();",
      `let lane = i32(first_lanes[place / ${size}u] + place % ${size}u);`,
    ],
    exchange: (value, { mask, value: { type } }) =>
      type === "f32x4"
        ? `exchange(${value}, place, ${mask}u)`
        : `exchange(vec4f(${value}), place, ${mask}u).x`,
    names: [COUNTER, "first_lanes", "exchanged", "exchange", "place", "member", "other", "found", "inside"],
  };
}
