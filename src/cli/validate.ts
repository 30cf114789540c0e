/** Shaders through a real WebGPU implementation without a GPU or a driver: Dawn's null backend, from the optional package `webgpu`. */
import { inputError } from "../../runtime/input-error.ts";
import { anchorsOf } from "../anchors.ts";
import type * as Ast from "../ast.ts";
import { compileSpec } from "../compile.ts";
import { diagnostic } from "../diagnostic.ts";
import type { Diagnostic, Source } from "../diagnostic.ts";
import { linesOf } from "../diagnostic/place.ts";
import type { Spec } from "../spec.ts";
import { shadersOf } from "./shaders.ts";
import type { WholeShader } from "./shaders.ts";

/** The parts of WebGPU that are used here. */
type Message = { readonly type: string; readonly lineNum: number; readonly message: string };
type Device = {
  pushErrorScope(filter: "validation"): void;
  popErrorScope(): Promise<{ readonly message: string } | null>;
  createShaderModule(descriptor: { readonly label: string; readonly code: string }): {
    getCompilationInfo(): Promise<{ readonly messages: readonly Message[] }>;
  };
  createComputePipelineAsync(descriptor: object): Promise<unknown>;
  destroy(): void;
};
type Adapter = {
  readonly features: { has(name: string): boolean };
  requestDevice(descriptor: { readonly requiredFeatures: readonly string[] }): Promise<Device>;
};
export type Gpu = { requestAdapter(): Promise<Adapter | null> };

/** Dawn's null backend. Throws an InputError where the package is not installed. */
export async function nullGpu(): Promise<Gpu> {
  // By a name that no bundler and no compiler looks up: the package is optional.
  const name = "webgpu";
  let dawn: { create(options: readonly string[]): Gpu };
  try {
    dawn = (await import(name)) as typeof dawn;
  } catch (error) {
    const why = error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
    throw inputError(
      `--validate compiles shaders with Dawn, which is the npm package 'webgpu': \`npm install --save-dev webgpu\` (${why})`,
    );
  }
  return dawn.create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
}

/** What WebGPU says against one shader. */
export type ShaderProblem = {
  readonly shader: Pick<WholeShader, "name" | "text" | "programs">;
  readonly message: string;
  /** Of the shader's text, from 1; null where the message is about the whole. */
  readonly line: number | null;
};

type Validated = ShaderProblem["shader"] & Pick<WholeShader, "features">;

/**
 * Compiles shaders as a device does that has the features they ask for and otherwise the least that WebGPU demands of every
 * device. One device for each set of features; a set that Dawn does not have is a problem of its shaders.
 */
export async function shaderProblems(
  shaders: readonly Validated[],
  gpu: Gpu,
): Promise<readonly ShaderProblem[]> {
  const problems: ShaderProblem[] = [];
  for (const set of new Set(shaders.map((s) => s.features.join()))) {
    // An adapter makes one device.
    const adapter = await gpu.requestAdapter();
    if (adapter === null)
      throw inputError("the installed package 'webgpu' has no null backend to validate with");
    const features = set === "" ? [] : set.split(",");
    const own = shaders.filter((s) => s.features.join() === set);
    const lacking = features.filter((f) => !adapter.features.has(f));
    if (lacking.length > 0) {
      const message = `the installed Dawn has no ${lacking.join(", ")}`;
      problems.push(...own.map((shader) => ({ shader, message, line: null })));
      continue;
    }
    const device = await adapter.requestDevice({ requiredFeatures: features });
    try {
      for (const shader of own) problems.push(...(await problemsOf(shader, device)));
    } finally {
      device.destroy();
    }
  }
  return problems;
}

async function problemsOf(shader: Validated, device: Device): Promise<readonly ShaderProblem[]> {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ label: shader.name, code: shader.text });
  const { messages } = await module.getCompilationInfo();
  let whole: string | null = null;
  if (!messages.some((m) => m.type === "error"))
    await device
      .createComputePipelineAsync({
        label: shader.name,
        layout: "auto",
        compute: { module, entryPoint: "main" },
      })
      .catch((error: unknown) => void (whole = error instanceof Error ? error.message : String(error)));
  const scoped = await device.popErrorScope();
  const found = messages
    .filter((m) => m.type === "error")
    .map(({ message, lineNum }) => ({ shader, message, line: lineNum > 0 ? lineNum : null }));
  if (found.length > 0) return found;
  // Dawn adds what it was doing, in lines of their own.
  const message = (whole ?? scoped?.message)?.split("\n")[0];
  return message === undefined ? [] : [{ shader, message, line: null }];
}

/** Problems as diagnostics of the spec: at the branch or the item that the shader names above the line in question. */
export function shaderDiagnostics(
  problems: readonly ShaderProblem[],
  ast: Ast.Program,
  source: Source,
): readonly Diagnostic[] {
  return problems.map(({ shader, message, line }) => {
    const [name = ""] = shader.programs;
    const lines = shader.text.split("\n");
    const written = line === null ? undefined : lines[line - 1]?.trim();
    const anchor = anchorAbove(lines, line);
    const item = ast.items.find((i) => "name" in i && i.name.text === name);
    const span = anchor === null ? (item?.span ?? ast.span) : spanOfLine(source.text, anchor);
    return diagnostic(
      "invalid-shader",
      span,
      { kernel: `\`${shader.name}\``, item: `\`${name}\``, message: message.replace(/\.$/, "") },
      {
        found: written === undefined ? undefined : `\`${written}\` in line ${line} of the shader`,
        hint: "This is a fault of heddle, not of the spec; please report it together with the spec.",
      },
    );
  });
}

/** The line of the spec that the comments of a shader last name before a line, or first of all. */
function anchorAbove(lines: readonly string[], line: number | null): number | null {
  const before = line === null ? [] : lines.slice(0, line).reverse();
  for (const text of [...before, ...lines]) {
    const named = /\/\/ spec:(\d+)\b/.exec(text)?.[1];
    if (named !== undefined) return Number(named);
  }
  return null;
}

function spanOfLine(text: string, line: number): Ast.Span {
  const found = linesOf(text)[line - 1];
  if (found === undefined) return { start: 0, end: 0 };
  const indent = found.text.length - found.text.trimStart().length;
  return { start: found.start + indent, end: found.start + found.text.trimEnd().length };
}

/** Everything WebGPU has to say against the shaders of a spec. */
export async function validate(
  spec: Spec,
  ast: Ast.Program,
  source: Source,
  gpu: Gpu,
): Promise<readonly Diagnostic[]> {
  const programs = compileSpec(spec, { target: "wgsl", anchors: anchorsOf(ast, source.text) });
  return shaderDiagnostics(await shaderProblems(shadersOf(programs), gpu), ast, source);
}
