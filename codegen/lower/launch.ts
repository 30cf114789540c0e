/** What lowering an operation of the graph gives: kernels to launch, in order, with what each argument is bound to. */
import type { Size } from "../../src/kernel.ts";
import type { Value, ValueId } from "../../src/graph.ts";
import type { PlanLinear, PlanTable } from "../../runtime/plan.ts";

/** A buffer argument: a value of the graph, or a table that the host computes. */
export type Binding =
  { readonly value: ValueId; readonly layout?: "rows" | "panels" } | { readonly table: PlanTable };

/** A value besides the graph's own; `elements`, of B sequences of N tokens, where no shape can say how many. */
export type Temporary = Value & { readonly elements?: Size };

export type Launch<K> = {
  readonly title: string;
  readonly kernel: K;
  /** By buffer name of the kernel. */
  readonly bind: { readonly [buffer: string]: Binding };
  /** By scalar name of the kernel. */
  readonly scalars: { readonly [name: string]: Size };
  readonly grid: Size;
  /** Of a linear layer: what it computes. */
  readonly linear?: PlanLinear;
  /** Values besides the graph's own that the operation's launches share. */
  readonly temporaries?: readonly Temporary[];
};
