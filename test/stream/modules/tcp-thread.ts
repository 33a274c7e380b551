/**
 * A worker that attaches to an engine, listens and sends back what comes. It tells how its connections end, and leaves when it is
 * told to, with them open.
 */
import { parentPort, workerData } from "node:worker_threads";
import { Engine, type EngineDescriptor } from "../../../engine/engine.ts";
import { echoHandlers } from "../pair.ts";

export interface ThreadData {
  readonly descriptor: EngineDescriptor;
  readonly port: number;
}

const { descriptor, port } = workerData as ThreadData;
const engine = Engine.attach(descriptor);
const handlers = echoHandlers("write");
const listener = engine.listen(
  { port },
  {
    ...handlers,
    open: () => parentPort?.postMessage({ open: true }),
    closed: (socket, errno) => {
      parentPort?.postMessage({ closed: errno });
      socket.close();
    },
  },
);
parentPort?.on("message", (what: string) => {
  if (what !== "leave") return;
  engine.detach();
  parentPort?.postMessage({ left: listener.closed });
  parentPort?.close();
});
parentPort?.postMessage({ listening: listener.address.port });
