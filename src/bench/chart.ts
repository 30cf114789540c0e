/** A chart as SVG: lines over logarithmic axes, with a line of slope 1 to hold them against. Legible on white and on black. */

export type Series = { readonly name: string; readonly points: readonly (readonly [x: number, y: number])[] };
export type Chart = {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly series: readonly Series[];
  /** Draws y ∝ x through the first point of the first series. */
  readonly linear?: boolean;
};

const [WIDTH, HEIGHT] = [760, 440];
const [LEFT, RIGHT, TOP, BOTTOM] = [72, 190, 44, 56];
/** Okabe and Ito's colours, which the colour-blind can tell apart. */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999"];

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
const rounded = (n: number): string => n.toFixed(1).replace(/\.0$/, "");

/** 1500 → 1.5k; 0.25 → 0.25. */
export function tickText(value: number): string {
  const units = ["", "k", "M", "G"];
  let [scaled, unit] = [value, 0];
  while (scaled >= 1000 && unit < units.length - 1) [scaled, unit] = [scaled / 1000, unit + 1];
  return `${Number(scaled.toPrecision(3))}${units[unit]}`;
}

/** Powers of ten that hold all values, or of two where they span less than two decades. */
function ticksOf(values: readonly number[]): readonly number[] {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const base = high / low < 100 ? 2 : 10;
  const step = Math.log(base);
  const [first, last] = [Math.floor(Math.log(low) / step + 1e-9), Math.ceil(Math.log(high) / step - 1e-9)];
  return Array.from({ length: Math.max(2, last - first + 1) }, (_, i) => base ** (first + i));
}

/** Charts one below the other. */
export function chartsSvg(charts: readonly Chart[]): string {
  const height = HEIGHT * charts.length;
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escaped(charts.map((c) => c.title).join("; "))}">`,
    "<style>",
    "  .paper { fill: #fff; } text { font: 12px system-ui, sans-serif; fill: #222; } .title { font-size: 15px; font-weight: 600; }",
    "  .grid { stroke: #ddd; } .linear { stroke: #888; stroke-dasharray: 5 4; }",
    "  @media (prefers-color-scheme: dark) { .paper { fill: #16181d; } text { fill: #ddd; } .grid { stroke: #33363d; } }",
    "</style>",
    `<rect class="paper" width="${WIDTH}" height="${height}"/>`,
    ...charts.map((chart, i) => `<g transform="translate(0 ${i * HEIGHT})">\n${panel(chart)}\n</g>`),
    "</svg>",
  ].join("\n")}\n`;
}

function panel({ title, x, y, series, linear }: Chart): string {
  const points = series.flatMap((s) => s.points);
  if (points.length === 0 || points.some(([a, b]) => !(a > 0 && b > 0)))
    throw new Error("heddle: internal: a chart needs positive numbers");
  const [xs, ys] = [ticksOf(points.map(([a]) => a)), ticksOf(points.map(([, b]) => b))];
  const scale = (ticks: readonly number[], from: number, to: number) => {
    const [low = 1, high = 10] = [ticks[0], ticks.at(-1)];
    return (value: number) =>
      from + ((Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low))) * (to - from);
  };
  const px = scale(xs, LEFT, WIDTH - RIGHT);
  const py = scale(ys, HEIGHT - BOTTOM, TOP);
  const text = (at: readonly [number, number], body: string, more = "") =>
    `<text x="${rounded(at[0])}" y="${rounded(at[1])}" ${more}>${escaped(body)}</text>`;
  const line = (a: readonly [number, number], b: readonly [number, number], style: string) =>
    `<line x1="${rounded(a[0])}" y1="${rounded(a[1])}" x2="${rounded(b[0])}" y2="${rounded(b[1])}" class="${style}"/>`;

  const grid = [
    ...xs.map((v) => [
      line([px(v), TOP], [px(v), HEIGHT - BOTTOM], "grid"),
      text([px(v), HEIGHT - BOTTOM + 18], tickText(v), 'text-anchor="middle"'),
    ]),
    ...ys.map((v) => [
      line([LEFT, py(v)], [WIDTH - RIGHT, py(v)], "grid"),
      text([LEFT - 8, py(v) + 4], tickText(v), 'text-anchor="end"'),
    ]),
  ].flat();
  const [start] = series[0]?.points ?? [];
  const reference = linear === true && start !== undefined ? [linearLine(start, xs, ys, px, py)] : [];
  const drawn = series.flatMap(({ name, points: own }, i) => {
    const colour = COLOURS[i % COLOURS.length] ?? "#000";
    const path = own.map(([a, b], n) => `${n === 0 ? "M" : "L"}${rounded(px(a))} ${rounded(py(b))}`).join("");
    const legend = TOP + 12 + 20 * i;
    return [
      `<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`,
      ...own.map(
        ([a, b]) =>
          `<circle cx="${rounded(px(a))}" cy="${rounded(py(b))}" r="3.5" fill="${colour}"><title>${escaped(`${name}: ${tickText(a)} → ${tickText(b)}`)}</title></circle>`,
      ),
      `<line x1="${WIDTH - RIGHT + 14}" y1="${legend}" x2="${WIDTH - RIGHT + 34}" y2="${legend}" stroke="${colour}" stroke-width="3"/>`,
      text([WIDTH - RIGHT + 40, legend + 4], name),
    ];
  });
  const legend = TOP + 12 + 20 * series.length;
  return [
    text([LEFT, 24], title, 'class="title"'),
    ...grid,
    text([(LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14], x, 'text-anchor="middle"'),
    text(
      [18, (TOP + HEIGHT - BOTTOM) / 2],
      y,
      `text-anchor="middle" transform="rotate(-90 18 ${rounded((TOP + HEIGHT - BOTTOM) / 2)})"`,
    ),
    ...reference,
    ...drawn,
    ...(reference.length === 0
      ? []
      : [
          line([WIDTH - RIGHT + 14, legend], [WIDTH - RIGHT + 34, legend], "linear"),
          text([WIDTH - RIGHT + 40, legend + 4], "linear in N"),
        ]),
  ].join("\n");
}

/** The part of y = slope · x that lies inside the axes. */
function linearLine(
  [x0, y0]: readonly [number, number],
  xs: readonly number[],
  ys: readonly number[],
  px: (x: number) => number,
  py: (y: number) => number,
): string {
  const slope = y0 / x0;
  const [left = 1, right = 1, low = 1, high = 1] = [xs[0], xs.at(-1), ys[0], ys.at(-1)];
  const from = Math.max(left, low / slope);
  const to = Math.min(right, high / slope);
  return `<line x1="${rounded(px(from))}" y1="${rounded(py(slope * from))}" x2="${rounded(px(to))}" y2="${rounded(py(slope * to))}" class="linear"/>`;
}
