/**
 * The control beside a measurement: a thread that only sleeps, and notes how much later than it asked it was woken. What
 * it sees is the machine's doing (other programs, the host of a virtual machine, the scheduler), whatever is measured.
 */
import { Worker } from "node:worker_threads";
import { LATENCY_BYTES, LatencyCounts, toHistogram } from "./latency.ts";
import type { Hiccups } from "./trial.ts";

/**
 * Time slept between two looks. Each look takes a CPU for some ten microseconds, so that more of them would show in the
 * tail of what is measured on a machine with no CPU to spare.
 */
export const HICCUP_SLEEP_MS = 5;
/** From here on a wakeup is told as an event of its own, the longest EVENTS_KEPT of them. */
const EVENT_NS = 1_000_000;
export const EVENTS_MAX = 4096;
const EVENTS_KEPT = 100;

/** What the worker is given: counts, and events as pairs of time (milliseconds since the epoch) and nanoseconds. */
export interface HiccupStart {
  readonly counts: SharedArrayBuffer;
  readonly events: SharedArrayBuffer;
  /** Word 0: 1 asks it to stop; word 1: events so far, of which the last EVENTS_MAX are there. */
  readonly words: SharedArrayBuffer;
  readonly eventNs: number;
}

export class HiccupMeter {
  private readonly counts: LatencyCounts;
  private readonly events: Float64Array;
  private readonly words: Int32Array;
  private readonly ended: Promise<void>;

  constructor() {
    const start: HiccupStart = {
      counts: new SharedArrayBuffer(LATENCY_BYTES),
      events: new SharedArrayBuffer(EVENTS_MAX * 16),
      words: new SharedArrayBuffer(8),
      eventNs: EVENT_NS,
    };
    this.counts = new LatencyCounts(start.counts);
    this.events = new Float64Array(start.events);
    this.words = new Int32Array(start.words);
    const worker = new Worker(new URL("./hiccup-worker.ts", import.meta.url), { workerData: start });
    this.ended = new Promise((resolve) => worker.on("exit", () => resolve()));
  }

  /** The counts so far: hand them to since(). */
  mark(): { counts: Float64Array; events: number } {
    return { counts: this.counts.counts.slice(), events: Atomics.load(this.words, 1) };
  }

  /** What came after a mark. Events carry seconds after `epochMs`. */
  since(mark: { counts: Float64Array; events: number }, epochMs: number): Hiccups {
    const count = Atomics.load(this.words, 1);
    const events: { t: number; ns: number }[] = [];
    for (let i = Math.max(mark.events, count - EVENTS_MAX); i < count; i++) {
      const at = (i % EVENTS_MAX) * 2;
      events.push({ t: (this.events[at] - epochMs) / 1000, ns: this.events[at + 1] });
    }
    const longest = events.toSorted((a, b) => b.ns - a.ns).slice(0, EVENTS_KEPT);
    return {
      histogram: toHistogram(this.counts.counts, mark.counts),
      events: longest.toSorted((a, b) => a.t - b.t),
    };
  }

  async stop(): Promise<void> {
    Atomics.store(this.words, 0, 1);
    await this.ended;
  }
}
