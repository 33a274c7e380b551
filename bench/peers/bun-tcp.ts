/** A server on Bun.listen: `bun bench/peers/bun-tcp.ts PORT echo|once|greet`, ways as those of tcp-serve.c. */
import type { ServeWay } from "./lcore-tcp-module.ts";

const [port, way] = process.argv.slice(2) as [string, ServeWay];

Bun.listen({
  hostname: "0.0.0.0",
  port: Number(port),
  socket: {
    open(socket) {
      if (way === "greet") socket.end();
    },
    data(socket, data) {
      if (way === "once") socket.end(data);
      else socket.write(data);
    },
    // Connections under way when the load ends are reset.
    error() {},
  },
});
console.log("ready");
