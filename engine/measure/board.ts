/**
 * What a load counts while it runs, in shared memory that its thread alone writes (but for STOP and SENDING): readers copy
 * it and subtract an earlier copy.
 */
import { threadTimes } from "../host/affinity.ts";
import { LATENCY_BUCKETS, LATENCY_BYTES, LatencyCounts, toHistogram } from "./latency.ts";

/** Counters, float64: index of each. A request is a datagram, or an exchange over TCP. */
export const G = {
  /** Requests handed to the wire. */
  sent: 0,
  /** Right answers in time. */
  received: 1,
  /** Requests without one. */
  lost: 2,
  /** Answers to requests that were lost already. */
  late: 3,
  /** Second answers to a request. */
  duplicated: 4,
  /** Answers whose content is not what was sent. */
  wrong: 5,
  /** Frames that are not this load's. */
  foreign: 6,
  /** Open loop: requests that were due while `window` were unanswered; not sent. */
  skipped: 7,
  /** Open loop: requests that the load itself was more than SLACK_NS too late for; not sent. */
  behind: 8,
  /** Times the TX ring or the frame pool had no room. */
  txFull: 9,
  /** Turns of the loop, and those in which there was nothing to do. */
  turns: 10,
  idleTurns: 11,
  /** Bytes that arrived, where they are what counts. */
  bytes: 12,
  /** Nanoseconds of the turns in which there was something to do. */
  busyNs: 13,
} as const;
export const G_COUNT = 14;
const NAMES = Object.keys(G) as (keyof typeof G)[];
export type Counters = Record<keyof typeof G, number>;

/**
 * How late a request may be sent, through no fault of the target, for its latency to count as the target's. A loop turn that sends and receives full bursts
 * takes some ten microseconds over veth; a thread that lost its CPU comes back after milliseconds.
 */
export const SLACK_NS = 100_000;

/** Words of the first line. The starter writes the first two and the rate, the load the third. */
const STOP = 0;
const SENDING = 1;
const TID = 2;
/** Float64: requests a second by schedule, 0 for a closed loop. */
const RATE_AT = 56;
const COUNTERS_AT = 64;
const LATENCY_AT = COUNTERS_AT + G_COUNT * 8;
const LAG_AT = LATENCY_AT + LATENCY_BYTES;
const BYTES = LAG_AT + LATENCY_BYTES;

/** Counters and latencies at one moment. */
export interface Snapshot {
  /** performance.now() of the thread that took it. */
  readonly at: number;
  readonly counters: Counters;
  readonly latency: Float64Array;
  /** CPU time of the load's thread, and time it waited for a CPU although it could have run, nanoseconds. */
  readonly cpuNs: number;
  readonly waitNs: number;
}

/** What happened between two snapshots. */
export interface Difference {
  readonly seconds: number;
  readonly counters: Counters;
  /** Right answers a second. */
  readonly rate: number;
  /** Share of the requests settled (answered or lost) that were lost, 0 to 1. */
  readonly loss: number;
  /** Nanoseconds. */
  readonly latency: ReturnType<typeof toHistogram>;
  /** The latencies as counts of the buckets of LatencyCounts. */
  readonly latencyCounts: Float64Array;
  /** CPU time of the load's thread, and time it waited for a CPU. */
  readonly cpuNs: number;
  readonly waitNs: number;
}

export class LoadBoard {
  /** Post it to the thread that loads. */
  readonly shared: SharedArrayBuffer;
  readonly counters: Float64Array;
  /** From when a request was due (closed loop: sent) to its answer. */
  readonly latency: LatencyCounts;
  /** Open loop: from when a request was due to when it was sent, or was given up as behind. */
  readonly lag: LatencyCounts;
  private readonly words: Int32Array;
  private readonly rates: Float64Array;

  constructor(shared = new SharedArrayBuffer(BYTES)) {
    this.shared = shared;
    this.words = new Int32Array(shared, 0, COUNTERS_AT / 4);
    this.rates = new Float64Array(shared, RATE_AT, 1);
    this.counters = new Float64Array(shared, COUNTERS_AT, G_COUNT);
    this.latency = new LatencyCounts(shared, LATENCY_AT);
    this.lag = new LatencyCounts(shared, LAG_AT);
  }

  get stopped(): boolean {
    return Atomics.load(this.words, STOP) !== 0;
  }

  stop(): void {
    Atomics.store(this.words, STOP, 1);
  }

  get sending(): boolean {
    return Atomics.load(this.words, SENDING) !== 0;
  }

  /** Rate of the schedule that the next send(true) begins; 0 for a closed loop. */
  get rate(): number {
    return this.rates[0];
  }

  /** Starts or stops sending; what comes back is counted either way. */
  send(on: boolean, rate = this.rate): void {
    this.rates[0] = rate;
    Atomics.store(this.words, SENDING, on ? 1 : 0);
  }

  /** The load's thread, whose CPU time snapshots tell. */
  set tid(tid: number) {
    Atomics.store(this.words, TID, tid);
  }

  /** The counters alone, for whoever looks often. */
  count(): Counters {
    const counters = {} as Counters;
    for (const name of NAMES) counters[name] = this.counters[G[name]];
    return counters;
  }

  snapshot(): Snapshot {
    const times = threadTimes(Atomics.load(this.words, TID));
    const [counters, latency] = [this.count(), this.latency.counts.slice()];
    return { at: performance.now(), counters, latency, cpuNs: times?.runNs ?? 0, waitNs: times?.waitNs ?? 0 };
  }
}

export function difference(before: Snapshot, after: Snapshot): Difference {
  const seconds = (after.at - before.at) / 1000;
  const counters = {} as Counters;
  for (const name of NAMES) counters[name] = after.counters[name] - before.counters[name];
  const settled = counters.received + counters.wrong + counters.lost;
  const latencyCounts = new Float64Array(LATENCY_BUCKETS);
  for (let i = 0; i < LATENCY_BUCKETS; i++) latencyCounts[i] = after.latency[i] - before.latency[i];
  return {
    seconds,
    counters,
    rate: counters.received / seconds,
    loss: settled === 0 ? 0 : counters.lost / settled,
    latency: toHistogram(latencyCounts),
    latencyCounts,
    cpuNs: after.cpuNs - before.cpuNs,
    waitNs: after.waitNs - before.waitNs,
  };
}
