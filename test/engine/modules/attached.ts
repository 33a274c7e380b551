/**
 * A worker that attaches to an engine and does what `workerData.task` says:
 *   echo      answers with blocking receives until the engine stops, then reports how many and the error's code
 *   await     the same with promises
 *   detach    opens and echoes once, then leaves
 */
import { parentPort, workerData } from "node:worker_threads";
import type { SysError } from "af-xdp-bindings";
import { Engine, type EngineDescriptor } from "../../../engine/engine.ts";
import type { UdpSocket } from "../../../sockets/udp-socket.ts";

export interface AttachedData {
  descriptor: EngineDescriptor;
  task: "echo" | "await" | "detach";
  port: number;
  reusePort?: boolean;
}

const { descriptor, task, port, reusePort = false } = workerData as AttachedData;
const engine = Engine.attach(descriptor);
const socket = engine.udp({ port, address: "::", reusePort });
parentPort?.postMessage({ type: "bound", port: socket.port });

let count = 0;

async function serve(socket: UdpSocket): Promise<string> {
  try {
    for (;;) {
      const datagram = task === "await" ? await socket.receive() : socket.receiveBlocking();
      if (datagram === null) return "timeout";
      datagram.reply();
      count++;
      if (task === "detach") return "";
    }
  } catch (error) {
    return (error as SysError).code;
  }
}

const code = await serve(socket);
engine.detach();
parentPort?.postMessage({ type: "ended", count, code });
