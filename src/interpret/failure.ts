/** What the interpreter throws when a kernel does something no target promises to survive. */

export type FailureKind =
  /** An index outside its buffer, table or shared array. */
  | "bounds"
  /** A read of a shared element or an output that nobody wrote. */
  | "uninitialised"
  /** Arithmetic gave NaN, or a NaN was read. */
  | "nan"
  /** A store into a buffer that is only read, or into a table. */
  | "access"
  /** `div` or `rem` with a negative dividend or a divisor that is not positive. */
  | "division"
  /** A shift by less than 0 or more than 31, an `int` outside i32, a `log2` of a number that is not positive. */
  | "domain"
  /** Lanes disagree on the way to a barrier. */
  | "uniform"
  /** Two lanes of one barrier epoch, or two groups of one launch, meet at an element that one of them writes. */
  | "race"
  /** The caller's buffers or scalars do not fit the kernel. */
  | "argument";

export type InterpretError = Error & {
  readonly name: "InterpretError";
  readonly kind: FailureKind;
  readonly kernel: string;
  /** The statement; empty for `argument`. */
  readonly path: string;
  readonly group?: number;
  readonly lane?: number;
  /** The values the message speaks of: index, length, operands. */
  readonly values: readonly number[];
};

export const isInterpretError = (e: unknown): e is InterpretError =>
  e instanceof Error && e.name === "InterpretError";

/** A check in the script of a kernel; `{0}`, `{1}` … in its text stand for values known when it fails. */
export type Site = { readonly kind: FailureKind; readonly path: string; readonly text: string };

export function failure(
  kernel: string,
  site: Site,
  at: { readonly group: number; readonly lane: number } | undefined,
  values: readonly number[],
): InterpretError {
  const text = site.text.replace(/\{(\d)\}/g, (_, i: string) => String(values[Number(i)]));
  const where = [
    `kernel '${kernel}'`,
    ...(site.path === "" ? [] : [site.path]),
    ...(at === undefined ? [] : [`group ${at.group}, lane ${at.lane}`]),
  ];
  const fields = { name: "InterpretError" as const, kind: site.kind, kernel, path: site.path, values };
  return Object.assign(new Error(`${text} (${where.join("; ")})`), fields, at ?? {});
}
