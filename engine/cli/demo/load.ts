/** Load from lcore's own generator, for a time. */
import {
  difference,
  type GeneratorResult,
  GeneratorThread,
  type GeneratorThreadOptions,
} from "../../generator-thread.ts";
import type { DemoContext } from "./run.ts";

/** First part of a load that does not count: neighbours are resolved, code is compiled. */
const WARMUP_MS = 500;
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

export interface LoadResult extends GeneratorResult {
  /** CPU time that the server took meanwhile, nanoseconds. */
  readonly serverNs: number;
}

/** Runs a generator for the time of one measurement. `serverNs` reads the server's CPU time so far. */
export async function load(
  options: GeneratorThreadOptions,
  { seconds, abort }: DemoContext,
  serverNs: () => number,
): Promise<LoadResult> {
  const generator = await GeneratorThread.start(options);
  try {
    generator.send(true);
    await pause(WARMUP_MS, abort);
    const cpuBefore = serverNs();
    const before = generator.snapshot();
    await pause(seconds * 1000, abort);
    const result = { ...difference(before, generator.snapshot()), serverNs: serverNs() - cpuBefore };
    // What came back after the generator has gone would be refused by the host's kernel, for the server to see.
    generator.send(false);
    await pause(DRAIN_MS, abort);
    return result;
  } finally {
    await generator.stop();
  }
}
