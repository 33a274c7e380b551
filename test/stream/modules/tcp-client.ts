/** Opens connections, one after another has ended, and checks that what comes back is what was sent. */
import { ERRNO } from "af-xdp-bindings";
import type { Lcore } from "../../../engine/lcore.ts";
import type { TcpHandlers, TcpSocket } from "../../../sockets/stream/tcp-socket.ts";

export interface ClientData {
  readonly addresses: string[];
  readonly port: number;
  readonly connections: number;
  readonly bytes: number;
  /** Counts: connections that ended well, that did not, last errno. */
  readonly results: SharedArrayBuffer;
}

interface Progress {
  sent: number;
  received: number;
}

const byte = (at: number): number => (at * 7 + (at >> 8)) & 0xff;

export default function (lcore: Lcore): void {
  const { addresses, port, connections, bytes, results } = lcore.data as ClientData;
  const counts = new Int32Array(results);
  const payload = Uint8Array.from({ length: bytes }, (_, i) => byte(i));
  const into = new Uint8Array(10_000);
  let begun = 0;

  const push = (socket: TcpSocket): void => {
    const progress = socket.data as Progress;
    while (progress.sent < bytes) {
      const taken = socket.write(payload, progress.sent);
      if (taken === -ERRNO.EAGAIN) return;
      if (taken < 0) throw new Error(`write: ${taken}`);
      progress.sent += taken;
    }
    socket.shutdown(1);
  };

  const finish = (socket: TcpSocket, errno: number): void => {
    const { received } = socket.data as Progress;
    counts[2] = errno;
    Atomics.add(counts, errno === 0 && received === bytes ? 0 : 1, 1);
    socket.close();
    next();
  };

  const handlers: TcpHandlers = {
    open: push,
    writable: push,
    readable: (socket) => {
      const progress = socket.data as Progress;
      for (let count = socket.read(into); count > 0; count = socket.read(into)) {
        for (let i = 0; i < count; i++) {
          if (into[i] !== byte(progress.received + i)) throw new Error(`byte ${progress.received + i} is ${into[i]}`);
        }
        progress.received += count;
      }
    },
    closed: finish,
  };

  const next = (): void => {
    if (begun === connections) return;
    const address = addresses[begun++ % addresses.length];
    lcore.connect({ address, port }, handlers).data = { sent: 0, received: 0 };
  };
  next();
}
