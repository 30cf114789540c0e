/** `heddle verify`: the generated kernels of every device here against the f64 reference, on random inputs. */
import { inputError } from "../../runtime/input-error.ts";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { progressOn, styled } from "./io.ts";
import type { Io } from "./io.ts";
import { checkedSpec, itemsNamed } from "./spec-file.ts";
import type { Format } from "./spec-file.ts";
import {
  cudaSubjects,
  interpretSubjects,
  nativeSubjects,
  wasmSubjects,
  webgpuSubjects,
} from "./verify/devices.ts";
import type { Subject } from "./verify/devices.ts";
import { verifyItem } from "./verify/item.ts";
import type { Finding, Remark } from "./verify/item.ts";
import { rowsOf, tableText } from "./verify/table.ts";

export const verifyDevices = ["wasm", "native", "webgpu", "cuda", "interpret"] as const;

export type VerifyOptions = {
  readonly device?: (typeof verifyDevices)[number];
  readonly length?: readonly number[];
  readonly seed?: number;
  readonly threads?: number;
  /** Of cuda. */
  readonly linear?: "own" | "cublaslt";
  readonly json: boolean;
  readonly format: Format;
};

export async function verify(
  path: string,
  name: string | undefined,
  options: VerifyOptions,
  io: Io,
  devices: (options: VerifyOptions, io: Io) => Promise<Subjects> = subjectsFor,
): Promise<ExitCode> {
  const file = await checkedSpec(path, options.json ? "json" : options.format, io);
  if (file === null) return exitCodes.diagnostics;
  const items = itemsNamed(file.spec, name, path);
  const seed = options.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
  const { subjects, absent } = await devices(options, io);
  const progress = progressOn(io);
  const all: (Finding | Remark)[] = [];
  try {
    for (const item of items)
      all.push(
        ...(await verifyItem({
          spec: file.spec,
          item,
          subjects,
          seed,
          say: progress.say,
          ...(options.length === undefined ? {} : { lengths: options.length }),
        })),
      );
  } finally {
    for (const subject of subjects) await subject.dispose();
    progress.end();
  }
  const findings = all.filter((f) => "kernel" in f);
  const remarks = all.filter((f) => "text" in f);
  const rows = rowsOf(findings);
  const bad = rows.filter((r) => !r.ok).length + remarks.filter((r) => r.failed).length;
  if (options.json) {
    io.out(`${JSON.stringify({ seed, ok: bad === 0, rows, remarks, absent }, null, 2)}\n`);
    return bad === 0 ? exitCodes.ok : exitCodes.diagnostics;
  }
  for (const { spec, kind } of items) {
    io.out(`${kind} ${spec.name}\n`);
    io.out(tableText(rows.filter((r) => r.item === spec.name)));
    for (const { device, text, failed } of remarks.filter((r) => r.item === spec.name))
      io.out(`  ${device}: ${failed ? "FAILED: " : ""}${text}\n`);
    io.out("\n");
  }
  for (const { device, why } of absent) io.out(`not run on ${device}: ${why}\n`);
  const again = `random inputs of --seed ${seed}`;
  const compared = `${rows.length} results of kernels on ${subjects.length} devices`;
  io.out(
    bad === 0
      ? `${compared} within tolerance; ${again}\n`
      : `${styled(io, "red", `${bad} of ${compared} missed`)}; ${again}\n`,
  );
  return bad === 0 ? exitCodes.ok : exitCodes.diagnostics;
}

export type Subjects = {
  readonly subjects: readonly Subject[];
  readonly absent: readonly { readonly device: string; readonly why: string }[];
};

async function subjectsFor({ device, threads, linear = "own" }: VerifyOptions, io: Io): Promise<Subjects> {
  const wanted = (name: (typeof verifyDevices)[number]) => device === undefined || device === name;
  const none = { subjects: [], absent: null };
  const gpu = wanted("webgpu") ? await webgpuSubjects() : none;
  const cuda = wanted("cuda") ? await cudaSubjects(io.env, device === "cuda", linear) : none;
  const native = wanted("native") ? await nativeSubjects(io.env, threads) : none;
  const absent = [
    { device: "native", why: native.absent },
    { device: "webgpu", why: gpu.absent },
    { device: "cuda", why: cuda.absent },
  ].flatMap(({ why, ...rest }) => (why === null ? [] : [{ ...rest, why }]));
  // What was asked for by name must be there.
  const [first] = absent;
  if (device !== undefined && first !== undefined) throw inputError(first.why);
  return {
    subjects: [
      ...(wanted("wasm") ? wasmSubjects(threads) : []),
      ...native.subjects,
      ...gpu.subjects,
      ...cuda.subjects,
      ...(wanted("interpret") ? interpretSubjects(device === "interpret") : []),
    ],
    absent,
  };
}
