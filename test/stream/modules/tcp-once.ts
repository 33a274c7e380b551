/** Listens until the first connection has come; then only echoes that. */
import type { Lcore } from "../../../engine/lcore.ts";
import type { TcpSocket } from "../../../sockets/stream/tcp-socket.ts";

export default function (lcore: Lcore): void {
  const { port } = lcore.data as { port: number };
  const listener = lcore.listen(
    { port },
    {
      open: () => listener.close(),
      readable: (socket: TcpSocket) => {
        socket.echo(socket.peek());
      },
      ended: (socket: TcpSocket) => socket.close(),
      closed: (socket: TcpSocket) => socket.close(),
    },
  );
}
