/**
 * Between the lcores and the thread of the engine's own host protocols (ARP, ND, ICMP, fragments, groups), where it has
 * them: frames that are for no socket go there, and what the protocols send comes back to an lcore's port.
 */
import type { FramePool } from "../queues/pool.ts";
import type { RingProducer } from "../queues/ring.ts";
import { C } from "./counters.ts";
import type { FrameHolders } from "./frame-holders.ts";
import { M_FRAME, M_HOME, M_KIND, M_L3, M_LENGTH, M_PORT, M_REASON, MSG_HOST, MSG_TRANSMIT } from "./message.ts";
import type { Output } from "./output.ts";
import type { Shared } from "./shared.ts";

/** Frames that the thread of the host protocols may hold of one lcore: what floods the host must not starve its sockets. */
const HOST_FRAMES_MAX = 256;

/** What takes the frames of the host protocols, on their thread. `bytes` are valid during the call. */
export interface HostReceiver {
  take(bytes: Uint8Array, at: number, length: number, reason: number, lcore: number, port: number): void;
  /** MSG_GROUP: a socket joins or leaves a group. */
  group(words: Int32Array, at: number): void;
}

/** What the link needs of its lcore. */
export interface HostLinkOwner {
  readonly thread: number;
  readonly shared: Shared;
  readonly counters: Float64Array;
  readonly pool: FramePool;
  readonly holders: FrameHolders;
  /** Ring to each thread. */
  readonly toThread: readonly (RingProducer | null)[];
  /** Gives a frame back to its lcore. */
  giveBack(home: number, frame: number): void;
}

export class HostLink {
  private readonly owner: HostLinkOwner;
  private readonly out: Output;
  private readonly bytes: Uint8Array;
  private readonly frameSize: number;
  /** Thread of the host protocols. */
  private readonly host: number;
  /** On that thread: what takes the frames. */
  private readonly receiver: HostReceiver | null;

  constructor(owner: HostLinkOwner, out: Output, host: number, receiver: HostReceiver | null) {
    this.owner = owner;
    this.out = out;
    this.bytes = owner.shared.memories[owner.thread].bytes;
    this.frameSize = owner.shared.frameSizes[owner.thread];
    this.host = host;
    this.receiver = receiver;
  }

  /** Gives a frame that begins at `at` to the host protocols; `reason` is HOST_.... It is given away. */
  divert(frame: number, at: number, length: number, portNumber: number, reason: number): void {
    const { counters, holders, pool, thread, toThread } = this.owner;
    const { host } = this;
    counters[C.HostFrames]++;
    if (host === thread) {
      this.receiver?.take(this.bytes, at, length, reason, thread, portNumber);
      pool.give(frame);
      return;
    }
    const ring = toThread[host];
    const full = holders.counts[host] >= Math.min(HOST_FRAMES_MAX, pool.available);
    const slot = ring === null || full ? -1 : ring.claim();
    if (slot < 0 || ring === null) {
      counters[C.HostDrops]++;
      pool.give(frame);
      return;
    }
    holders.hand(frame, host);
    const { words } = ring;
    words[slot + M_KIND] = MSG_HOST;
    words[slot + M_REASON] = reason;
    words[slot + M_FRAME] = frame;
    words[slot + M_LENGTH] = length;
    words[slot + M_L3] = at;
    words[slot + M_PORT] = portNumber;
    words[slot + M_HOME] = thread;
  }

  /** MSG_HOST, on the thread of the host protocols. */
  take(words: Int32Array, at: number): void {
    const home = words[at + M_HOME];
    const { bytes } = this.owner.shared.memories[home];
    this.receiver?.take(bytes, words[at + M_L3], words[at + M_LENGTH], words[at + M_REASON], home, words[at + M_PORT]);
    this.owner.giveBack(home, words[at + M_FRAME]);
  }

  /** MSG_GROUP, on the thread of the host protocols. */
  group(words: Int32Array, at: number): void {
    this.receiver?.group(words, at);
  }

  /**
   * On the thread of the host protocols: has an lcore send a frame, which is copied into this thread's memory. False when
   * there is no room now: it is dropped.
   */
  transmit(lcore: number, portNumber: number, bytes: Uint8Array): boolean {
    const { counters, pool, thread, toThread } = this.owner;
    const ring = toThread[lcore];
    const frame = bytes.length > this.frameSize ? -1 : pool.take();
    const slot = frame < 0 || !ring ? -1 : ring.claim();
    if (slot < 0 || !ring) {
      if (frame >= 0) pool.give(frame);
      counters[C.UdpSndbufErrors]++;
      return false;
    }
    this.bytes.set(bytes, frame);
    const { words } = ring;
    words[slot + M_KIND] = MSG_TRANSMIT;
    words[slot + M_FRAME] = frame;
    words[slot + M_LENGTH] = bytes.length;
    words[slot + M_L3] = frame;
    words[slot + M_PORT] = portNumber;
    words[slot + M_HOME] = thread;
    return true;
  }

  /** MSG_TRANSMIT, on an lcore. */
  transmitFor(words: Int32Array, at: number): void {
    const { counters, pool, shared } = this.owner;
    const home = words[at + M_HOME];
    const from = words[at + M_L3];
    const length = words[at + M_LENGTH];
    const frame = length > this.frameSize ? -1 : pool.take();
    if (frame < 0) {
      counters[C.UdpSndbufErrors]++;
    } else {
      this.bytes.set(shared.memories[home].bytes.subarray(from, from + length), frame);
      this.out.transmitRaw(words[at + M_PORT], frame, length);
    }
    this.owner.giveBack(home, words[at + M_FRAME]);
  }
}
