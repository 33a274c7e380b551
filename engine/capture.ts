/**
 * Captures of a running engine, for whoever asks on its Unix socket: what its queues receive and send, as pcapng. XDP
 * takes these frames before tcpdump could see them.
 *
 *   POST   /capture      CaptureRequest as JSON → a stream of blocks; its header X-Capture names the capture
 *   DELETE /capture/ID   ends it: what is still in the rings, then statistics, then the stream's end
 *
 * Each lcore writes blocks into a ring of its own (capture-tap.ts, capture-ring.ts); this thread passes them on as quickly
 * as they are read. Whoever reads too slowly loses frames, which are counted, and holds nobody up.
 */
import { readFileSync } from "node:fs";
import { MessageChannel, type MessagePort } from "node:worker_threads";
import { SysError } from "af-xdp-bindings";
import manifest from "../package.json" with { type: "json" };
import { interfaceDescription, interfaceStatistics, sectionHeader } from "../queues/pcap/blocks.ts";
import { PACKET_MAX } from "../queues/pcap/format.ts";
import type { CaptureTime } from "../queues/pcap/time.ts";
import { decodeClassic, type SockFilter, verifyClassic } from "../sockets/bpf/classic.ts";
import {
  CaptureRingReader,
  createCaptureRing,
  RING_ATTACHED,
  RING_BYTES_MAX,
  RING_BYTES_MIN,
  RING_DETACHED,
} from "./capture-ring.ts";
import type { TapLine, TapRequest } from "./capture-tap.ts";
import type { EngineInfo } from "./engine.ts";

/** What is to be captured. Everything may be left out. */
export interface CaptureRequest {
  /** Classic BPF as [code, jt, jf, k], over frames from the Ethernet header on; default every frame. */
  filter?: readonly (readonly number[])[];
  /** The filter as its author wrote it, for the file. */
  filterText?: string;
  /** Bytes of each frame that are kept at most; default all. */
  snapLength?: number;
  /** Directions; default both. */
  rx?: boolean;
  tx?: boolean;
  /** One lcore; default all. */
  lcore?: number;
  /** Bytes of each lcore's ring, a power of two; default 8 MiB: at 10 Gbit/s 6 ms. */
  ringBytes?: number;
}

const RING_BYTES = 1 << 23;
/** Captures at a time. */
const CAPTURES_MAX = 4;
/** Between two looks at lcores that have not begun. */
const PAUSE_MS = 0.1;
/** Between two looks at rings that were empty. */
const POLL_MS = 5;
/** The longest an lcore may take to see a request: a sleep, and a module's turn. What is late is not waited for. */
const ACKNOWLEDGE_MS = 3000;
/** The longest the end of an engine waits for readers of its captures. */
const END_MS = 1000;
const STAMPS = "Stamps are CLOCK_REALTIME of the burst that a frame came or left with, as this lcore took it.";

/** Checked request. */
interface Resolved {
  readonly filter: SockFilter[] | null;
  readonly filterText: string | undefined;
  readonly snapLength: number;
  readonly rx: boolean;
  readonly tx: boolean;
  readonly lcores: number[];
  readonly ringBytes: number;
}

/** Checks what came from outside. Throws RangeError, SyntaxError, TypeError or SysError. */
function resolve(request: CaptureRequest, lcores: number): Resolved {
  const { filter, filterText, snapLength = PACKET_MAX, rx = true, tx = true, lcore, ringBytes = RING_BYTES } = request;
  const program = filter === undefined ? null : decodeClassic(filter);
  if (program !== null) verifyClassic(program);
  whole("snaplen", snapLength, 1, PACKET_MAX);
  if (lcore !== undefined) whole("lcore", lcore, 0, lcores - 1);
  whole("ring", ringBytes, RING_BYTES_MIN, RING_BYTES_MAX);
  if (!rx && !tx) throw new RangeError("neither received nor sent frames: nothing would be captured");
  return {
    filter: program,
    filterText: filterText === undefined ? undefined : String(filterText),
    snapLength,
    rx,
    tx,
    lcores: lcore === undefined ? Array.from({ length: lcores }, (_, l) => l) : [lcore],
    ringBytes,
  };
}

function whole(name: string, value: number, low: number, high: number): void {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new RangeError(`${name} ${value}: a whole number from ${low} to ${high}`);
  }
}

/** The starting thread's end of the line to an lcore. */
interface Line {
  readonly port: MessagePort;
  readonly posted: Int32Array;
}

/** Captures of one engine. */
export class Captures {
  private readonly lines: Line[] = [];
  private readonly running = new Map<number, Capture>();
  private nextId = 1;
  private ended: string | null = null;

  /** Makes the line to one more lcore. Post it there, its port transferred. */
  newLine(): TapLine {
    const { port1, port2 } = new MessageChannel();
    const posted = new SharedArrayBuffer(4);
    port1.unref();
    this.lines.push({ port: port1, posted: new Int32Array(posted) });
    return { port: port2, posted };
  }

  /**
   * Answers a request to /capture, or null where it is for something else.
   * @param wake has an lcore look for requests, should it sleep
   */
  async answer(request: Request, info: EngineInfo, wake: (lcore: number) => void): Promise<Response | null> {
    const [, first, id, more] = new URL(request.url).pathname.split("/");
    if (first !== "capture" || more !== undefined) return null;
    if (request.method === "DELETE" && id !== undefined) return this.stop(Number(id));
    if (request.method !== "POST" || id !== undefined) return refuse(405, "POST /capture, or DELETE /capture/ID");
    if (this.ended !== null) return refuse(503, this.ended);
    if (info.cpus.length === 0) return refuse(409, "it serves on sockets of the kernel: tcpdump sees its packets");
    try {
      const resolved = resolve((await request.json()) as CaptureRequest, info.cpus.length);
      // Others may have begun while the request came.
      if (this.running.size >= CAPTURES_MAX) return refuse(409, `${CAPTURES_MAX} captures run already: stop one`);
      return await this.start(resolved, info, wake, request.signal);
    } catch (error) {
      if (isRefusal(error)) return refuse(400, error.message);
      throw error;
    }
  }

  /** Has every lcore write what passes it, for a reader in this thread. @param wake as for answer() */
  open(ringBytes: number, info: EngineInfo, wake: (lcore: number) => void): CaptureRings {
    return this.rings(this.nextId++, resolve({ ringBytes }, info.cpus.length), info, wake);
  }

  /** Ends every capture, with the reason in its statistics: the lcores have stopped. Resolves when all have been read. */
  async end(reason: string): Promise<void> {
    this.ended = reason;
    for (const capture of this.running.values()) capture.stop(reason);
    const read = Promise.all([...this.running.values()].map((capture) => capture.finished));
    const timeout = Promise.withResolvers<void>();
    const timer = setTimeout(timeout.resolve, END_MS);
    await Promise.race([read, timeout.promise]);
    clearTimeout(timer);
    for (const { port } of this.lines) port.close();
  }

  /** @param gone aborted when whoever asked has closed the connection */
  private async start(
    request: Resolved,
    info: EngineInfo,
    wake: (lcore: number) => void,
    gone: AbortSignal,
  ): Promise<Response> {
    const id = this.nextId++;
    const capture = new Capture(this.rings(id, request, info, wake), request, info);
    this.running.set(id, capture);
    void capture.finished.then(() => this.running.delete(id));
    gone.addEventListener("abort", () => capture.abandon());
    await capture.attached();
    const headers = { "Content-Type": "application/x-pcapng", "X-Capture": String(id) };
    return new Response(capture.stream(), { headers });
  }

  private rings(id: number, request: Resolved, info: EngineInfo, wake: (lcore: number) => void): CaptureRings {
    return new CaptureRings(id, request, info, (lcore, message) => {
      const { port, posted } = this.lines[lcore];
      port.postMessage(message);
      Atomics.add(posted, 0, 1);
      wake(lcore);
    });
  }

  private stop(id: number): Response {
    const capture = this.running.get(id);
    if (capture === undefined) return refuse(404, `no capture ${id}`);
    capture.stop();
    return new Response(null, { status: 204 });
  }
}

function isRefusal(error: unknown): error is Error {
  return (
    error instanceof RangeError ||
    error instanceof SyntaxError ||
    error instanceof TypeError ||
    error instanceof SysError
  );
}

function refuse(status: number, words: string): Response {
  return new Response(`${words}\n`, { status });
}

/** What one capture has the lcores write, in a ring each. */
export class CaptureRings {
  /** By the position of their lcore in the request. */
  readonly readers: readonly CaptureRingReader[];
  private readonly id: number;
  private readonly lcores: readonly number[];
  private readonly interfaces: number[];
  private readonly post: (lcore: number, message: TapRequest) => void;
  /** Nobody ever notifies it: a place to wait for time to pass. */
  private readonly pause = new Int32Array(new SharedArrayBuffer(4));

  constructor(id: number, request: Resolved, info: EngineInfo, post: (lcore: number, message: TapRequest) => void) {
    this.id = id;
    this.lcores = request.lcores;
    this.post = post;
    this.interfaces = request.lcores.map((lcore) => info.queues[lcore].length);
    const { filter, snapLength, rx, tx } = request;
    let firstInterface = 0;
    this.readers = request.lcores.map((lcore, i) => {
      const ring = createCaptureRing(request.ringBytes, this.interfaces[i]);
      post(lcore, { type: "start", id, ring, filter, snapLength, rx, tx, firstInterface });
      firstInterface += this.interfaces[i];
      return new CaptureRingReader(ring);
    });
  }

  /** Whether every lcore writes, or has stopped to. */
  get attached(): boolean {
    return this.readers.every(({ state }) => state >= RING_ATTACHED);
  }

  get detached(): boolean {
    return this.readers.every(({ state }) => state === RING_DETACHED);
  }

  /** Blocks the thread until every lcore writes. False when that takes too long. */
  awaitAttached(timeoutMs: number): boolean {
    const deadline = performance.now() + timeoutMs;
    while (!this.attached && performance.now() < deadline) Atomics.wait(this.pause, 0, 0, PAUSE_MS);
    return this.attached;
  }

  /** Frames that found no room, so far. */
  get dropped(): number {
    let dropped = 0;
    this.readers.forEach((reader, i) => {
      for (let port = 0; port < this.interfaces[i]; port++) dropped += reader.countsOf(port).dropped;
    });
    return dropped;
  }

  /** Has the lcores stop. */
  stop(): void {
    for (const lcore of this.lcores) this.post(lcore, { type: "stop", id: this.id });
  }
}

/** One capture, from its request to the end of its stream. */
class Capture {
  /** Resolves when its stream has been read to the end, or nobody reads it any more. */
  readonly finished: Promise<void>;
  private readonly request: Resolved;
  private readonly info: EngineInfo;
  private readonly rings: CaptureRings;
  private readonly startedAt = realtime();
  private finish: () => void = () => {};
  private stopping = false;
  private reason = "";
  private turn = 0;
  /** When the lcores must have let go; later their rings are taken as they are. */
  private deadline = Number.POSITIVE_INFINITY;

  constructor(rings: CaptureRings, request: Resolved, info: EngineInfo) {
    this.rings = rings;
    this.request = request;
    this.info = info;
    this.finished = new Promise((done) => {
      this.finish = done;
    });
  }

  /** Resolves when every lcore captures: whoever has the answer misses nothing that comes after it. */
  async attached(): Promise<void> {
    const deadline = performance.now() + ACKNOWLEDGE_MS;
    while (!this.rings.attached && performance.now() < deadline) await Bun.sleep(1);
  }

  /** Has the lcores stop; the stream ends with what they had captured by then. */
  stop(reason = ""): void {
    if (this.stopping) return;
    this.stopping = true;
    this.reason = reason;
    // An engine that has ended has lcores that let go by themselves, or never will.
    this.deadline = performance.now() + (reason === "" ? ACKNOWLEDGE_MS : 0);
    this.rings.stop();
  }

  /** Nobody reads any more. */
  abandon(): void {
    this.stop();
    this.finish();
  }

  stream(): ReadableStream<Uint8Array> {
    let opened = false;
    return new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        if (!opened) {
          opened = true;
          controller.enqueue(this.header());
          return;
        }
        const blocks = await this.next();
        controller.enqueue(blocks ?? this.statistics());
        if (blocks !== null) return;
        controller.close();
        this.finish();
      },
      cancel: () => this.abandon(),
    });
  }

  /** The next blocks, when there are some; null when there will be none. */
  private async next(): Promise<Uint8Array | null> {
    for (;;) {
      // Looked at before the rings: what was written before an lcore let go is found in its ring after.
      const last = this.stopping && (this.rings.detached || performance.now() > this.deadline);
      const blocks = this.take();
      if (blocks !== null) return blocks;
      if (last) return null;
      await Bun.sleep(POLL_MS);
    }
  }

  /** Blocks of the first ring that has some, beginning with the next each time, so that none waits for ever. */
  private take(): Uint8Array | null {
    const { readers } = this.rings;
    for (let i = 0; i < readers.length; i++) {
      const blocks = readers[this.turn].take();
      this.turn = (this.turn + 1) % readers.length;
      if (blocks.length > 0) return blocks;
    }
    return null;
  }

  /** Queues of the capture in the order of their interface numbers. */
  private interfaces(): { lcore: number; queue: number; port: number; ring: CaptureRingReader }[] {
    return this.request.lcores.flatMap((lcore, r) =>
      this.info.queues[lcore].map((queue, port) => ({ lcore, queue, port, ring: this.rings.readers[r] })),
    );
  }

  private header(): Uint8Array {
    const { info, request } = this;
    const link = info.interface ?? info.attach;
    const section = sectionHeader({
      application: `lcore ${manifest.version}`,
      os: `Linux ${kernelRelease()}`,
      comment: `process ${process.pid}, ${link}: ${info.reason}`,
    });
    const interfaces = this.interfaces().map(({ lcore, queue }) =>
      interfaceDescription({
        name: `${link}:${queue}`,
        description: `lcore ${lcore} on CPU ${info.cpus[lcore]}, queue ${queue}`,
        snapLength: request.snapLength,
        filter: request.filterText,
        comment: STAMPS,
      }),
    );
    return Buffer.concat([section, ...interfaces]);
  }

  private statistics(): Uint8Array {
    const at = realtime();
    const comment = this.reason === "" ? undefined : this.reason;
    return Buffer.concat(
      this.interfaces().map(({ port, ring }, id) =>
        interfaceStatistics(id, { at, start: this.startedAt, ...ring.countsOf(port), comment }),
      ),
    );
  }
}

function realtime(): CaptureTime {
  const ms = Date.now();
  return { seconds: Math.floor(ms / 1000), nanoseconds: (ms % 1000) * 1e6 };
}

function kernelRelease(): string {
  return readFileSync("/proc/sys/kernel/osrelease", "utf8").trim();
}
