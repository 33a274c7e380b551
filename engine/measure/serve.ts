/** What a target does on lcore's sockets, of an lcore's module or of another thread: the same for every wire. */
import type { Datagram } from "../../sockets/datagram.ts";
import type { TcpListener } from "../../sockets/stream/tcp-listener.ts";
import type { TcpListenOptions } from "../../sockets/stream/tcp-open.ts";
import type { TcpHandlers, TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import type { UdpOptions, UdpSocket } from "../../sockets/udp-socket.ts";
import type { Spin, Workload } from "./trial.ts";

/** What is served: by datagrams, or by connections. */
export type ServeWay =
  /** What comes goes back. */
  | "echo"
  /** Datagrams are counted. */
  | "count"
  /** Numbered datagrams to whoever called last, as many as leave. */
  | "stream"
  /** What comes leaves again, from a socket on the next port. */
  | "forward"
  /** TCP: what comes goes back, once, and the connection is closed. */
  | "once"
  /** TCP: bytes are read and counted. */
  | "sink";

export const WAYS: Record<Workload, { protocol: "udp" | "tcp"; way: ServeWay }> = {
  "udp-echo": { protocol: "udp", way: "echo" },
  "udp-rx": { protocol: "udp", way: "count" },
  "udp-tx": { protocol: "udp", way: "stream" },
  handoff: { protocol: "udp", way: "echo" },
  forward: { protocol: "udp", way: "forward" },
  "tcp-rr": { protocol: "tcp", way: "echo" },
  "tcp-crr": { protocol: "tcp", way: "once" },
  "tcp-stream": { protocol: "tcp", way: "sink" },
};

/** Structured-cloneable. */
export interface ServeData {
  readonly protocol: "udp" | "tcp";
  readonly way: ServeWay;
  readonly port: number;
  /** Bytes of a datagram of "stream". */
  readonly size: number;
  readonly spin: Spin | null;
  /** A Float64Array of COUNTS words that the server alone writes. */
  readonly counts: SharedArrayBuffer;
}

/** Datagrams taken (or sent, of "stream"), bytes taken. */
export const REQUESTS = 0;
export const BYTES = 1;
export const COUNTS_BYTES = 16;

/** An lcore, or a thread's hold on an engine. */
interface Sockets {
  udp(options: UdpOptions): UdpSocket;
  listen(options: TcpListenOptions, handlers: TcpHandlers): TcpListener;
}

/** Receive buffer asked for: what a burst of a rate at its limit leaves waiting. */
const RECEIVE_BUFFER = 4 << 20;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
/** Datagrams of "stream" a turn. */
const STREAM_BURST = 64;

/**
 * Serves. @returns for "stream" what sends the next datagrams, to be called again and again; else null.
 */
export function serve(sockets: Sockets, data: ServeData): (() => number) | null {
  const counts = new Float64Array(data.counts);
  if (data.protocol === "tcp") {
    sockets.listen({ port: data.port, noDelay: true }, tcpHandlers(data, counts));
    return null;
  }
  const socket = sockets.udp({ port: data.port });
  socket.setsockopt(SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER);
  const work = spinner(data.spin);
  switch (data.way) {
    case "count":
      socket.onDatagram = ({ length }) => {
        work();
        counts[REQUESTS]++;
        counts[BYTES] += length;
      };
      return null;
    case "stream":
      return stream(socket, data.size, counts);
    case "forward": {
      const out = sockets.udp({ port: data.port + 1 });
      socket.onDatagram = (datagram) => {
        work();
        counts[REQUESTS]++;
        const { memory, offset, length, sourcePort } = datagram;
        const [w0, w1] = [datagram.sourceWord(0), datagram.sourceWord(1)];
        out.sendTo(memory, offset, length, sourcePort, w0, w1, datagram.sourceWord(2), datagram.sourceWord(3));
      };
      return null;
    }
    default:
      socket.onDatagram = (datagram) => {
        work();
        counts[REQUESTS]++;
        datagram.reply();
      };
      return null;
  }
}

function stream(socket: UdpSocket, size: number, counts: Float64Array): () => number {
  const bytes = new Uint8Array(size);
  const to = new Int32Array(5);
  let number = 0;
  socket.onDatagram = (datagram: Datagram) => {
    for (let i = 0; i < 4; i++) to[i] = datagram.sourceWord(i);
    to[4] = datagram.sourcePort;
  };
  return () => {
    if (to[4] === 0) return 0;
    for (let i = 0; i < STREAM_BURST; i++) {
      bytes[0] = number;
      bytes[1] = number >> 8;
      bytes[2] = number >> 16;
      bytes[3] = number >> 24;
      if (socket.sendTo(bytes, 0, size, to[4], to[0], to[1], to[2], to[3]) < 0) return i;
      number = (number + 1) >>> 0;
      counts[REQUESTS]++;
    }
    return STREAM_BURST;
  };
}

function tcpHandlers({ way, spin }: ServeData, counts: Float64Array): TcpHandlers {
  const work = spinner(spin);
  const close = (socket: TcpSocket): void => socket.close();
  const open = (): void => {};
  const take = (socket: TcpSocket): void => {
    for (let count = socket.peek(); count > 0; count = socket.peek()) {
      counts[BYTES] += count;
      socket.consume(count);
    }
  };
  const back = (socket: TcpSocket): void => {
    for (let count = socket.peek(); count > 0; count = socket.peek()) if (socket.echo(count) < count) return;
  };
  const readable = (socket: TcpSocket): void => {
    work();
    counts[REQUESTS]++;
    back(socket);
    if (way === "once") socket.close();
  };
  if (way === "sink") return { open, readable: take, ended: close, closed: close };
  return { open, readable, writable: back, ended: close, closed: close };
}

/**
 * Work of so many nanoseconds in a share of the calls, evenly spread. It is counted out, not looked up at the clock: two
 * looks cost as much as 5 % of the fastest echo.
 */
export function spinner(spin: Spin | null): () => void {
  if (spin === null) return () => {};
  const { fraction } = spin;
  const steps = Math.max(1, Math.round(spin.ns / stepNs()));
  let share = 0;
  return () => {
    share += fraction;
    if (share < 1) return;
    share -= 1;
    spun = chain(steps, spun);
  };
}

/** What came of the work; kept, so that it is done. */
let spun = 1;

/** Steps each of which waits for the one before. */
function chain(steps: number, from: number): number {
  let value = from;
  for (let i = 0; i < steps; i++) value = Math.imul(value ^ i, 0x9e3779b1);
  return value;
}

/** What a step takes when the JIT has done what it does: the least of several times. */
function stepNs(): number {
  const steps = 20_000;
  let least = Infinity;
  for (let i = 0; i < 200; i++) {
    const start = Bun.nanoseconds();
    spun = chain(steps, spun);
    least = Math.min(least, Bun.nanoseconds() - start);
  }
  return least / steps;
}
