/** The mutex of shared memory: waited for while its thread lives, taken over when that has died. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { Worker } from "node:worker_threads";
import { createSharedMap } from "../../sockets/bpf/maps/index.ts";
import { Mutex } from "../../sockets/mutex.ts";
import { until } from "../support/kernel-udp.ts";
import type { HolderData } from "./mutex-holder.ts";

setDefaultTimeout(60_000);

/** Above PID_MAX_LIMIT: nobody's. */
const NOBODY = 0x3fff_fff0;
const WAITERS = 1 << 31;

async function holder(words: Int32Array, holdMs: number): Promise<Worker> {
  const workerData: HolderData = { words, holdMs };
  const worker = new Worker(new URL("./mutex-holder.ts", import.meta.url), { workerData });
  const said: unknown[] = [];
  worker.on("message", (text) => said.push(text));
  await until("the worker has it", () => said.length > 0);
  return worker;
}

test("a thread that is slow keeps it", async () => {
  const words = new Int32Array(new SharedArrayBuffer(4));
  let repairs = 0;
  const mutex = new Mutex(words, 0, () => repairs++);
  const worker = await holder(words, 200);
  const holding = words[0];
  mutex.lock();
  expect(words[0] & ~WAITERS).not.toBe(holding & ~WAITERS);
  mutex.unlock();
  expect([repairs, words[0]]).toEqual([0, 0]);
  await worker.terminate();
});

test("from one that was terminated it is taken over, and what it guards is repaired once", async () => {
  const words = new Int32Array(new SharedArrayBuffer(4));
  let repairs = 0;
  const mutex = new Mutex(words, 0, () => repairs++);
  const worker = await holder(words, 1e9);
  await worker.terminate();
  expect(mutex.hold(() => repairs)).toBe(1);
  expect(mutex.hold(() => repairs)).toBe(1);
  expect(words[0]).toBe(0);
});

test("a hash of BPF, left between an entry and the count: it counts anew", () => {
  const map = createSharedMap({ type: "hash", keySize: 4, valueSize: 4, maxEntries: 2 });
  const { words } = map as unknown as { words: Int32Array };
  const bytes = (n: number): Uint8Array => new Uint8Array(Int32Array.of(n).buffer);
  const store = (n: number): number => map.store(bytes(n), 0, bytes(n), 0, 0, 0);
  expect(store(1)).toBe(0);
  const [lock, count] = [0, 1];
  words[lock] = NOBODY;
  words[count] = 2;
  expect(store(2)).toBe(0);
  expect([map.size, words[lock]]).toEqual([2, 0]);
});
