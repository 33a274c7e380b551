/**
 * Datagrams to kernel sockets, gathered and sent by sendmmsg(2): one call for those in a row that leave through the same
 * socket. The kernel copies, so their frames are free again when the call returns.
 */
import { ERRNO, sys } from "af-xdp-bindings";
import { C } from "../counters.ts";
import { MSG_DONTWAIT, MSG_NOSIGNAL } from "../msghdr.ts";
import type { KernelFrames } from "./frames.ts";
import { CONTROL, CONTROLLEN, MESSAGE_WORDS, MessageBlock, MMSGHDR_BYTES, NAME, NAMELEN } from "./messages.ts";
import { BATCH } from "./receiver.ts";

/** Datagrams that may wait: those of a turn, and those of sockets whose send buffers are full. */
const CAPACITY = 1024;
const FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL;
const POLLOUT = 4;

/** Who hears what became of datagrams after their send had returned. */
export interface SenderOwner {
  /**
   * The kernel said `errno` to a datagram of the socket with the descriptor. `lost`: it said so again. Else it was an
   * earlier error that was pending on the socket, and the datagram has left.
   */
  sendFailed(fd: number, errno: number, lost: boolean): void;
  /** The kernel has refused a datagram of the socket, and its sender hears of it. */
  sendRefused(fd: number): void;
  /** The socket's send buffer is full: flush() when there is room. */
  sendBlocked(fd: number): void;
}

export class Sender {
  /** Datagrams gathered. */
  count = 0;
  private readonly frames: KernelFrames;
  private readonly counters: Float64Array;
  private readonly owner: SenderOwner;
  private readonly block = new MessageBlock(CAPACITY);
  private readonly messages: Int32Array;
  /** Descriptor and frame of each message. */
  private readonly fdOf = new Int32Array(CAPACITY);
  private readonly frameOf = new Int32Array(CAPACITY);
  /** Sockets that wait for room in their send buffers. */
  private readonly full = new Set<number>();
  /** Datagrams at the front that belong to those. */
  private parked = 0;

  constructor(frames: KernelFrames, counters: Float64Array, owner: SenderOwner) {
    this.frames = frames;
    this.counters = counters;
    this.owner = owner;
    this.messages = this.block.words;
  }

  /** Whether a datagram of the socket would be taken now. */
  hasRoom(fd: number): boolean {
    return this.count < CAPACITY && (this.full.size === 0 || !this.full.has(fd));
  }

  /**
   * Gathers a datagram; hasRoom() has said that it may. Offsets are of frame memory, lengths in bytes: of the payload; of
   * the sockaddr, 0 for the connected peer; of the control message, 0 for none. The frame is given away.
   */
  push(
    fd: number,
    payload: number,
    length: number,
    name: number,
    nameLength: number,
    control: number,
    controlLength: number,
  ): void {
    const { block, messages } = this;
    const base = this.frames.address;
    const i = this.count++;
    const at = i * MESSAGE_WORDS;
    block.putAddress(at + NAME, base + name);
    messages[at + NAMELEN] = nameLength;
    block.putAddress(at + CONTROL, base + control);
    messages[at + CONTROLLEN] = controlLength;
    block.putVector(i, base + payload, length);
    this.fdOf[i] = fd;
    this.frameOf[i] = payload;
  }

  /** Whether a batch is full. */
  get due(): boolean {
    return this.count - this.parked >= BATCH;
  }

  /** Sends the datagram pushed last, all others of its socket having left. Returns 0, or -errno: it is not sent. */
  sendLast(): number {
    const i = this.count - 1;
    const sent = sys.sys6(sys.SYS.sendmmsg, this.fdOf[i], this.block.address + i * MMSGHDR_BYTES, 1, FLAGS, 0, 0);
    this.count = i;
    if (sent > 0) this.sent(i, 1);
    else this.frames.give(this.frameOf[i]);
    if (sent === -ERRNO.EAGAIN) this.wait(this.fdOf[i], i);
    else if (sent < 0) this.owner.sendRefused(this.fdOf[i]);
    return Math.min(sent, 0);
  }

  /** Sends what is gathered, except for sockets whose send buffers are full. */
  flush(): void {
    const { count, fdOf } = this;
    let kept = 0;
    for (let at = 0; at < count; ) {
      const fd = fdOf[at];
      let end = at + 1;
      while (end < count && fdOf[end] === fd) end++;
      if (this.full.size === 0 || !this.full.has(fd)) at = this.sendRun(fd, at, end);
      for (; at < end; at++) this.keep(at, kept++);
    }
    this.count = kept;
    this.parked = kept;
  }

  /** The socket's send buffer has room again. */
  unblock(fd: number): void {
    this.full.delete(fd);
  }

  /**
   * Blocks until the kernel has room for a socket whose send buffer is full, or `timeoutMs` are over, and sends what waited
   * for it. False: nothing has become of it, or no socket's is full.
   */
  awaitRoom(timeoutMs: number): boolean {
    const fds = [...this.full];
    if (fds.length === 0) return false;
    // struct pollfd { i32 fd; i16 events; i16 revents }, and struct timespec.
    const pollfds = Int32Array.from(fds.flatMap((fd) => [fd, POLLOUT]));
    const timespec = Int32Array.of(Math.floor(timeoutMs / 1000), 0, Math.floor((timeoutMs % 1000) * 1e6), 0);
    const ready = sys.ppoll(sys.addressOf(pollfds), fds.length, sys.addressOf(timespec));
    fds.forEach((fd, i) => {
      if (pollfds[2 * i + 1] >>> 16 !== 0) this.unblock(fd);
    });
    this.flush();
    return ready > 0;
  }

  /** The socket is about to be closed: what cannot be sent now is dropped. */
  drop(fd: number): void {
    this.full.delete(fd);
    this.flush();
    if (!this.full.delete(fd)) return;
    let kept = 0;
    for (let at = 0; at < this.count; at++) {
      if (this.fdOf[at] === fd) this.lose(at, C.UdpSndbufErrors);
      else this.keep(at, kept++);
    }
    this.count = kept;
    this.parked = kept;
  }

  /** Sends messages [at, end) of one socket. Returns the first that has to wait, or `end`. */
  private sendRun(fd: number, at: number, end: number): number {
    const { address } = this.block;
    // An error may be an earlier one that was pending on the socket: the call tells it and sends nothing. So each datagram
    // that is refused is tried once more.
    let refused = -1;
    let errno = 0;
    while (at < end) {
      const sent = sys.sys6(sys.SYS.sendmmsg, fd, address + at * MMSGHDR_BYTES, end - at, FLAGS, 0, 0);
      if (sent > 0 || sent === -ERRNO.EAGAIN) {
        if (refused === at && errno > 0) this.owner.sendFailed(fd, errno, false);
        if (sent < 0) return this.wait(fd, at);
        this.sent(at, sent);
        at += sent;
      } else if (refused !== at) {
        refused = at;
        errno = -sent;
      } else if (sent === -ERRNO.EINVAL && this.messages[at * MESSAGE_WORDS + CONTROLLEN] > 0) {
        // The address that was asked, a subnet's broadcast address perhaps, is none to send from.
        this.messages[at * MESSAGE_WORDS + CONTROLLEN] = 0;
        errno = 0;
      } else {
        this.owner.sendFailed(fd, -sent, true);
        this.lose(at++, C.UdpOutErrors);
      }
    }
    return at;
  }

  /** Datagrams of the socket from `at` on wait for room in its send buffer. */
  private wait(fd: number, at: number): number {
    this.full.add(fd);
    this.owner.sendBlocked(fd);
    return at;
  }

  private sent(at: number, count: number): void {
    const { counters, frameOf, frames } = this;
    let bytes = 0;
    for (let i = at; i < at + count; i++) {
      bytes += this.block.vectorLength(i);
      frames.give(frameOf[i]);
    }
    counters[C.UdpOutDatagrams] += count;
    counters[C.TxFrames] += count;
    counters[C.TxBytes] += bytes;
  }

  private lose(at: number, counter: number): void {
    this.counters[counter]++;
    this.frames.give(this.frameOf[at]);
  }

  private keep(from: number, to: number): void {
    if (from === to) return;
    this.block.move(from, to);
    this.fdOf[to] = this.fdOf[from];
    this.frameOf[to] = this.frameOf[from];
  }
}
