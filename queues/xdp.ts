/** The `xdp` driver: one queue of an interface through an AF_XDP socket. */
import {
  abi,
  type CompletionRing,
  ERRNO,
  type FillRing,
  type RxRing,
  SysError,
  type TxRing,
  type Umem,
  Xsk,
} from "af-xdp-bindings";
import { BURST_MAX, type Burst, type Port } from "./driver.ts";
import type { LargePackets } from "./large.ts";
import type { FramePool } from "./pool.ts";
import { Segmenter } from "./segmenter.ts";

/** RX, fill and completion ring entries: at 1.5 M frames a second they hold 1.4 ms, about a scheduler's hiccup. */
const RING_SIZE = 2048;
/**
 * Frames one kick sends at most in copy mode (XDP_MAX_TX_SKB_BUDGET; the kernel's default is 32): a whole burst's
 * answers leave with one system call.
 */
const TX_BUDGET = 256;
/** SO_BUSY_POLL_BUDGET: as many frames as one burst takes. */
const BUSY_POLL_BUDGET = BURST_MAX;
/** SO_BUSY_POLL, microseconds. Every call here is non-blocking and polls once, so any value but 0 does. */
const BUSY_POLL_USECS = 20;
/** Idle turns between two looks for a NAPI ID that is not known yet, a power of two: about four looks a second. */
const LOOK_INTERVAL = 1 << 20;
/** Kicks a flush makes while the kernel says EAGAIN: the budget of each is TX_BUDGET, the ring holds RING_SIZE. */
const KICKS_MAX = RING_SIZE / TX_BUDGET;

export interface XdpPortOptions {
  ifindex: number;
  queue: number;
  /** Drive the queue's NAPI from the lcore (preferred busy polling). */
  busyPoll: boolean;
  partialChecksums: boolean;
  /** Frames the fill ring holds, a power of two; default RING_SIZE. They are taken from the pool as long as it has any. */
  fillSize?: number;
  /** Where packets longer than a frame are put together; the UMEM is then multiBuffer. Without, the kernel drops them. */
  large?: LargePackets | null;
  /** Where packets of many segments are gathered from in copy mode: the UMEM, and what is behind it. Without, there are none. */
  gather?: Uint8Array | null;
}

export class XdpPort implements Port {
  readonly ifindex: number;
  readonly queue: number;
  readonly memory: Uint8Array;
  readonly pool: FramePool;
  readonly partialChecksums: boolean;
  readonly xsk: Xsk;
  readonly segmenter: Segmenter | null;
  napiId = 0;
  /** Kicks and busy polls made. */
  kicks = 0;
  polls = 0;

  private readonly rx: RxRing;
  private readonly tx: TxRing;
  private readonly fill: FillRing;
  private readonly completion: CompletionRing;
  private readonly busyPolling: boolean;
  private readonly large: LargePackets | null;
  /** Times a missing NAPI ID was missed. */
  private looks = 0;
  /** Frames set in the TX ring and not yet submitted, and how many may still be set. */
  private queued = 0;
  private room = 0;
  /** A sum without meaning: keeps the fetches of rxBurst from being optimised away. */
  touched = 0;
  unsent = false;
  txDone = 0;
  txDropped = 0;
  txRefused = 0;
  private submitted = 0;

  /** Opens and binds the socket and stocks its fill ring. Throws SysError. */
  constructor(umem: Umem, pool: FramePool, options: XdpPortOptions) {
    this.ifindex = options.ifindex;
    this.queue = options.queue;
    this.large = options.large ?? null;
    this.memory = this.large?.memory ?? umem.memory;
    this.pool = pool;
    this.partialChecksums = options.partialChecksums;
    this.busyPolling = options.busyPoll;
    this.xsk = openXsk(umem, options);
    this.rx = this.xsk.rx;
    this.tx = this.xsk.tx;
    this.fill = this.xsk.fill;
    this.completion = this.xsk.completion;
    try {
      this.xsk.bind();
    } catch (error) {
      this.xsk.close();
      throw error;
    }
    // A NIC that takes frames without a copy takes them one by one at no such cost.
    const gather = this.xsk.zeroCopy ? null : (options.gather ?? null);
    this.segmenter = gather === null ? null : Segmenter.open(options.ifindex, gather);
    this.napiId = this.xsk.napiId();
    this.refill();
  }

  get txRoom(): number {
    if (this.room === this.queued) this.room = this.tx.reserve(RING_SIZE);
    return this.room - this.queued;
  }

  get txPushed(): number {
    return (this.submitted + this.queued) | 0;
  }

  get fd(): number {
    return this.xsk.fd;
  }

  rxBurst(burst: Burst, _now: number): number {
    const { rx } = this;
    const count = rx.available(BURST_MAX);
    burst.count = count;
    if (count === 0) return 0;
    if (this.large !== null) return this.rxPieces(burst, count, this.large);
    const { memory } = this;
    let touched = 0;
    // In copy mode another CPU has just written each frame. Its first line is fetched here, where the misses of a whole
    // burst overlap, and not one by one where the frame is parsed.
    for (let i = 0; i < count; i++) {
      const address = rx.address(i);
      burst.offset[i] = address;
      burst.length[i] = rx.length(i);
      touched += memory[address];
    }
    this.touched = touched;
    rx.release(count);
    return count;
  }

  /** rxBurst() where a packet may take several descriptors, which the kernel publishes together. */
  private rxPieces(burst: Burst, count: number, large: LargePackets): number {
    const { memory, rx } = this;
    large.begin();
    let packets = 0;
    let touched = 0;
    let i = 0;
    while (i < count) {
      if ((rx.options(i) & abi.XDP_PKT_CONTD) === 0) {
        const address = rx.address(i);
        burst.offset[packets] = address;
        burst.length[packets++] = rx.length(i++);
        touched += memory[address];
        continue;
      }
      // The rest comes with the next burst.
      if (!large.hasRoom) break;
      i = this.gather(i, large);
      if (large.length === 0) continue;
      burst.offset[packets] = large.take();
      burst.length[packets++] = large.length;
    }
    this.touched = touched;
    rx.release(i);
    burst.count = packets;
    return packets;
  }

  /** Puts together the packet that begins with descriptor `i`, and frees its frames. Returns the descriptor after its last. */
  private gather(i: number, large: LargePackets): number {
    const { pool, rx } = this;
    const there = rx.available(RING_SIZE);
    large.start();
    for (let at = i; at < there; at++) {
      const address = rx.address(at);
      large.add(address, rx.length(at));
      pool.give(address);
      if ((rx.options(at) & abi.XDP_PKT_CONTD) === 0) {
        large.finish();
        return at + 1;
      }
    }
    // No kernel does so: what has no end is no packet.
    large.drop();
    return there;
  }

  txPush(offset: number, length: number): boolean {
    if (this.txRoom === 0) return false;
    this.tx.set(this.queued++, offset, length, 0);
    return true;
  }

  txFlush(): void {
    if (this.queued > 0) {
      this.tx.submit(this.queued);
      this.submitted = (this.submitted + this.queued) | 0;
      this.queued = 0;
      this.room = 0;
      this.unsent = true;
    }
    if (this.unsent) this.kick();
  }

  /** Tells the kernel until it has taken everything, or will not take more now. */
  private kick(): void {
    for (let left = KICKS_MAX; left > 0 && this.tx.needsWakeup(); ) {
      this.kicks++;
      const result = this.xsk.kickTx();
      // EBUSY: the device dropped one frame, at which a kick ends (net/xdp/xsk.c, __xsk_generic_xmit). No others are left for
      // later: a sleeping lcore's poll(2) sends, too, and does not tell.
      if (result === -ERRNO.EBUSY) this.txDropped++;
      else left--;
      if (result < 0 && result !== -ERRNO.EBUSY && result !== -ERRNO.EAGAIN) this.txRefused++;
      if (this.tx.pending() === 0) break;
      // The completion ring may be what holds the kernel back.
      if (this.txComplete() === 0 && result !== -ERRNO.EAGAIN) break;
    }
    this.unsent = this.tx.pending() > 0;
  }

  txComplete(): number {
    const { completion, pool } = this;
    const count = completion.available(RING_SIZE);
    if (count === 0) return 0;
    for (let i = 0; i < count; i++) pool.give(completion.address(i));
    completion.release(count);
    this.txDone = (this.txDone + count) | 0;
    return count;
  }

  refill(): number {
    const { fill, pool } = this;
    const count = Math.min(fill.reserve(RING_SIZE), pool.available);
    if (count > 0) {
      for (let i = 0; i < count; i++) fill.set(i, pool.take());
      fill.submit(count);
    }
    if (fill.needsWakeup()) this.xsk.kickRx();
    return count;
  }

  /**
   * Does nothing while the queue has no NAPI ID: then the kernel could not find the NAPI to poll, and the call, 360 ns,
   * would be for nothing (veth in Linux 6.18). Before 6.18 the ID comes with the first packet, so it is looked for again.
   */
  busyPoll(): void {
    if (!this.busyPolling) return;
    if (this.napiId === 0) {
      if ((++this.looks & (LOOK_INTERVAL - 1)) === 0) this.napiId = this.xsk.napiId();
      return;
    }
    this.polls++;
    this.xsk.kickRx();
  }

  close(): void {
    this.segmenter?.close();
    this.xsk.close();
  }
}

/** A socket with rings of RING_SIZE; kernels before 6.17 have no XDP_MAX_TX_SKB_BUDGET and send 32 frames a kick. */
function openXsk(umem: Umem, { ifindex, queue, busyPoll, fillSize = RING_SIZE }: XdpPortOptions): Xsk {
  const rings = { rxSize: RING_SIZE, txSize: RING_SIZE, fillSize, completionSize: RING_SIZE };
  const polling = busyPoll ? { busyPoll: { usecs: BUSY_POLL_USECS, budget: BUSY_POLL_BUDGET } } : {};
  const options = { ifindex, queue, ...rings, ...polling };
  try {
    return new Xsk(umem, { ...options, maxTxBudget: TX_BUDGET });
  } catch (error) {
    if (!(error instanceof SysError && error.code === "ENOPROTOOPT")) throw error;
    return new Xsk(umem, options);
  }
}
