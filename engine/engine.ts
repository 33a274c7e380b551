import { sys } from "af-xdp-bindings";
import { type BpfObjects, bpfOf } from "../sockets/bpf/objects.ts";
import type { FrameTaps } from "../sockets/calls/packet/taps.ts";
import type { SocketProcess } from "../sockets/calls/process.ts";
import type { CounterBoard, CounterName } from "../sockets/counters.ts";
import { FibWriter } from "../sockets/fib.ts";
import { Mesh } from "../sockets/mesh.ts";
import { PORTS_MAX } from "../sockets/shared.ts";
import type { TcpListener } from "../sockets/stream/tcp-listener.ts";
import type { TcpConnectOptions, TcpListenOptions } from "../sockets/stream/tcp-open.ts";
import type { TcpHandlers, TcpSocket } from "../sockets/stream/tcp-socket.ts";
import type { Sysctl } from "../sockets/sysctl.ts";
import { SocketTable } from "../sockets/table.ts";
import { checkConfig, type TcpConfig } from "../sockets/tcp/config.ts";
import type { ThreadEndpoint } from "../sockets/thread.ts";
import { type UdpOptions, UdpSocket } from "../sockets/udp-socket.ts";
import { type CallsOptions, openCalls } from "./calls.ts";
import { Captures } from "./capture.ts";
import {
  dealQueues,
  type EngineConfig,
  type EngineOptions,
  FRAMES_DEFAULT,
  frameSizeFor,
  resolveConfig,
} from "./config.ts";
import { connectionLines, parseConnectionsQuery } from "./connections.ts";
import { memoryFib } from "./fib-source.ts";
import { frameTaps, TAP_RING_BYTES } from "./frame-taps.ts";
import { getAffinity, moveThreadsBack, moveThreadsOff } from "./host/affinity.ts";
import { KernelSide } from "./kernel-side.ts";
import { LostThreads } from "./lost-threads.ts";
import { OwnAddresses } from "./own-addresses.ts";
import { defaultInterface, obstacle, type Provider, refusal, settleForSockets } from "./provider.ts";
import { Replay, replayFib } from "./replay.ts";
import { SocketSide } from "./socket-side.ts";
import { collectStats, StatsServer, type StatsSnapshot, threadName } from "./stats.ts";
import { canConnect, canListen } from "./tcp-way.ts";
import { Thread } from "./thread-start.ts";
import {
  controlThread,
  createWiring,
  MEMORY_IFINDEX,
  openEndpoint,
  SERVING_WORD,
  type Way,
  type Wiring,
  wireQueues,
  wireWiring,
} from "./wiring.ts";

/** The longest the lcores may take to leave their loops; a handler that never returns would hold them for ever. */
const STOP_TIMEOUT_MS = 3000;

/** CPUs the process may use, from before an engine kept this thread off some of them. */
let processCpus: readonly number[] | null = null;

/** Engines of this thread that run: their lcores stay pinned when another engine ends. */
const running = new Set<Engine>();

/** How the engine came to be attached. */
export interface EngineInfo {
  /** What serves the sockets: the engine, or kernel sockets. */
  readonly provider: Provider;
  /** Null where none is taken. */
  readonly interface: string | null;
  readonly ifindex: number;
  /** "memory" or "pcap", how the program is attached, or "none" where the provider is the kernel. */
  readonly attach: "memory" | "pcap" | "native" | "skb" | "none";
  readonly zeroCopy: boolean;
  readonly queues: number[][];
  readonly cpus: readonly number[];
  /** Why this mode, or why kernel sockets, in words. */
  readonly reason: string;
}

/** What another thread needs to join: post it there and call Engine.attach. */
export interface EngineDescriptor {
  readonly wiring: Wiring;
}

/** A thread's hold on a running engine: sockets and counters. */
export class EngineThread {
  protected readonly wiring: Wiring;
  protected readonly endpoint: ThreadEndpoint;
  /** BPF programs and maps of the engine, for sockets and user code alike. */
  readonly bpf: BpfObjects;
  private readonly board: CounterBoard;
  private detached = false;
  private calls_: { readonly process: SocketProcess; readonly options: CallsOptions } | null = null;

  protected constructor(wiring: Wiring) {
    this.wiring = wiring;
    this.endpoint = openEndpoint(wiring);
    this.endpoint.awaitLoans();
    this.bpf = bpfOf(this.endpoint);
    this.board = this.endpoint.shared.board;
  }

  /** Opens a UDP socket that this thread reads. Throws SysError. */
  udp(options: UdpOptions = {}): UdpSocket {
    return UdpSocket.open(this.endpoint, options);
  }

  /**
   * A TCP socket that listens. Its connections live on the lcores where they arrive, and this thread has their sockets:
   * handlers.open is called with each; without it they wait for accept(). Throws SysError, and RangeError for bad options.
   */
  listen(options: TcpListenOptions, handlers: TcpHandlers): TcpListener {
    return this.endpoint.listen(options, handlers);
  }

  /** A TCP connection, told to handlers.open when it is there, to handlers.closed when it fails. Throws as listen(). */
  connect(options: TcpConnectOptions, handlers: TcpHandlers): TcpSocket {
    return this.endpoint.connect(options, handlers);
  }

  /** Whether listen() on an address (text, no zone) hears what arrives on the interface; false on the kernel's sockets. */
  canListen(address: string): boolean {
    return this.wiring.way.kind !== "sockets" && canListen(this.endpoint.fib, this.endpoint.shared.ifindex, address);
  }

  /** Whether the way to an address (text, no zone) leads over the interface, so that connect() can reach it. */
  canConnect(address: string): boolean {
    return this.wiring.way.kind !== "sockets" && canConnect(this.endpoint.fib, this.endpoint.shared.ifindex, address);
  }

  /** A TCP socket counts for the event loop from its opening to its close: -1 and 1 take it off, and put it back before close(). */
  retain(count: 1 | -1): void {
    this.endpoint.retain(count);
  }

  /** Values of /proc/sys/net/core for this engine: the host's at its start, to be read and set from any of its threads. */
  get sysctl(): Sysctl {
    return this.endpoint.shared.sysctl;
  }

  /**
   * The calls of socket(7) by descriptor, for code written against them: numbers, errors and messages as the kernel's.
   *
   *   const calls = engine.calls();
   *   const fd = calls.socket(AF_INET, SOCK_DGRAM, 0);
   *   calls.bind(fd, encodeAddress({ family: AF_INET, address: "0.0.0.0", port: 5353 }));
   *   const length = calls.recvfrom(fd, buffer, 0, from);
   *
   * A call that waits blocks this thread; `new AsyncCalls(calls)` awaits instead. Descriptors are of this object alone, which is the
   * same each time; detach() and close() close them. Options are those of the first call: others later are an error.
   */
  calls(options: CallsOptions = {}): SocketProcess {
    this.calls_ ??= { process: openCalls(this.endpoint, this.wiring.way, true, this.frameTaps(), options), options };
    const { unix = "thread" } = this.calls_.options;
    if ((options.unix ?? unix) !== unix) throw new RangeError("calls() was called before with another option unix");
    return this.calls_.process;
  }

  /** Whether sockets can be opened: false once the engine has stopped, or this thread has left it. */
  get running(): boolean {
    return !this.endpoint.closed;
  }

  /** The interface that is served, or null on a memory wire. */
  get link(): { readonly name: string; readonly ifindex: number } | null {
    const { way } = this.wiring;
    return way.kind === "kernel" ? way.link : null;
  }

  /** Frames for sockets of AF_PACKET: other threads than the first cannot ask the lcores for them. */
  protected frameTaps(): FrameTaps | null {
    return null;
  }

  /** Counters of one lcore, or of all threads together. */
  counters(lcore?: number): Record<CounterName, number> {
    this.commit();
    return this.board.snapshot(lcore);
  }

  /** Puts this thread's counters where every thread sees them. */
  protected commit(): void {
    this.endpoint.countDrops(null);
    this.board.commit(this.endpoint.thread, this.endpoint.counters);
  }

  /** Structured-cloneable: lets another thread of this process attach. */
  descriptor(): EngineDescriptor {
    return { wiring: this.wiring };
  }

  /** Closes this thread's sockets and leaves. The engine goes on. */
  detach(): void {
    if (this.detached) return;
    this.detached = true;
    this.calls_?.process.exit();
    this.endpoint.close();
    this.leave();
  }

  /** What follows when the thread's sockets are closed. */
  protected leave(): void {
    this.endpoint.shared.binder.close();
  }
}

export class Engine extends EngineThread {
  readonly info: EngineInfo;
  /** The replay of an engine that was started with `pcap`, else null. */
  readonly replay: Replay | null;
  /** Resolves when the engine has stopped; rejects with the error that stopped it. */
  readonly closed: Promise<void>;
  private readonly threads: Thread[];
  private readonly kernel: KernelSide | null;
  private readonly sockets: SocketSide | null;
  private readonly captures: Captures;
  /** Null on kernel sockets, whose threads share nothing. */
  private readonly lost: LostThreads | null;
  private ending: Promise<void> | null = null;
  private settle: { resolve: () => void; reject: (error: Error) => void };

  /** Starts an engine; resolves when it serves. Throws RangeError for bad options, SysError for what the host refuses. */
  static async start(options: EngineOptions): Promise<Engine> {
    processCpus ??= getAffinity(0);
    const cpus = processCpus;
    const config = resolveConfig(options, cpus);
    const notice = options.onNotice ?? (() => {});
    if (config.memory !== null || config.pcap !== null)
      return await Engine.startThreads(config, cpus, null, null, notice);
    if (config.provider === "kernel") return await Engine.startOnSockets(config, cpus, "asked for", notice);
    const named = config.interface !== null;
    let reason = "";
    try {
      config.interface ??= defaultInterface(config.netns);
      reason = config.provider === "auto" && config.addresses.length === 0 ? obstacle(config) : "";
      if (reason === "") return await Engine.startOnFrames(config, options.tcp ?? {}, cpus, notice);
    } catch (error) {
      const refused = config.provider === "auto" ? refusal(error, config, named) : null;
      if (refused === null) throw error;
      reason = refused;
    }
    reason = settleForSockets(config, options, reason);
    notice(`on kernel sockets: ${reason}`);
    return await Engine.startOnSockets(config, cpus, reason, notice);
  }

  /** @param tcp what was asked for: the rest follows the host */
  private static async startOnFrames(
    config: EngineConfig,
    tcp: Partial<TcpConfig>,
    cpus: readonly number[],
    notice: (text: string) => void,
  ): Promise<Engine> {
    if (config.interface === null) throw new RangeError("engine: no default route leads over an interface: name one");
    const kernel = KernelSide.open(config);
    try {
      config.tcp = { ...config.tcp, ...kernel.tcp(config), ...tcp };
      checkConfig(config.tcp);
      return await Engine.startThreads(config, cpus, kernel, null, notice);
    } catch (error) {
      kernel.close();
      throw error;
    }
  }

  private static async startOnSockets(
    config: EngineConfig,
    cpus: readonly number[],
    reason: string,
    notice: (text: string) => void,
  ): Promise<Engine> {
    const sockets = SocketSide.open(config, reason, notice);
    try {
      return await Engine.startThreads(config, cpus, null, sockets, notice);
    } catch (error) {
      sockets.close();
      throw error;
    }
  }

  /** Joins a running engine from another thread of the process. */
  static attach(descriptor: EngineDescriptor): EngineThread {
    return new AttachedThread(descriptor.wiring);
  }

  private static async startThreads(
    config: EngineConfig,
    cpus: readonly number[],
    kernel: KernelSide | null,
    sockets: SocketSide | null,
    notice: (text: string) => void,
  ): Promise<Engine> {
    const wiring = createWiring(config, ...layOut(config, kernel, sockets));
    const threads: Thread[] = [];
    const captures = new Captures();
    const own = new OwnAddresses(notice);
    try {
      if (wiring.host !== null) {
        const url = new URL("./host-worker.ts", import.meta.url);
        threads.push(await Thread.start("host", url, { wiring, cpus }, [], (message) => own.hear(message)));
      } else if (wiring.way.kind === "sockets") {
        const url = new URL("./socket-control-worker.ts", import.meta.url);
        threads.push(await Thread.start("control", url, { wiring, cpus }));
      } else if (kernel === null) {
        const { way } = wiring;
        if (way.kind === "pcap") new FibWriter(wiring.fib).publish(replayFib(way, MEMORY_IFINDEX));
        else if (config.memory !== null) new FibWriter(wiring.fib).publish(memoryFib(config.memory));
      } else {
        const url = new URL("./control-worker.ts", import.meta.url);
        threads.push(await Thread.start("control", url, { wiring, cpus }, [], (message) => own.hear(message)));
      }
      // One after another: concurrent first loads of the native shim have crashed the runtime.
      for (let id = 0; id < config.cpus.length; id++) {
        const url = new URL("./lcore-worker.ts", import.meta.url);
        const line = captures.newLine();
        threads.push(await Thread.start(`lcore ${id}`, url, { wiring, id, line }, [line.port]));
      }
      kernel?.attach(config, new Int32Array(wiring.state));
      kernel?.publishNapiIds(wiring);
      if (config.isolate && config.cpus.length > 0 && config.cpus.length < cpus.length) {
        const state = new Int32Array(wiring.state);
        const lcores = config.cpus.map((_, l) => state[1 + l]);
        moveThreadsOff(config.cpus, new Set([...lcores, ...Engine.runningLcores()]), cpus);
      }
      Atomics.store(new Int32Array(wiring.state), SERVING_WORD, 1);
      if (wiring.host !== null) {
        new Mesh(wiring.mesh).ring(controlThread(wiring));
        await own.checked(wiring.host.addresses, Promise.race(threads.map((thread) => thread.ended)));
      }
      return new Engine(wiring, threads, kernel, sockets, captures, notice);
    } catch (error) {
      Atomics.store(new Int32Array(wiring.state), 0, 1);
      new Mesh(wiring.mesh).stop();
      await Promise.all(threads.map((thread) => thread.ended));
      // Sockets that a module opened before another lcore failed.
      for (const placeholder of new SocketTable(wiring.table).closeAll()) sys.close(placeholder);
      // The control thread may have kept others off the CPUs by now.
      if (config.isolate) moveThreadsBack(config.cpus, new Set(Engine.runningLcores()));
      throw error;
    }
  }

  private constructor(
    wiring: Wiring,
    threads: Thread[],
    kernel: KernelSide | null,
    sockets: SocketSide | null,
    captures: Captures,
    notice: (text: string) => void,
  ) {
    super(wiring);
    this.sockets = sockets;
    this.threads = threads;
    this.kernel = kernel;
    this.captures = captures;
    this.lost = wiring.way.kind === "sockets" ? null : new LostThreads(this.endpoint, wiring, notice);
    this.info = {
      provider: sockets === null ? "engine" : "kernel",
      interface: wiring.config.interface,
      ifindex: kernel?.link.ifindex ?? 0,
      attach: kernel?.attached ?? (sockets !== null ? "none" : wiring.way.kind === "pcap" ? "pcap" : "memory"),
      zeroCopy: kernel !== null && threads.slice(1).every((thread) => thread.zeroCopy),
      queues: wiring.queues,
      cpus: wiring.config.cpus,
      reason:
        kernel?.reason ??
        sockets?.reason ??
        (wiring.way.kind === "pcap" ? `a replay of ${wiring.way.config.file}` : "a memory wire"),
    };
    this.replay = wiring.way.kind === "pcap" ? new Replay(wiring.way, () => this.running) : null;
    let settle: Engine["settle"] | undefined;
    this.closed = new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
    running.add(this);
    this.settle = settle as unknown as Engine["settle"];
    // Who never looks at `closed` must not be killed by an unhandled rejection on top of the failure it reports.
    this.closed.catch(() => {});
    for (const thread of threads) {
      void thread.ended.then((error) => {
        void this.end(error ?? undefined);
      });
    }
  }

  /**
   * Stops: sockets closed, lcores stopped, the XDP program detached, placeholders and descriptors closed. Resolves when
   * all is done. Calling it again gives the same promise.
   */
  close(): Promise<void> {
    return this.end();
  }

  /** Lets the process end although the engine runs: its sockets alone keep the event loop alive. */
  unref(): this {
    for (const thread of this.threads) thread.worker.unref();
    return this;
  }

  /** Takes unref() back. */
  ref(): this {
    for (const thread of this.threads) thread.worker.ref();
    return this;
  }

  /**
   * NAPI ID of each lcore's queues, in the order of `info.queues`: what a socket may ask for with `incomingNapiId`. 0
   * where a queue has none (a memory wire, veth in skb mode without GRO).
   */
  get napiIds(): number[][] {
    const portInfo = new Int32Array(this.wiring.portInfo);
    return this.wiring.queues.map((queues, lcore) =>
      queues.map((_, port) => portInfo[(lcore * PORTS_MAX + port) * 2 + 1]),
    );
  }

  /** Counters of the XDP program: frames redirected and passed, by reason. Null on a memory wire. */
  steeringCounters(): Record<string, number> | null {
    return this.kernel?.counters() ?? null;
  }

  /** Counters of each thread, verdicts of the XDP program, statistics of the AF_XDP sockets, now. */
  stats(): StatsSnapshot {
    const { wiring } = this;
    this.commit();
    const steering = this.steeringCounters();
    const lcores = this.threads.slice(this.threads.length - wiring.config.cpus.length);
    return collectStats(
      this.info,
      wiring,
      lcores.map((thread) => thread.xsks),
      steering,
    );
  }

  /**
   * Answers `lcore stats` and `lcore capture` on a Unix socket until the engine stops: at `path`, or where stats.ts says
   * that it is looked for. Throws where no socket can be made.
   */
  serveStats(path?: string): StatsServer {
    const { mesh } = this.endpoint.shared;
    const answer = async (request: Request): Promise<Response | null> =>
      this.answerConnections(request) ?? (await this.captures.answer(request, this.info, (lcore) => mesh.ring(lcore)));
    const server = new StatsServer(() => this.stats(), path, answer);
    const close = (): void => server.close();
    this.closed.then(close, close);
    return server;
  }

  private answerConnections(request: Request): Response | null {
    const { pathname, searchParams } = new URL(request.url);
    if (request.method !== "GET" || pathname !== "/tcp") return null;
    if (this.sockets !== null) return new Response("on kernel sockets: ask ss -ti", { status: 409 });
    try {
      const name = (thread: number): string => threadName(this.wiring, thread);
      return new Response(connectionLines(this.endpoint.shared.tcbs, name, parseConnectionsQuery(searchParams)));
    } catch (error) {
      if (error instanceof RangeError) return new Response(error.message, { status: 400 });
      throw error;
    }
  }

  /** Frames that pass the lcores on the interface. On kernel sockets the kernel's packet sockets see everything. */
  protected override frameTaps(): FrameTaps | null {
    const { way } = this.wiring;
    if (way.kind !== "kernel") return null;
    const { mesh } = this.endpoint.shared;
    const open = () => this.captures.open(TAP_RING_BYTES, this.info, (lcore) => mesh.ring(lcore));
    return frameTaps(way.link.ifindex, way.link.mac, open);
  }

  /** The engine's own thread closes the others' placeholders still: see shutDown. */
  protected override leave(): void {}

  private end(error?: Error): Promise<void> {
    this.ending ??= this.shutDown(error);
    return this.ending;
  }

  private async shutDown(error?: Error): Promise<void> {
    this.lost?.close();
    this.detach();
    // First no more frames from the program, then the loops.
    this.kernel?.detach();
    Atomics.store(new Int32Array(this.wiring.state), 0, 1);
    this.endpoint.shared.mesh.stop();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const timeout = new Promise<Error>((resolve) => {
      timer = setTimeout(() => resolve(new Error(`a thread did not stop in ${STOP_TIMEOUT_MS} ms`)), STOP_TIMEOUT_MS);
    });
    const ends = await Promise.all(this.threads.map((thread) => Promise.race([thread.ended, timeout])));
    // Left running, it would keep the process alive for as long.
    clearTimeout(timer);
    this.closePlaceholders();
    this.kernel?.close();
    this.sockets?.close();
    await this.captures.end("the engine has ended");
    running.delete(this);
    const { config } = this.wiring;
    if (config.isolate) moveThreadsBack(config.cpus, new Set(Engine.runningLcores()));
    const failure = error ?? ends.find((end) => end !== null);
    if (failure) this.settle.reject(failure);
    else this.settle.resolve();
  }

  /** Thread ids of the lcores of every engine that this thread has started. */
  private static runningLcores(): number[] {
    return [...running].flatMap((engine) => engine.lcoreThreads());
  }

  /** Thread ids of the lcores. */
  private lcoreThreads(): number[] {
    const state = new Int32Array(this.wiring.state);
    return this.wiring.config.cpus.map((_, lcore) => state[1 + lcore]);
  }

  /** Sockets of lcores and of threads that never closed them hold placeholders still. */
  private closePlaceholders(): void {
    const { table, binder } = this.endpoint.shared;
    for (const placeholder of table.closeAll()) binder.release(placeholder);
    binder.close();
  }
}

class AttachedThread extends EngineThread {
  // The base class's constructor is protected so that an Engine is not built by hand.
  constructor(wiring: Wiring) {
    super(wiring);
  }
}

/** Which queues each lcore has, and what they are of. Fills in what the configuration left open. Throws RangeError. */
function layOut(
  config: EngineConfig,
  kernel: KernelSide | null,
  sockets: SocketSide | null,
): [queues: number[][], way: Way] {
  if (sockets !== null) return [config.cpus.map(() => []), sockets.wiring()];
  config.frames ||= FRAMES_DEFAULT;
  config.frameSize =
    kernel === null ? config.frameSize || 2048 : frameSizeFor(config, kernel.link.name, kernel.link.mtu);
  const all = kernel === null ? wireQueues(config) : kernel.queues(config);
  return [dealQueues(all, config.cpus.length), kernel?.wiring(config) ?? wireWiring(config)];
}
