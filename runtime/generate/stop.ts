/** Ends of a generated text: held back while they may still become whole, so that a reader never sees the beginning of one. */

export type StopWatch = {
  /** Adds text; gives what is certain not to belong to a stop, and whether one was found. */
  readonly push: (text: string) => { readonly text: string; readonly stopped: boolean };
  /** What is still held back. */
  readonly end: () => string;
};

export function stopWatch(stops: readonly string[]): StopWatch {
  let held = "";
  /** Characters at the end of `held` that a stop may begin with. */
  const pending = (): number => {
    let most = 0;
    for (const stop of stops)
      for (let n = Math.min(stop.length - 1, held.length); n > most; n--)
        if (held.endsWith(stop.slice(0, n))) most = n;
    return most;
  };
  return {
    push: (text) => {
      held += text;
      const found = stops.map((s) => held.indexOf(s)).filter((at) => at >= 0);
      if (found.length > 0) {
        const before = held.slice(0, Math.min(...found));
        held = "";
        return { text: before, stopped: true };
      }
      const certain = held.length - pending();
      const given = held.slice(0, certain);
      held = held.slice(certain);
      return { text: given, stopped: false };
    },
    end: () => {
      const rest = held;
      held = "";
      return rest;
    },
  };
}
