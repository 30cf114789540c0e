/** The outside as the commands see it, so that tests can run them in their own process. */
import { styleText } from "node:util";

export type Io = {
  /** Results. */
  readonly out: (text: string) => void;
  /** Diagnostics, notes and progress. */
  readonly err: (text: string) => void;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Whether `err` is a terminal: only then is there progress. */
  readonly terminal: boolean;
  /** Whether `err` takes colours. */
  readonly colour: boolean;
};

/** The process's own streams. Colours are for terminals, unless NO_COLOR is set. */
export function processIo(): Io {
  const terminal = process.stderr.isTTY === true;
  const { NO_COLOR, TERM } = process.env;
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    env: process.env,
    terminal,
    colour: terminal && (NO_COLOR === undefined || NO_COLOR === "") && TERM !== "dumb",
  };
}

type Style = Parameters<typeof styleText>[0];

export const styled = (io: Io, style: Style, text: string): string =>
  io.colour ? styleText(style, text, { validateStream: false }) : text;

/** `HEDDLE_DEBUG` 1 … 5 as what the compiler traces; undefined when it is not set. */
export function traceTo(
  io: Io,
): { readonly level: number; readonly write: (text: string) => void } | undefined {
  const level = debugLevel(io);
  return level === 0
    ? undefined
    : { level, write: (text) => io.err(text.endsWith("\n") ? text : `${text}\n`) };
}

export const debugLevel = (io: Io): number => {
  const level = Number(io.env["HEDDLE_DEBUG"] ?? 0);
  return Number.isFinite(level) ? Math.max(0, level) : 1;
};

export type Progress = {
  /** What is being done now; shown once two seconds have passed, on a terminal. */
  readonly say: (text: string) => void;
  /** Clears the line. */
  readonly end: () => void;
};

const PATIENCE = 2000;
const EVERY = 100;

/** One line on the terminal for work of more than two seconds. */
export function progressOn(io: Io): Progress {
  if (!io.terminal) return { say: () => undefined, end: () => undefined };
  const start = Date.now();
  let shown = 0;
  let latest = "";
  const show = () => {
    shown = Date.now();
    io.err(`\r\x1b[2K${latest} (${((shown - start) / 1000).toFixed(0)} s)`);
  };
  const timer = setTimeout(show, PATIENCE);
  timer.unref();
  return {
    say: (text) => {
      latest = text;
      const now = Date.now();
      if (now - start >= PATIENCE && now - shown >= EVERY) show();
    },
    end: () => {
      clearTimeout(timer);
      if (shown > 0) io.err("\r\x1b[2K");
    },
  };
}

/** 1234567 as `1,234,567`. */
export const grouped = (n: number | bigint): string => n.toString().replace(/\B(?=(\d{3})+$)/g, ",");

/** Bytes for a reader: `512 B`, `24.1 kB`, `3.20 MB`. */
export const bytesText = (n: number): string => {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let [value, unit] = [n, 0];
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${unit === 0 ? value : value.toPrecision(3)} ${units[unit]}`;
};
