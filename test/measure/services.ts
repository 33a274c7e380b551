/** Services on kernel sockets of the loopback interface, each of which misbehaves in its way. */
import { createSocket, type Socket } from "node:dgram";

export type Manner = "echo" | "silent" | "late" | "twice" | "wrong" | "short";

/** How late "late" is, milliseconds. */
export const LATE_MS = 60;

export interface Service {
  /** "127.0.0.1:PORT". */
  readonly target: `127.0.0.1:${number}`;
  close(): void;
}

export async function udpService(manner: Manner): Promise<Service> {
  const socket: Socket = createSocket("udp4");
  socket.on("message", (message, { port, address }) => {
    const answer = (): void => socket.send(message, port, address);
    switch (manner) {
      case "silent":
        return;
      case "late":
        setTimeout(() => {
          if (!closed) answer();
        }, LATE_MS);
        return;
      case "twice":
        answer();
        answer();
        return;
      case "wrong":
        message[message.length - 1] ^= 1;
        answer();
        return;
      case "short":
        socket.send(message.subarray(0, message.length - 1), port, address);
        return;
      default:
        answer();
    }
  });
  let closed = false;
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  return {
    target: `127.0.0.1:${socket.address().port}`,
    close: () => {
      closed = true;
      socket.close();
    },
  };
}

/** A TCP service; "late" is not among its manners. */
export function tcpService(manner: Exclude<Manner, "late">): Service {
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, data) {
        if (manner === "silent") return;
        if (manner === "wrong") data[data.length - 1] ^= 1;
        socket.write(manner === "short" ? data.subarray(0, data.length - 1) : data);
        if (manner === "twice") socket.write(data);
      },
      // A load closes its connections when it ends.
      error() {},
    },
  });
  return { target: `127.0.0.1:${server.port}`, close: () => server.stop(true) };
}
