/**
 * A worker that is going to be terminated: it attaches to an engine, and keeps every datagram that comes to its socket until there
 * are as many as it was asked for. Then it says so, and sleeps.
 */
import { parentPort, workerData } from "node:worker_threads";
import { Engine, type EngineDescriptor } from "../../../engine/engine.ts";

export interface DoomedData {
  readonly descriptor: EngineDescriptor;
  readonly port: number;
  readonly datagrams: number;
}

const { descriptor, port, datagrams } = workerData as DoomedData;
const engine = Engine.attach(descriptor);
const socket = engine.udp({ port, receiveBuffer: 1 << 24 });
parentPort?.postMessage("bound");
const held = [];
while (held.length < datagrams) {
  const datagram = socket.receiveBlocking();
  if (datagram !== null) held.push(datagram);
}
parentPort?.postMessage("has them");
// Whoever is terminated in the middle of this has the datagrams still.
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
parentPort?.postMessage(held.length);
