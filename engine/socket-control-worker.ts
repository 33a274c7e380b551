/**
 * The control thread of an engine on kernel sockets: it waits for the sockets of application threads whose event loops
 * have nothing to do, and rings their bells; and it keeps other threads off the lcores' CPUs.
 */
import { parentPort, workerData } from "node:worker_threads";
import { check, sys } from "af-xdp-bindings";
import { C, CounterBoard, newCounters } from "../sockets/counters.ts";
import { EPOLLIN, Epoll } from "../sockets/kernel/epoll.ts";
import { Mesh } from "../sockets/mesh.ts";
import { getAffinity, moveThreadsOff } from "./host/affinity.ts";
import { describeError, type FromThread } from "./protocol.ts";
import { controlThread, type SocketsWiring, type Wiring } from "./wiring.ts";

export interface SocketControlStart {
  readonly wiring: Wiring;
  /** CPUs the process may use, from before any thread was pinned. */
  readonly cpus: readonly number[];
}

/** Between two looks for threads that were born on an lcore's CPU. */
const HOUSEKEEPING_MS = 1000;
const EFD_NONBLOCK_CLOEXEC = 0x80800;

const post = (message: FromThread): void => parentPort?.postMessage(message);

class SocketControl {
  private readonly wiring: Wiring;
  private readonly cpus: readonly number[];
  private readonly thread: number;
  private readonly state: Int32Array;
  private readonly mesh: Mesh;
  private readonly board: CounterBoard;
  private readonly counters = newCounters();
  private readonly epoll: Epoll;
  private readonly eventfd: number;
  private readonly drained = new BigUint64Array(1);
  private housekeepingAt = 0;

  constructor({ wiring, cpus }: SocketControlStart, way: SocketsWiring) {
    this.wiring = wiring;
    this.cpus = cpus;
    this.thread = controlThread(wiring);
    this.state = new Int32Array(wiring.state);
    Atomics.store(this.state, 1 + this.thread, sys.gettid());
    this.mesh = new Mesh(wiring.mesh);
    this.board = new CounterBoard(wiring.counters);
    this.epoll = new Epoll(way.epoll);
    this.eventfd = check(sys.eventfd(0, EFD_NONBLOCK_CLOEXEC), "eventfd2");
    this.mesh.setEventfd(this.thread, this.eventfd);
    this.epoll.watch(this.eventfd, 0, EPOLLIN, this.thread);
  }

  run(): void {
    while (Atomics.load(this.state, 0) === 0) {
      const count = this.epoll.wait(HOUSEKEEPING_MS);
      for (let i = 0; i < count; i++) this.wake(this.epoll.data(i));
      const now = performance.now();
      if (now < this.housekeepingAt) continue;
      this.housekeepingAt = now + HOUSEKEEPING_MS;
      this.isolate();
      this.board.commit(this.thread, this.counters);
    }
    this.board.commit(this.thread, this.counters);
  }

  close(): void {
    this.mesh.setEventfd(this.thread, -1);
    sys.close(this.eventfd);
  }

  private wake(thread: number): void {
    if (thread === this.thread) {
      sys.read(this.eventfd, sys.addressOf(this.drained), 8);
      return;
    }
    this.counters[C.Wakeups]++;
    this.mesh.ring(thread);
  }

  /** Moves every other thread of this process off the lcores' CPUs, where there are others. */
  private isolate(): void {
    const { config } = this.wiring;
    if (!config.isolate || config.cpus.length === 0 || config.cpus.length >= this.cpus.length) return;
    const keep = new Set(config.cpus.map((_, l) => Atomics.load(this.state, 1 + l)));
    moveThreadsOff(config.cpus, keep, this.cpus);
  }
}

try {
  const start = workerData as SocketControlStart;
  if (start.wiring.way.kind !== "sockets") throw new TypeError("not an engine on kernel sockets");
  const control = new SocketControl(start, start.wiring.way);
  post({ type: "ready", thread: controlThread(start.wiring), zeroCopy: false, affinity: getAffinity(0), xsks: [] });
  control.run();
  control.close();
  post({ type: "stopped", thread: controlThread(start.wiring) });
} catch (error) {
  post({ type: "failed", thread: -1, error: describeError(error) });
}
