/** heddle as a library: specs from text or from the builder, checked, compiled and printed. Generated modules import `heddle/runtime`. */
export { attention, branches, model, program, schedule, torchscale } from "./builder.ts";
export { format, print, read } from "../grammar/index.ts";
export { attentionDefinition, modelDefinition } from "../codegen/ts/definition.ts";
export { printModule } from "../codegen/ts/module.ts";
export type { ModuleItem, Provenance } from "../codegen/ts/module.ts";
export { check } from "./check.ts";
export { compileSpec, readSpec } from "./compile.ts";
export type { CompiledProgram, CompileOptions, CompileStats, ScheduleError } from "./compile.ts";
export { codes, isError, render, toGithub, toJson } from "./diagnostic.ts";
export type { Diagnostic, JsonDiagnostic, Source } from "./diagnostic.ts";
export { importConfig } from "./import.ts";
export type { Imported, ImportOptions } from "./import.ts";
export { choose, countPairs } from "./planner.ts";
export { runReference } from "./reference.ts";
export { attentionRow } from "./reference/row.ts";
export type { RowInputs, RowPlace } from "./reference/row.ts";
export { attentionGraph, modelGraph } from "./model.ts";
export type {
  AttentionOptions,
  BranchesInput,
  BranchInput,
  BuiltAttention,
  BuiltModel,
  ModelOptions,
  OffsetPlace,
  ScheduleOptions,
} from "./builder.ts";
export type * as Ast from "./ast.ts";
export type { AttentionSpec, Branch, ModelSpec, ScheduleHint, Spec } from "./spec.ts";
