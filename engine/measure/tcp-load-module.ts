/** A load of TCP exchanges on an lcore's own TCP, as the lcore's module. */
import { ERRNO, sys } from "af-xdp-bindings";
import type { TcpHandlers, TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import type { Lcore } from "../lcore.ts";
import { LoadBoard } from "./board.ts";
import { type Carrier, type ExchangeOptions, Exchanges } from "./exchanges.ts";

export interface TcpLoadData {
  readonly address: string;
  readonly port: number;
  readonly options: ExchangeOptions;
  readonly board: SharedArrayBuffer;
}

export default (lcore: Lcore): void => {
  const { address, port, options, board: shared } = lcore.data as TcpLoadData;
  const board = new LoadBoard(shared);
  board.tid = sys.gettid();
  const sockets: (TcpSocket | null)[] = new Array(options.connections).fill(null);
  /** Slots whose connect() failed at once: told in the next turn. */
  const refused: number[] = [];
  const carrier: Carrier = {
    connect: (slot) => {
      try {
        const socket = lcore.connect({ address, port, noDelay: true }, handlers);
        socket.data = slot;
        sockets[slot] = socket;
      } catch (error) {
        // No port is free.
        if ((error as { errno?: number }).errno !== ERRNO.EADDRNOTAVAIL) throw error;
        refused.push(slot);
      }
    },
    write: (slot, bytes, offset, length) => sockets[slot]?.write(bytes, offset, length) ?? 0,
    drop: (slot) => {
      const socket = sockets[slot];
      sockets[slot] = null;
      if (socket === null) return;
      socket.data = -1;
      socket.close();
    },
  };
  const exchanges = new Exchanges(board, carrier, options);
  const slotOf = (socket: TcpSocket): number => socket.data as number;
  const over = (socket: TcpSocket): void => {
    const slot = slotOf(socket);
    if (slot >= 0) exchanges.closed(slot);
    else socket.close();
  };
  const handlers: TcpHandlers = {
    open: (socket) => {
      if (slotOf(socket) >= 0) exchanges.opened(slotOf(socket));
    },
    readable: (socket) => {
      for (let count = socket.peek(); count > 0; count = socket.peek()) {
        const slot = slotOf(socket);
        if (slot >= 0) exchanges.data(slot, socket.peekedBytes, socket.peekedOffset, count);
        // The last byte of a response may have ended it.
        if (socket.closed) return;
        socket.consume(count);
      }
    },
    writable: (socket) => {
      if (slotOf(socket) >= 0) exchanges.writable(slotOf(socket));
    },
    ended: over,
    closed: over,
  };
  lcore.onTurn(() => {
    exchanges.send(board.sending, board.rate);
    for (let slot = refused.pop(); slot !== undefined; slot = refused.pop()) exchanges.closed(slot);
    exchanges.turn();
    // Never idle: an lcore whose CPU others want sleeps when it is, and neither a request that is due nor the board wakes it.
    return 1;
  });
};
