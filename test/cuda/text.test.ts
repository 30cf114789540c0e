/** The text of a kernel: what it may hold, what its names may be, where it computes in 64 bits. */
import { describe, expect, it } from "vitest";
import { emitCuda } from "../../codegen/cuda/emit.ts";
import { cudaTarget } from "../../codegen/cuda/target.ts";
import { attentionGraph } from "../../src/model.ts";
import * as x from "../../src/expr.ts";
import type { Kernel } from "../../src/kernel.ts";
import { choose } from "../../src/planner.ts";
import { seal } from "../../src/spec.ts";
import { NARROW } from "../../src/storage.ts";
import { verifyKernel } from "../../src/verify.ts";
import { torchscaleShape } from "../golden.ts";
import { kernel, loop, read, when, write } from "../kernel/kernels.ts";
import { programOf } from "./program.ts";

const { f32, i32, laneId, ref } = x;
/** From the function's first line on. */
const bodyOf = (k: Kernel): string => {
  expect(verifyKernel(k)).toEqual([]);
  return emitCuda(k).code.split('extern "C"')[1] ?? "";
};

const spec = seal({
  ...torchscaleShape("page", 4, 32, [
    { segment: 64, dilation: 1 },
    { segment: 128, dilation: 2 },
  ]),
  dtype: "f16" as const,
});
const page = (["branch", "class"] as const).flatMap((kind) => {
  const schedule = choose(spec, 4096, cudaTarget).candidates.find((k) => k.kind === kind)?.schedule;
  return schedule == null ? [] : programOf(attentionGraph(spec, NARROW), schedule).texts;
});

describe("the text of a kernel", () => {
  it("needs no header, and keeps PTX in its prelude", () => {
    expect(page.length).toBeGreaterThan(2);
    for (const { code } of page) {
      expect(code).not.toMatch(/#include|HEDDLE_ENTRY/);
      const [, own = ""] = code.split("#endif");
      expect(code).toMatch(/asm\(/);
      expect(own).not.toMatch(/asm|<<<|reinterpret_cast/);
    }
  });

  it("is the same every time, and says how it is launched", () => {
    const k = kernel([x.store("o", laneId, f32(1))], {
      buffers: [write("o", "f16")],
      workgroup: 64,
      scalars: [
        { name: "N", type: "i32" },
        { name: "s", type: "f32" },
      ],
    });
    const { code, ...launch } = emitCuda(k, { title: "a title" });
    expect(emitCuda(k, { title: "a title" }).code).toBe(code);
    expect(launch).toEqual({
      entry: "test",
      workgroup: 64,
      sharedBytes: 0,
      buffers: [{ name: "o", dtype: "f16", access: "write" }],
      scalars: [
        { name: "N", type: "i32" },
        { name: "s", type: "f32" },
      ],
    });
    expect(code).toMatchInlineSnapshot(`
      "// a title
      // 64 threads, 0 bytes of shared memory
      #ifndef HEDDLE_HOST
      struct f16 { unsigned short bits; };
      template <typename T> using Out = T* __restrict__;
      __device__ inline void narrow(f16& to, float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(x)); }
      template <typename I> __device__ inline void put(f16* p, I i, float x) { narrow(p[i], x); }
      #endif

      extern "C" __global__ void __launch_bounds__(64, 1)
      test(Out<f16> o, const int N, const float s, const int first_group) {
        const int group = first_group + (int)blockIdx.x;
        const int lane = (int)threadIdx.x;
        put(o, lane, 1.0f);
      }
      "
    `);
  });

  it("hides no word of the language, of CUDA or of its own prelude", () => {
    const names = [
      "float",
      "at",
      "put4",
      "min",
      "lane",
      "i64",
      "shared",
      "asm",
      "first_group",
      "vec4",
      "threadIdx",
      "sum_4",
    ];
    const body = [
      ...names.map((n, i) => x.let_(n, x.add(laneId, i32(i + 1)))),
      x.store(
        "o",
        names.map((n) => ref(n)).reduce((a, b) => x.add(a, b)),
        f32(0),
      ),
    ];
    const text = bodyOf(kernel(body, { buffers: [write("o")], workgroup: 32 }));
    for (const n of names) expect(text).toContain(`const int ${n}_2 =`);
  });

  it("writes infinities, the least integer and negative zero", () => {
    const value = x.add(x.add(f32(-Infinity), f32(Infinity)), x.float(i32(-(2 ** 31))));
    const text = bodyOf(
      kernel([x.store("o", i32(0), value), x.store("o", i32(1), f32(-0))], { buffers: [write("o")] }),
    );
    expect(text).toContain(
      "__int_as_float(0xff800000) + __int_as_float(0x7f800000) + (float)(-2147483647 - 1)",
    );
    expect(text).toContain("put(o, 1, -0.0f)");
  });

  it("orders mixed operators by parentheses", () => {
    const a = ref("a");
    const value = x.select(
      x.and(x.lt(a, i32(3)), x.not(x.eq(a, i32(1)))),
      x.mul(x.sub(a, x.sub(a, i32(2))), i32(5)),
      x.neg(x.neg(a)),
    );
    const text = bodyOf(
      kernel([x.store("o", i32(0), x.float(value))], {
        buffers: [write("o")],
        scalars: [{ name: "a", type: "i32" }],
      }),
    );
    expect(text).toContain("(float)((a < 3) && !(a == 1) ? (a - (a - 2)) * 5 : -(-a))");
  });
});

describe("64 bits", () => {
  const buffers = [read("q"), write("o")];
  const scalars = [{ name: "N", type: "i32" } as const];
  const N = ref("N");

  it("are for what leads to an index and might not fit, and for nothing else", () => {
    const body = [
      x.let_("row", x.div(laneId, i32(4))),
      x.let_("base", x.mul(x.add(x.mul(x.group, N), ref("row")), i32(768))),
      x.let_("count", x.sub(N, x.mul(x.group, i32(64)))),
      when(x.lt(ref("row"), ref("count")), [
        loop("c", 0, x.min(ref("base"), i32(4)), [
          x.store("o", x.add(ref("base"), ref("c")), x.load("q", x.mul(ref("row"), i32(4)))),
        ]),
      ]),
    ];
    expect(bodyOf(kernel(body, { buffers, scalars, workgroup: 32 }))).toMatchInlineSnapshot(`
      " __global__ void __launch_bounds__(32, 1)
      test(In<float> q, Out<float> o, const int N, const int first_group) {
        const int group = first_group + (int)blockIdx.x;
        const int lane = (int)threadIdx.x;
        const int row = lane / 4;
        const i64 base = ((i64)group * N + row) * 768;
        const int count = N - group * 64;
        if (row < count) {
          {
            const int c_end = min((int)base, 4);
            for (int c = 0; c < c_end; c++) {
              put(o, base + c, at(q, row * 4));
            }
          }
        }
      }
      "
    `);
  });

  it("serve vectors, selections and quotients", () => {
    const far = x.mul(N, i32(1024));
    const index = x.add(
      x.select(x.lt(N, i32(5)), far, x.max(far, i32(8))),
      x.mul(x.div(far, i32(2)), i32(4)),
    );
    const text = bodyOf(kernel([x.store("o", index, x.load("q", index, "f32x4"))], { buffers, scalars }));
    expect(text).toContain(
      "at4(q, (N < 5 ? (i64)N * 1024 : max((i64)N * 1024, (i64)8)) + (i64)N * 1024 / 2 * 4)",
    );
  });

  it("are refused to what would not be exact", () => {
    const k = kernel([x.store("o", x.op("xor", [x.mul(N, i32(9)), i32(1)]), f32(0))], { buffers, scalars });
    expect(() => emitCuda(k)).toThrow("'test' has an index that leads to 64 bits through xor");
  });
});
