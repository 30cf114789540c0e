import { readFileSync } from "node:fs";
import { it } from "vitest";
import { compileSpec, readSpec } from "../../src/compile.ts";
it.each(["examples/jargon.heddle","examples/paper.heddle","examples/gigapath.heddle"])("%s", (f) => {
  const { spec, diagnostics } = readSpec(readFileSync(f, "utf8"), f);
  console.log(diagnostics);
  if (spec === null) throw new Error("spec");
  const c = compileSpec(spec, { target: "wasm",  });
  for (const p of c) console.log(p.name, p.stats, p.kernels.map((k) => k.name), JSON.stringify(p.program.plan).length, p.program.plan.variants.map(v=>v.steps.length));
});
