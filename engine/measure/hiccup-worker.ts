/** The thread of a HiccupMeter. */
import { workerData } from "node:worker_threads";
import { sys } from "af-xdp-bindings";
import { EVENTS_MAX, HICCUP_SLEEP_MS, type HiccupStart } from "./hiccups.ts";
import { LatencyCounts } from "./latency.ts";

const start = workerData as HiccupStart;
const counts = new LatencyCounts(start.counts);
const events = new Float64Array(start.events);
const words = new Int32Array(start.words);
/** struct timespec, which ppoll(2) may write the rest into. */
const timespec = new Int32Array(4);
const address = sys.addressOf(timespec);

while (Atomics.load(words, 0) === 0) {
  timespec[2] = HICCUP_SLEEP_MS * 1e6;
  const before = Bun.nanoseconds();
  sys.ppoll(0, 0, address);
  const late = Bun.nanoseconds() - before - HICCUP_SLEEP_MS * 1e6;
  counts.record(late);
  if (late < start.eventNs) continue;
  const at = (words[1] % EVENTS_MAX) * 2;
  // The hiccup began when the thread should have been woken.
  events[at] = performance.timeOrigin + performance.now() - late / 1e6;
  events[at + 1] = late;
  Atomics.add(words, 1, 1);
}
