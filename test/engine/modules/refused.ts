/**
 * Sends a hundred datagrams to a port where nobody listens for each datagram that comes, and counts in `data.words`: 0 calls
 * of onError, 1 those in the middle of a send, 2 sends that were told of a refusal.
 */
import type { Lcore } from "../../../engine/lcore.ts";

export interface RefusedData {
  port: number;
  address: string;
  closed: number;
  words: Int32Array;
}

export default function refused(lcore: Lcore): void {
  const { port, address, closed, words } = lcore.data as RefusedData;
  const socket = lcore.udp({});
  socket.connect(closed, address);
  let sending = false;
  socket.onError = () => {
    Atomics.add(words, 0, 1);
    if (sending) Atomics.add(words, 1, 1);
  };
  lcore.udp({ port }).onDatagram = () => {
    sending = true;
    for (let i = 0; i < 100; i++) if (socket.send("x") < 0) Atomics.add(words, 2, 1);
    lcore.stack.flush();
    sending = false;
  };
}
