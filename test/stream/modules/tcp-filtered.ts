/** Listens with a filter; what a connection's first byte says is done with its filter, and the answer is sent back. */

import type { Lcore } from "../../../engine/lcore.ts";
import { encodeClassic } from "../../../sockets/bpf/classic.ts";
import type { TcpSocket } from "../../../sockets/stream/tcp-socket.ts";

export const DETACH = 1;
export const ATTACH_ONE_BYTE = 2;
export const DETACH_FROM_LISTENER = 3;
const HEADER = 32;

export default function (lcore: Lcore): void {
  const { port } = lcore.data as { port: number };
  const filter = (length: number): Uint8Array => encodeClassic([{ code: 6, jt: 0, jf: 0, k: length }]);
  const answer = (socket: TcpSocket, request: number): number => {
    if (request === DETACH) return socket.detachFilter();
    if (request === ATTACH_ONE_BYTE) return socket.attachFilter(filter(HEADER + 1));
    return request === DETACH_FROM_LISTENER ? listener.detachFilter() : 0;
  };
  const listener = lcore.listen(
    { port, filter: filter(HEADER + 3) },
    {
      open: () => {},
      readable(socket) {
        const bytes = new Uint8Array(64);
        const count = socket.read(bytes);
        if (count > 0) socket.write(Uint8Array.of(count, -answer(socket, bytes[0])));
      },
    },
  );
}
