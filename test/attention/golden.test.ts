/** torchscale's own outputs through the interpreter, on every legal schedule. */
import { afterAll, describe, expect, it } from "vitest";
import { scheduleKinds } from "../../src/schedule.ts";
import { compare } from "../../src/tolerance.ts";
import { attentionCases } from "../golden.ts";
import { runInterpreted, scheduleFor } from "./run.ts";

const cases = await attentionCases();
let worst = 0;
afterAll(() => console.log(`interpreter against torchscale, worst of scale: ${worst.toExponential(1)}`));

describe.each(cases)("$id", (c) => {
  const schedules = scheduleKinds.flatMap(
    (kind) => scheduleFor(c.spec, { kind, rows: 16, keys: 16 }, c.N) ?? [],
  );
  it.each(schedules)("interpreted, $kind", (schedule) => {
    const { out, lse } = runInterpreted(c.spec, schedule, c, c);
    const o = compare(out, c.out, { dtype: "f32", terms: c.N });
    const l = compare(lse, c.lseUnion, { dtype: "f32", terms: c.N, atLeast: 1 });
    worst = Math.max(worst, o.worst / o.scale, l.worst / l.scale);
    expect(o, `out ${JSON.stringify(o)}`).toMatchObject({ ok: true });
    expect(l, `lse ${JSON.stringify(l)}`).toMatchObject({ ok: true });
  });
});
