/**
 * An lcore: one thread, pinned to one CPU, that polls its queues and runs the protocol code and the application's module
 * for the flows that arrive there. This is its loop, and what a module may ask of it.
 *
 *   turn:  control   lookup tables, routes: a load each when nothing has changed
 *          receive   a burst from each port, through the stack to the sockets
 *          drain     messages from other threads, a bounded number
 *          tick      the module's own work, where it asked for it
 *          transmit  messages out, TX rings published, the kernel told once
 *          reclaim   sent frames back to the pool, free frames into the fill rings
 *          idle      when nothing came: spin, poll the NAPI, or sleep, as the policy and other programs on the CPU want
 */
import { sys } from "af-xdp-bindings";
import { Burst, type Port } from "../queues/driver.ts";
import { type BpfObjects, bpfOf } from "../sockets/bpf/objects.ts";
import type { SocketProcess } from "../sockets/calls/process.ts";
import { C, type CounterBoard } from "../sockets/counters.ts";
import type { KernelStack } from "../sockets/kernel/stack.ts";
import type { Stack } from "../sockets/stack.ts";
import type { TcpListener } from "../sockets/stream/tcp-listener.ts";
import type { TcpConnectOptions, TcpListenOptions } from "../sockets/stream/tcp-open.ts";
import type { TcpHandlers, TcpSocket } from "../sockets/stream/tcp-socket.ts";
import { type UdpOptions, UdpSocket } from "../sockets/udp-socket.ts";
import { openCalls } from "./calls.ts";
import type { PollPolicy } from "./config.ts";
import { Preemption } from "./preemption.ts";
import { Realtime } from "./realtime.ts";
import { SERVING_WORD, type Way } from "./wiring.ts";

/** Turns between two commits of the counters to shared memory: an idle busy loop makes about four million turns a second. */
const COMMIT_TURNS = 4096;
/** Turns between two readings of the clock while spinning: an adaptive lcore oversleeps its spin by at most as many. */
const CLOCK_TURNS = 16;
/** The longest sleep, below a second: bounds how late a stop is seen should a wakeup be lost. */
const SLEEP_MAX_NS = 500_000_000;
/** The longest sleep with a port that has no descriptor to wake it: the memory wire's. */
const SLEEP_BLIND_NS = 200_000;

const POLLIN = 1;
const POLLFD_BYTES = 8;
const EFD_NONBLOCK = 0x800;
const EFD_CLOEXEC = 0x80000;

export interface LcoreSettings {
  readonly way: Way;
  readonly id: number;
  readonly cpu: number;
  readonly poll: PollPolicy;
  readonly spinUs: number;
  readonly data: unknown;
}

/** What the starting thread asks of the lcore while it runs. */
export interface Requests {
  /** Looks whether there are any; called every few turns, and after a sleep. */
  poll(): void;
}

export class Lcore {
  /** Number of this lcore, from 0. */
  readonly id: number;
  /** CPU it is pinned to. */
  readonly cpu: number;
  /** What the engine was given as `data`. */
  readonly data: unknown;
  readonly stack: Stack | KernelStack;
  readonly ports: readonly Port[];

  private readonly settings: LcoreSettings;
  private readonly board: CounterBoard;
  private readonly stopWord: Int32Array;
  private readonly requests: Requests | null;
  private readonly burst = new Burst();
  private readonly counters: Float64Array;
  private readonly pollfds: Uint8Array;
  private readonly pollfdsAddress: number;
  private readonly sleepMaxNs: number;
  /** struct timespec; ppoll(2) leaves the time that was not slept in it. */
  private readonly timespec = new Int32Array(4);
  private readonly timespecAddress: number;
  private readonly eventfd: number;
  private readonly drainBuffer = new BigUint64Array(1);
  private readonly drainAddress: number;
  private readonly realtime = new Realtime();
  private tick: (() => number) | null = null;
  private calls_: SocketProcess | null = null;
  private now = performance.now();
  private idleSince = 0;
  private turns = 0;
  private readonly preemption = new Preemption();
  /** The program is attached: what answers comes to the queues. */
  private serving = false;
  /** Turns without work since the last with work, or sleep. */
  private spins = 0;

  constructor(
    settings: LcoreSettings,
    stack: Stack | KernelStack,
    board: CounterBoard,
    stopWord: Int32Array,
    requests: Requests | null = null,
  ) {
    this.id = settings.id;
    this.cpu = settings.cpu;
    this.data = settings.data;
    this.settings = settings;
    this.stack = stack;
    this.ports = stack.ports;
    this.board = board;
    this.stopWord = stopWord;
    this.requests = requests;
    this.counters = stack.counters;
    this.eventfd = sys.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    stack.shared.mesh.setEventfd(settings.id, this.eventfd);
    const fds = [stack.fd, ...this.ports.map((port) => port.fd)].filter((fd) => fd >= 0);
    this.pollfds = new Uint8Array((fds.length + 1) * POLLFD_BYTES);
    const view = new DataView(this.pollfds.buffer);
    [this.eventfd, ...fds].forEach((fd, i) => {
      view.setInt32(i * POLLFD_BYTES, fd, true);
      view.setInt16(i * POLLFD_BYTES + 4, POLLIN, true);
    });
    this.sleepMaxNs = this.ports.some((port) => port.fd < 0) ? SLEEP_BLIND_NS : SLEEP_MAX_NS;
    this.pollfdsAddress = sys.addressOf(this.pollfds);
    this.timespecAddress = sys.addressOf(this.timespec);
    this.drainAddress = sys.addressOf(this.drainBuffer);
  }

  /** Opens a UDP socket that this lcore reads. Throws SysError. */
  udp(options: UdpOptions): UdpSocket {
    return UdpSocket.open(this.stack, options);
  }

  /**
   * Opens a TCP socket that listens and whose connections this lcore has. Where several lcores listen at a port, each with
   * `reusePort` and `incomingCpu`, each has those whose segments come to it. Throws SysError.
   */
  listen(options: TcpListenOptions, handlers: TcpHandlers): TcpListener {
    return this.stack.listen(options, handlers);
  }

  /** Opens a TCP connection of this lcore: handlers.open or handlers.closed tell how it went. Throws SysError. */
  connect(options: TcpConnectOptions, handlers: TcpHandlers): TcpSocket {
    return this.stack.connect(options, handlers);
  }

  /** BPF programs and maps of the engine. */
  get bpf(): BpfObjects {
    return bpfOf(this.stack);
  }

  /**
   * The calls of socket(7) by descriptor, see Engine.calls. A loop cannot wait: sockets have O_NONBLOCK from the start, and a call
   * that waits all the same, on a socket from which it was taken, throws.
   */
  calls(): SocketProcess {
    this.calls_ ??= openCalls(this.stack, this.settings.way, false);
    return this.calls_;
  }

  /**
   * Has `work` called once a turn, after the received datagrams: for generators and periodic jobs. It returns how much
   * it did; 0 lets an idle lcore sleep. Null takes it away.
   */
  onTurn(work: (() => number) | null): void {
    this.tick = work;
  }

  /** Milliseconds of the loop's clock (performance.now()), read every few turns. */
  get time(): number {
    return this.now;
  }

  /** Runs until the engine stops. Whatever a handler throws comes out of here. */
  run(): void {
    this.commit();
    this.compareClocks();
    while (Atomics.load(this.stopWord, 0) === 0) {
      if (this.turn() > 0) {
        this.idleSince = 0;
        this.spins = 0;
      } else this.idle();
    }
    this.stack.flush();
    this.transmit();
    this.commit();
  }

  /** One turn of the loop. Returns how much it did. */
  turn(): number {
    const { counters, stack } = this;
    stack.shared.mesh.turn(this.id);
    if ((++this.turns & (CLOCK_TURNS - 1)) === 0) this.readClock();
    stack.control();
    const received = this.receive();
    let work = received + stack.poll();
    if (this.tick !== null) work += this.tick();
    stack.flush();
    this.transmit();
    if (work > 0) this.reclaim();
    stack.wakeHeld(received);
    counters[C.Turns]++;
    return work;
  }

  /** Closes what the lcore opened itself; the ports are its opener's. */
  close(): void {
    this.calls_?.exit();
    this.stack.shared.mesh.setEventfd(this.id, -1);
    sys.close(this.eventfd);
  }

  private receive(): number {
    const { burst, ports, stack } = this;
    let received = 0;
    for (let p = 0; p < ports.length; p++) {
      const count = ports[p].rxBurst(burst, this.now);
      if (count > 0) stack.input(p, burst);
      received += count;
    }
    return received;
  }

  private transmit(): void {
    const { ports } = this;
    // What a module sends at its start waits: the answer to a SYN would come before the program, and be the kernel's.
    if (!this.serving && !this.isServing()) return;
    for (let p = 0; p < ports.length; p++) ports[p].txFlush();
  }

  private isServing(): boolean {
    this.serving = Atomics.load(this.stopWord, SERVING_WORD) !== 0;
    return this.serving;
  }

  private reclaim(): void {
    const { ports } = this;
    for (let p = 0; p < ports.length; p++) {
      ports[p].txComplete();
      ports[p].refill();
      if (ports[p].pool.available === 0) this.counters[C.PoolEmpty]++;
    }
  }

  private readClock(): void {
    const before = this.now;
    this.now = performance.now();
    // Turns without work are all that lies between the two readings.
    if (this.spins >= CLOCK_TURNS && this.preemption.spun(before, this.now)) this.counters[C.Preempted]++;
    this.stack.clock(this.now);
    this.compareClocks();
    if (this.requests !== null) this.requests.poll();
    if ((this.turns & (COMMIT_TURNS - 1)) === 0) this.commit();
  }

  /** Puts the counters where every thread sees them, those of the ports among them. */
  private commit(): void {
    const { counters, ports } = this;
    let dropped = 0;
    let refused = 0;
    for (let p = 0; p < ports.length; p++) {
      dropped += ports[p].txDropped;
      refused += ports[p].txRefused;
    }
    counters[C.TxDropped] = dropped;
    counters[C.TxRefused] = refused;
    this.board.commit(this.id, counters);
  }

  /** Stamps are told in CLOCK_REALTIME, which somebody may set at any time. */
  private compareClocks(): void {
    if (!this.realtime.update(this.now)) return;
    this.stack.realtimeOffsetSeconds = this.realtime.seconds;
    this.stack.realtimeOffsetNs = this.realtime.nanoseconds;
  }

  private idle(): void {
    const { ports, settings } = this;
    this.counters[C.IdleTurns]++;
    this.spins++;
    // Frames may sit in the completion rings after the last burst; the queues must not run dry for them.
    this.reclaim();
    if (settings.poll === "busy" && !this.preemption.isShared(this.now)) {
      for (let p = 0; p < ports.length; p++) ports[p].busyPoll();
      return;
    }
    if (settings.poll !== "interrupt") {
      if (this.idleSince === 0) {
        this.now = performance.now();
        this.idleSince = this.now;
        return;
      }
      if ((this.now - this.idleSince) * 1000 < settings.spinUs) return;
    }
    this.sleep();
  }

  /** Whether some frames wait to be taken or sent by the kernel: it is asked again after a nap, not after a sleep. */
  private hasUnsent(): boolean {
    if (!this.serving) return true;
    for (let p = 0; p < this.ports.length; p++) if (this.ports[p].unsent) return true;
    return this.stack.hold.isHeld || this.stack.awaitsSent;
  }

  /** Nanoseconds to the next timer of the stack. */
  private timerNs(): number {
    return Math.max(0, Math.min((this.stack.sleepUntil - performance.now()) * 1e6, SLEEP_MAX_NS));
  }

  /** Sleeps in poll(2) until a frame or a message comes. */
  private sleep(): void {
    const { stack } = this;
    this.commit();
    // What waits for a TX ring would keep it awake.
    if (stack.prepareWait() || stack.hold.isHeld) {
      this.counters[C.Sleeps]++;
      this.timespec[2] = Math.min(this.hasUnsent() ? SLEEP_BLIND_NS : this.sleepMaxNs, this.timerNs());
      const ready = sys.ppoll(this.pollfdsAddress, this.pollfds.length / POLLFD_BYTES, this.timespecAddress);
      if (ready > 0 && this.pollfds[6] !== 0) sys.read(this.eventfd, this.drainAddress, 8);
    }
    stack.cancelWait();
    if (this.requests !== null) this.requests.poll();
    this.now = performance.now();
    this.stack.clock(this.now);
    // A loop that sleeps most of the time makes few turns.
    this.compareClocks();
    this.idleSince = 0;
    this.spins = 0;
  }
}
