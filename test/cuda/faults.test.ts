/** What the host must catch: the harness is worth as much as the mistakes it sees. */
import { describe, expect, it } from "vitest";
import type { CudaKernelText } from "../../codegen/cuda/text.ts";
import { attentionGraph } from "../../src/model.ts";
import { seal } from "../../src/spec.ts";
import { randomInputs, scheduleFor } from "../attention/run.ts";
import { torchscaleShape } from "../golden.ts";
import { missing } from "../webgpu/require.ts";
import { compiler, COMPILER_MISSING } from "./host/build.ts";
import { runJob } from "./host/job.ts";
import { programOf, runProgram } from "./program.ts";

const c = compiler();
if (c === null) missing("c++", COMPILER_MISSING);

const spec = seal({
  ...torchscaleShape("trial", 2, 16, [
    { segment: 64, dilation: 1 },
    { segment: Infinity, dilation: 2 },
  ]),
  causal: true,
});
const N = 100;
const schedule = scheduleFor(spec, { kind: "branch", rows: 32, keys: 16 }, N);
const program = programOf(attentionGraph(spec), schedule);
const inputs = randomInputs(spec, N, 1, 1);
/** The message with which the program ends when its texts are changed so, or nothing. */
async function failure(change: (code: string) => string): Promise<string> {
  if (c === null) return "";
  const texts = program.texts.map((t) => ({ ...t, code: change(t.code) }));
  expect(texts.some((t, i) => t.code !== program.texts[i]?.code)).toBe(true);
  try {
    await runProgram(c, program, inputs, { N, B: 1 }, { texts });
    return "";
  } catch (e) {
    return e instanceof Error ? e.message : String(e);
  }
}

describe.skipIf(c === null)("the host sees", () => {
  it("nothing wrong with what is emitted, signed overflow and shifts included", async () => {
    if (c === null) return;
    await runProgram(c, program, inputs, { N, B: 1 }, { sanitize: true });
  });

  it("every barrier that is dropped", async () => {
    const barriers = program.texts.map((t) => t.code.split("__syncthreads();").length - 1);
    const count = Math.max(...barriers);
    expect(count).toBeGreaterThan(3);
    const unseen: number[] = [];
    for (let drop = 0; drop < count; drop++) {
      const message = await failure((code) => {
        const parts = code.split("__syncthreads();");
        if (parts.length <= drop + 1) return code;
        return [...parts.slice(0, drop), `${parts[drop]};${parts[drop + 1]}`, ...parts.slice(drop + 2)].join(
          "__syncthreads();",
        );
      });
      if (!/shared memory is (read|written) (and nobody wrote it|while|by lane)/.test(message))
        unseen.push(drop);
    }
    // Before a loop that always runs and begins with a barrier, another one orders nothing more.
    expect(unseen.length, `barriers ${unseen.join(", ")} of ${count}`).toBeLessThanOrEqual(1);
  });

  it("reads and writes past a buffer", async () => {
    expect(await failure((code) => code.replace(/at4\(k, /, "at4(k, 1000000 + "))).toMatch(
      /line \d+, group \d+, lane \d+: element 10\d{5} of a buffer of 3200/,
    );
    expect(await failure((code) => code.replace(/put4\(out, /g, "put4(out, -4000 + "))).toMatch(
      /element -\d+ of a buffer/,
    );
    expect(await failure((code) => code.replace(/at\(offsets, /, "at(offsets, 99 + "))).toMatch(
      /of a table of 4/,
    );
  });

  it("accesses that are not aligned", async () => {
    expect(await failure((code) => code.replace(/at4\(v, /, "at4(v, 1 + "))).toMatch(
      /four elements from \d+ on are accessed as one/,
    );
  });

  it("reads of shared memory that nobody wrote", async () => {
    const message = await failure((code) => code.replace(/put4\(block, [^;]*at4\(q,[^;]*;/, ";"));
    expect(message).toMatch(/word \d+ of shared memory is read and nobody wrote it/);
  });

  it("barriers and exchanges that only some lanes reach", async () => {
    expect(
      await failure((code) =>
        code.replace("threadIdx.x;", "threadIdx.x;\n  if (lane < 40) __syncthreads();"),
      ),
    ).toMatch(/lanes part/);
    const gone = await failure((code) =>
      code.replace("threadIdx.x;", "threadIdx.x;\n  if (lane == 7) return;"),
    );
    expect(gone).toMatch(/lanes part: lane 0.*waits|lane 7 has ended/);
    const apart = await failure((code) =>
      code.replace(
        /const float (theirs\w*) = exchange\(([^;]*)\);/,
        "float $1 = 0.0f; if (lane != 3) $1 = exchange($2);",
      ),
    );
    expect(apart).toMatch(/lanes part/);
  });

  it("results that are wrong: an exchange with another lane", async () => {
    if (c === null) return;
    const right = await runProgram(c, program, inputs, { N, B: 1 });
    const texts = program.texts.map((t) => ({
      ...t,
      code: t.code.replace(/(exchange\(mine\w*), 1\)/g, "$1, 0)"),
    }));
    const wrong = await runProgram(c, program, inputs, { N, B: 1 }, { texts });
    expect(wrong["lse"]).not.toEqual(right["lse"]);
  });
});

describe.skipIf(c === null)("indices past 2^31", () => {
  it("are exact: the last group of a sequence of 3 million tokens, in buffers that are mostly never touched", async () => {
    if (c === null) return;
    // 3,000,001 tokens × 16 heads × 64 are 3.07e9 elements.
    const long = 3_000_001;
    const wide = seal({
      ...torchscaleShape("wide", 16, 64, [{ segment: 64, dilation: 1 }]),
      align: "segment" as const,
    });
    const plan = programOf(
      attentionGraph(wide),
      scheduleFor(wide, { kind: "branch", rows: 64, keys: 32 }, long),
    );
    const step = plan.plan.variants[0]?.steps.at(-1);
    const kernel: CudaKernelText | undefined = plan.texts[step?.kernel ?? 0];
    if (kernel === undefined) throw new Error("no kernel");
    const elements = long * 16 * 64;
    expect(elements).toBeGreaterThan(2 ** 31);
    const groups = 16 * Math.ceil(long / 64);
    const zero = (bytes: number) => ({ bytes, holds: "zero" as const });
    const buffers = [...[0, 1, 2, 3].map(() => zero(4 * elements)), zero(4 * 16 * long)];
    // The last segment of the last head holds one token and, with torchscale's zero padding, 63 more keys of score 0.
    await runJob(c, {
      buffers,
      steps: [{ kernel, buffers: [0, 1, 2, 3, 4], scalars: [long], groups: 1, firstGroup: groups - 1 }],
      outputs: [],
    });
    const narrow = {
      ...kernel,
      code: kernel.code.replaceAll("typedef long long i64", "").replaceAll("i64", "int"),
    };
    await expect(
      runJob(c, {
        buffers,
        steps: [
          { kernel: narrow, buffers: [0, 1, 2, 3, 4], scalars: [long], groups: 1, firstGroup: groups - 1 },
        ],
        outputs: [],
      }),
    ).rejects.toThrow(/of a buffer of 3072001024/);
  });
});
