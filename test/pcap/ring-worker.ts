/** Writes numbered blocks of many lengths into the ring of `workerData`, trying again when it is full. */
import { workerData } from "node:worker_threads";
import { type CaptureRingDescriptor, CaptureRingWriter, RECEIVED, RING_DETACHED } from "../../engine/capture-ring.ts";
import { Random } from "../../queues/random.ts";

const BLOCKS = 20_000;

const ring = new CaptureRingWriter(workerData as CaptureRingDescriptor);
const random = new Random(3);
for (let number = 0; number < BLOCKS; number++) {
  const words = 3 + random.below(random.below(8) === 0 ? 1500 : 60);
  let at = ring.claim(words * 4);
  while (at < 0) {
    ring.publish();
    Bun.sleepSync(0);
    at = ring.claim(words * 4);
  }
  const first = at >> 2;
  ring.words[first] = words;
  ring.words[first + 1] = number;
  ring.words[first + words - 1] = number;
  ring.counts[RECEIVED]++;
  if (random.below(4) === 0) ring.publish();
}
ring.publish();
ring.setState(RING_DETACHED);
