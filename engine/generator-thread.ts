/** A generator on a thread and CPU of its own, with its counters and latencies in shared memory. */
import { Worker } from "node:worker_threads";
import type { MemoryWire, Side } from "../queues/memory.ts";
import { G, G_COUNT, type GeneratorOptions } from "./generator.ts";
import { threadTimes } from "./host/affinity.ts";
import { LATENCY_BUCKETS, LATENCY_BYTES, toHistogram } from "./latency.ts";
import { type FromThread, restoreError } from "./protocol.ts";

/** An interface's queues by AF_XDP. The generator attaches a program of its own there: one generator an interface. */
export interface XdpGeneratorLink {
  kind: "xdp";
  ifindex: number;
  /** Network namespace of the interface, a path; default that of the caller. */
  netns?: string;
  queues: number[];
  mode: "native" | "skb";
}

export interface MemoryGeneratorLink {
  kind: "memory";
  wire: MemoryWire;
  side: Side;
}

export interface GeneratorThreadOptions extends GeneratorOptions {
  link: XdpGeneratorLink | MemoryGeneratorLink;
  /** CPU the thread is pinned to. */
  cpu: number;
}

/** What the thread is started with. */
export interface GeneratorStart {
  readonly link: XdpGeneratorLink | MemoryGeneratorLink;
  readonly options: GeneratorOptions;
  readonly cpu: number;
  readonly shared: SharedArrayBuffer;
}

/** Words of the shared memory's first line: the main thread writes the first two, the generator the third. */
export const GENERATOR_STOP = 0;
export const GENERATOR_SENDING = 1;
export const GENERATOR_TID = 2;
/** Bytes from which its counters and its latencies lie. */
export const GENERATOR_COUNTERS = 64;
export const GENERATOR_LATENCY = GENERATOR_COUNTERS + G_COUNT * 8;

const START_TIMEOUT_MS = 10_000;

/** Counters and latencies at one moment. */
export interface GeneratorSnapshot {
  /** performance.now(). */
  readonly at: number;
  readonly counters: Record<keyof typeof G, number>;
  readonly latency: Float64Array;
  /** CPU time of the thread, nanoseconds. */
  readonly cpuNs: number;
}

export class GeneratorThread {
  /** Resolves with the error that ended the thread, or null. Never rejects. */
  readonly ended: Promise<Error | null>;
  private readonly state: Int32Array;
  private readonly counters: Float64Array;
  private readonly latency: Float64Array;

  /** Resolves when the queues are open; nothing is sent before send(true). Rejects with what it failed with. */
  static start({ link, cpu, ...options }: GeneratorThreadOptions): Promise<GeneratorThread> {
    const shared = new SharedArrayBuffer(GENERATOR_LATENCY + LATENCY_BYTES);
    const start: GeneratorStart = { link, options, cpu, shared };
    const worker = new Worker(new URL("./generator-worker.ts", import.meta.url), { workerData: start });
    let end: (error: Error | null) => void = () => {};
    const ended = new Promise<Error | null>((resolve) => {
      end = resolve;
    });
    const thread = new GeneratorThread(shared, ended);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        Atomics.store(thread.state, GENERATOR_STOP, 1);
        reject(new Error(`the generator was not ready after ${START_TIMEOUT_MS} ms`));
      }, START_TIMEOUT_MS);
      const finish = (error: Error | null): void => {
        clearTimeout(timer);
        end(error);
        reject(error ?? new Error("the generator ended before it was ready"));
      };
      worker.on("message", (message: FromThread) => {
        if (message.type === "ready") {
          clearTimeout(timer);
          resolve(thread);
        } else {
          finish(message.type === "failed" ? restoreError("generator", message.error) : null);
        }
      });
      worker.on("error", (error: Error) => finish(error));
      worker.on("exit", () => finish(null));
    });
  }

  private constructor(shared: SharedArrayBuffer, ended: Promise<Error | null>) {
    this.ended = ended;
    this.state = new Int32Array(shared, 0, GENERATOR_COUNTERS / 4);
    this.counters = new Float64Array(shared, GENERATOR_COUNTERS, G_COUNT);
    this.latency = new Float64Array(shared, GENERATOR_LATENCY, LATENCY_BUCKETS);
  }

  /** Starts or stops sending; what comes back is counted either way. */
  send(on: boolean): void {
    Atomics.store(this.state, GENERATOR_SENDING, on ? 1 : 0);
  }

  snapshot(): GeneratorSnapshot {
    const counters = {} as Record<keyof typeof G, number>;
    for (const name of Object.keys(G) as (keyof typeof G)[]) counters[name] = this.counters[G[name]];
    const times = threadTimes(Atomics.load(this.state, GENERATOR_TID));
    return { at: performance.now(), counters, latency: this.latency.slice(), cpuNs: times?.runNs ?? 0 };
  }

  /** Sends for `ms` milliseconds and tells what happened meanwhile. */
  async measure(ms: number): Promise<GeneratorResult> {
    this.send(true);
    const before = this.snapshot();
    await Bun.sleep(ms);
    return difference(before, this.snapshot());
  }

  /** Stops the thread; resolves when its queues are closed. Rejects with the error that ended it before. */
  async stop(): Promise<void> {
    Atomics.store(this.state, GENERATOR_STOP, 1);
    const error = await this.ended;
    if (error !== null) throw error;
  }
}

/** What happened between two snapshots. */
export interface GeneratorResult {
  readonly seconds: number;
  readonly counters: Record<keyof typeof G, number>;
  /** Datagrams that came back, a second. */
  readonly rate: number;
  /** Share of the datagrams settled (back or lost) that were lost, 0 to 1. */
  readonly loss: number;
  /** Round-trip times, nanoseconds. */
  readonly latency: ReturnType<typeof toHistogram>;
  /** The same as counts of the buckets of LatencyCounts. */
  readonly latencyCounts: Float64Array;
}

export function difference(before: GeneratorSnapshot, after: GeneratorSnapshot): GeneratorResult {
  const seconds = (after.at - before.at) / 1000;
  const counters = {} as Record<keyof typeof G, number>;
  for (const name of Object.keys(G) as (keyof typeof G)[])
    counters[name] = after.counters[name] - before.counters[name];
  const settled = counters.received + counters.lost;
  return {
    seconds,
    counters,
    rate: counters.received / seconds,
    loss: settled === 0 ? 0 : counters.lost / settled,
    latency: toHistogram(after.latency, before.latency),
    latencyCounts: after.latency.map((count, i) => count - before.latency[i]),
  };
}
