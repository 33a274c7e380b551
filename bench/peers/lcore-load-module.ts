/**
 * The module of the lcore's TCP load: as tcp-load.c, on the lcore's own connections. Counts go to shared memory, where the
 * program's main thread reads them.
 */
import { ERRNO } from "af-xdp-bindings";
import type { Lcore } from "../../engine/lcore.ts";
import type { TcpHandlers, TcpSocket } from "../../sockets/stream/tcp-socket.ts";

/** rr: request and response on lasting connections; crr: on one each; open: connections that the server closes at once. */
export type LoadWay = "rr" | "crr" | "open";

export interface LoadData {
  address: string;
  port: number;
  way: LoadWay;
  connections: number;
  /** Of a request, and of its response. */
  bytes: number;
  /** A Float64Array of COUNTS. */
  counts: SharedArrayBuffer;
}

/** Exchanges done, connections that failed, responses that are not what was sent. */
export const DONE = 0;
export const FAILED = 1;
export const BAD = 2;
export const COUNTS = 3;

/** Bytes of the response that have come; the socket's `data`. */
interface Exchange {
  got: number;
}

export default (lcore: Lcore): void => {
  const { address, port, way, connections, bytes, counts } = lcore.data as LoadData;
  const count = new Float64Array(counts);
  const out = Uint8Array.from({ length: bytes }, (_, i) => i);
  const expected = way === "open" ? 0 : bytes;

  const request = (socket: TcpSocket): void => {
    if (socket.write(out) !== bytes) count[FAILED]++;
  };

  const readable = (socket: TcpSocket): void => {
    const exchange = socket.data as Exchange;
    for (let n = socket.peek(); n > 0; n = socket.peek()) {
      if (!sameBytes(out, exchange.got, socket.peekedBytes, socket.peekedOffset, n)) count[BAD]++;
      exchange.got += n;
      socket.consume(n);
    }
    if (way !== "rr" || exchange.got < bytes) return;
    exchange.got = 0;
    count[DONE]++;
    request(socket);
  };

  const over = (socket: TcpSocket, failed: boolean): void => {
    count[failed || (socket.data as Exchange).got !== expected ? FAILED : DONE]++;
    socket.close();
    begin();
  };

  const handlers: TcpHandlers = {
    readable,
    ended: (socket) => over(socket, way === "rr"),
    closed: (socket, errno) => over(socket, errno !== 0),
  };
  if (way !== "open") handlers.open = request;

  let waiting = 0;
  const begin = (): void => {
    try {
      const exchange: Exchange = { got: 0 };
      lcore.connect({ address, port, noDelay: true }, handlers).data = exchange;
    } catch (error) {
      // No port is free: it is tried again in the next turn, and counted.
      if ((error as { errno?: number }).errno !== ERRNO.EADDRNOTAVAIL) throw error;
      count[FAILED]++;
      waiting++;
    }
  };
  for (let i = 0; i < connections; i++) begin();
  lcore.onTurn(() => {
    if (waiting === 0) return 0;
    const again = waiting;
    waiting = 0;
    for (let i = 0; i < again; i++) begin();
    return again;
  });
};

function sameBytes(ours: Uint8Array, at: number, theirs: Uint8Array, offset: number, count: number): boolean {
  if (at + count > ours.length) return false;
  // The first and the last: what a wrong order or a wrong place would show in.
  return ours[at] === theirs[offset] && ours[at + count - 1] === theirs[offset + count - 1];
}
