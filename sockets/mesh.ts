/**
 * The rings between threads. Lcores are numbered 0..lcores-1, other threads (application threads and the engine's control
 * thread) follow. There is a ring for each ordered pair of which at least one is an lcore; application threads share
 * nothing with each other. A million sockets cost no ring more.
 *
 * A sleeping thread is woken by its *bell*: a word to Atomics.wait on, and for an lcore that sleeps in poll(2) an eventfd.
 */
import { sys } from "af-xdp-bindings";
import { RING_ALIGN, RingConsumer, RingProducer, ringBytes } from "../queues/ring.ts";
import { MESSAGE_WORDS } from "./message.ts";

export interface MeshDescriptor {
  readonly buffer: SharedArrayBuffer;
  readonly lcores: number;
  readonly threads: number;
  /** Messages a ring holds. */
  readonly slots: number;
}

const BELL_WORDS = 64;
const B_COUNT = 0;
const B_EVENTFD = 1;
/** 1 while the thread number is taken. */
const B_TAKEN = 2;
/** In thread 0's record: one past the highest number ever taken. */
const B_HIGH_WATER = 3;
/** There too: 1 once an lcore has left its loop, for whatever reason. */
const B_STOPPED = 4;
/** 1 where the thread has no CPU but the lcores'. */
const B_SHARES_CPU = 5;
/** The thread's id in the kernel, 0: not known. */
const B_THREAD_ID = 8;
/** Of a thread that is leaving: how many lcores have not done with it yet, and which have not heard of it, a bit each in as many words as it takes. */
const B_LEAVING = 9;
const B_UNHEARD = 10;

/** How long a wait for lcores goes on before it looks whether the engine has stopped, milliseconds. */
const STOP_LOOK_MS = 10;

/** In thread 0's record, and the word after it: the 64-bit number 1 that is written to eventfds. */
const B_ONE = 6;
/** Turns of an lcore's loop, wrapping: written by the lcore only, each turn, and so in lines of its own. */
const B_TURNS = 32;

export class Mesh {
  readonly lcores: number;
  /** Threads in all, lcores included. */
  readonly threads: number;
  private readonly descriptor_: MeshDescriptor;
  private readonly bells: Int32Array;
  /**
   * In the bells, which this object keeps. A view in a module's scope is not kept by that: it was collected, and what the
   * memory held afterwards was written, mostly 0, which wakes nobody.
   */
  private readonly oneAddress: number;
  private readonly ringBytes: number;

  static create(lcores: number, otherThreads: number, slots: number): Mesh {
    const threads = lcores + otherThreads;
    const ring = align(ringBytes(slots, MESSAGE_WORDS));
    const rings = lcores * threads + otherThreads * lcores;
    const buffer = new SharedArrayBuffer(threads * BELL_WORDS * 4 + rings * ring);
    const mesh = new Mesh({ buffer, lcores, threads, slots });
    mesh.bells[B_ONE] = 1;
    for (let t = 0; t < threads; t++) mesh.bells[t * BELL_WORDS + B_EVENTFD] = -1;
    return mesh;
  }

  constructor(descriptor: MeshDescriptor) {
    this.descriptor_ = descriptor;
    this.lcores = descriptor.lcores;
    this.threads = descriptor.threads;
    this.bells = new Int32Array(descriptor.buffer, 0, descriptor.threads * BELL_WORDS);
    this.oneAddress = sys.addressOf(this.bells) + B_ONE * 4;
    this.ringBytes = align(ringBytes(descriptor.slots, MESSAGE_WORDS));
  }

  descriptor(): MeshDescriptor {
    return this.descriptor_;
  }

  /** The filling side of the ring from one thread to another. Each end may be taken once at a time. */
  producer(from: number, to: number): RingProducer {
    return new RingProducer(this.descriptor_.buffer, this.offset(from, to), this.descriptor_.slots, MESSAGE_WORDS);
  }

  /** The draining side of the ring from one thread to another. */
  consumer(from: number, to: number): RingConsumer {
    return new RingConsumer(this.descriptor_.buffer, this.offset(from, to), this.descriptor_.slots, MESSAGE_WORDS);
  }

  /** Takes a free thread number from `first` on; -1 when all are taken. */
  takeThread(first = this.lcores): number {
    for (let t = first; t < this.threads; t++) {
      if (Atomics.compareExchange(this.bells, t * BELL_WORDS + B_TAKEN, 0, 1) !== 0) continue;
      while (true) {
        const high = Atomics.load(this.bells, B_HIGH_WATER);
        if (high > t || Atomics.compareExchange(this.bells, B_HIGH_WATER, high, t + 1) === high) return t;
      }
    }
    return -1;
  }

  /** takeThread(), which waits for a place that is being left. */
  takeThreadSoon(first: number, timeoutMs: number): number {
    const deadline = performance.now() + timeoutMs;
    while (true) {
      const thread = this.takeThread(first);
      if (thread >= 0 || performance.now() >= deadline) return thread;
      let leaver = first;
      while (leaver < this.threads && Atomics.load(this.bells, leaver * BELL_WORDS + B_LEAVING) === 0) leaver++;
      // Who has left between both looks leaves a place behind.
      if (leaver === this.threads) return this.takeThread(first);
      this.awaitLeft(leaver, deadline - performance.now());
      if (this.isStopped()) return -1;
    }
  }

  /** Bound of the threads that ever joined, lcores included: rings beyond it are empty. It only grows. */
  activeThreads(): number {
    return Math.max(Atomics.load(this.bells, B_HIGH_WATER), this.lcores);
  }

  /** The thread's place is free. */
  leaveThread(thread: number): void {
    // Before whoever takes the place has noted his own.
    Atomics.store(this.bells, thread * BELL_WORDS + B_THREAD_ID, 0);
    Atomics.store(this.bells, thread * BELL_WORDS + B_TAKEN, 0);
  }

  /**
   * A thread leaves, or has been found dead: its place is free when the lcores 0 to `lcores` - 1 have done with it. They are
   * still to be told. Does nothing where it was called for the thread before.
   */
  beginLeaving(thread: number, lcores: number): void {
    const at = thread * BELL_WORDS;
    if (Atomics.load(this.bells, at + B_LEAVING) !== 0) return;
    for (let l = 0; l < lcores; l += 32) {
      const bits = lcores - l >= 32 ? -1 : (1 << (lcores - l)) - 1;
      Atomics.store(this.bells, at + B_UNHEARD + (l >> 5), bits);
    }
    Atomics.store(this.bells, at + B_LEAVING, lcores);
  }

  /** An lcore hears that a thread is leaving. False: it has heard that before. */
  hearLeaving(thread: number, lcore: number): boolean {
    const bit = 1 << (lcore & 31);
    return (Atomics.and(this.bells, thread * BELL_WORDS + B_UNHEARD + (lcore >> 5), ~bit) & bit) !== 0;
  }

  /** Once after hearLeaving(): the lcore has nothing of the thread's any more, and puts nothing into the ring to it. */
  doneWith(thread: number): void {
    const at = thread * BELL_WORDS;
    if (Atomics.sub(this.bells, at + B_LEAVING, 1) > 1) return;
    this.leaveThread(thread);
    Atomics.notify(this.bells, at + B_LEAVING);
  }

  /** Waits until the lcores have done with a thread that is leaving; at most `timeoutMs`, and not once the engine has stopped. */
  awaitLeft(thread: number, timeoutMs: number): void {
    const at = thread * BELL_WORDS + B_LEAVING;
    const deadline = performance.now() + timeoutMs;
    for (let left = Atomics.load(this.bells, at); left > 0; left = Atomics.load(this.bells, at)) {
      if (this.isStopped() || performance.now() >= deadline) return;
      Atomics.wait(this.bells, at, left, STOP_LOOK_MS);
    }
  }

  /** Whether somebody has the thread number. */
  isTaken(thread: number): boolean {
    return thread < this.lcores || Atomics.load(this.bells, thread * BELL_WORDS + B_TAKEN) === 1;
  }

  /** Notes the calling thread's id in the kernel, by which others can tell whether it is still there. */
  noteThreadId(thread: number): void {
    Atomics.store(this.bells, thread * BELL_WORDS + B_THREAD_ID, sys.gettid());
  }

  threadId(thread: number): number {
    return Atomics.load(this.bells, thread * BELL_WORDS + B_THREAD_ID);
  }

  /** Notes whether a thread has no CPU but those of the lcores. */
  setSharesCpu(thread: number, shares: boolean): void {
    Atomics.store(this.bells, thread * BELL_WORDS + B_SHARES_CPU, shares ? 1 : 0);
  }

  sharesCpu(thread: number): boolean {
    return this.bells[thread * BELL_WORDS + B_SHARES_CPU] === 1;
  }

  /** The calling lcore begins a turn of its loop. */
  turn(lcore: number): void {
    this.bells[lcore * BELL_WORDS + B_TURNS]++;
  }

  /** Turns that an lcore has begun, wrapping: a number that changes as long as it runs. */
  turns(lcore: number): number {
    return Atomics.load(this.bells, lcore * BELL_WORDS + B_TURNS);
  }

  /** Sets the eventfd that wakes a thread out of poll(2); -1 for none. */
  setEventfd(thread: number, fd: number): void {
    Atomics.store(this.bells, thread * BELL_WORDS + B_EVENTFD, fd);
  }

  /** Wakes a thread, wherever it sleeps. One system call where it has an eventfd. */
  ring(thread: number): void {
    const at = thread * BELL_WORDS;
    Atomics.add(this.bells, at + B_COUNT, 1);
    Atomics.notify(this.bells, at + B_COUNT);
    const fd = Atomics.load(this.bells, at + B_EVENTFD);
    if (fd >= 0) sys.write(fd, this.oneAddress, 8);
  }

  /** Says that messages to lcores are handled no more, and wakes everybody who sleeps. Any thread. */
  stop(): void {
    Atomics.store(this.bells, B_STOPPED, 1);
    for (let thread = 0; thread < this.threads; thread++) this.ring(thread);
  }

  /** Whether stop() was called. */
  isStopped(): boolean {
    return Atomics.load(this.bells, B_STOPPED) === 1;
  }

  /** The bell's count now: read it before looking at the rings, and pass it to `wait`. */
  bellCount(thread: number): number {
    return Atomics.load(this.bells, thread * BELL_WORDS + B_COUNT);
  }

  /** Sleeps until the bell's count is no longer `count`, or the time is over. Blocks the thread. */
  wait(thread: number, count: number, timeoutMs: number): void {
    Atomics.wait(this.bells, thread * BELL_WORDS + B_COUNT, count, timeoutMs);
  }

  /** As `wait`, as a promise; the thread's event loop goes on. */
  async waitAsync(thread: number, count: number): Promise<void> {
    const result = Atomics.waitAsync(this.bells, thread * BELL_WORDS + B_COUNT, count);
    if (result.async) await result.value;
  }

  private offset(from: number, to: number): number {
    const { lcores, threads } = this;
    const index = from < lcores ? from * threads + to : lcores * threads + (from - lcores) * lcores + to;
    if (from >= lcores && to >= lcores)
      throw new RangeError(`no ring between threads ${from} and ${to}: neither is an lcore`);
    return threads * BELL_WORDS * 4 + index * this.ringBytes;
  }
}

function align(bytes: number): number {
  return Math.ceil(bytes / (2 * RING_ALIGN)) * 2 * RING_ALIGN;
}
