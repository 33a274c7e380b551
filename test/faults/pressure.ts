/** Run by pressure.test.ts: an engine that echoes, on the lcore at the first port and in this thread at the next. */
import { Engine } from "../../engine/engine.ts";

const [, , name, netns, port] = process.argv;
const engine = await Engine.start({
  provider: "engine",
  interface: name,
  netns,
  module: new URL("../engine/modules/echo.ts", import.meta.url),
  data: { port: Number(port) },
});
engine.udp({ port: Number(port) + 1 }).onDatagram = (datagram) => void datagram.reply();
console.log("ready");
for await (const _ of console) break;
await engine.close();
