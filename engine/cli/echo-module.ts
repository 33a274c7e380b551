/** What `lcore echo` runs on each lcore: every datagram, and every byte of a connection, goes back where it came from. */
import type { TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import type { Lcore } from "../lcore.ts";
import type { EchoData } from "./echo.ts";

const SHUT_WR = 1;

export default function echo(lcore: Lcore): void {
  const { address, udp, tcp, lcores } = lcore.data as EchoData;
  // A socket each, and of those the one on the CPU where a flow arrives: it stays on its lcore. One lcore needs no group,
  // and without one a second server on the port is refused.
  const shared = lcores === 1 ? {} : { reusePort: true, incomingCpu: lcore.cpu };
  if (udp !== undefined) {
    const socket = lcore.udp({ address, port: udp, ...shared });
    socket.onDatagram = (datagram) => {
      datagram.reply();
    };
  }
  if (tcp !== undefined) {
    const handlers = {
      open: () => {},
      readable: sendBack,
      writable: sendBack,
      ended: sendBack,
      closed: (socket: TcpSocket) => socket.close(),
    };
    lcore.listen({ address, port: tcp, ...shared }, handlers);
  }
}

/** As far as there is room, and the rest when there is some; behind the peer's last byte comes our end. */
function sendBack(socket: TcpSocket): void {
  for (let count = socket.peek(); count > 0; count = socket.peek()) if (socket.echo(count) < count) return;
  if (socket.endTold) socket.shutdown(SHUT_WR);
}
