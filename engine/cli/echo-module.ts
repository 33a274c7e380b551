/** What `lcore echo` runs on each lcore: every datagram goes back where it came from. */
import type { Lcore } from "../lcore.ts";
import type { EchoData } from "./echo.ts";

export default function echo(lcore: Lcore): void {
  const { address, port, lcores } = lcore.data as EchoData;
  // A socket each, and of those the one on the CPU where a datagram arrives: a flow stays on its lcore. One lcore
  // needs no group, and without one a second server on the port is refused.
  const socket = lcore.udp(
    lcores === 1 ? { address, port } : { address, port, reusePort: true, incomingCpu: lcore.cpu },
  );
  socket.onDatagram = (datagram) => {
    datagram.reply();
  };
}
