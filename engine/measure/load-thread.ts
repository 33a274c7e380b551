/** A load on a thread and CPU of its own, with what it counts in shared memory. */
import { Worker } from "node:worker_threads";
import type { MemoryWire, Side } from "../../queues/memory.ts";
import { type FromThread, restoreError } from "../protocol.ts";
import { type Difference, difference, LoadBoard } from "./board.ts";
import type { GeneratorOptions } from "./generator.ts";

/** An interface's queues by AF_XDP. The generator attaches a program of its own there: one generator an interface. */
export interface XdpGeneratorLink {
  kind: "xdp";
  ifindex: number;
  /** Network namespace of the interface, a path; default that of the caller. */
  netns?: string;
  queues: number[];
  mode: "native" | "skb";
  /** Whether a driver that has no native mode, or not as it is set up, gets skb mode; default false. */
  otherwiseSkb?: boolean;
}

export interface MemoryGeneratorLink {
  kind: "memory";
  wire: MemoryWire;
  side: Side;
}

export interface GeneratorThreadOptions extends GeneratorOptions {
  link: XdpGeneratorLink | MemoryGeneratorLink;
  /** CPU the thread is pinned to. */
  cpu: number;
}

/** What the thread of a generator is started with. */
export interface GeneratorStart {
  readonly link: XdpGeneratorLink | MemoryGeneratorLink;
  readonly options: GeneratorOptions;
  readonly cpu: number;
}

/** What every load's worker finds as workerData, beside what it was given. */
export interface LoadStart<T> {
  readonly start: T;
  /** Of its LoadBoard. */
  readonly shared: SharedArrayBuffer;
}

const START_TIMEOUT_MS = 60_000;

export class LoadThread {
  /** Resolves with the error that ended the thread, or null. Never rejects. */
  readonly ended: Promise<Error | null>;
  readonly board: LoadBoard;

  /** A generator on bare queues. Nothing is sent before send(true). */
  static generator({ link, cpu, ...options }: GeneratorThreadOptions): Promise<LoadThread> {
    const start: GeneratorStart = { link, options, cpu };
    return LoadThread.start(new URL("./generator-worker.ts", import.meta.url), start);
  }

  /** Resolves when the worker has said that it is ready. Rejects with what it failed with. */
  static start<T>(url: URL, given: T): Promise<LoadThread> {
    const board = new LoadBoard();
    const workerData: LoadStart<T> = { start: given, shared: board.shared };
    const worker = new Worker(url, { workerData });
    let end: (error: Error | null) => void = () => {};
    const ended = new Promise<Error | null>((resolve) => {
      end = resolve;
    });
    const thread = new LoadThread(board, ended);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        board.stop();
        reject(new Error(`the generator was not ready after ${START_TIMEOUT_MS} ms`));
      }, START_TIMEOUT_MS);
      const finish = (error: Error | null): void => {
        clearTimeout(timer);
        end(error);
        reject(error ?? new Error("the generator ended before it was ready"));
      };
      worker.on("message", (message: FromThread) => {
        if (message.type === "ready") {
          clearTimeout(timer);
          resolve(thread);
        } else {
          finish(message.type === "failed" ? restoreError("generator", message.error) : null);
        }
      });
      worker.on("error", (error: Error) => finish(error));
      worker.on("exit", () => finish(null));
    });
  }

  private constructor(board: LoadBoard, ended: Promise<Error | null>) {
    this.ended = ended;
    this.board = board;
  }

  /** Sends for `ms` milliseconds and tells what happened meanwhile. */
  async measure(ms: number): Promise<Difference> {
    const { board } = this;
    board.send(true);
    const before = board.snapshot();
    await Bun.sleep(ms);
    return difference(before, board.snapshot());
  }

  /** Stops the thread; resolves when its queues are closed. Rejects with the error that ended it before. */
  async stop(): Promise<void> {
    this.board.stop();
    const error = await this.ended;
    if (error !== null) throw error;
  }
}
