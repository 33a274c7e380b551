/**
 * What the engine asks of a driver: bursts of frames in, bursts of frames out. A driver knows no IP.
 *
 * A *frame* is a chunk of the lcore's frame memory (its UMEM). It is named by the byte offset of its first data byte in
 * `memory`, an int32 (frame memory is at most 2 GiB, so that offsets stay small integers in the JIT). A frame has one
 * owner at any time:
 *
 *   pool -> fill ring -> kernel/wire -> rxBurst -> lcore -> (application thread ->) pool, or -> tx -> kernel/wire -> pool
 */
import type { FramePool } from "./pool.ts";
import type { Segmenter } from "./segmenter.ts";

/** The most frames one rxBurst hands over. */
export const BURST_MAX = 64;

/** A received burst: parallel arrays, reused for every burst. Only the first `count` entries are valid. */
export class Burst {
  count = 0;
  /** Offset of each frame's first byte (the Ethernet header) in the frame memory, bytes. */
  readonly offset = new Int32Array(BURST_MAX);
  /** Length of each frame, bytes, without FCS. */
  readonly length = new Int32Array(BURST_MAX);
}

/** One RX/TX queue pair of an interface, driven by one lcore. No method throws or allocates after set-up. */
export interface Port {
  /** Interface index in its namespace, 0 for a memory port. */
  readonly ifindex: number;
  /** Hardware queue number. */
  readonly queue: number;
  /** Frame memory, shared by every port of the lcore. */
  readonly memory: Uint8Array;
  readonly pool: FramePool;
  /** Descriptor to poll(2) for POLLIN when sleeping, or -1 when the driver has none. */
  readonly fd: number;
  /** True where frames may carry a checksum that the sender's kernel left unfinished (veth, virtio, loopback). */
  readonly partialChecksums: boolean;
  /** True while flushed frames wait for another txFlush: the kernel would not take them all. No time to sleep. */
  readonly unsent: boolean;
  /** Frames that txPush still takes now; more once txFlush and txComplete have been called. */
  readonly txRoom: number;
  /**
   * Frames that txPush took since the start, and those of them that txComplete has given back; both wrap as int32. The
   * first pushed is the first given back, or nearly so.
   */
  readonly txPushed: number;
  readonly txDone: number;
  /** Frames that txPush took and the device then dropped: given back by txComplete as if they had been sent. */
  readonly txDropped: number;
  /** Times the kernel took no frame although asked, for want of memory or because the interface is down: they wait. */
  readonly txRefused: number;
  /** Sends packets of many TCP segments past txPush; null: there is no such way. */
  readonly segmenter: Segmenter | null;
  /** NAPI ID of the queue, 0 while unknown (the kernel tells it after the first packet). */
  napiId: number;

  /**
   * Receives up to BURST_MAX frames into `burst`; the caller owns them from then on. `now` is the loop's clock in
   * milliseconds; a driver with virtual time delivers by it. Returns burst.count.
   */
  rxBurst(burst: Burst, now: number): number;

  /**
   * Queues a frame for transmission. True: the driver owns it and gives it back to the pool when it is sent. False:
   * no room, the caller still owns it. Nothing moves before txFlush.
   */
  txPush(offset: number, length: number): boolean;

  /** Publishes what txPush queued and tells the kernel where it asked to be told. */
  txFlush(): void;

  /** Returns the frames of finished transmissions to the pool. Returns how many. */
  txComplete(): number;

  /** Moves free frames from the pool into the fill ring. Returns how many. */
  refill(): number;

  /**
   * Drives the queue's NAPI once from this thread (busy polling). A driver without one does nothing.
   */
  busyPoll(): void;

  /** Releases the queue. Frames in flight are lost to the pool. */
  close(): void;
}
