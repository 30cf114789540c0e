// Processor time that a software device takes. Wall time on a shared machine tells as much of the others as of a kernel; and Dawn's
// package for Node spins on the first thread while it waits, which is nobody's work.
import { readdirSync, readFileSync } from "node:fs";

/** Ticks of a second in /proc, on every Linux of today. */
const TICKS = 100;

/** Milliseconds that all threads of this process but the first have run; null where /proc does not tell. @returns {number | null} */
export function otherThreads() {
  try {
    let ticks = 0;
    for (const id of readdirSync("/proc/self/task")) {
      if (id === String(process.pid)) continue;
      const stat = readFileSync(`/proc/self/task/${id}/stat`, "utf8");
      // The name in brackets may hold anything, blanks too.
      const [user, system] = stat
        .slice(stat.lastIndexOf(")") + 2)
        .split(" ")
        .slice(11, 13)
        .map(Number);
      ticks += (user ?? NaN) + (system ?? NaN);
    }
    return (ticks * 1000) / TICKS;
  } catch {
    return null;
  }
}
