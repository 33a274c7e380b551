/** The draining thread of the ring benchmark: takes every slot, sums what is in it, until it has seen `total`. */
import { parentPort, workerData } from "node:worker_threads";
import { RingConsumer } from "../queues/ring.ts";

export interface RingWorkerData {
  buffer: SharedArrayBuffer;
  slots: number;
  slotWords: number;
  /** Slots after which it reports and goes on, up to `rounds` times. */
  total: number;
  rounds: number;
}

const { buffer, slots, slotWords, total, rounds } = workerData as RingWorkerData;
const ring = new RingConsumer(buffer, 0, slots, slotWords);
const BURST = 32;

function drain(): number {
  const { words } = ring;
  let seen = 0;
  let sum = 0;
  while (seen < total) {
    for (let i = 0; i < BURST; i++) {
      const at = ring.peek();
      if (at < 0) break;
      sum = (sum + words[at]) | 0;
      ring.next();
      seen++;
    }
    ring.release();
  }
  return sum;
}

parentPort?.postMessage("ready");
for (let round = 0; round < rounds; round++) parentPort?.postMessage(drain());
