/**
 * A UDP echo on the main thread: an lcore receives and sends the frames, this thread reads the socket.
 *
 *     npx bun examples/udp-echo.ts veth0 9000
 */
import { Engine } from "lcore";

const [name = "veth0", port = "9000"] = process.argv.slice(2);
const engine = await Engine.start({ interface: name });
process.once("SIGINT", () => engine.close());

const socket = engine.udp({ port: Number(port) });
console.log(`ready: UDP ${socket.port} on ${name}, ${engine.info.attach} mode (${engine.info.reason})`);
// Ends when the socket is closed, as engine.close() does. The frame goes back with reply(), or when the loop goes on.
for await (const datagram of socket) datagram.reply();
await engine.closed; // rejects with what stopped the engine, should it not have been us
