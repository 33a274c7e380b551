/** Maps that two threads use at once, by programs and by calls. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { Worker } from "node:worker_threads";
import { Assembler, r0, r1, r2, r10 } from "af-xdp-bindings";
import { createSharedMap } from "../../../sockets/bpf/maps/index.ts";
import type { MapWork } from "./map-worker.ts";

setDefaultTimeout(60_000);

const RUNS = 60_000;
const KEYS = 300;

test("sums are exact, and no key of one thread is lost, found twice or changed by the other", async () => {
  const counts = createSharedMap({ type: "array", valueSize: 16, maxEntries: 1 });
  // Half empty, as full as a map of its size is: probes run over the keys of both.
  const hash = createSharedMap({ type: "hash", keySize: 4, valueSize: 8, maxEntries: 2 * KEYS });
  // 32 and 64 bits, of which the lower half overflows many times.
  const program = new Assembler()
    .mov(r2, 0)
    .store32(r10, -4, r2)
    .mov(r2, r10)
    .add(r2, -4)
    .mapFd(r1, counts)
    .call("map_lookup_elem")
    .jeq(r0, 0, "out")
    .mov(r1, 3)
    .atomicAdd32(r0, 0, r1)
    .mov(r1, 0x7000_0001)
    .atomicAdd64(r0, 8, r1)
    .label("out")
    .mov(r0, 1)
    .exit()
    .assemble();
  const go = new Int32Array(new SharedArrayBuffer(4));
  const start = async (first: number): Promise<{ wrong: Promise<number> }> => {
    const workerData: MapWork = {
      counts: counts.descriptor,
      hash: hash.descriptor,
      program,
      runs: RUNS,
      first,
      keys: KEYS,
      rounds: 60,
      go: go.buffer as SharedArrayBuffer,
    };
    const worker = new Worker(new URL("./map-worker.ts", import.meta.url), { workerData });
    const next = (): Promise<unknown> =>
      new Promise((resolve, reject) => {
        worker.once("message", resolve);
        worker.once("error", reject);
      });
    await next();
    return { wrong: next() as Promise<number> };
  };
  // One after another: concurrent first loads of the native shim have crashed the runtime.
  const threads = [await start(0), await start(10_000)];
  Atomics.store(go, 0, 1);
  Atomics.notify(go, 0);
  expect(await Promise.all(threads.map(({ wrong }) => wrong))).toEqual([0, 0]);
  expect(counts.getUint32(0)).toBe(2 * RUNS * 3);
  expect(counts.getUint64(0, 8)).toBe(BigInt(2 * RUNS) * 0x7000_0001n);
  const left = [...hash.keys()].map((key) => new DataView(key.buffer).getUint32(0, true)).sort((a, b) => a - b);
  const odd = (first: number): number[] => Array.from({ length: KEYS / 2 }, (_, i) => first + 2 * i + 1);
  expect(left).toEqual([...odd(0), ...odd(10_000)]);
});
