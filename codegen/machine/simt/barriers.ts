/**
 * Where barriers must stand. A tile statement becomes phases: runs of statements without a barrier, with what they do to
 * memory that lanes share. Two accesses to one array need a barrier between them when one writes and another lane may
 * meet the same element; the pass puts each barrier as late as it can stand, so that one serves as many pairs as
 * possible, and follows loops until what an iteration leaves behind is known to its next one.
 */
import type { Stmt } from "../../../src/kernel.ts";
import type { Warp } from "../../../src/warp.ts";

/**
 * `array` names a buffer or the memory of a tile. `by` names the mapping of its elements to lanes; accesses by the same mapping never
 * meet across lanes, `ANY` meets all.
 */
export type Access = { readonly array: string; readonly verb: "read" | "write"; readonly by: string };
export const ANY = "any";

export type Phase<X extends Warp = never> = {
  readonly s: "phase";
  readonly accesses: readonly Access[];
  readonly body: readonly Stmt<X>[];
};
/** Statements between which barriers are to be placed. */
export type Phased<X extends Warp = never> = Stmt<Phase<X> | X>;

/** Accesses since the last barrier, by their text. */
type Pending = ReadonlyMap<string, Access>;

const textOf = (a: Access): string => `${a.array} ${a.verb} ${a.by}`;
/** Whether two different names stand for memory that overlaps. */
export type Overlaps = (a: string, b: string) => boolean;
const meets = (a: Access, b: Access, overlaps: Overlaps): boolean =>
  (a.verb === "write" || b.verb === "write") &&
  (a.array === b.array ? a.by !== b.by || a.by === ANY : overlaps(a.array, b.array));
const join = (a: Pending, b: Pending): Pending => new Map([...a, ...b]);

const runsOnce = (s: Pick<Extract<Stmt, { s: "for" }>, "from" | "to">): boolean =>
  s.from.e === "const" && s.to.e === "const" && s.from.value < s.to.value;

/** Replaces phases by their statements, with the barriers between them. Conditions and bounds around phases are uniform. */
export function synchronise<X extends Warp = never>(
  body: readonly Phased<X>[],
  overlaps: Overlaps = () => false,
): readonly Stmt<X>[] {
  return walk<X>(body, new Map(), overlaps).out;
}

function walk<X extends Warp>(
  body: readonly Phased<X>[],
  before: Pending,
  overlaps: Overlaps,
): { readonly out: readonly Stmt<X>[]; readonly after: Pending } {
  const out: Stmt<X>[] = [];
  let pending = before;
  for (const s of body) {
    switch (s.s) {
      case "phase": {
        const open = [...pending.values()];
        if (s.accesses.some((a) => open.some((b) => meets(a, b, overlaps)))) {
          out.push({ s: "barrier" });
          pending = new Map();
        }
        pending = join(pending, new Map(s.accesses.map((a) => [textOf(a), a])));
        out.push(...s.body);
        break;
      }
      case "for": {
        let entry = pending;
        let inner = walk<X>(s.body, entry, overlaps);
        for (;;) {
          const again = join(entry, inner.after);
          if (again.size === entry.size) break;
          entry = again;
          inner = walk<X>(s.body, entry, overlaps);
        }
        out.push({ ...s, body: inner.out });
        pending = runsOnce(s) ? inner.after : join(pending, inner.after);
        break;
      }
      case "if": {
        const yes = walk<X>(s.then, pending, overlaps);
        const no = walk<X>(s.else ?? [], pending, overlaps);
        const { cond } = s;
        // oxlint-disable-next-line unicorn/no-thenable
        const taken: Stmt<X> = { s: "if", cond, then: yes.out };
        out.push(s.else === undefined ? taken : { ...taken, else: no.out });
        pending = join(yes.after, no.after);
        break;
      }
      case "barrier":
        out.push(s);
        pending = new Map();
        break;
      default:
        out.push(s);
    }
  }
  return { out, after: pending };
}
