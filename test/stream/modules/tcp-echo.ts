/** Sends back whatever a connection sends, in place, and closes when its peer does. */
import type { Lcore } from "../../../engine/lcore.ts";
import type { TcpListenOptions } from "../../../sockets/stream/tcp-open.ts";
import type { TcpSocket } from "../../../sockets/stream/tcp-socket.ts";

export default function (lcore: Lcore): void {
  const options = lcore.data as TcpListenOptions;
  const handlers = {
    open: () => {},
    readable: back,
    writable: back,
    ended: back,
    closed: (socket: TcpSocket) => socket.close(),
  };
  for (const address of ["0.0.0.0", "::"])
    lcore.listen({ ...options, address, ipv6Only: address === "::", incomingCpu: lcore.cpu }, handlers);
}

/** As far as there is room; the rest when there is some. */
function back(socket: TcpSocket): void {
  for (let count = socket.peek(); count > 0; count = socket.peek()) if (socket.echo(count) < count) return;
  if (socket.endTold) socket.shutdown(1);
}
