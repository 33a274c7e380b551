/**
 * The demo's measure of comparison, a program of its own: UDP echo on Bun.udpSocket. `bun kernel-server.ts PORT CPU`
 * prints "ready" once it serves and ends with its standard input, so that it never outlives the demo.
 */
import { setAffinity } from "../../host/affinity.ts";

const [port, cpu] = process.argv.slice(2).map(Number);
setAffinity(0, [cpu]);
const server = await Bun.udpSocket({
  port,
  socket: {
    data(socket, data, sourcePort, address) {
      socket.send(data, sourcePort, address);
    },
  },
});
process.stdout.write("ready\n");
await Bun.stdin.text();
server.close();
