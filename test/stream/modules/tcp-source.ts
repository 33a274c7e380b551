/** Sends so many bytes to each connection, as test/tcp/segments.ts has them, and closes. */
import type { Lcore } from "../../../engine/lcore.ts";
import type { TcpHandlers, TcpSocket } from "../../../sockets/stream/tcp-socket.ts";
import { SHUT_WR } from "../../../sockets/tcp/calls.ts";
import { streamByte } from "../../tcp/segments.ts";

export interface SourceData {
  port: number;
  bytes: number;
}

export default function (lcore: Lcore): void {
  const { bytes, port } = lcore.data as SourceData;
  const all = Uint8Array.from({ length: bytes }, (_, place) => streamByte(place));
  const push = (socket: TcpSocket): void => {
    let sent = socket.data as number;
    for (let taken = 1; sent < bytes && taken > 0; sent += Math.max(taken, 0)) taken = socket.write(all, sent);
    if (sent === bytes && socket.data !== bytes) socket.shutdown(SHUT_WR);
    socket.data = sent;
  };
  const handlers: TcpHandlers = {
    open: (socket) => {
      socket.data = 0;
      push(socket);
    },
    writable: push,
    ended: (socket) => socket.close(),
    closed: (socket) => socket.close(),
  };
  lcore.listen({ address: "0.0.0.0", port }, handlers);
  lcore.listen({ address: "::", port, ipv6Only: true }, handlers);
}
