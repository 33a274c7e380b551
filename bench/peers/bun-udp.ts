/** A UDP echo on Bun.udpSocket: `bun bench/peers/bun-udp.ts PORT`. */
import { udpSocket } from "bun";

await udpSocket({
  port: Number(process.argv[2]),
  hostname: "0.0.0.0",
  socket: {
    data(socket, data, port, address) {
      socket.send(data, port, address);
    },
    // Echoes that are under way when the load ends are refused: nobody has their port any more.
    error() {},
  },
});
