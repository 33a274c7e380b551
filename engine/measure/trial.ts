/**
 * What a measurement leaves behind: a trial, one target under one load for a time, and a run, trials with the machine on
 * which they were made. Both are plain data with HDR histograms, and a JSON form of their own (docs/bench.schema.json).
 */
import { decodeFromCompressedBase64, encodeIntoCompressedBase64, type Histogram } from "hdr-histogram-js";
import type { Environment } from "./environment.ts";

export const RUN_SCHEMA = "lcore-bench";
/** Raised when a reader of the former version would misread the new one. */
export const RUN_VERSION = 1;

export const WORKLOADS = [
  "udp-echo",
  "udp-rx",
  "udp-tx",
  "tcp-rr",
  "tcp-crr",
  "tcp-stream",
  "handoff",
  "forward",
] as const;
export type Workload = (typeof WORKLOADS)[number];

/** memory: a wire in this process; veth: two network namespaces of its own; host: wherever a `host:port` leads. */
export type WireKind = "memory" | "veth" | "host";

/** Extra work of an echo handler, to show what a gate detects: `ns` in a share `fraction` of the requests, evenly spread. */
export interface Spin {
  readonly ns: number;
  /** Above 0, up to 1. */
  readonly fraction: number;
}

/** An interface of this host whose queues a load takes. */
export interface InterfaceLoad {
  readonly name: string;
  /** "auto": native where the driver can, skb otherwise and on veth. */
  readonly mode: "auto" | "native" | "skb";
}

/** What a trial was asked for, as far as it bears upon its figures. */
export interface Parameters {
  readonly wire: WireKind;
  /**
   * What makes the load: frames on bare queues, an lcore's own TCP, or kernel sockets. "inline": frames too, but between
   * the turns of the lcore that is measured. One CPU does for both, and what takes it away stops both, so that figures
   * agree on machines that are not idle; what two threads cost each other is not in them.
   */
  readonly generator: "lcore" | "kernel" | "inline";
  /** Bytes of UDP payload, of a TCP request and of its response, or of a write of tcp-stream. */
  readonly size: number;
  /** UDP: source ports used in turn. */
  readonly flows: number;
  /** TCP: connections at once. */
  readonly connections: number;
  /** Queues of each end of the wire. */
  readonly queues: number;
  /** Requests unanswered at most. A closed loop keeps so many; an open one sends none beyond it. */
  readonly window: number;
  /** Time after which a request is lost, milliseconds. */
  readonly timeoutMs: number;
  readonly spin: Spin | null;
  /** Where the load of a HOST:PORT leaves by AF_XDP; null where it does not. */
  readonly interface: InterfaceLoad | null;
}

/** A stretch of a trial. */
export interface Interval {
  /** Its end, seconds from the start of the measurement. */
  readonly t: number;
  /** Answers that came in it, and quantiles of their latencies, nanoseconds; 0 where none came. */
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** What an idle thread saw that slept beside the measurement: how late the machine woke it, load or no load. */
export interface Hiccups {
  /** Nanoseconds beyond what was slept. */
  readonly histogram: Histogram;
  /** The longest ones, in the order in which they came: when (seconds from the start of the measurement), how long. */
  readonly events: readonly { readonly t: number; readonly ns: number }[];
}

/** A search for the highest rate with no more than a share of the requests lost. */
export interface Search {
  /** 0 to 1. */
  readonly lossMax: number;
  readonly steps: readonly { readonly rate: number; readonly loss: number; readonly passed: boolean }[];
  /** What kept it from a higher rate. */
  readonly limit: "target" | "generator" | "none";
}

export interface Trial {
  /** Who was measured: "lcore", "lcore-kernel", "bun-udp", "node-dgram", "bun-listen" or "HOST:PORT". */
  readonly target: string;
  readonly workload: Workload;
  readonly parameters: Parameters;
  /** Start of the measurement, ISO 8601 in UTC. */
  readonly startedAt: string;
  /** Time measured, and what went before it until the figures were steady. */
  readonly seconds: number;
  readonly warmup: { readonly seconds: number; readonly steady: boolean };
  /** Requests a second by schedule; null in a closed loop, where each answer brings the next request. */
  readonly requestedRate: number | null;
  /** Answers a second, or what was delivered where there are none. */
  readonly achievedRate: number;
  readonly sent: number;
  /** Right answers, in time. */
  readonly received: number;
  /** Requests without an answer in time. */
  readonly lost: number;
  readonly duplicated: number;
  /** Answers whose content is not what was sent; they count among neither `received` nor `lost`. */
  readonly wrong: number;
  /** Answers that came when their request was lost already. */
  readonly late: number;
  /** Open loop: requests that were due while `window` were unanswered, so that they could not be sent. */
  readonly skipped: number;
  /** Open loop: requests that the generator itself was too late for (SLACK_NS), so that it did not send them: no fault of the target's. */
  readonly behind: number;
  /** Bytes of tcp-stream that arrived; 0 otherwise. */
  readonly bytes: number;
  /** Nanoseconds from the time a request was due, in a closed loop from when it was sent, to its answer. */
  readonly latency: Histogram;
  /** Open loop: nanoseconds from the time a request was due to when it was sent, or was given up as behind. */
  readonly lag: Histogram;
  readonly series: readonly Interval[];
  readonly hiccups: Hiccups;
  readonly valid: true | { readonly reason: string };
  /** How the rate was found, of a search for the highest one. */
  readonly search?: Search;
  /** CPU time a request, nanoseconds: of the target's threads (null where they are not known) and of the generator's. */
  readonly cpu: { readonly serverNs: number | null; readonly generatorNs: number };
}

export interface Run {
  readonly schema: typeof RUN_SCHEMA;
  readonly version: typeof RUN_VERSION;
  readonly environment: Environment;
  readonly trials: readonly Trial[];
}

/** Quantiles that the JSON spells out beside the whole histogram, percent. */
export const QUANTILES = { p50: 50, p90: 90, p99: 99, p999: 99.9 } as const;

/** An HDR histogram in JSON: base64 of its V2 compressed encoding, and what a reader without a decoder wants to know. */
export interface HistogramJson {
  readonly encoded: string;
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

export type TrialJson = Omit<Trial, "latency" | "lag" | "hiccups"> & {
  readonly latency: HistogramJson;
  readonly lag: HistogramJson;
  readonly hiccups: { readonly histogram: HistogramJson; readonly events: Hiccups["events"] };
};
export type RunJson = Omit<Run, "trials"> & { readonly trials: readonly TrialJson[] };

export function encodeHistogram(histogram: Histogram): HistogramJson {
  const at = (percent: number): number => (histogram.totalCount === 0 ? 0 : histogram.getValueAtPercentile(percent));
  return {
    count: histogram.totalCount,
    p50: at(QUANTILES.p50),
    p90: at(QUANTILES.p90),
    p99: at(QUANTILES.p99),
    p999: at(QUANTILES.p999),
    max: histogram.totalCount === 0 ? 0 : histogram.maxValue,
    encoded: encodeIntoCompressedBase64(histogram),
  };
}

/** Throws Error for what is no such encoding. */
export function decodeHistogram({ encoded }: HistogramJson): Histogram {
  return decodeFromCompressedBase64(encoded, 64);
}

export function encodeTrial(trial: Trial): TrialJson {
  return {
    ...trial,
    latency: encodeHistogram(trial.latency),
    lag: encodeHistogram(trial.lag),
    hiccups: { histogram: encodeHistogram(trial.hiccups.histogram), events: trial.hiccups.events },
  };
}

export function decodeTrial(json: TrialJson): Trial {
  return {
    ...json,
    latency: decodeHistogram(json.latency),
    lag: decodeHistogram(json.lag),
    hiccups: { histogram: decodeHistogram(json.hiccups.histogram), events: json.hiccups.events },
  };
}

export const encodeRun = (run: Run): RunJson => ({ ...run, trials: run.trials.map(encodeTrial) });

/** The run of a JSON file's text. Throws Error that says what is wrong with it. */
export function parseRun(text: string): Run {
  const json = JSON.parse(text) as Partial<RunJson>;
  if (json.schema !== RUN_SCHEMA) throw new Error(`no run of lcore bench: its schema is ${json.schema ?? "not named"}`);
  if (json.version !== RUN_VERSION)
    throw new Error(`version ${json.version} of ${RUN_SCHEMA}, where version ${RUN_VERSION} is understood`);
  const { schema, version, environment, trials } = json as RunJson;
  return { schema, version, environment, trials: trials.map(decodeTrial) };
}
