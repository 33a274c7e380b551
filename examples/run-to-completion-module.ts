/** What examples/run-to-completion.ts runs on each lcore: answers in place, in the frame that brought the question. */
import type { Lcore } from "lcore";

export default function upperCase(lcore: Lcore): void {
  const { port } = lcore.data as { port: number };
  const socket = lcore.udp({ port });
  // One handler, made once. Nothing in it allocates: the bytes are read and written where they lie.
  socket.onDatagram = (datagram) => {
    const { memory, offset } = datagram;
    const end = offset + datagram.length;
    for (let at = offset; at < end; at++) {
      const byte = memory[at];
      if (byte >= 0x61 && byte <= 0x7a) memory[at] = byte - 0x20;
    }
    datagram.reply();
  };
}
