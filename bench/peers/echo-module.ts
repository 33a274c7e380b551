/** The lcore's module of the echo peer: every datagram goes back to its sender. */
import type { Lcore } from "../../engine/lcore.ts";

export default (lcore: Lcore): void => {
  const socket = lcore.udp({ port: lcore.data as number });
  socket.onDatagram = (datagram) => {
    datagram.reply();
  };
};
