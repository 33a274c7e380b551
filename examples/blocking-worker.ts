/**
 * A worker that blocks: it attaches to the engine of the main thread, opens a socket and waits in it, with a deadline.
 *
 *     npx bun examples/blocking-worker.ts veth0 9000
 */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { Engine, type EngineDescriptor } from "lcore";

interface Start {
  readonly descriptor: EngineDescriptor;
  readonly port: number;
  /** Word 0: 1 asks the worker to stop. */
  readonly stop: Int32Array;
}

async function main(): Promise<void> {
  const [name = "veth0", port = "9000"] = process.argv.slice(2);
  const engine = await Engine.start({ interface: name });
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const start: Start = { descriptor: engine.descriptor(), port: Number(port), stop };
  const worker = new Worker(new URL(import.meta.url), { workerData: start });
  worker.on("message", (line) => console.log(line));
  // The worker leaves the engine first: what it holds of the frames it gives back.
  worker.on("exit", () => engine.close());
  process.once("SIGINT", () => Atomics.store(stop, 0, 1));
  await engine.closed;
}

function serve({ descriptor, port, stop }: Start): void {
  const engine = Engine.attach(descriptor);
  const socket = engine.udp({ port });
  parentPort?.postMessage(`ready: UDP ${socket.port}, a worker waits in receiveBlocking()`);
  while (Atomics.load(stop, 0) === 0) {
    const datagram = socket.receiveBlocking(200); // null when 200 ms are over: time to look at `stop`
    datagram?.reply();
  }
  engine.detach();
}

if (isMainThread) await main();
else serve(workerData as Start);
