/** How long the steps of a pass take, by events of the device between them. */
import type { ReadyStep } from "./prepare.ts";
import type { Session } from "./session.ts";
import type { CudaStream } from "./stream.ts";

/** Milliseconds of each step of a run, as the device measured them. */
export type StepTime = { readonly title: string; readonly entry: string; readonly ms: number };

export type Timer = {
  /** Marks the beginning of a step. */
  readonly before: () => void;
  /** Marks the end of the last one. */
  readonly end: () => void;
  /** Once the stream has been waited for. */
  readonly times: () => readonly StepTime[];
  readonly dispose: () => void;
};

export function timerFor(session: Session, stream: CudaStream, steps: readonly ReadyStep[]): Timer {
  const events: ReturnType<typeof session.context.event>[] = [];
  const mark = () => {
    const event = session.context.event();
    events.push(event);
    stream.record(event);
  };
  return {
    before: mark,
    end: mark,
    times: () =>
      steps.map(({ title, entry }, i) => {
        const [from, to] = [events[i], events[i + 1]];
        return { title, entry, ms: from === undefined || to === undefined ? 0 : to.since(from) };
      }),
    dispose: () => events.forEach((e) => e.dispose()),
  };
}
