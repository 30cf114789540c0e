/** Every IR as stable, readable text: what snapshots hold and `HEDDLE_DEBUG` prints. */
export { showExpr } from "./show/expression.ts";
export { showGraph, showNode } from "./show/graph.ts";
export { showBlock, showKernel, showStmt, showTiles } from "./show/kernel.ts";
export { showPlan } from "./show/plan.ts";
export { showFloat, showShape, showSize } from "./show/size.ts";
export { showAttention, showModel, showSpec } from "./show/spec.ts";
