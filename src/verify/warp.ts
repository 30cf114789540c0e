/** Warp statements against their rows. */
import { isVector } from "../expr.ts";
import { warpOps, type Warp } from "../warp.ts";
import { problemsOf, type Scope } from "./expression.ts";

export function warpProblems(s: Warp, scope: Scope, workgroup: number): string[] {
  const problems: string[] = [];
  const say = (text: string) => void problems.push(text);
  const row = warpOps[s.op];
  if (workgroup % 32 !== 0) say(`'${s.op}' among ${workgroup} lanes, which are no whole warps`);
  if (s.places.length !== row.places.length)
    say(`'${s.op}' has ${row.places.length} places, not ${s.places.length}`);
  if (s.values.length !== row.values.length)
    say(`'${s.op}' has ${row.values.length} values, not ${s.values.length}`);
  s.places.forEach(({ array, index }, i) => {
    problems.push(...problemsOf(index, scope, "i32"));
    const [at, wanted] = [scope.arrays.get(array), row.places[i]];
    if (wanted === undefined) return;
    if (at === undefined) return say(`there is no array '${array}'`);
    if (at.kind !== wanted.memory) say(`'${array}' is in ${at.kind}, '${s.op}' wants ${wanted.memory}`);
    if (wanted.type !== "any" && at.type !== wanted.type)
      say(`'${array}' holds ${at.type}, '${s.op}' wants ${wanted.type}`);
    if (wanted.verb !== "read" && !at.writable) say(`'${array}' is only read`);
  });
  s.values.forEach((value, i) => {
    const wanted = row.values[i];
    problems.push(...problemsOf(value, scope, wanted));
    if (isVector(value.type)) say(`'${s.op}' takes no vectors`);
  });
  const computes = s.op.startsWith("mma") || s.op === "pack" || s.op === "unpack";
  if (computes !== (s.dtype !== undefined)) say(`'${s.op}' ${computes ? "needs a" : "has no"} dtype`);
  if ((s.op === "wait") !== (s.imm !== undefined))
    say(`'${s.op}' ${s.op === "wait" ? "needs a" : "has no"} number`);
  return problems;
}
