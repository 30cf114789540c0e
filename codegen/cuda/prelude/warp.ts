/** What lanes do together, and copies beside them: PTX for sm_80. Operands are arrays of registers and places in shared memory. */
import { device, type Snippet, type Snippets } from "./snippet.ts";

const HALVES = ["f16", "bf16"] as const;
const upTo = (n: number): readonly number[] => Array.from({ length: n }, (_, i) => i);
const many = (entries: readonly (readonly [string, Snippet])[]): Snippets => Object.fromEntries(entries);

/** `count` matrices of 8 × 8, as they are or transposed. */
const ldmatrix = (turned: "" | "_trans", count: number): readonly [string, Snippet] => {
  const named = `ldmatrix${turned}_${count}`;
  const ptx = `ldmatrix.sync.aligned.m8n8.x${count}${turned.replace("_", ".")}.shared.b16`;
  const outs = upTo(count)
    .map((i) => `%${i}`)
    .join(", ");
  const text = `${device} void ${named}(int* m, Shared<int> p, int word) {
  asm volatile("${ptx} {${outs}}, [%${count}];"
    : ${upTo(count)
      .map((i) => `"=r"(m[${i}])`)
      .join(", ")} : "r"(address(p, word)) : "memory");
}`;
  return [named, { needs: ["address"], text }];
};

const mma = (dtype: "f16" | "bf16", k: 16 | 8): readonly [string, Snippet] => {
  const [left, right] = [k / 4, k / 8];
  const list = (from: number, count: number) =>
    `{${upTo(count)
      .map((i) => `%${from + i}`)
      .join(", ")}}`;
  const operands = (name: string, count: number) =>
    upTo(count)
      .map((i) => `"r"(${name}[${i}])`)
      .join(", ");
  const named = `mma_k${k}_${dtype}`;
  const text = `${device} void ${named}(float* c, const int* a, const int* b) {
  asm("mma.sync.aligned.m16n8k${k}.row.col.f32.${dtype}.${dtype}.f32 ${list(0, 4)}, ${list(4, left)}, ${list(4 + left, right)}, ${list(0, 4)};"
    : ${upTo(4)
      .map((i) => `"+f"(c[${i}])`)
      .join(", ")}
    : ${operands("a", left)}, ${operands("b", right)});
}`;
  return [named, { text }];
};

const copyAsync = (dtype: "f16" | "bf16"): readonly [string, Snippet] => [
  `copy_async ${dtype}`,
  {
    needs: ["address", "In", dtype],
    // A source of no bytes gives zeros and is not read.
    text: `template <typename I> ${device} void copy_async(Shared<int> to, int word, In<${dtype}> from, I i, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
    :: "r"(address(to, word)), "l"(inside ? from + i : from), "r"(inside ? 16 : 0) : "memory");
}`,
  },
];

export const warps: Snippets = {
  "exchange f32": {
    text: `${device} float exchange(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }`,
  },
  "exchange f32x4": {
    needs: ["vec4", "exchange f32"],
    text: `${device} vec4 exchange(vec4 v, int mask) {
  return {exchange(v.x, mask), exchange(v.y, mask), exchange(v.z, mask), exchange(v.w, mask)};
}`,
  },
  address: {
    needs: ["Shared"],
    text: `${device} unsigned address(Shared<int> p, int word) { return (unsigned)__cvta_generic_to_shared(p) + 4 * (unsigned)word; }`,
  },
  ...many((["", "_trans"] as const).flatMap((turned) => [1, 2, 4].map((count) => ldmatrix(turned, count)))),
  ...many(HALVES.flatMap((dtype) => ([16, 8] as const).map((k) => mma(dtype, k)))),
  ...many(HALVES.map(copyAsync)),
  reread_lane: {
    text: `${device} void reread_lane(int* lane) { asm volatile("mov.u32 %0, %%tid.x;" : "=r"(*lane)); }`,
  },
  commit: { text: `${device} void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }` },
  wait: {
    text: `template <int groups> ${device} void wait() { asm volatile("cp.async.wait_group %0;" :: "n"(groups) : "memory"); }`,
  },
  ...many(
    HALVES.map((dtype) => [
      `pack_${dtype}`,
      {
        needs: [`pack ${dtype}`],
        text: `${device} void pack_${dtype}(int* pair, float low, float high) { *pair = (int)pack_${dtype}(low, high); }`,
      },
    ]),
  ),
  ...many(
    HALVES.map((dtype) => [
      `unpack_${dtype}`,
      {
        needs: [`unpack ${dtype}`],
        text: `${device} void unpack_${dtype}(float* x, int pair) { unpack_${dtype}((unsigned)pair, x[0], x[1]); }`,
      },
    ]),
  ),
};
