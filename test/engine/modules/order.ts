/** Answers each datagram with two datagrams and one payload in segments: they are to arrive in this order. */
import type { Lcore } from "../../../engine/lcore.ts";

export const ORDER = ["one", "two", "segA", "segB"];

export default function order(lcore: Lcore): void {
  const { port } = lcore.data as { port: number };
  const socket = lcore.udp({ port });
  socket.onDatagram = ({ sourcePort, sourceAddress }) => {
    socket.send(ORDER[0], sourcePort, sourceAddress);
    socket.send(ORDER[1], sourcePort, sourceAddress);
    socket.sendSegments(new TextEncoder().encode(ORDER[2] + ORDER[3]), ORDER[2].length, sourcePort, sourceAddress);
  };
}
