/**
 * How much work one submit may hold. A GPU that is busy for seconds freezes the screen and is then taken away by the system
 * (about 2 s on Windows, 10 s in Chrome), so long dispatches are cut by ranges of groups. How long a group takes is learnt
 * from the pieces before, per kernel and length.
 */

/** Milliseconds of one submit: a few frames, and far from any watchdog, while its own cost stays below a percent. */
export const BUDGET_MS = 100;
/** The first piece of work whose speed nobody knows: small enough for the slowest device, large enough to be measured. */
const FIRST_GROUPS = 16;
/** A piece is at most this many times the one it was learnt from. */
const GROWTH = 8;

export type Pace = {
  /** Groups of the kernel `key` that may run next, at most `left`, with `spent` of the submit's budget used up. */
  readonly next: (key: string, left: number, spent: number) => number;
  /** The milliseconds that `groups` groups are expected to take; null where nobody knows. */
  readonly expected: (key: string, groups: number) => number | null;
  readonly learn: (key: string, groups: number, ms: number) => void;
};

export function paceOf(budgetMs: number): Pace {
  const known = new Map<string, { readonly perGroup: number; readonly groups: number }>();
  return {
    expected: (key, groups) => {
      const k = known.get(key);
      return k === undefined || k.groups * GROWTH < groups ? null : k.perGroup * groups;
    },
    next: (key, left, spent) => {
      const k = known.get(key);
      if (k === undefined) return spent > 0 ? 0 : Math.min(left, FIRST_GROUPS);
      const room = Math.floor((budgetMs - spent) / Math.max(k.perGroup, 1e-6));
      const most = Math.min(left, Math.max(1, k.groups) * GROWTH);
      // Something must run, however slow it is.
      return spent > 0 ? Math.min(most, Math.max(0, room)) : Math.min(most, Math.max(1, room));
    },
    learn: (key, groups, ms) => {
      const before = known.get(key);
      const now = ms / groups;
      // A remainder much smaller than the piece before it overrates a group, so it only counts where it was faster all the same: the
      // first piece may have waited for a driver that compiles late. What got slower counts at once, what got faster by three quarters.
      if (before !== undefined && now >= before.perGroup && groups * 4 < before.groups) return;
      const perGroup = before === undefined ? now : Math.max(now, now + (before.perGroup - now) / 4);
      known.set(key, { perGroup, groups: Math.max(groups, before?.groups ?? 0) });
    },
  };
}
