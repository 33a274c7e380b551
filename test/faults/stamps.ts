/** Run by clock.test.ts: an engine that sleeps at once when idle and answers with the time at which it was asked. */
import { Engine } from "../../engine/engine.ts";

const [, , name, netns, port] = process.argv;
const engine = await Engine.start({ provider: "engine", interface: name, netns, poll: "interrupt" });
const socket = engine.udp({ port: Number(port), timestamps: true });
socket.onDatagram = (datagram) => {
  const stamp = `${datagram.seconds}.${String(datagram.nanoseconds).padStart(9, "0")}`;
  const { written } = new TextEncoder().encodeInto(
    stamp,
    datagram.memory.subarray(datagram.offset, datagram.offset + 32),
  );
  datagram.reply(written);
};
console.log("ready");
for await (const _ of console) break;
await engine.close();
