/**
 * The kernel sockets of one thread: an lcore's, or an application thread's. Who opened a socket reads it, so no datagram
 * crosses threads, and the only receive buffer is the kernel's.
 *
 *   a socket with a handler     epoll says that there is something -> recvmmsg -> handler
 *   a socket without            receive*() -> recvmmsg -> its queue -> the caller; epoll wakes who waits
 *   what is sent or answered    gathered; sendmmsg once a turn, or when 64 are there
 */
import { ERRNO } from "af-xdp-bindings";
import { C } from "../counters.ts";
import { Datagram } from "../datagram.ts";
import type { Endpoint } from "../endpoint.ts";
import { Handlers } from "../handlers.ts";
import { GENERATION, PLACEHOLDER, type SocketTable } from "../table.ts";
import type { Handler, UdpSocket } from "../udp-socket.ts";
import { EPOLLERR, EPOLLIN, EPOLLONESHOT, EPOLLOUT, Epoll } from "./epoll.ts";
import { KernelErrors } from "./errors.ts";
import { KernelFlows } from "./flows.ts";
import type { KernelFrames } from "./frames.ts";
import { KernelInfo } from "./info.ts";
import { KernelOutput } from "./output.ts";
import { KernelQueues } from "./queues.ts";
import { BATCH, Receiver } from "./receiver.ts";
import type { SenderOwner } from "./sender.ts";
import { KernelSocket } from "./socket.ts";

/** Sockets read without asking epoll first: those that had something the last time. */
const HOT_MAX = 8;
/** Reads without a datagram after which a detached socket is given back to epoll, should the thread not sleep before. */
const MISSES_MAX = 64;
/** Polls between two questions to epoll while there are such sockets, a power of two: the others wait no longer. */
const HOT_POLLS = 8;
/** Sockets whose drops are looked at a time. */
const DROPS_MAX = 256;

export class KernelIo implements SenderOwner {
  readonly epoll = new Epoll();
  readonly out: KernelOutput;
  readonly info: KernelInfo;
  private readonly table: SocketTable;
  private readonly counters: Float64Array;
  private readonly frames: KernelFrames;
  private readonly handlers: Handlers;
  /** Sockets by descriptor. */
  private readonly states = new Map<number, KernelSocket>();
  /** Reads for handlers, and for whoever receives without one: the second may be needed in the middle of the first. */
  private readonly receiver: Receiver;
  private readonly pull: Receiver;
  private readonly queues: KernelQueues;
  private readonly errors: KernelErrors;
  private readonly datagram: Datagram;
  /** The socket whose batch is being delivered. */
  private current: KernelSocket | null = null;
  private readonly hot: KernelSocket[] = [];
  private readonly busy: boolean;
  private polls = 0;
  /** True while a batch is being delivered, perhaps by a handler that comes back here. */
  private handling = false;
  /** Sockets that wait for frames. */
  private readonly starved: KernelSocket[] = [];
  /** Sends that have failed after they had returned. */
  failures = 0;
  /** The socket that was last read by receive*(). */
  private draining: UdpSocket | null = null;

  /** @param busy poll sockets that have a handler all the time, whatever epoll says: SO_BUSY_POLL needs the read */
  constructor(endpoint: Endpoint, frames: KernelFrames, busy: boolean) {
    this.table = endpoint.table;
    this.counters = endpoint.counters;
    this.frames = frames;
    this.busy = busy;
    this.handlers = new Handlers(this.table.capacity);
    this.receiver = new Receiver(frames);
    this.pull = new Receiver(frames);
    this.queues = new KernelQueues(endpoint);
    this.errors = new KernelErrors(endpoint.sockets);
    this.info = new KernelInfo(this.table, this.counters);
    this.datagram = new Datagram(endpoint, frames.views);
    this.out = new KernelOutput(this.table, frames, this.counters, this);
  }

  // ---- sockets ----

  /** A socket of this thread is bound. */
  opened(socket: UdpSocket): void {
    const state = new KernelSocket(socket, this.table);
    this.states.set(state.fd, state);
  }

  flowOpened(flow: UdpSocket): void {
    const state = this.stateOf(flow);
    if (state === undefined) return;
    state.flows ??= new KernelFlows(this.table);
    state.flows.add(flow.id);
  }

  /** A socket is about to be closed: its descriptor is still its own. */
  closing(socket: UdpSocket): void {
    const state = this.stateOf(socket);
    if (state === undefined) return;
    if (state.id !== socket.id) {
      state.flows?.remove(socket.id);
      return;
    }
    this.out.sender.drop(state.fd);
    this.info.takeDrops(state);
    state.handlers = 0;
    state.awaited = false;
    state.blocked = false;
    state.listens = false;
    this.update(state);
    state.closed = true;
    this.states.delete(state.fd);
  }

  setHandler(socket: UdpSocket, handler: Handler | null): void {
    const had = this.handlers.of[socket.id] !== 0;
    this.handlers.set(socket.id, handler);
    const state = this.stateOf(socket);
    if (state === undefined || had === (handler !== null)) return;
    state.handlers += handler === null ? -1 : 1;
    this.update(state);
    if (this.busy && state.handlers > 0) {
      this.heat(state);
      this.detach(state);
    }
  }

  watchErrors(socket: UdpSocket): void {
    const state = this.stateOf(socket);
    if (state === undefined || state.id !== socket.id) return;
    state.listens = socket.onError !== null;
    this.update(state);
  }

  lookForErrors(socket: UdpSocket): void {
    const state = this.stateOf(socket);
    if (state !== undefined) this.errors.take(state);
  }

  private stateOf(socket: UdpSocket): KernelSocket | undefined {
    return this.states.get(this.table.get(socket.id, PLACEHOLDER));
  }

  // ---- input ----

  /** Reads the sockets that have a handler, a batch each at most. Returns how much there was to do. */
  poll(): number {
    // A handler that receives from another socket comes back here: its datagram, and the rest of the batch, must stay.
    if (this.handling) return 0;
    this.handling = true;
    let work = 0;
    try {
      if (this.starved.length > 0) this.feed();
      // What was left when a handler threw.
      if (this.current !== null && this.receiver.next < this.receiver.count) work += this.deliver(this.current);
      work += this.readHot();
      if (this.hot.length === 0 || (++this.polls & (HOT_POLLS - 1)) === 0) work += this.readReady();
    } finally {
      this.handling = false;
    }
    return work;
  }

  private readHot(): number {
    const { hot } = this;
    let work = 0;
    for (let i = hot.length - 1; i >= 0; i--) {
      const state = hot[i];
      const wanted = !state.closed && state.handlers > 0;
      const count = wanted ? this.read(state) : 0;
      work += count;
      state.misses = count > 0 ? 0 : state.misses + 1;
      if (wanted && (count > 0 || this.busy || (state.detached && state.misses < MISSES_MAX))) continue;
      hot[i] = hot[hot.length - 1];
      hot.pop();
      this.cool(state);
    }
    return work;
  }

  private heat(state: KernelSocket): void {
    if (state.hot || this.hot.length === HOT_MAX) return;
    state.hot = true;
    state.misses = 0;
    this.hot.push(state);
  }

  private cool(state: KernelSocket): void {
    state.hot = false;
    state.detached = false;
    if (!state.closed) this.update(state);
  }

  /**
   * Takes a hot socket out of epoll: as long as it is there, each datagram that arrives calls epoll, and so does each sent
   * one when its buffer is freed, under a lock that both CPUs want. 100 ns an echo, of 1,600 (Linux 6.18, veth).
   */
  private detach(state: KernelSocket): void {
    if (state.detached || !state.hot) return;
    state.detached = true;
    this.update(state);
  }

  /** The thread is about to sleep: epoll is to know every socket again. */
  prepareWait(): void {
    for (const state of this.hot) this.cool(state);
    this.hot.length = 0;
  }

  private readReady(): number {
    const { epoll } = this;
    const count = epoll.wait(0);
    let work = 0;
    for (let i = 0; i < count; i++) {
      // Closed by the handler of one before it, perhaps.
      const state = this.states.get(epoll.data(i));
      if (state !== undefined) work += this.event(state, epoll.event(i));
    }
    return work;
  }

  private event(state: KernelSocket, events: number): number {
    let work = 0;
    if ((events & EPOLLOUT) !== 0) {
      state.blocked = false;
      this.out.sender.unblock(state.fd);
      work++;
    }
    if ((events & EPOLLERR) !== 0) {
      this.errors.take(state);
      work++;
    }
    if ((events & EPOLLIN) !== 0) {
      if (state.handlers > 0) {
        work += this.read(state);
      } else {
        // Read at once: the event is told once, perhaps in a poll() after which the caller sleeps unless its queue has some.
        const count = this.fill(state);
        if (count > 0) state.awaited = false;
        work += count;
      }
    }
    if ((state.watched & EPOLLONESHOT) === 0 || wantedOf(state) !== 0) this.update(state);
    return work;
  }

  /** Reads a batch for the handlers. Returns how many datagrams it held. */
  private read(state: KernelSocket): number {
    const count = this.receiver.receive(state.fd);
    if (count <= 0) return this.cannotRead(state, count);
    state.refresh(this.table);
    state.read = true;
    this.current = state;
    this.heat(state);
    // As many as there is room for: there are more.
    if (count === BATCH) this.detach(state);
    return this.deliver(state);
  }

  /** Nothing was read: 0, or 1 where the socket had an error to tell. */
  private cannotRead(state: KernelSocket, result: number): number {
    if (result === -ERRNO.EAGAIN || result === -ERRNO.EINTR) return 0;
    if (result === -ERRNO.ENOBUFS) {
      this.starve(state);
      return 0;
    }
    this.errors.fail(state, -result, true);
    return 1;
  }

  /** Hands the rest of the batch to handlers and queues. */
  private deliver(state: KernelSocket): number {
    const { datagram, frames, handlers, receiver } = this;
    const { of, list } = handlers;
    const from = receiver.next;
    let bytes = 0;
    let queued = 0;
    try {
      while (receiver.next < receiver.count && !state.closed) {
        receiver.decode(state);
        bytes += receiver.length;
        let socket = state.id;
        if (state.flows !== null) {
          const flow = state.flows.find(frames.words, receiver.ip >> 2, receiver.udp >> 2);
          if (flow >= 0) socket = flow;
        }
        const number = of[socket];
        if (number === 0) {
          queued++;
          this.queues.push(receiver, socket, true);
          continue;
        }
        datagram.socketId = socket;
        datagram.generation = this.table.get(socket, GENERATION);
        datagram.frame = receiver.ip;
        datagram.frameLength = receiver.payload + receiver.length - receiver.ip;
        datagram.l3 = receiver.ip;
        datagram.l4 = receiver.udp;
        datagram.offset = receiver.payload;
        datagram.length = receiver.length;
        datagram.seconds = receiver.seconds;
        datagram.nanoseconds = receiver.nanoseconds;
        datagram.segment = receiver.segment;
        datagram.dropped = receiver.drops;
        datagram.owned = true;
        (list[number] as Handler)(datagram);
        if (datagram.owned) datagram.owned = false;
        else receiver.giveAway();
      }
    } catch (error) {
      if (datagram.owned) datagram.owned = false;
      else receiver.giveAway();
      throw error;
    } finally {
      if (state.closed) receiver.next = receiver.count;
      this.count(receiver.next - from, bytes, queued);
    }
    return receiver.next - from;
  }

  private count(datagrams: number, bytes: number, queued: number): void {
    const { counters } = this;
    counters[C.RxBursts]++;
    counters[C.RxFrames] += datagrams;
    counters[C.RxBytes] += bytes;
    counters[C.UdpInDatagrams] += datagrams - queued;
  }

  /** Reads a socket without a handler for one who wants more than is in its queue; where there is nothing, epoll is asked. */
  pollFor(socket: UdpSocket): number {
    const state = this.stateOf(socket);
    if (state === undefined || state.handlers > 0) return this.poll();
    const count = this.fill(state);
    if (count > 0) return count;
    if (!state.awaited) {
      state.awaited = true;
      this.update(state);
    }
    return this.poll();
  }

  /** Reads a batch into the queues of the socket and its flows. Returns how many datagrams, or 1 for an error. */
  private fill(state: KernelSocket): number {
    const { pull } = this;
    const count = pull.receive(state.fd);
    if (count <= 0) return this.cannotRead(state, count);
    state.refresh(this.table);
    state.read = true;
    this.draining = state.socket;
    let bytes = 0;
    while (pull.next < pull.count) {
      pull.decode(state);
      bytes += pull.length;
      const flow = state.flows?.find(this.frames.words, pull.ip >> 2, pull.udp >> 2) ?? -1;
      // What the caller has asked for was bounded by the kernel's receive buffer; a flow's datagrams are not asked for.
      this.queues.push(pull, flow < 0 ? state.id : flow, flow >= 0);
    }
    this.count(count, bytes, count);
    return count;
  }

  /** Whether a handler has been called and has not returned. */
  get isDelivering(): boolean {
    return this.handling;
  }

  /** Whether datagrams are being taken from a queue one by one: what is sent meanwhile may be gathered. */
  get isDraining(): boolean {
    return this.draining !== null && this.draining.queue.length > 0;
  }

  // ---- frames ----

  /** Gives a frame back. */
  free(frame: number): void {
    this.frames.give(frame);
    if (this.starved.length > 0 && !this.handling) this.feed();
  }

  /** No frame is free: the datagrams wait in the kernel until there is one. */
  private starve(state: KernelSocket): void {
    this.counters[C.PoolEmpty]++;
    if (state.starved) return;
    state.starved = true;
    this.starved.push(state);
    this.update(state);
  }

  private feed(): void {
    if (this.frames.pool.available === 0) return;
    for (const state of this.starved) {
      state.starved = false;
      if (!state.closed) this.update(state);
    }
    this.starved.length = 0;
  }

  // ---- output ----

  /** Sends what is gathered. */
  flush(): void {
    this.out.flush();
    if (this.starved.length > 0 && !this.handling) this.feed();
  }

  sendFailed(fd: number, errno: number, lost: boolean): void {
    this.failures++;
    if (lost) this.out.forgetReached();
    const state = this.states.get(fd);
    // What was lost has been counted; the next one may well leave, to somebody else.
    if (state !== undefined) this.errors.fail(state, errno, !lost);
  }

  sendRefused(fd: number): void {
    const state = this.states.get(fd);
    if (state !== undefined) this.errors.heard(state);
  }

  sendBlocked(fd: number): void {
    const state = this.states.get(fd);
    if (state === undefined) return;
    state.blocked = true;
    this.update(state);
  }

  // ---- drops ----

  /** Takes over what the kernel has dropped at sockets that were read since the last time. */
  countAllDrops(): void {
    let left = DROPS_MAX;
    for (const state of this.states.values()) {
      if (!state.read) continue;
      if (left-- === 0) return;
      this.info.takeDrops(state);
    }
  }

  countDropsAt(socket: UdpSocket): void {
    const state = this.stateOf(socket);
    if (state !== undefined) this.info.takeDrops(state);
  }

  // ---- epoll ----

  private update(state: KernelSocket): void {
    const wanted = wantedOf(state);
    if (wanted === state.watched && (wanted & EPOLLONESHOT) === 0) return;
    this.epoll.watch(state.fd, state.watched, wanted);
    state.watched = wanted;
  }

  close(): void {
    this.receiver.close();
    this.pull.close();
    this.epoll.close();
  }
}

function wantedOf({ awaited, blocked, detached, handlers, listens, starved }: KernelSocket): number {
  const input = starved || detached ? 0 : handlers > 0 ? EPOLLIN : awaited ? EPOLLIN | EPOLLONESHOT : 0;
  // A detached socket is read all the time, and a read tells its errors.
  const errors = listens && !detached ? EPOLLERR : 0;
  return input | errors | (blocked ? EPOLLOUT : 0);
}
