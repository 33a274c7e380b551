/** Echoes on the port that `data` names, on every lcore: one wildcard socket, or a member of a group each. */
import type { Lcore } from "../../../engine/lcore.ts";

export interface EchoData {
  port: number;
  address?: string;
  reusePort?: boolean;
  incomingCpu?: boolean;
}

export default function echo(lcore: Lcore): void {
  const { port, address = "::", reusePort = false, incomingCpu = false } = lcore.data as EchoData;
  const socket = lcore.udp({ port, address, reusePort, ...(incomingCpu ? { incomingCpu: lcore.cpu } : {}) });
  socket.onDatagram = (datagram) => {
    datagram.reply();
  };
}
