/** A worker that takes a mutex, says so, keeps it for a while, and gives it up or sleeps with it for ever. */
import { parentPort, workerData } from "node:worker_threads";
import { Mutex } from "../../sockets/mutex.ts";

export interface HolderData {
  readonly words: Int32Array;
  readonly holdMs: number;
}

const { words, holdMs } = workerData as HolderData;
const mutex = new Mutex(words, 0, () => {});
mutex.lock();
parentPort?.postMessage("has it");
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, holdMs);
mutex.unlock();
