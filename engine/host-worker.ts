/**
 * The thread of the engine's own host protocols, where it has addresses of its own: ARP, ND and ICMP, neighbours and path
 * MTUs, fragments both ways, groups. The lcores give it the frames that are for no socket, and datagrams whose next hop
 * is not known; it publishes the FIB that they send by. Like the control thread it is an lcore without queues.
 */
import { parentPort, workerData } from "node:worker_threads";
import { check, sys } from "af-xdp-bindings";
import { FramePool } from "../queues/pool.ts";
import { CounterBoard } from "../sockets/counters.ts";
import { Fib, FibWriter } from "../sockets/fib.ts";
import { Stack } from "../sockets/stack.ts";
import { formatIp, formatMac } from "../sockets/wire/address.ts";
import type { ControlStart } from "./control-worker.ts";
import { getAffinity, moveThreadsOff } from "./host/affinity.ts";
import { HostLinkWatch, LINK_RECONNECTED, LINK_SAME, LINK_SWITCHED_ON } from "./host-link-watch.ts";
import { HostStack } from "./host-stack.ts";
import { InterfaceHook, ProgramWatch } from "./program-watch.ts";
import { describeError, type FromThread } from "./protocol.ts";
import {
  CONTROL_FRAME_SIZE,
  CONTROL_FRAMES,
  controlThread,
  type HostWiring,
  openShared,
  SERVING_WORD,
  type Wiring,
} from "./wiring.ts";

/** Between two looks for threads that were born on an lcore's CPU. */
const HOUSEKEEPING_MS = 1000;
/** The longest wait, below a second: bounds how late housekeeping is done and a stop is seen. */
const WAIT_MAX_MS = 200;
const NS_PER_MS = 1e6;
const POLLIN = 1;
const EFD_NONBLOCK_CLOEXEC = 0x80800;

const post = (message: FromThread): void => parentPort?.postMessage(message);

class HostThread {
  private readonly wiring: Wiring;
  private readonly cpus: readonly number[];
  private readonly thread: number;
  private readonly state: Int32Array;
  private readonly stack: Stack;
  private readonly host: HostStack;
  private readonly board: CounterBoard;
  private readonly eventfd: number;
  /** Null on a wire in memory. */
  private readonly watch: HostLinkWatch | null;
  private readonly hook: InterfaceHook | null = null;
  private readonly program: ProgramWatch | null = null;
  /** Of the eventfd, and of what tells of the link. */
  private readonly pollfds = new Uint8Array(2 * 8);
  /** struct timespec; ppoll(2) leaves the time that was not slept in it. */
  private readonly timespec = new Int32Array(4);
  private readonly drainBuffer = new BigUint64Array(1);
  private housekeepingAt = 0;
  private hasSettled = false;

  constructor({ wiring, cpus }: ControlStart, own: HostWiring) {
    this.wiring = wiring;
    this.cpus = cpus;
    this.thread = controlThread(wiring);
    this.state = new Int32Array(wiring.state);
    Atomics.store(this.state, 1 + this.thread, sys.gettid());
    const shared = openShared(wiring);
    const pool = new FramePool(CONTROL_FRAMES, CONTROL_FRAME_SIZE);
    const fib = new Fib(wiring.fib);
    this.stack = new Stack(this.thread, shared, [], pool, fib, wiring.seed);
    const writer = new FibWriter(wiring.fib);
    this.host = new HostStack(own, this.stack, writer, wiring.seed, performance.now(), (address, mac, lost) => {
      post({ type: "conflict", address: formatIp(address), mac: formatMac(mac), lost });
    });
    this.board = new CounterBoard(wiring.counters);
    this.eventfd = check(sys.eventfd(0, EFD_NONBLOCK_CLOEXEC), "eventfd2");
    shared.mesh.setEventfd(this.thread, this.eventfd);
    this.watch = wiring.way.kind === "kernel" ? new HostLinkWatch(wiring.way) : null;
    if (wiring.way.kind === "kernel") {
      const { name } = wiring.way.link;
      this.hook = new InterfaceHook(wiring, wiring.way);
      this.program = new ProgramWatch(this.hook, name, "nothing comes", (text) => post({ type: "notice", text }));
    }
    const view = new DataView(this.pollfds.buffer);
    [this.eventfd, this.watch?.fd ?? -1].forEach((fd, i) => {
      view.setInt32(i * 8, fd, true);
      view.setInt16(i * 8 + 4, POLLIN, true);
    });
  }

  run(): void {
    while (Atomics.load(this.state, 0) === 0) {
      const now = performance.now();
      this.host.now = now;
      this.stack.control();
      this.stack.poll();
      const next = this.serve(now);
      this.stack.flush();
      this.board.commit(this.thread, this.stack.counters);
      if (now >= this.housekeepingAt) this.keepHouse(now);
      if (this.stack.prepareWait()) this.sleep(Math.max(0, Math.min(next - now, WAIT_MAX_MS)));
      this.stack.cancelWait();
    }
    this.board.commit(this.thread, this.stack.counters);
  }

  /** Timers, from when frames come and go on. Returns when they are to be looked at next. */
  private serve(now: number): number {
    if (Atomics.load(this.state, SERVING_WORD) === 0) return Number.POSITIVE_INFINITY;
    const next = this.host.tick(now);
    if (!this.hasSettled && this.host.isSettled) {
      this.hasSettled = true;
      post({ type: "settled", addresses: this.host.addressesInUse.map(formatIp) });
    }
    return next;
  }

  close(): void {
    this.stack.shared.mesh.setEventfd(this.thread, -1);
    sys.close(this.eventfd);
    this.watch?.close();
    this.hook?.close();
    this.stack.shared.binder.close();
  }

  private sleep(milliseconds: number): void {
    this.timespec[2] = Math.floor(milliseconds * NS_PER_MS);
    const { pollfds } = this;
    // A descriptor of -1 is passed over.
    sys.ppoll(sys.addressOf(pollfds), 2, sys.addressOf(this.timespec));
    if (pollfds[6] !== 0) sys.read(this.eventfd, sys.addressOf(this.drainBuffer), 8);
    if (pollfds[14] !== 0) this.follow();
    pollfds[6] = 0;
    pollfds[14] = 0;
  }

  private follow(): void {
    const change = this.watch?.follow() ?? LINK_SAME;
    if (change === LINK_SWITCHED_ON) this.host.restart(performance.now());
    if (change === LINK_RECONNECTED) this.host.reconnect(performance.now());
  }

  /** Moves every other thread of this process off the lcores' CPUs, where there are others. */
  private keepHouse(now: number): void {
    this.housekeepingAt = now + HOUSEKEEPING_MS;
    // Under load the thread may never sleep.
    this.follow();
    this.program?.look(now);
    const { config } = this.wiring;
    if (!config.isolate || config.cpus.length >= this.cpus.length) return;
    const keep = new Set(config.cpus.map((_, l) => Atomics.load(this.state, 1 + l)));
    moveThreadsOff(config.cpus, keep, this.cpus);
  }
}

try {
  const start = workerData as ControlStart;
  if (start.wiring.host === null) throw new TypeError("this engine has no addresses of its own");
  const thread = new HostThread(start, start.wiring.host);
  post({ type: "ready", thread: controlThread(start.wiring), zeroCopy: false, affinity: getAffinity(0), xsks: [] });
  thread.run();
  thread.close();
  post({ type: "stopped", thread: controlThread(start.wiring) });
} catch (error) {
  post({ type: "failed", thread: -1, error: describeError(error) });
}
