/**
 * A comparison as one HTML file that asks nobody for anything: styles, script, chart library (uPlot) and data lie in it,
 * and a Content-Security-Policy forbids the rest, so that it can be kept as an artifact and opened years later.
 */
import { decodeHistogram } from "../trial.ts";
import type { ComparisonReport, MetricRecord, SideName, TrialRecord } from "./data.ts";
import { SIDES } from "./data.ts";
import type { Curve, PageData } from "./page/data.ts";
import { interval, percent, probability, signedPercent, TITLES, value } from "./text.ts";

const escaped = (text: string): string => Bun.escapeHTML(text);

/** Resolves with the text of the file. */
export async function html(report: ComparisonReport): Promise<string> {
  const { base, head, metrics } = report;
  const [library, style, script] = await Promise.all([libraryStyle(), ownStyle(), bundle()]);
  const title = `${TITLES[report.outcome]}: ${base.label} against ${head.label}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>${escaped(title)}</title>
<style>${library}${style}</style>
</head>
<body class="${report.outcome}">
<header>
<h1>${escaped(report.sentence)}</h1>
<p><span class="key base">base</span> ${escaped(base.label)} <span class="key head">head</span> ${escaped(head.label)}</p>
<p>${escaped(report.workload)}</p>
</header>
<main>
${report.notes.map((note) => `<p class="note">${escaped(note)}</p>`).join("\n")}
${findings(metrics)}
<section><h2>Latency by quantile</h2><p>All trials of each side together. Each step of the axis to the right is another nine.</p><div id="percentiles"></div></section>
<section><h2>Trial by trial <select id="metric" aria-label="metric">${metrics.map((m) => `<option>${escaped(m.metric)}</option>`).join("")}</select></h2>
<div id="strip"></div>
<h3>Change in each pair of launches</h3><p>One point is the median of its trials' ratios. These points are what the verdict is made from.</p><div id="changes"></div></section>
<section><h2>Over time</h2><p>Every trial at the time it ran. A vertical line is a hiccup: an idle thread beside the measurement was woken late by 1&nbsp;ms or more (${hiccups(report.trials)}).</p><div id="time"></div></section>
<section><h2>Environment</h2>${environment(report)}</section>
</main>
<script type="application/json" id="data">${json(pageData(report))}</script>
<script type="module">${script}</script>
</body>
</html>
`;
}

/** JSON that cannot end its script element. */
const json = (data: PageData): string => JSON.stringify(data).replaceAll("<", "\\u003c");

const ownStyle = (): Promise<string> => Bun.file(new URL("./page/style.css", import.meta.url)).text();
const libraryStyle = (): Promise<string> =>
  Bun.file(Bun.resolveSync("uplot/dist/uPlot.min.css", import.meta.dir)).text();

/** The page's script with its library. Throws AggregateError where it does not compile. */
async function bundle(): Promise<string> {
  const entry = new URL("./page/page.ts", import.meta.url).pathname;
  const { outputs } = await Bun.build({ entrypoints: [entry], target: "browser", minify: true });
  return (await outputs[0].text()).replaceAll("</script", "<\\/script");
}

function findings(metrics: readonly MetricRecord[]): string {
  const widest = Math.max(...metrics.flatMap((m) => [m.low ?? 0, m.high ?? 0, m.change, m.minimum * 2].map(Math.abs)));
  const reach = Math.min(widest * 1.1, 1);
  const head = ["metric", "base", "head", "change", "95 % interval", "", "p", "outcome"];
  const rows = metrics.map(
    (
      m,
    ) => `<tr class="${m.outcome}"><th scope="row">${escaped(m.metric)}</th><td>${value(m.metric, m.base)}</td><td>${value(m.metric, m.head)}</td>
<td>${signedPercent(m.change)}</td><td>${interval(m)}</td><td class="bar">${bar(m, reach)}</td><td>${escaped(probability(m.p).replace(/^= /, ""))}</td><td class="outcome">${TITLES[m.outcome]}</td></tr>`,
  );
  return `<section><table class="findings"><thead><tr>${head.map((text) => `<th>${text}</th>`).join("")}</tr></thead><tbody>
${rows.join("\n")}</tbody></table>
<p class="legend">The bar is the interval, the mark the estimate, the tinted part what would matter (${metrics.map((m) => `${escaped(m.metric)} from ${percent(m.minimum)}`).join(", ")}); ±${percent(reach)} is shown.</p></section>`;
}

/** The interval of a change beside what matters. */
function bar({ low, high, change, minimum, better }: MetricRecord, reach: number): string {
  const at = (part: number): number => 50 + (Math.max(-reach, Math.min(reach, part)) / reach) * 50;
  const span = (name: string, from: number, to: number): string =>
    `<i class="${name}" style="left:${from.toFixed(2)}%;width:${(to - from).toFixed(2)}%"></i>`;
  const matters = better === "lower" ? span("matters", at(minimum), 100) : span("matters", 0, at(-minimum));
  return `${matters}${span("zero", 50, 50)}${span("interval", at(low ?? -reach), at(high ?? reach))}${span("estimate", at(change), at(change))}`;
}

function hiccups(trials: readonly TrialRecord[]): string {
  const all = trials.flatMap((trial) => trial.hiccups);
  const longest = Math.max(0, ...all.map(({ ns }) => ns)) / 1e6;
  return all.length === 0 ? "none here" : `${all.length} here, the longest ${longest.toFixed(1)} ms`;
}

function environment(report: ComparisonReport): string {
  const { environment: e } = report;
  const rows: [string, string][] = [
    ["Command", e.command],
    ["Date", e.date],
    ["Machine", `${e.cpu}, ${e.cpus} CPUs (${e.allowedCpus.join(", ")} used), governor ${e.governor ?? "unknown"}`],
    ["Software", `lcore ${e.lcore}, Bun ${e.bun}, Linux ${e.kernel}`],
    [
      "Machine's state",
      `load ${e.load} at the start, ${percent(e.steal)} of the time stolen by the host, ${percent(e.others)} used by others`,
    ],
    [
      "Comparison",
      `${report.pairs} pairs of launches counted, ${report.pairsInvalid} not; ${report.seconds.toFixed(1)} s of ${report.budgetSeconds} s; seed ${report.seed}`,
    ],
    [
      "Base, head",
      `${report.base.label} ${report.base.commit ?? ""}; ${report.head.label} ${report.head.commit ?? ""}`,
    ],
  ];
  return `<table class="environment">${rows.map(([name, text]) => `<tr><th scope="row">${name}</th><td>${escaped(text)}</td></tr>`).join("")}</table>`;
}

function pageData(report: ComparisonReport): PageData {
  const valid = report.trials.filter((trial) => trial.invalid === null);
  const of = (side: SideName): TrialRecord[] => valid.filter((trial) => trial.side === side);
  const [base, head] = SIDES.map(of);
  return {
    percentiles: percentileCurve(report),
    strips: report.metrics.map(({ metric, better }) => {
      const [scale, unit] = better === "higher" ? [1e-3, "k/s"] : [1e-3, "µs"];
      const amount = (trial: TrialRecord): number => trial[metric as "p50"] * scale;
      return { metric, unit, curve: { x: base.map((_, i) => i + 1), base: base.map(amount), head: head.map(amount) } };
    }),
    launches: base.flatMap((trial, i) => (i > 0 && trial.pair !== base[i - 1].pair ? [i + 0.5] : [])),
    changes: report.metrics.map((m) => ({
      metric: m.metric,
      minimum: 100 * (m.better === "lower" ? m.minimum : -m.minimum),
      percent: m.logRatios.map((ratio) => 100 * Math.expm1(ratio)),
    })),
    time: {
      x: valid.map((trial) => trial.t),
      side: valid.map((trial) => trial.side),
      p50: valid.map((trial) => trial.p50 / 1e3),
      p99: valid.map((trial) => trial.p99 / 1e3),
      max: valid.map((trial) => trial.max / 1e3),
      hiccups: report.trials.flatMap((trial) => trial.hiccups).map(({ t, ns }) => ({ t, ms: ns / 1e6 })),
    },
  };
}

/** Points for each halving of what is left above the quantile. */
const POINTS_A_HALVING = 8;

/** Both sides' quantiles up to the last one that ten requests lie beyond. */
function percentileCurve({ latency }: ComparisonReport): Curve {
  const [base, head] = SIDES.map((side) => decodeHistogram(latency[side]));
  const most = Math.max(2, Math.min(base.totalCount, head.totalCount) / 10);
  const x = Array.from(
    { length: Math.floor(Math.log2(most) * POINTS_A_HALVING) + 1 },
    (_, i) => 2 ** (i / POINTS_A_HALVING),
  );
  const at = (histogram: typeof base): number[] =>
    x.map((inverse) => histogram.getValueAtPercentile(100 - 100 / inverse) / 1e3);
  return { x, base: at(base), head: at(head) };
}
