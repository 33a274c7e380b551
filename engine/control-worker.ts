/**
 * The control thread: everything that is cold. It follows the host's links, addresses, routes and neighbours and
 * publishes them, delivers what came through the placeholder sockets, asks the kernel to confirm stale neighbours, and
 * keeps other threads off the lcores' CPUs. It has a Stack without ports: what its sockets' readers answer goes out
 * through the placeholders.
 */
import { parentPort, workerData } from "node:worker_threads";
import { check, ERRNO, SysError, sys } from "af-xdp-bindings";
import { FramePool } from "../queues/pool.ts";
import { CounterBoard } from "../sockets/counters.ts";
import { Fib, FibWriter } from "../sockets/fib.ts";
import { Stack } from "../sockets/stack.ts";
import { hostFib } from "./fib-source.ts";
import { getAffinity, moveThreadsOff } from "./host/affinity.ts";
import { Ethtool } from "./host/ethtool.ts";
import { NUD_STALE } from "./host/rtnetlink-uapi.ts";
import { CHANGED_ADDRESSES, CHANGED_LINKS, HostWatcher } from "./host/watcher.ts";
import { InterfaceWatch } from "./interface-watch.ts";
import { KernelErrors } from "./kernel-errors.ts";
import { ICMP_EVENT_4, KernelIcmp } from "./kernel-icmp.ts";
import { KernelIntake } from "./kernel-intake.ts";
import { PathMtus } from "./path-mtu.ts";
import { InterfaceHook, ProgramWatch } from "./program-watch.ts";
import { describeError, type FromThread } from "./protocol.ts";
import { Steering } from "./steering/program.ts";
import {
  CONTROL_FRAME_SIZE,
  CONTROL_FRAMES,
  controlThread,
  type KernelWiring,
  openNetns,
  openShared,
  type Wiring,
} from "./wiring.ts";

export interface ControlStart {
  readonly wiring: Wiring;
  /** CPUs the process may use, from before any thread was pinned. */
  readonly cpus: readonly number[];
}

/** Between two looks for threads that were born on an lcore's CPU. */
const HOUSEKEEPING_MS = 1000;
/** Stale neighbours are used so that the kernel confirms them: one that changed its MAC is noticed within this time. */
const REFRESH_MS = 10_000;
/** Neighbours refreshed at a time. */
const REFRESH_MAX = 256;
const EVENTS_MAX = 64;
/** The longest wait, below a second: bounds how late housekeeping is done and a stop is seen. */
const WAIT_MAX_NS = 200_000_000;
const EPOLL_EVENT_BYTES = process.arch === "x64" ? 12 : 16;
const EPOLL_DATA = process.arch === "x64" ? 4 : 8;
const POLLIN = 1;
const EPOLLERR = 8;
const EFD_NONBLOCK_CLOEXEC = 0x80800;

const post = (message: FromThread): void => parentPort?.postMessage(message);

class Control {
  private readonly wiring: Wiring;
  private readonly way: KernelWiring;
  private readonly thread: number;
  private readonly state: Int32Array;
  private readonly watcher: HostWatcher;
  private readonly watch: InterfaceWatch;
  private readonly hook: InterfaceHook;
  private readonly program: ProgramWatch;
  private readonly writer: FibWriter;
  private readonly steering: Steering;
  private readonly stack: Stack;
  private readonly intake: KernelIntake;
  private readonly errors: KernelErrors;
  private readonly icmp: KernelIcmp;
  private readonly paths: PathMtus;
  private readonly board: CounterBoard;
  private readonly cpus: readonly number[];
  private readonly eventfd: number;
  private readonly events = new Uint8Array(EVENTS_MAX * EPOLL_EVENT_BYTES);
  private readonly pollfds = new Uint8Array(3 * 8);
  /** struct timespec; ppoll(2) leaves the time that was not slept in it. */
  private readonly timespec = new Int32Array(4);
  private readonly drainBuffer = new BigUint64Array(1);
  private housekeepingAt = 0;
  private refreshAt = 0;

  constructor({ wiring, cpus }: ControlStart, way: KernelWiring) {
    this.wiring = wiring;
    this.way = way;
    this.cpus = cpus;
    this.thread = controlThread(wiring);
    this.state = new Int32Array(wiring.state);
    Atomics.store(this.state, 1 + this.thread, sys.gettid());
    const netns = openNetns(way.netnsPath);
    this.watcher = netns.run(() => new HostWatcher());
    const served = wiring.queues.flat().length;
    this.watch = new InterfaceWatch(
      netns.run(() => new Ethtool()),
      served,
      (text) => post({ type: "notice", text }),
    );
    this.hook = new InterfaceHook(wiring, way);
    const loss = "all goes through the kernel, slower";
    this.program = new ProgramWatch(this.hook, way.link.name, loss, (text) => post({ type: "notice", text }));
    this.paths = new PathMtus((destination) => this.pathMtu(destination));
    this.writer = new FibWriter(wiring.fib);
    this.steering = Steering.fromDescriptors(way.steering);
    this.publish(CHANGED_LINKS | CHANGED_ADDRESSES);
    const shared = openShared(wiring);
    const views = shared.memories[this.thread];
    const pool = new FramePool(CONTROL_FRAMES, CONTROL_FRAME_SIZE);
    const fib = new Fib(wiring.fib);
    this.stack = new Stack(this.thread, shared, [], pool, fib, wiring.seed);
    this.intake = new KernelIntake(shared.table, this.stack, pool, views);
    this.errors = new KernelErrors(shared.table, this.stack, pool, views, (address) => this.paths.learn(address));
    this.icmp = netns.run(() => new KernelIcmp(way.epoll, this.stack));
    netns.close();
    this.board = new CounterBoard(wiring.counters);
    this.eventfd = check(sys.eventfd(0, EFD_NONBLOCK_CLOEXEC), "eventfd2");
    shared.mesh.setEventfd(this.thread, this.eventfd);
    const view = new DataView(this.pollfds.buffer);
    [this.watcher.fd, way.epoll, this.eventfd].forEach((fd, i) => {
      view.setInt32(i * 8, fd, true);
      view.setInt16(i * 8 + 4, POLLIN, true);
    });
  }

  run(): void {
    while (Atomics.load(this.state, 0) === 0) {
      this.stack.control();
      this.stack.poll();
      this.stack.flush();
      this.board.commit(this.thread, this.stack.counters);
      this.timespec[2] = WAIT_MAX_NS;
      if (this.stack.prepareWait()) sys.ppoll(sys.addressOf(this.pollfds), 3, sys.addressOf(this.timespec));
      this.stack.cancelWait();
      if (this.pollfds[6] !== 0) this.follow();
      if (this.pollfds[14] !== 0) this.receive();
      if (this.pollfds[22] !== 0) sys.read(this.eventfd, sys.addressOf(this.drainBuffer), 8);
      this.pollfds[6] = 0;
      this.pollfds[14] = 0;
      this.pollfds[22] = 0;
      this.keepHouse();
    }
    this.board.commit(this.thread, this.stack.counters);
  }

  close(): void {
    this.stack.shared.mesh.setEventfd(this.thread, -1);
    sys.close(this.eventfd);
    this.watch.close();
    this.hook.close();
    this.watcher.close();
    this.icmp.close();
    this.steering.close();
    this.stack.shared.binder.close();
  }

  private follow(): void {
    const changed = this.watcher.process();
    if ((changed & CHANGED_LINKS) !== 0 && this.watcher.link(this.way.link.ifindex) === null) {
      throw new SysError(
        ERRNO.ENODEV,
        `interface ${this.way.link.name}`,
        "it was deleted, or moved to another namespace, while the engine served it: start again when it is back",
      );
    }
    if (changed !== 0) this.publish(changed);
  }

  private publish(changed: number): void {
    // Routes first: the program must not send the lcores what is for an address they have not heard of.
    this.writer.publish({ ...hostFib(this.watcher), pathMtus: this.paths.list() });
    if ((changed & (CHANGED_LINKS | CHANGED_ADDRESSES)) !== 0) {
      const link = this.watcher.link(this.way.link.ifindex);
      if (link !== null) this.steering.setMac(link.mac);
      this.steering.setLocals(
        this.watcher.links().flatMap(({ ifindex }) => this.watcher.locals(ifindex).filter(isHost)),
      );
    }
  }

  private receive(): void {
    const { events, way } = this;
    const address = sys.addressOf(events);
    const count = sys.sys6(sys.SYS.epoll_pwait, way.epoll, address, EVENTS_MAX, 0, 0, 8);
    const view = new DataView(events.buffer);
    for (let i = 0; i < count; i++) {
      const id = view.getUint32(i * EPOLL_EVENT_BYTES + EPOLL_DATA, true);
      if (id >= ICMP_EVENT_4) {
        this.icmp.read(id);
        continue;
      }
      if ((view.getUint32(i * EPOLL_EVENT_BYTES, true) & EPOLLERR) !== 0) this.errors.read(id);
      this.intake.read(id);
    }
    this.stack.flush();
  }

  private keepHouse(): void {
    const now = performance.now();
    if (this.paths.isDue(now)) this.publish(0);
    if (now >= this.housekeepingAt) {
      this.housekeepingAt = now + HOUSEKEEPING_MS;
      this.isolate();
      const link = this.watcher.link(this.way.link.ifindex);
      if (link !== null) this.watch.look(link);
      this.program.look(now);
    }
    if (now >= this.refreshAt) {
      this.refreshAt = now + REFRESH_MS;
      this.refresh();
    }
  }

  /** See PathMtuOracle. */
  private pathMtu(destination: Uint8Array): number {
    const believed = this.watcher.resolve(destination)?.mtu ?? 0;
    return believed < (this.watcher.route(destination)?.mtu ?? 0) ? believed : 0;
  }

  /** Moves every other thread of this process off the lcores' CPUs, where there are others. */
  private isolate(): void {
    const { config } = this.wiring;
    if (!config.isolate || config.cpus.length >= this.cpus.length) return;
    const keep = new Set(config.cpus.map((_, l) => Atomics.load(this.state, 1 + l)));
    moveThreadsOff(config.cpus, keep, this.cpus);
  }

  private refresh(): void {
    const stale = this.watcher
      .neighbours()
      .filter((entry) => entry.state === NUD_STALE && entry.ifindex === this.way.link.ifindex)
      .slice(0, REFRESH_MAX);
    for (const entry of stale) this.watcher.useNeighbour(entry.ifindex, entry.address);
  }
}

/** Addresses that packets from outside may be for. */
function isHost(address: Uint8Array): boolean {
  return address.length === 4 ? address[0] !== 127 : !address.every((byte, i) => byte === (i === 15 ? 1 : 0));
}

try {
  const start = workerData as ControlStart;
  if (start.wiring.way.kind !== "kernel") throw new TypeError("a memory wire has no control thread");
  const control = new Control(start, start.wiring.way);
  post({ type: "ready", thread: controlThread(start.wiring), zeroCopy: false, affinity: getAffinity(0), xsks: [] });
  control.run();
  control.close();
  post({ type: "stopped", thread: controlThread(start.wiring) });
} catch (error) {
  post({ type: "failed", thread: -1, error: describeError(error) });
}
