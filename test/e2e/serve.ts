/** Run by failure.test.ts: an engine that echoes until it is killed, or the error with which it did not start, as JSON. */
import type { SysError } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";

const [, , name, netns, port] = process.argv;
try {
  const engine = await Engine.start({ provider: "engine", interface: name, ...(netns ? { netns } : {}) });
  const socket = engine.udp({ address: "::", port: Number(port) });
  socket.onDatagram = (datagram) => {
    datagram.reply();
  };
  console.log(JSON.stringify({ ready: true }));
} catch (error) {
  const { code, hint, syscall, message } = error as SysError;
  console.log(JSON.stringify({ code, hint, syscall, message }));
}
