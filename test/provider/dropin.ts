/** Run by start.test.ts: a drop-in socket on the port that is the argument, which echoes until it is killed. */
import { udpSocket } from "../../engine/dropin/bun.ts";

try {
  await udpSocket({
    port: Number(process.argv[2]),
    socket: {
      data(socket, data, port, address) {
        socket.send(data, port, address);
      },
    },
  });
  console.log("serves");
} catch (error) {
  console.log((error as Error).message);
}
