/** The script of the HTML report: draws the charts from the data that lies in the page. Bundled into it by html.ts. */
import uPlot from "uplot";
import type { Curve, PageData } from "./data.ts";

const css = getComputedStyle(document.documentElement);
const colour = (name: string): string => css.getPropertyValue(`--${name}`).trim();
const BASE = colour("base");
const HEAD = colour("head");
const MUTED = colour("muted");
const GRID = colour("grid");
const ALARM = colour("alarm");
const FONT = "12px system-ui, sans-serif";
const HEIGHT = 300;

const data = JSON.parse(document.getElementById("data")?.textContent ?? "{}") as PageData;
const charts: uPlot[] = [];

/** Where a chart goes. */
function place(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no #${id}`);
  return element;
}

const axis = (label: string, more: Partial<uPlot.Axis> = {}): uPlot.Axis => ({
  label,
  labelFont: FONT,
  font: FONT,
  stroke: MUTED,
  grid: { stroke: GRID, width: 1 },
  ticks: { stroke: GRID, width: 1 },
  ...more,
});

/** Three digits. */
const digits = (value: number | null | undefined, unit: string): string =>
  value === null || value === undefined ? "–" : `${Number(value.toPrecision(3)).toLocaleString("en-US")} ${unit}`;

/** Logarithmic where values spread over so much that a line would lie on the axis. */
const LOG_FROM = 30;
const isWide = (values: readonly (number | null)[]): boolean => {
  const some = values.filter((value): value is number => value !== null && value > 0);
  return some.length > 0 && Math.max(...some) / Math.min(...some) > LOG_FROM;
};

/** A scale from a little below the least value to a little above the greatest. */
const close = (wide: boolean): uPlot.Scale => (wide ? { distr: 3 } : { range: (_, low, high) => padded(low, high) });

function padded(low: number, high: number): [number, number] {
  const room = Math.max((high - low) * 0.1, Math.abs(high) * 0.01, 1e-9);
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

function draw(id: string, options: Omit<uPlot.Options, "width" | "height">, rows: uPlot.AlignedData): void {
  const at = place(id);
  charts.push(new uPlot({ width: at.clientWidth, height: HEIGHT, ...options }, rows, at));
}

const series = (label: string, unit: string, stroke: string, more: Partial<uPlot.Series> = {}): uPlot.Series => ({
  label,
  stroke,
  width: 2,
  points: { show: false },
  value: (_, value) => digits(value, unit),
  ...more,
});

/** Points without a line between them. */
const dots = (label: string, unit: string, stroke: string, size: number): uPlot.Series =>
  series(label, unit, stroke, {
    paths: () => null,
    points: { show: true, size, fill: stroke, stroke, width: 0 },
  });

const aligned = ({ x, base, head }: Curve): uPlot.AlignedData => [[...x], [...base], [...head]];

/** 1 / (1 - q) as people name it: 10 is 90 %, 1000 is 99.9 %. */
function quantileName(inverse: number): string {
  const nines = Math.max(0, Math.ceil(Math.log10(inverse) - 1e-9) - 1);
  return `${(100 - 100 / inverse).toFixed(Math.max(0, nines - 1))} %`;
}

function percentiles(): void {
  const { percentiles: curve } = data;
  draw(
    "percentiles",
    {
      scales: { x: { time: false, distr: 3 }, y: close(isWide([...curve.base, ...curve.head])) },
      axes: [
        axis("quantile", {
          splits: () => [1, 2, 4, 10, 20, 100, 1e3, 1e4, 1e5, 1e6].filter((at) => at <= (curve.x.at(-1) ?? 1)),
          values: (_, splits) => splits.map(quantileName),
          filter: (_, splits) => splits,
        }),
        axis("latency, µs", { size: 64 }),
      ],
      series: [
        { label: "quantile", value: (_, at) => (at === null ? "–" : quantileName(at)) },
        series("base", "µs", BASE),
        series("head", "µs", HEAD),
      ],
    },
    aligned(curve),
  );
}

/** Vertical lines, below what is drawn. */
const lines =
  (at: readonly number[], stroke: string, width: number) =>
  (chart: uPlot): void => {
    const { ctx, bbox } = chart;
    ctx.save();
    ctx.fillStyle = stroke;
    for (const x of at) {
      const left = chart.valToPos(x, "x", true);
      if (left >= bbox.left && left <= bbox.left + bbox.width)
        ctx.fillRect(left - width / 2, bbox.top, width, bbox.height);
    }
    ctx.restore();
  };

function strip(index: number): void {
  const { metric, unit, curve } = data.strips[index];
  place("strip").replaceChildren();
  draw(
    "strip",
    {
      scales: { x: { time: false }, y: close(isWide([...curve.base, ...curve.head])) },
      axes: [axis("trial; a line where a new pair of launches begins"), axis(`${metric}, ${unit}`, { size: 64 })],
      series: [{ label: "trial" }, dots("base", unit, BASE, 6), dots("head", unit, HEAD, 6)],
      hooks: { drawClear: [lines(data.launches, GRID, 2)] },
    },
    aligned(curve),
  );
}

/** The change in each pair of launches, and lines at what matters. */
function changes(index: number): void {
  const { metric, minimum, percent } = data.changes[index];
  const x = percent.map((_, i) => i + 1);
  const level = (at: number): number[] => x.map(() => at);
  place("changes").replaceChildren();
  const rule = (label: string, stroke: string): uPlot.Series => series(label, "%", stroke, { width: 1, dash: [6, 4] });
  draw(
    "changes",
    {
      scales: { x: { time: false, range: [0.5, x.length + 0.5] }, y: { range: (_, low, high) => padded(low, high) } },
      axes: [
        axis("pair of launches", { incrs: [1, 2, 5, 10, 20, 50, 100] }),
        axis(`change of ${metric}, %`, { size: 64 }),
      ],
      series: [
        { label: "pair" },
        dots("head against base", "%", HEAD, 8),
        rule("no change", MUTED),
        rule("matters from", ALARM),
      ],
    },
    [x, [...percent], level(0), level(minimum)],
  );
}

function time(): void {
  const { x, side, p50, p99, max, hiccups } = data.time;
  const of = (wanted: "base" | "head", values: readonly number[]): (number | null)[] =>
    values.map((value, i) => (side[i] === wanted ? value : null));
  draw(
    "time",
    {
      scales: { x: { time: false }, y: close(isWide([...p50, ...max])) },
      axes: [axis("seconds since the comparison began"), axis("latency, µs", { size: 64 })],
      series: [
        { label: "s" },
        dots("base p50", "µs", BASE, 4),
        dots("head p50", "µs", HEAD, 4),
        dots("base p99", "µs", `${BASE}aa`, 5),
        dots("head p99", "µs", `${HEAD}aa`, 5),
        dots("base max", "µs", `${BASE}44`, 6),
        dots("head max", "µs", `${HEAD}44`, 6),
      ],
      hooks: {
        drawClear: [
          lines(
            hiccups.map(({ t }) => t),
            `${ALARM}66`,
            2,
          ),
        ],
      },
    },
    [[...x], of("base", p50), of("head", p50), of("base", p99), of("head", p99), of("base", max), of("head", max)],
  );
}

/** The metric is chosen for both charts that show one. */
function choose(): void {
  const select = place("metric") as HTMLSelectElement;
  const show = (): void => {
    strip(select.selectedIndex);
    changes(select.selectedIndex);
  };
  select.addEventListener("change", show);
  show();
}

percentiles();
choose();
time();
addEventListener("resize", () => {
  for (const chart of charts)
    if (chart.root.isConnected) chart.setSize({ width: chart.root.parentElement?.clientWidth ?? 0, height: HEIGHT });
});
// A test looks for it: everything was drawn.
document.documentElement.dataset.drawn = String(charts.filter((chart) => chart.root.isConnected).length);
