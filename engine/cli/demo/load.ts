/** Load from lcore's own generator, for a time. */
import type { Engine } from "../../engine.ts";
import { type Difference, difference } from "../../measure/board.ts";
import { type GeneratorThreadOptions, LoadThread } from "../../measure/load-thread.ts";
import type { Figures } from "./figures.ts";
import type { DemoContext } from "./run.ts";

/** First part of a load that does not count: neighbours are resolved, code is compiled. */
const WARMUP_MS = 500;
/** Times that a measurement is prolonged when nothing has come back. */
const MORE_MAX = 10;
/** Time for the last datagrams to come back. */
const DRAIN_MS = 50;

/** Resolves after `ms` milliseconds; rejects at once when the user wants to stop. */
export async function pause(ms: number, abort: AbortSignal): Promise<void> {
  abort.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      abort.removeEventListener("abort", stop);
      resolve();
    }, ms);
    const stop = (): void => {
      clearTimeout(timer);
      reject(abort.reason);
    };
    abort.addEventListener("abort", stop, { once: true });
  });
}

/** CPU time of a server so far, and time it waited for a CPU although it could have run; nanoseconds. */
export interface CpuTimes {
  readonly runNs: number;
  readonly waitNs: number;
}

export interface LoadResult extends Difference {
  /** The server's times meanwhile. */
  readonly server: CpuTimes;
}

/** Runs a generator for the time of one measurement. `times` reads those of the server. */
export async function load(
  options: GeneratorThreadOptions,
  { seconds, abort }: DemoContext,
  times: () => CpuTimes,
): Promise<LoadResult> {
  const generator = await LoadThread.generator(options);
  try {
    generator.board.send(true);
    await pause(WARMUP_MS, abort);
    const began = times();
    const before = generator.board.snapshot();
    await pause(seconds * 1000, abort);
    let result = difference(before, generator.board.snapshot());
    // On a busy machine neither side may have had a CPU yet.
    for (let more = 0; result.counters.received === 0 && more < MORE_MAX; more++) {
      await pause(seconds * 1000, abort);
      result = difference(before, generator.board.snapshot());
    }
    const ended = times();
    const server = { runNs: ended.runNs - began.runNs, waitNs: ended.waitNs - began.waitNs };
    // What came back after the generator has gone would be refused by the host's kernel, for the server to see.
    generator.board.send(false);
    await pause(DRAIN_MS, abort);
    return { ...result, server };
  } finally {
    await generator.stop();
  }
}

/** What a load tells of a server. */
export function figuresOf(name: string, load: LoadResult, roundTrips: Float64Array): Figures {
  const { rate, loss, counters, seconds, server } = load;
  const contended = Math.min(server.waitNs / 1e9 / seconds, 1);
  return { name, rate, loss, cpuNs: server.runNs / counters.received, contended, roundTrips };
}

/** Times of an engine's first lcore. */
export function lcoreTimes(engine: Engine): CpuTimes {
  return engine.stats().threads[0].times ?? { runNs: 0, waitNs: 0 };
}
