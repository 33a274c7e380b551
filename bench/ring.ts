/** The ring between threads: push and pop on one thread, and a hand-over from one thread to another. */
import { Worker } from "node:worker_threads";
import { RingConsumer, RingProducer, ringBytes } from "../queues/ring.ts";
import { MESSAGE_WORDS } from "../sockets/message.ts";
import { Rounds } from "./ratio.ts";
import type { RingWorkerData } from "./ring-worker.ts";

const RING_SLOTS = 1024;
const BURST = 32;
const PASSES = 256;

/** A ring of messages whose two ends are on this thread. One pass pushes and pops PUSHES messages. */
export class RingPass {
  static readonly PUSHES = BURST * PASSES;
  private readonly producer: RingProducer;
  private readonly consumer: RingConsumer;

  constructor() {
    const buffer = new SharedArrayBuffer(ringBytes(RING_SLOTS, MESSAGE_WORDS));
    this.producer = new RingProducer(buffer, 0, RING_SLOTS, MESSAGE_WORDS);
    this.consumer = new RingConsumer(buffer, 0, RING_SLOTS, MESSAGE_WORDS);
  }

  /** In bursts of 32, every word written and read. Throws when a message was lost or changed. */
  run(): void {
    const { producer, consumer } = this;
    let wrong = 0;
    for (let pass = 0; pass < PASSES; pass++) {
      for (let i = 0; i < BURST; i++) {
        const at = producer.claim();
        for (let w = 0; w < MESSAGE_WORDS; w++) producer.words[at + w] = pass + i + w;
      }
      producer.publish();
      for (let i = 0; i < BURST; i++) {
        const at = consumer.peek();
        let sum = 0;
        for (let w = 0; w < MESSAGE_WORDS; w++) sum += consumer.words[at + w];
        wrong |= sum ^ (MESSAGE_WORDS * (pass + i) + (MESSAGE_WORDS * (MESSAGE_WORDS - 1)) / 2);
        consumer.next();
      }
      consumer.release();
    }
    if (wrong !== 0) throw new Error("the ring changed a message");
  }
}

/**
 * Nanoseconds a slot from this thread to another, both at full speed, bursts of 32, one word of each slot used.
 * @param slotWords 1, or MESSAGE_WORDS for the engine's messages
 */
export async function measureHandOver(slotWords: number, total: number, rounds: number): Promise<Rounds> {
  const buffer = new SharedArrayBuffer(ringBytes(RING_SLOTS, slotWords));
  // The first round compiles both sides and is not counted.
  const data: RingWorkerData = { buffer, slots: RING_SLOTS, slotWords, total, rounds: rounds + 1 };
  const worker = new Worker(new URL("./ring-worker.ts", import.meta.url), { workerData: data });
  let next = Promise.withResolvers<unknown>();
  worker.on("message", (message) => next.resolve(message));
  worker.on("error", (error) => next.reject(error));
  await next.promise;
  const producer = new RingProducer(buffer, 0, RING_SLOTS, slotWords);
  const result = new Rounds();
  for (let round = 0; round <= rounds; round++) {
    next = Promise.withResolvers<unknown>();
    const start = performance.now();
    const expected = push(producer, total);
    // Both ends have now touched the last slot: what is still in the ring is at most RING_SLOTS.
    const elapsed = performance.now() - start;
    if ((await next.promise) !== expected) throw new Error("the ring lost or changed a slot");
    if (round > 0) result.add((elapsed * 1e6) / total);
  }
  await new Promise((resolve) => worker.on("exit", resolve));
  return result;
}

function push(ring: RingProducer, total: number): number {
  let sum = 0;
  let pushed = 0;
  while (pushed < total) {
    const burst = Math.min(BURST, total - pushed);
    for (let i = 0; i < burst; i++) {
      const at = ring.claim();
      if (at < 0) break;
      ring.words[at] = pushed;
      sum = (sum + pushed) | 0;
      pushed++;
    }
    ring.publish();
  }
  return sum;
}
