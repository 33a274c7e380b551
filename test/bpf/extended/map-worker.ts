/** One of two threads at the same maps: runs a program that counts, and puts keys of its own into a hash and takes them out. */
import { parentPort, workerData } from "node:worker_threads";
import { compileExtended } from "../../../sockets/bpf/extended/compile.ts";
import { META_WORDS } from "../../../sockets/bpf/extended/context.ts";
import { openSharedMap, type SharedMapDescriptor } from "../../../sockets/bpf/maps/index.ts";

export interface MapWork {
  readonly counts: SharedMapDescriptor;
  readonly hash: SharedMapDescriptor;
  /** struct bpf_insn of the program that counts. */
  readonly program: Uint8Array;
  readonly runs: number;
  /** First of this thread's keys, how many, and how many times each comes and goes. */
  readonly first: number;
  readonly keys: number;
  readonly rounds: number;
  /** A word that becomes 1 when both threads are there. */
  readonly go: SharedArrayBuffer;
}

const work = workerData as MapWork;
const counts = openSharedMap(work.counts);
const hash = openSharedMap(work.hash);
const program = compileExtended(work.program, { type: "socket_filter", maps: [counts] });
const packet = new Uint8Array(16);
const context = new Int32Array(META_WORDS);
let wrong = 0;
parentPort?.postMessage("ready");
Atomics.wait(new Int32Array(work.go), 0, 0);
for (let i = 0; i < work.runs; i++) if (program(packet, 0, 16, context) !== 1) wrong++;
const value = new Uint8Array(8);
for (let round = 0; round < work.rounds; round++) {
  for (let key = work.first; key < work.first + work.keys; key++) {
    value.fill(key & 0xff);
    hash.update(key, value);
  }
  for (let key = work.first; key < work.first + work.keys; key++) {
    const found = hash.lookup(key);
    if (found === undefined || found.some((byte) => byte !== (key & 0xff))) wrong++;
    // The last round's odd keys stay.
    if ((round < work.rounds - 1 || key % 2 === 0) && !hash.delete(key)) wrong++;
  }
}
parentPort?.postMessage(wrong);
