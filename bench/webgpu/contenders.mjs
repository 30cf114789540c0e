// Who competes on a device: heddle's program through heddle's own runtime, and the hand-written shaders. Both tell the milliseconds
// that the device's clock counts for their dispatches; where it has no such clock, those that the submits took.

/** @typedef {import("./compile.mjs").Work} Work */
/** @typedef {{ readonly [name: string]: Float32Array }} Arrays */
/**
 * @typedef {object} Ready
 * @property {string} name
 * @property {number} text characters of its shaders
 * @property {number} firstMs from the text of the shaders to the end of a first run
 * @property {number} laterMs a later run, measured alike
 * @property {() => Promise<number>} run one run; milliseconds of its dispatches
 * @property {() => Promise<Arrays>} outputs of the last run
 * @property {() => Promise<void>} end
 */
/** @typedef {{ device: GPUDevice, timed: boolean }} On */

/**
 * @param {On} on @param {string} name
 * @param {import("../../runtime/webgpu.ts").WebgpuDevice} runtime of heddle, on the same device
 * @param {typeof import("../../runtime/weights.ts").packPanels} packPanels
 * @param {Work} work @param {Arrays} inputs
 * @returns {Promise<Ready>}
 */
export async function heddle({ timed }, name, runtime, packPanels, work, inputs) {
  const start = performance.now();
  const executable = await runtime.compile(work.program);
  for (const [index, { name: weight, layout }] of executable.plan.weights.entries()) {
    const data = inputs[weight];
    if (data === undefined || work.kind !== "linear") throw new Error(`no weight '${weight}'`);
    await executable.setWeight(index, layout === "panels" ? packPanels(data, work.cols, work.depth) : data);
  }
  const given = Object.fromEntries(
    executable.plan.inputs.map((t) => [t.name, inputs[t.name] ?? new Float32Array()]),
  );
  const at = { N: work.kind === "linear" ? work.rows : work.length, B: 1 };
  const into = /** @type {Arrays} */ (await executable.run(given, at));
  const firstMs = performance.now() - start;
  // The same work anew with all compiled; inputs are carried over again.
  const again = performance.now();
  await executable.runInto(given, at, into);
  const laterMs = performance.now() - again;
  const chosen = (work.program.webgpu ?? []).find(
    ({ features }) => features.length === 0 || executable.detail.includes(features.join(", ")),
  );
  return {
    name,
    text: (chosen?.shaders ?? []).reduce((sum, s) => sum + s.code.length, 0),
    firstMs,
    laterMs,
    run: async () => {
      const before = performance.now();
      await executable.runInto(given, at, into);
      const wall = performance.now() - before;
      return timed ? executable.profile().reduce((sum, step) => sum + step.ms, 0) : wall;
    },
    outputs: async () => into,
    end: () => executable.dispose(),
  };
}

// Numbers of WebGPU's flag namespaces.
const STORAGE = 0x80 | 8 | 4;
const UNIFORM = 0x40 | 8;
const READ = 1 | 8;

/** A dispatch of a hand-written shader. @typedef {{ params: ArrayBuffer, buffers: readonly GPUBuffer[], grid: readonly number[] }} Launch */

/**
 * @param {On} on @param {string} name @param {string} code
 * @param {(buffer: (data: number | ArrayBufferView) => GPUBuffer) => { launches: readonly Launch[], outputs: { [name: string]: GPUBuffer } }} describe
 * @returns {Promise<Ready>}
 */
async function hand({ device, timed }, name, code, describe) {
  const start = performance.now();
  /** @type {GPUBuffer[]} */
  const owned = [];
  const buffer = (/** @type {number} */ size, /** @type {number} */ usage) => {
    const made = device.createBuffer({ size: Math.ceil(size / 16) * 16, usage });
    owned.push(made);
    return made;
  };
  const filled = (/** @type {number | ArrayBufferView} */ data, usage = STORAGE) => {
    if (typeof data === "number") return buffer(data, usage);
    const made = buffer(data.byteLength, usage);
    device.queue.writeBuffer(made, 0, data.buffer, data.byteOffset, data.byteLength);
    return made;
  };
  const { launches, outputs } = describe((data) => filled(data));
  const module = device.createShaderModule({ label: name, code });
  const pipeline = await device.createComputePipelineAsync({
    label: name,
    layout: "auto",
    compute: { module, entryPoint: "main" },
  });
  const bound = launches.map(({ params, buffers, grid }) => ({
    grid,
    group: device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [filled(new Uint8Array(params), UNIFORM), ...buffers].map((b, binding) => ({
        binding,
        resource: { buffer: b },
      })),
    }),
  }));
  const clock = timed ? device.createQuerySet({ type: "timestamp", count: 2 }) : null;
  const resolved = buffer(16, 0x200 | 4);
  const stamps = buffer(16, READ);
  const run = async () => {
    let ms = 0;
    // A submit for each dispatch, as a long one would keep a screen waiting.
    for (const { grid, group } of bound) {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass(
        clock === null
          ? {}
          : {
              timestampWrites: { querySet: clock, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
            },
      );
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(grid[0] ?? 1, grid[1] ?? 1, grid[2] ?? 1);
      pass.end();
      if (clock !== null) {
        encoder.resolveQuerySet(clock, 0, 2, resolved, 0);
        encoder.copyBufferToBuffer(resolved, 0, stamps, 0, 16);
      }
      const before = performance.now();
      device.queue.submit([encoder.finish()]);
      if (clock === null) {
        await device.queue.onSubmittedWorkDone();
        ms += performance.now() - before;
        continue;
      }
      await stamps.mapAsync(1);
      const [from = 0n, to = 0n] = new BigUint64Array(stamps.getMappedRange().slice(0));
      stamps.unmap();
      ms += Number(to - from) / 1e6;
    }
    return ms;
  };
  const read = async (/** @type {GPUBuffer} */ from) => {
    const staging = device.createBuffer({ size: from.size, usage: READ });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(from, 0, staging, 0, from.size);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(1);
    const copy = new Float32Array(staging.getMappedRange().slice(0));
    staging.destroy();
    return copy;
  };
  await run();
  const firstMs = performance.now() - start;
  const again = performance.now();
  await run();
  const laterMs = performance.now() - again;
  return {
    name,
    text: code.length,
    firstMs,
    laterMs,
    run,
    outputs: async () => {
      /** @type {{ [name: string]: Float32Array }} */
      const all = {};
      for (const [key, b] of Object.entries(outputs)) all[key] = await read(b);
      return all;
    },
    end: async () => {
      owned.forEach((b) => b.destroy());
      clock?.destroy();
    },
  };
}

/** Rows (invocations) of a group of attention.wgsl; rows and columns of one of linear.wgsl. */
const ROWS = 64;

/**
 * A hand-written shader of a work.
 * @param {On} on @param {Work} work @param {Arrays} inputs @param {Work["hands"][number]} shader
 */
export const handWritten = (on, work, inputs, { name, code }) =>
  hand(on, name, code, (buffer) => {
    const input = (/** @type {string} */ key) => buffer(inputs[key] ?? new Float32Array());
    if (work.kind === "linear") {
      const { rows, depth, cols } = work;
      const out = buffer(4 * rows * cols);
      const buffers = [input("x"), input("weight"), input("bias"), out];
      const params = new Uint32Array([rows, depth, cols, 0]).buffer;
      const grid = [Math.ceil(cols / ROWS), Math.ceil(rows / ROWS)];
      return { launches: [{ params, buffers, grid }], outputs: { out } };
    }
    const { length } = work;
    const { heads, headDim, causal, branches, offsets, scale } = work.shape;
    const [q, k, v] = [input("q"), input("k"), input("v")];
    const out = buffer(4 * length * heads * headDim);
    const lse = buffer(4 * length * heads);
    const launches = branches.map(({ segment, dilation }, b) => {
      const params = new ArrayBuffer(32);
      new Uint32Array(params).set([length, heads, segment, dilation, Number(causal), Number(b === 0)]);
      new Float32Array(params)[6] = scale * Math.LOG2E;
      const starts = buffer(new Uint32Array(offsets[b] ?? []));
      const grid = [Math.ceil(Math.ceil(segment / dilation) / ROWS), heads, Math.ceil(length / segment)];
      return { params, buffers: [q, k, v, starts, out, lse], grid };
    });
    return { launches, outputs: { out, lse } };
  });
