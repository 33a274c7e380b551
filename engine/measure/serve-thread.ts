/** The application thread of workload handoff, as a worker: its socket's datagrams come from the lcore through a ring, and go back so. */
import { parentPort, workerData } from "node:worker_threads";
import { Engine, type EngineDescriptor } from "../engine.ts";
import { setAffinity } from "../host/affinity.ts";
import { type ServeData, serve } from "./serve.ts";

export interface ServeThreadStart {
  readonly engine: EngineDescriptor;
  readonly data: ServeData;
  readonly cpu: number;
}

const { engine, data, cpu } = workerData as ServeThreadStart;
setAffinity(0, [cpu]);
const thread = Engine.attach(engine);
serve(thread, data);
parentPort?.postMessage("ready");
parentPort?.once("message", () => {
  thread.detach();
  parentPort?.close();
});
