/** What the workers of loads have in common: their CPU, their board, and how they tell that they are ready or failed. */
import { parentPort, workerData } from "node:worker_threads";
import { sys } from "af-xdp-bindings";
import { getAffinity, setAffinity } from "../host/affinity.ts";
import { describeError, type FromThread } from "../protocol.ts";
import { LoadBoard } from "./board.ts";
import type { LoadStart } from "./load-thread.ts";

/** Turns between two looks at what the starter wants. */
const CONTROL_TURNS = 64;
/** struct timespec: how long a load sleeps that is not to send. */
const NAP_NS = 200_000;
const NAP = new Int32Array(4);
const NAP_ADDRESS = sys.addressOf(NAP);

/** A load, opened on its thread. */
export interface Load {
  /** Starts or stops sending. A start begins a schedule of `rate` requests a second, or a closed loop (0). */
  send(on: boolean, rate: number): void;
  /** One turn of its loop. Returns how much it did. */
  turn(): number;
  close(): void;
}

function nap(): void {
  // ppoll(2) leaves in it what was not slept.
  NAP[2] = NAP_NS;
  sys.ppoll(0, 0, NAP_ADDRESS);
}

const post = (message: FromThread): void => parentPort?.postMessage(message);

/** Opens the load of this worker and turns it until its starter says stop: all of it within `around`. */
export function runLoad<T extends { readonly cpu: number }>(
  open: (start: T, board: LoadBoard) => Load,
  around: (start: T, body: () => void) => void = (_start, body) => body(),
): void {
  const { start, shared } = workerData as LoadStart<T>;
  try {
    around(start, () => turnUntilStopped(start, new LoadBoard(shared), open));
    post({ type: "stopped", thread: 0 });
  } catch (error) {
    post({ type: "failed", thread: 0, error: describeError(error) });
  }
}

function turnUntilStopped<T extends { readonly cpu: number }>(
  start: T,
  board: LoadBoard,
  open: (start: T, board: LoadBoard) => Load,
): void {
  setAffinity(0, [start.cpu]);
  board.tid = sys.gettid();
  const load = open(start, board);
  try {
    post({ type: "ready", thread: 0, zeroCopy: false, affinity: getAffinity(0), xsks: [] });
    while (!board.stopped) {
      const sending = board.sending;
      load.send(sending, board.rate);
      let work = 0;
      for (let i = 0; i < CONTROL_TURNS; i++) work += load.turn();
      // Between measurements others may have the CPU: who prepares the next one, who compiles.
      if (!sending && work === 0) nap();
    }
  } finally {
    load.close();
  }
}
