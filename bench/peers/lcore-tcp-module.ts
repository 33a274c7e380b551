/** The module of the lcore's TCP peer: a server in one of the ways of tcp-serve.c. */
import type { Lcore } from "../../engine/lcore.ts";
import type { TcpHandlers, TcpSocket } from "../../sockets/stream/tcp-socket.ts";

/** echo: what comes goes back; once: the same, and then it closes; greet: it closes at once; source, sink: one way. */
export type ServeWay = "echo" | "once" | "greet" | "source" | "sink";

export interface ServeData {
  port: number;
  way: ServeWay;
}

const PIECE = 65_536;

export default (lcore: Lcore): void => {
  const { port, way } = lcore.data as ServeData;
  lcore.listen({ port, noDelay: true }, { ...handlersOf(way), closed: (socket) => socket.close() });
};

function handlersOf(way: ServeWay): TcpHandlers {
  switch (way) {
    case "echo":
      return { open: nothing, readable: back, writable: back, ended: close };
    case "once":
      return { open: nothing, readable: backAndClose, ended: close };
    case "greet":
      return { open: close };
    case "sink":
      return { open: nothing, readable: take, ended: close };
    case "source": {
      const piece = new Uint8Array(PIECE);
      const push = (socket: TcpSocket): void => {
        while (socket.write(piece) === PIECE);
      };
      return { open: push, writable: push, ended: close };
    }
  }
}

const nothing = (): void => {};
const close = (socket: TcpSocket): void => socket.close();

function back(socket: TcpSocket): void {
  for (let count = socket.peek(); count > 0; count = socket.peek()) if (socket.echo(count) < count) return;
}

function backAndClose(socket: TcpSocket): void {
  back(socket);
  socket.close();
}

function take(socket: TcpSocket): void {
  for (let count = socket.peek(); count > 0; count = socket.peek()) socket.consume(count);
}
