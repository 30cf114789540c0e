/** Optional parts of a machine: tests skip where one is missing, unless HEDDLE_REQUIRE names it. */
export type Part = "webgpu" | "chromium" | "deno" | "nvrtc" | "cuda" | "cc" | "c++";

/** Whether HEDDLE_REQUIRE (a comma list, as `.ci/run` sets it) wants this part, so that its absence is a failure. `deno` goes with `webgpu`. */
export const required = (part: Part): boolean => {
  const parts = (process.env["HEDDLE_REQUIRE"] ?? "").split(",").map((p) => p.trim());
  return parts.includes(part) || (part === "deno" && parts.includes("webgpu"));
};

/** What a test does about a missing part: throws where it is required, otherwise says why it skips, in one line. */
export function missing(part: Part, why: string): void {
  if (required(part)) throw new Error(`HEDDLE_REQUIRE names '${part}', but ${why}`);
  console.warn(`skipped: ${part}: ${why}`);
}
