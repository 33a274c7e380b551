/**
 * XSK: an AF_XDP socket on one queue of one interface.
 *
 *     chunk ──▶ fill ring ──▶ kernel ──▶ RX ring ──▶ frame        receiving: a chunk comes back with a frame in it
 *     frame ──▶ TX ring ──▶ kernel ──▶ completion ring ──▶ chunk  sending: a chunk comes back when its frame is out
 *
 * Set-up is: socket(AF_XDP), XDP_UMEM_REG on the UMEM's first socket, one setsockopt a ring, mmap of each ring, bind. A
 * socket receives once an XSKMAP entry names it and an XDP program redirects to that entry.
 */
import {
  AF_XDP,
  SO_BUSY_POLL,
  SO_BUSY_POLL_BUDGET,
  SO_INCOMING_NAPI_ID,
  SO_NETNS_COOKIE,
  SO_PREFER_BUSY_POLL,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_SOCKET,
  SOL_XDP,
  sockaddr_xdp,
  TX_BATCH_SIZE,
  XDP_COPY,
  XDP_MAX_TX_SKB_BUDGET,
  XDP_OPTIONS,
  XDP_OPTIONS_ZEROCOPY,
  XDP_PGOFF_RX_RING,
  XDP_PGOFF_TX_RING,
  XDP_RX_RING,
  XDP_SHARED_UMEM,
  XDP_STATISTICS,
  XDP_TX_RING,
  XDP_UMEM_COMPLETION_RING,
  XDP_UMEM_FILL_RING,
  XDP_UMEM_PGOFF_COMPLETION_RING,
  XDP_UMEM_PGOFF_FILL_RING,
  XDP_UMEM_REG,
  XDP_USE_NEED_WAKEUP,
  XDP_USE_SG,
  XDP_ZEROCOPY,
  xdp_desc,
  xdp_mmap_offsets,
  xdp_options,
  xdp_statistics,
} from "./abi.ts";
import { CompletionRing } from "./completion-ring.ts";
import { check, ERRNO } from "./errno.ts";
import { FillRing } from "./fill-ring.ts";
import { BUDGET_HINTS, BUSY_POLL_HINTS, bindHints, type Hints, RING_HINTS, SOCKET_HINTS, umemHints } from "./hints.ts";
import type { SharedArea } from "./memory.ts";
import { QueueRings } from "./queue-rings.ts";
import { absentRing, mapRing, mmapOffsets, type RingMemory } from "./ring-memory.ts";
import { RxRing } from "./rx-ring.ts";
import * as sys from "./sys.ts";
import { TxRing } from "./tx-ring.ts";
import { u64 } from "./u64.ts";
import type { Umem } from "./umem.ts";

/** Busy polling: receive and send calls drive the queue's NAPI on the caller's CPU. */
export interface BusyPoll {
  /** SO_BUSY_POLL: microseconds, 0 for off. A non-blocking call polls once, whatever the figure. */
  usecs: number;
  /** SO_BUSY_POLL_BUDGET: frames one poll handles at most. */
  budget: number;
  /** SO_PREFER_BUSY_POLL: keep the queue's interrupts off meanwhile (as napi_defer_hard_irqs allows). Default true. */
  prefer?: boolean;
}

/** Ring sizes are entries, powers of two; 0 leaves the ring out. */
export interface XskOptions {
  ifindex: number;
  /** Queue of the interface; default 0. */
  queue?: number;
  /** Default 2048. */
  rxSize?: number;
  /** Default 2048. */
  txSize?: number;
  /** Default 2048. Left out, as completionSize, where the socket shares the rings of another on its queue. */
  fillSize?: number;
  /** Default 2048. */
  completionSize?: number;
  /** XDP_MAX_TX_SKB_BUDGET: frames one kickTx sends at most in copy mode, from 32 (the default) to txSize. */
  maxTxBudget?: number;
  busyPoll?: BusyPoll;
}

/** struct xdp_statistics: counts since the socket was opened. */
export interface XskStatistics {
  /** Frames dropped for want of a chunk, or for being longer than one. */
  rxDropped: number;
  /** Refused RX descriptors. Linux 6.18 skips fill ring entries that name no chunk, and counts them nowhere visible. */
  rxInvalidDescs: number;
  /** TX ring entries that were refused: outside the UMEM or the chunk, unknown options. */
  txInvalidDescs: number;
  /** Frames dropped because the RX ring was full. */
  rxRingFull: number;
  /** Times a chunk was wanted and the fill ring empty. */
  rxFillRingEmptyDescs: number;
  /** Times the TX ring was looked into and empty. */
  txRingEmptyDescs: number;
}

/** Pause between two attempts to bind to a queue whose former socket is still leaving. */
const BIND_RETRY_MS = 5;

/** Open sockets: their memory is the kernel's, so the garbage collector may not have it before `close`. */
const open = new Set<Xsk>();

export class Xsk {
  readonly umem: Umem;
  readonly ifindex: number;
  readonly queue: number;
  readonly rx: RxRing;
  readonly tx: TxRing;
  /** Shared by the sockets of this UMEM on this queue: one thread serves it for all. */
  readonly fill: FillRing;
  /** Shared as `fill` is: completions of all of them arrive here. */
  readonly completion: CompletionRing;
  /** The descriptor, for poll(2), an XSKMAP or another process; -1 once closed. */
  fd: number;
  private readonly rings: QueueRings;
  private readonly areas: SharedArea[] = [];
  private readonly key: string;

  /**
   * Opens a socket with its rings, not yet bound, so that the fill ring can be stocked before. Throws SysError, or
   * RangeError for options that no kernel takes.
   */
  constructor(umem: Umem, options: XskOptions) {
    const { rxSize = 2048, txSize = 2048 } = options;
    this.umem = umem;
    this.ifindex = options.ifindex;
    this.queue = options.queue ?? 0;
    validate(options, rxSize, txSize);
    if (umem.unbound >= 0) throw new Error("UMEM: bind its first socket before opening the next");
    this.fd = check(sys.socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0), "socket(AF_XDP)", SOCKET_HINTS);
    try {
      this.key = `${netnsCookie(this.fd)} ${this.ifindex} ${this.queue}`;
      if (umem.users.length === 0 && umem.registeredAt < 0) registerUmem(this.fd, umem);
      const offsets = mmapOffsets(this.fd);
      this.rx = new RxRing(
        this.ring("XDP_RX_RING", XDP_RX_RING, rxSize, XDP_PGOFF_RX_RING, offsets, xdp_mmap_offsets.rx, this.areas),
        umem.chunkMask,
      );
      this.tx = new TxRing(
        this.ring("XDP_TX_RING", XDP_TX_RING, txSize, XDP_PGOFF_TX_RING, offsets, xdp_mmap_offsets.tx, this.areas),
      );
      if (options.maxTxBudget !== undefined) {
        this.setInt(SOL_XDP, XDP_MAX_TX_SKB_BUDGET, options.maxTxBudget, "XDP_MAX_TX_SKB_BUDGET", BUDGET_HINTS);
      }
      if (options.busyPoll) this.setBusyPoll(options.busyPoll);
      this.rings = this.queueRings(options, offsets);
    } catch (error) {
      for (const area of this.areas) area.detach();
      sys.close(this.fd);
      throw error;
    }
    if (umem.users.length === 0 && umem.registeredAt < 0) umem.unbound = this.fd;
    this.fill = this.rings.fill;
    this.completion = this.rings.completion;
    open.add(this);
  }

  /**
   * Binds to the queue. A queue that is still held (its former socket leaves asynchronously) is tried again until
   * `timeoutMs` have passed; the thread sleeps meanwhile.
   */
  bind(timeoutMs = 1000): void {
    const address = this.bindAddress();
    const deadline = performance.now() + timeoutMs;
    let result = sys.bind(this.fd, address);
    while (result === -ERRNO.EBUSY && performance.now() < deadline) {
      Bun.sleepSync(BIND_RETRY_MS);
      result = sys.bind(this.fd, address);
    }
    check(result, "bind(AF_XDP)", bindHints(this.ifindex, this.queue, timeoutMs));
    this.umem.unbound = -1;
    this.umem.users.push({ fd: this.fd, key: this.key, rings: this.rings });
  }

  /**
   * Starts transmission of what the TX ring holds, at most `maxTxBudget` frames a call in copy mode. With busy polling
   * it drives the queue's NAPI as well. Returns 0, or -errno, of which these are operating conditions and not failures:
   * EAGAIN (budget used up, completion ring full or device busy: call again), EBUSY (a frame was dropped by the
   * device), ENOBUFS (no memory, or the socket's send buffer is full: try later), ENETDOWN (interface down).
   */
  kickTx(): number {
    return sys.xskSend(this.fd);
  }

  /**
   * Wakes the kernel where `fill.needsWakeup()`; with busy polling, drives the queue's NAPI once on this CPU. Returns 0,
   * or -errno (ENETDOWN: interface down; ENXIO: not bound, or the interface is gone).
   */
  kickRx(): number {
    return sys.xskReceive(this.fd);
  }

  /** True in zero-copy mode: the outcome of mode "auto". Valid once bound. */
  get zeroCopy(): boolean {
    const flags = new Uint32Array(xdp_options.size >> 2);
    check(sys.getsockopt(this.fd, SOL_XDP, XDP_OPTIONS, flags), "getsockopt(XDP_OPTIONS)");
    return (flags[0] & XDP_OPTIONS_ZEROCOPY) !== 0;
  }

  statistics(): XskStatistics {
    return xskStatistics(this.fd);
  }

  /**
   * NAPI ID of the queue (SO_INCOMING_NAPI_ID), 0 where unknown. Linux 6.18 takes it at bind from drivers that tell
   * which NAPI serves which queue; without one, busy polling does nothing.
   */
  napiId(): number {
    const id = new Int32Array(1);
    check(sys.getsockoptInt(this.fd, SOL_SOCKET, SO_INCOMING_NAPI_ID, id), "getsockopt(SO_INCOMING_NAPI_ID)");
    return id[0];
  }

  /** Sets the three busy-poll options; { usecs: 0, budget: 0, prefer: false } turns it off. */
  setBusyPoll(busyPoll: BusyPoll): void {
    const prefer = (busyPoll.prefer ?? true) ? 1 : 0;
    this.setInt(SOL_SOCKET, SO_PREFER_BUSY_POLL, prefer, "SO_PREFER_BUSY_POLL", BUSY_POLL_HINTS);
    this.setInt(SOL_SOCKET, SO_BUSY_POLL, busyPoll.usecs, "SO_BUSY_POLL", BUSY_POLL_HINTS);
    this.setInt(SOL_SOCKET, SO_BUSY_POLL_BUDGET, busyPoll.budget, "SO_BUSY_POLL_BUDGET", BUSY_POLL_HINTS);
  }

  /**
   * Leaves the queue and takes the rings' memory back; the rings are absent afterwards. Frames in them are lost to the
   * caller. The UMEM stays registered and allocated until `umem.close()`.
   */
  close(): void {
    if (this.fd < 0) return;
    sys.close(this.fd);
    const user = this.umem.users.findIndex((user) => user.fd === this.fd);
    if (user >= 0) this.umem.users.splice(user, 1);
    if (this.umem.unbound === this.fd) this.umem.unbound = -1;
    this.fd = -1;
    for (const area of this.areas) area.detach();
    this.rx.detach();
    this.tx.detach();
    this.rings.release();
    open.delete(this);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Sizes a ring and maps it, noting its area in `areas`; size 0 makes an absent one. */
  private ring(
    name: string,
    option: number,
    size: number,
    pageOffset: number,
    offsets: DataView,
    at: number,
    areas: SharedArea[],
  ): RingMemory {
    if (size === 0) return absentRing();
    this.setInt(SOL_XDP, option, size, name, RING_HINTS);
    const entryBytes = option === XDP_RX_RING || option === XDP_TX_RING ? xdp_desc.size : 8;
    const { area, memory } = mapRing(this.fd, pageOffset, offsets, at, size, entryBytes);
    areas.push(area);
    return memory;
  }

  /** The rings of the UMEM's bound socket on this queue, or new ones. */
  private queueRings(options: XskOptions, offsets: DataView): QueueRings {
    const sharer = this.umem.users.find((user) => user.key === this.key);
    if (sharer) {
      if (options.fillSize || options.completionSize)
        throw new RangeError("fillSize, completionSize: this queue's fill and completion ring exist and are shared");
      return sharer.rings.share();
    }
    const { fillSize = 2048, completionSize = 2048 } = options;
    const areas: SharedArea[] = [];
    try {
      const fr = xdp_mmap_offsets.fr;
      const cr = xdp_mmap_offsets.cr;
      const fill = this.ring(
        "XDP_UMEM_FILL_RING",
        XDP_UMEM_FILL_RING,
        fillSize,
        XDP_UMEM_PGOFF_FILL_RING,
        offsets,
        fr,
        areas,
      );
      const completion = this.ring(
        "XDP_UMEM_COMPLETION_RING",
        XDP_UMEM_COMPLETION_RING,
        completionSize,
        XDP_UMEM_PGOFF_COMPLETION_RING,
        offsets,
        cr,
        areas,
      );
      return new QueueRings(new FillRing(fill), new CompletionRing(completion), areas);
    } catch (error) {
      for (const area of areas) area.detach();
      throw error;
    }
  }

  /** struct sockaddr_xdp: a UMEM's first socket states the bind flags, the others name a socket that did. */
  private bindAddress(): Uint8Array {
    const { umem } = this;
    const sharedFd = this.sharedFd();
    const flags =
      (umem.mode === "copy" ? XDP_COPY : umem.mode === "zerocopy" ? XDP_ZEROCOPY : 0) |
      (umem.needWakeup ? XDP_USE_NEED_WAKEUP : 0) |
      (umem.multiBuffer ? XDP_USE_SG : 0);
    const bytes = new Uint8Array(sockaddr_xdp.size);
    const view = new DataView(bytes.buffer);
    view.setUint16(sockaddr_xdp.sxdp_family, AF_XDP, true);
    view.setUint16(sockaddr_xdp.sxdp_flags, sharedFd >= 0 ? XDP_SHARED_UMEM : flags, true);
    view.setUint32(sockaddr_xdp.sxdp_ifindex, this.ifindex, true);
    view.setUint32(sockaddr_xdp.sxdp_queue_id, this.queue, true);
    view.setUint32(sockaddr_xdp.sxdp_shared_umem_fd, Math.max(sharedFd, 0), true);
    return bytes;
  }

  /** A bound socket whose UMEM to share, -1 for none. To share its rings as well it must be one on the same queue. */
  private sharedFd(): number {
    const { users, registeredAt } = this.umem;
    const sameQueue = users.find((user) => user.key === this.key);
    if (sameQueue) return sameQueue.fd;
    return registeredAt >= 0 ? registeredAt : (users[0]?.fd ?? -1);
  }

  private setInt(level: number, option: number, value: number, name: string, hints: Hints): void {
    check(sys.setsockoptInt(this.fd, level, option, value), `setsockopt(${name})`, hints);
  }
}

/** XDP_STATISTICS of the AF_XDP socket behind a descriptor, from any thread of the process. Throws SysError. */
export function xskStatistics(fd: number): XskStatistics {
  const words = new Uint32Array(xdp_statistics.size >> 2);
  check(sys.getsockopt(fd, SOL_XDP, XDP_STATISTICS, words), "getsockopt(XDP_STATISTICS)");
  const at = (offset: number): number => u64(words[offset >> 2], words[(offset >> 2) + 1]);
  return {
    rxDropped: at(xdp_statistics.rx_dropped),
    rxInvalidDescs: at(xdp_statistics.rx_invalid_descs),
    txInvalidDescs: at(xdp_statistics.tx_invalid_descs),
    rxRingFull: at(xdp_statistics.rx_ring_full),
    rxFillRingEmptyDescs: at(xdp_statistics.rx_fill_ring_empty_descs),
    txRingEmptyDescs: at(xdp_statistics.tx_ring_empty_descs),
  };
}

function registerUmem(fd: number, umem: Umem): void {
  const hints = umemHints(umem.memory.byteLength);
  check(sys.setsockopt(fd, SOL_XDP, XDP_UMEM_REG, umem.registration()), "setsockopt(XDP_UMEM_REG)", hints);
}

/** Identifies the network namespace of a socket (Linux 5.14), as a string: it may exceed 2^53. */
function netnsCookie(fd: number): string {
  const words = new Uint32Array(2);
  check(sys.getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, words), "getsockopt(SO_NETNS_COOKIE)");
  return `${words[1]}:${words[0]}`;
}

function validate(options: XskOptions, rxSize: number, txSize: number): void {
  const { ifindex, queue = 0, fillSize = 2048, completionSize = 2048, maxTxBudget, busyPoll } = options;
  if (!Number.isInteger(ifindex) || ifindex < 1) throw new RangeError(`ifindex ${ifindex}: a positive integer`);
  if (!Number.isInteger(queue) || queue < 0 || queue > 0xffff) throw new RangeError(`queue ${queue}: in [0, 65535]`);
  for (const [name, size] of Object.entries({ rxSize, txSize, fillSize, completionSize })) {
    if (size !== 0 && !(Number.isInteger(Math.log2(size)) && size >= 1 && size <= 2 ** 24))
      throw new RangeError(`${name} ${size}: 0 or a power of two up to 2^24`);
  }
  if (rxSize === 0 && txSize === 0) throw new RangeError("rxSize and txSize are 0: a socket needs one of the rings");
  if (maxTxBudget !== undefined && !(maxTxBudget >= TX_BATCH_SIZE && maxTxBudget <= txSize))
    throw new RangeError(`maxTxBudget ${maxTxBudget}: in [${TX_BATCH_SIZE}, txSize ${txSize}]`);
  if (busyPoll && !(busyPoll.usecs >= 0 && busyPoll.budget >= 0 && busyPoll.budget <= 0xffff))
    throw new RangeError("busyPoll: usecs from 0, budget in [0, 65535]");
}
