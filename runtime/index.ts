/** What generated modules import, and what a web page ships: running Plans, without the compiler and without Node. */
export { attention, model } from "./model.ts";
export type {
  Attention,
  AttentionInputs,
  AttentionResult,
  AttentionSession,
  BitsOptions,
  CreateOptions,
  ForwardOptions,
  ForwardResult,
  Model,
  ModelSession,
} from "./model.ts";
export type { AttentionDefinition, ModelDefinition, ModelInput, ModelOutput } from "./definition.ts";
export type { Bits } from "./bits.ts";
export { webgpuHere } from "./open.ts";
export type { DeviceOptions } from "./open.ts";
export type { MemoryUse } from "./device.ts";
export type { DeviceError } from "./device-error.ts";
export type { InputError } from "./input-error.ts";
export { memoryOf } from "./memory.ts";
export type { Memory, PlanOptions } from "./memory.ts";
export type { Plan, Program, WasmModules } from "./plan.ts";
export { memorySource, readHeader, readTensor } from "./safetensors.ts";
export type {
  ByteSource,
  ReadOptions,
  SafetensorsError,
  SafetensorsHeader,
  TensorEntry,
} from "./safetensors.ts";
export type { Checkpoint, CheckpointTensor } from "./checkpoint.ts";
export { checkWeights } from "./weights.ts";
export type { WeightProblem, WeightsError } from "./weights.ts";
export { wasmModules } from "./modules.ts";
