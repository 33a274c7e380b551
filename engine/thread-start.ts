/** Worker threads of an engine. */
import { type MessagePort, Worker } from "node:worker_threads";
import { type FromThread, restoreError } from "./protocol.ts";

/** The longest a thread may take to start: it opens queues (a second's patience with a busy one) and runs the module. */
const START_TIMEOUT_MS = 30_000;

/** A worker thread of the engine, from its start to its end. */
export class Thread {
  readonly name: string;
  /** Resolves with the error that ended it, or null. Never rejects. */
  readonly ended: Promise<Error | null>;
  readonly worker: Worker;
  zeroCopy = false;
  /** Descriptors of its AF_XDP sockets, in the order of its queues. */
  xsks: readonly number[] = [];

  private constructor(name: string, ended: Promise<Error | null>, worker: Worker) {
    this.name = name;
    this.ended = ended;
    this.worker = worker;
  }

  /** Resolves when the thread says that it is ready; rejects with what it failed with. */
  static start(
    name: string,
    url: URL,
    workerData: unknown,
    transferList: MessagePort[] = [],
    onMessage: (message: FromThread) => void = () => {},
  ): Promise<Thread> {
    const worker = new Worker(url, { workerData, transferList });
    let end: (error: Error | null) => void = () => {};
    const thread = new Thread(
      name,
      new Promise((resolve) => {
        end = resolve;
      }),
      worker,
    );
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`${name} was not ready after ${START_TIMEOUT_MS} ms`)),
        START_TIMEOUT_MS,
      );
      const finish = (error: Error | null): void => {
        clearTimeout(timer);
        end(error);
        reject(error ?? new Error(`${name} ended before it was ready`));
      };
      worker.on("message", (message: FromThread) => {
        if (message.type === "ready") {
          clearTimeout(timer);
          thread.zeroCopy = message.zeroCopy;
          thread.xsks = message.xsks;
          resolve(thread);
        } else if (message.type === "conflict" || message.type === "settled" || message.type === "notice") {
          onMessage(message);
        } else {
          finish(message.type === "failed" ? restoreError(name, message.error) : null);
        }
      });
      worker.on("error", (error: Error) => finish(error));
      worker.on("exit", () => finish(null));
    });
  }
}
