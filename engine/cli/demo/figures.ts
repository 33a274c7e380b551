/** What the demo measures, and how it is shown. */
import { bucketValue, toHistogram } from "../../measure/latency.ts";
import { colour, duration, short, table, whole, wrap } from "../output.ts";

/** One echo server. */
export interface Figures {
  readonly name: string;
  /** Echoes a second with many flows, and the share lost, 0 to 1. */
  readonly rate: number;
  readonly loss: number;
  /** CPU time that the serving thread took an echo, nanoseconds. */
  readonly cpuNs: number;
  /** Share of the time that the server could have run, while another program had its CPU, 0 to 1. */
  readonly contended: number;
  /** Round trips with one datagram in flight: counts of the buckets of LatencyCounts. */
  readonly roundTrips: Float64Array;
}

export interface DemoResult {
  readonly wire: "veth" | "memory";
  /** How it ran, and why that way, in words. */
  readonly how: string;
  /** The engine first. */
  readonly servers: readonly Figures[];
}

/** Load of the rate: small datagrams in 60-byte frames, as DNS questions or game states are. */
export const LOAD = { flows: 64, window: 256, payload: 18, timeoutMs: 250 } as const;

/** Share from which other programs are worth a warning. */
const CONTENDED = 0.05;
const QUANTILES = [50, 90, 99, 99.9] as const;
const BAR_WIDTH = 40;
/** Rows of the histogram at most: all but the last reach from the 1st to the 99th percentile. */
const ROWS_MAX = 11;
/** Ratio of neighbouring rows' bounds at least: buckets are not much finer. */
const ROW_STEP_MIN = 1.03;

export function report({ how, servers }: DemoResult): string {
  const latency = servers.map(({ roundTrips }) => toHistogram(roundTrips));
  const quantile = (q: number): string[] => latency.map((histogram) => duration(histogram.getValueAtPercentile(q)));
  const rows = [
    ["echoes a second", ...servers.map(({ rate }) => colour.bold(short(rate)))],
    ["lost", ...servers.map(({ loss }) => percent(loss))],
    ["CPU time an echo", ...servers.map(({ cpuNs }) => duration(cpuNs))],
    ["round trip, p50", ...quantile(50).map((text) => colour.bold(text))],
    ...QUANTILES.slice(1).map((q) => [`  p${q}`, ...quantile(q)]),
    ["  max", ...latency.map(({ maxValue }) => duration(maxValue))],
    ["  round trips", ...latency.map(({ totalCount }) => whole(totalCount))],
  ];
  const head = [
    { head: "UDP echo", align: "left" as const },
    ...servers.map(({ name }) => ({ head: name, align: "right" as const })),
  ];
  const { flows, window, payload } = LOAD;
  return [
    wrap(how),
    table(head, rows),
    ...servers.filter(({ contended }) => contended > CONTENDED).map(warning),
    colour.dim(`rate: ${flows} flows, ${window} datagrams of ${payload} bytes in flight; round trips: one`),
    "",
    `Round trips of ${servers[0].name}:`,
    bars(servers[0].roundTrips),
    "",
  ].join("\n");
}

function warning({ name, contended }: Figures): string {
  const share = Math.round(contended * 100);
  return colour.yellow(wrap(`Other programs had the CPU of ${name} for ${share} % of the time: it can do better.`));
}

function percent(share: number): string {
  if (share === 0) return "0 %";
  return share < 0.0001 ? "<0.01 %" : `${(share * 100).toFixed(2)} %`;
}

/** Rows of values on a logarithmic scale, with bars for their share. */
function bars(roundTrips: Float64Array): string {
  const latency = toHistogram(roundTrips);
  const first = Math.max(latency.getValueAtPercentile(1), 1);
  const step = Math.max((latency.getValueAtPercentile(99) / first) ** (1 / (ROWS_MAX - 1)), ROW_STEP_MIN);
  const bounds = Array.from({ length: ROWS_MAX - 1 }, (_, i) => first * step ** (i + 1));
  const counts = new Array<number>(ROWS_MAX).fill(0);
  roundTrips.forEach((count, bucket) => {
    const row = bounds.findIndex((bound) => bucketValue(bucket) < bound);
    counts[row < 0 ? ROWS_MAX - 1 : row] += count;
  });
  while (counts.length > 1 && counts.at(-1) === 0) counts.pop();
  const most = Math.max(...counts, 1);
  return counts
    .map((count, i) => {
      const bound = i < bounds.length ? `< ${duration(bounds[i])}` : `> ${duration(bounds[i - 1])}`;
      const bar = "█".repeat(Math.round((count / most) * BAR_WIDTH)) || (count > 0 ? "▏" : "");
      const share = percent(count / Math.max(latency.totalCount, 1));
      return `${bound.padStart(10)}  ${colour.cyan(bar.padEnd(BAR_WIDTH))} ${share.padStart(8)}`;
    })
    .join("\n");
}

/** The figures as plain data. */
export function toJson({ wire, how, servers }: DemoResult): string {
  return JSON.stringify({ wire, how, servers: servers.map(serverJson) });
}

function serverJson({ name, rate, loss, cpuNs, contended, roundTrips }: Figures): object {
  const latency = toHistogram(roundTrips);
  const quantiles = QUANTILES.map((q) => [`p${q}`, latency.getValueAtPercentile(q)]);
  return {
    name,
    rate: Math.round(rate),
    loss,
    cpuNs: Math.round(cpuNs),
    contended,
    roundTripNs: { ...Object.fromEntries(quantiles), max: latency.maxValue, count: latency.totalCount },
  };
}
