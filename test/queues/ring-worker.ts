/** The consuming thread of ring.test.ts: takes `count` slots and reports how many were out of order or torn. */
import { RingConsumer } from "../../queues/ring.ts";

declare const self: Worker;

interface Job {
  buffer: SharedArrayBuffer;
  byteOffset: number;
  slots: number;
  slotWords: number;
  count: number;
  /** Sleep when the ring is empty. */
  sleeps: boolean;
}

self.onmessage = (event: MessageEvent<Job | "stop">) => {
  if (event.data === "stop") process.exit();
  else postMessage(consume(event.data));
};

function consume(job: Job): { bad: number; sleeps: number } {
  const consumer = new RingConsumer(job.buffer, job.byteOffset, job.slots, job.slotWords);
  let bad = 0;
  let sleeps = 0;
  for (let expected = 0; expected < job.count; ) {
    let at = consumer.peek();
    for (let burst = 0; at >= 0 && burst < 32; burst++) {
      if (!isWhole(consumer.words, at, job.slotWords, expected)) bad++;
      expected++;
      consumer.next();
      at = consumer.peek();
    }
    consumer.release();
    if (job.sleeps && at < 0 && expected < job.count && consumer.prepareWait()) {
      sleeps++;
      // A lost wakeup would show as a test that never ends.
      consumer.sleep(Number.POSITIVE_INFINITY);
    }
  }
  return { bad, sleeps };
}

function isWhole(words: Int32Array, at: number, slotWords: number, expected: number): boolean {
  let sum = 0;
  for (let i = 0; i < slotWords - 1; i++) sum = (sum + words[at + i]) | 0;
  return words[at] === expected && words[at + slotWords - 1] === sum;
}
