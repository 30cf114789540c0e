/** The text of modules: valid, and the same module when it is parsed again. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import wabt from "wabt";
import { legalize } from "../../codegen/legalize.ts";
import { control, instructions } from "../../codegen/wasm/encode.ts";
import { emitModule } from "../../codegen/wasm/module.ts";
import { wasmText } from "../../codegen/wasm/text.ts";
import { wasmOps } from "../../codegen/wasm/value.ts";
import { compileSpec } from "../../src/compile.ts";
import * as x from "../../src/expr.ts";
import type { Kernel } from "../../src/kernel.ts";
import { scheduleKinds } from "../../src/schedule.ts";
import { seal } from "../../src/spec.ts";
import { scheduleFor } from "../attention/run.ts";
import { modelCases, torchscaleShape } from "../golden.ts";
import { randomKernel } from "../kernel/random.ts";

const features = { simd: true, threads: true, relaxed_simd: true, bulk_memory: true } as const;
let tools: Awaited<ReturnType<typeof wabt>>;
beforeAll(async () => {
  tools = await wabt();
});

/** wabt's own text of a module, a writer that shares nothing with ours: equal texts are equal modules. */
function canonical(bytes: Uint8Array): string {
  const module = tools.readWasm(bytes, features);
  module.validate();
  const text = module.toText({ foldExprs: false });
  module.destroy();
  return text;
}
function parsed(text: string): Uint8Array {
  const module = tools.parseWat("text.wat", text, features);
  module.resolveNames();
  module.validate();
  const { buffer } = module.toBinary({});
  module.destroy();
  return buffer;
}
/** Functions share types in text, in the module each has its own. */
const withoutTypes = (text: string) => text.replace(/^ +\(type .*\n/gm, "").replace(/ \(type \d+\)/g, "");

function expectSame(bytes: Uint8Array, kernels?: readonly Kernel[]): string {
  const text = wasmText(bytes, kernels);
  const again = parsed(text);
  expect(withoutTypes(canonical(again))).toBe(withoutTypes(canonical(bytes)));
  expect(wasmText(again, kernels)).toBe(text);
  return text;
}

const attention = seal(
  torchscaleShape("mixed", 4, 8, [
    { segment: 16, dilation: 1 },
    { segment: 64, dilation: 4 },
  ], { causal: true }), // prettier-ignore
);

describe("text parsed again is the module", () => {
  const kinds = scheduleKinds.filter(
    (kind) => scheduleFor(attention, { kind, rows: 32, keys: 32 }, 256) !== null,
  );
  it.each(kinds)("attention, schedule %s, with and without relaxed SIMD", (schedule) => {
    const program = seal({ attentions: [attention], models: [], schedules: [] });
    for (const { program: made, kernels } of compileSpec(program, { target: "wasm", schedule })) {
      const text = expectSame(made.wasm!.base, kernels);
      expectSame(made.wasm!.relaxed, kernels);
      const [{ name, buffers, scalars }] = kernels as [Kernel];
      expect(text).toContain(`(func $${name} (export "${name}")`);
      for (const p of [...buffers, ...scalars]) expect(text).toContain(`(local.get $${p.name})`);
      expect(Math.max(...text.split("\n").map((l) => l.length))).toBeLessThan(5000);
    }
  });

  it("every golden model", async () => {
    for (const { spec } of await modelCases()) {
      const program = seal({ attentions: [], models: [spec], schedules: [] });
      const [compiled] = compileSpec(program, { target: "wasm" });
      expectSame(compiled!.program.wasm!.base, compiled!.kernels);
      expectSame(compiled!.program.wasm!.relaxed);
    }
  });

  it("random kernels", () => {
    fc.assert(
      fc.property(randomKernel, fc.boolean(), (kernel, relaxed) => {
        const legal = legalize(kernel, wasmOps);
        expectSame(emitModule([legal], { relaxed }).bytes, [legal]);
      }),
      { numRuns: 200 },
    );
  });
});

const plain = { tables: [], shared: [], scalars: [], workgroup: 1 } as const;

it("is this, for a small kernel with a table", () => {
  const kernel: Kernel = {
    ...plain,
    name: "shift",
    buffers: [{ name: "out", dtype: "f32", access: "write" }],
    scalars: [{ name: "by", type: "f32" }],
    tables: [
      { name: "steps", type: "i32", values: [3, -1, 7] },
      { name: "shares", type: "f32", values: [0.5, -Infinity, 0.1] },
    ],
    body: [
      {
        s: "for",
        name: "i",
        from: x.i32(0),
        to: x.load("steps", x.group, "i32"),
        step: 1,
        body: [
          {
            s: "if",
            cond: x.op("lt", [x.ref("i"), x.i32(2)]),
            then: [
              x.store("out", x.ref("i"), x.op("mul", [x.ref("by", "f32"), x.load("shares", x.ref("i"))])),
            ],
            else: [x.store("out", x.i32(0), x.splat(x.f32(-0)))],
          },
        ],
      },
    ],
  };
  const { bytes } = emitModule([legalize(kernel, wasmOps)], { relaxed: false });
  const text = expectSame(bytes, [kernel]);
  expect(text).toMatchInlineSnapshot(`
    "(module
      (import "env" "memory" (memory 1 65536))

      ;; 3 -1 7
      (data (i32.const 1024) "\\03\\00\\00\\00\\ff\\ff\\ff\\ff\\07\\00\\00\\00")

      ;; 0.5 -inf 0.1
      (data (i32.const 1040) "\\00\\00\\00\\3f\\00\\00\\80\\ff\\cd\\cc\\cc\\3d")

      (func $shift (export "shift") (param $begin i32) (param $end i32) (param $scratch i32) (param $out i32)
          (param $by f32)
        (local $5 i32)
        (local.set $5 (local.get $begin))
        (if (i32.lt_s (local.get $begin) (local.get $end))
          (then
            (loop $again_1
              (call $loop_1 (local.get $out) (local.get $by) (local.get $5))
              (br_if $again_1 (i32.lt_s (local.tee $5 (i32.add (local.get $5) (i32.const 1))) (local.get $end))))))
      )

      (func $loop_1 (param $0 i32) (param $1 f32) (param $2 i32)
        (local $3 i32) (local $4 i32) (local $5 i32) (local $6 i32)
        (local.set $3 (i32.const 0))
        (local.set $4 (i32.load offset=1024 (i32.shl (local.get $2) (i32.const 2))))
        (if (i32.lt_s (local.get $3) (local.get $4))
          (then
            (loop $again_1
              (if (i32.lt_s (local.get $3) (i32.const 2))
                (then
                  (f32.store
                    (local.tee $5 (i32.add (local.get $0) (i32.shl (local.get $3) (i32.const 2))))
                    (f32.mul
                      (local.get $1)
                      (f32.load offset=1040 (local.tee $6 (i32.shl (local.get $3) (i32.const 2)))))))
                (else
                  (v128.store align=4 (local.get $0) (f32x4.splat (f32.const -0.0)))))
              (br_if $again_1 (i32.lt_s (local.tee $3 (i32.add (local.get $3) (i32.const 1))) (local.get $4))))))
      )
    )
    "
  `);
  // Without its kernel: the same, by number.
  expect(expectSame(bytes)).toContain("(param $0 i32) (param $1 i32)");
});

it("knows every instruction that there is, and fails at others", () => {
  const codes = [
    ...Object.values(instructions).map((r) => r.code),
    ...Object.values(control).map((c) => [c]),
  ];
  expect(new Set(codes.map((c) => c.join())).size).toBe(codes.length);
  const { bytes } = emitModule([{ ...plain, name: "none", buffers: [], body: [] }], { relaxed: false });
  const nop = Uint8Array.from(bytes);
  const at = nop.lastIndexOf(control["local.get"]);
  nop[at] = 0x01;
  expect(() => wasmText(nop)).toThrow(/heddle: internal: wasm: opcode 1/);
  expect(() => wasmText(bytes.subarray(0, bytes.length - 3))).toThrow(/heddle: internal: wasm: ends/);
});
