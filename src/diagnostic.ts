/** What heddle says about a user's file: data first (`diagnostic`), then text (`render`, `toJson`, `toGithub`). */
export { diagnostic, inOrder, isError, limited } from "./diagnostic/diagnostic.ts";
export type { Diagnostic, Source } from "./diagnostic/diagnostic.ts";
export { codes } from "./diagnostic/table.ts";
export type { Args, Code, Severity } from "./diagnostic/table.ts";
export { nearest } from "./diagnostic/nearest.ts";
export { render } from "./diagnostic/render.ts";
export { toGithub, toJson } from "./diagnostic/data.ts";
export type { JsonDiagnostic } from "./diagnostic/data.ts";
