/** What examples/reuseport.ts runs on each lcore. */
import type { Lcore } from "lcore";

export default function echo(lcore: Lcore): void {
  const { port } = lcore.data as { port: number };
  // Without incomingCpu a hash of the addresses and ports would choose the member, whichever lcore the frame is on.
  const socket = lcore.udp({ port, reusePort: true, incomingCpu: lcore.cpu });
  socket.onDatagram = (datagram) => {
    datagram.reply();
  };
}
