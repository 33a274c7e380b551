/**
 * A worker that is going to be terminated. It attaches to an engine, does what it is asked for, says so, and sleeps in the middle
 * of it:
 *   hold   keeps datagrams that come to its socket, until there are so many
 *   bind   has opened its socket, and is in the change of the table that binds it
 *   close  has one that is bound, and is in the change that closes it
 */
import { parentPort, workerData } from "node:worker_threads";
import { Engine, type EngineDescriptor } from "../../../engine/engine.ts";
import type { Endpoint } from "../../../sockets/endpoint.ts";
import { PLACEHOLDER } from "../../../sockets/table.ts";

export interface DoomedData {
  readonly descriptor: EngineDescriptor;
  readonly port: number;
  readonly task: "hold" | "bind" | "close";
  readonly datagrams: number;
}

const { descriptor, port, task, datagrams } = workerData as DoomedData;
const engine = Engine.attach(descriptor);
const { table } = (engine as unknown as { endpoint: Endpoint }).endpoint;

function sleep(): void {
  parentPort?.postMessage("in the middle");
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

if (task === "bind") table.changed = sleep;
const socket = engine.udp({ port, receiveBuffer: 1 << 24 });
parentPort?.postMessage("bound");
if (task === "close") {
  const { set } = table;
  table.set = (id, field, value) => {
    if (field === PLACEHOLDER) sleep();
    set.call(table, id, field, value);
  };
  socket.close();
}
const held = [];
while (held.length < datagrams) {
  const datagram = socket.receiveBlocking();
  if (datagram !== null) held.push(datagram);
}
sleep();
parentPort?.postMessage(held.length);
