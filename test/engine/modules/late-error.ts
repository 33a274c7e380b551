/**
 * Sends a datagram to `data.address` for each that comes, in the turn after it, which does nothing else. When onError is called, `data.words` has 0 its errno, 1 the
 * microseconds since the send; 2 counts the calls, 3 the sends.
 */
import type { Lcore } from "../../../engine/lcore.ts";

export interface LateErrorData {
  port: number;
  address: string;
  words: Int32Array;
}

export default function lateError(lcore: Lcore): void {
  const { port, address, words } = lcore.data as LateErrorData;
  const socket = lcore.udp({ port });
  let sentAt = 0;
  let turnsLeft = 0;
  socket.onError = (errno) => {
    Atomics.store(words, 0, errno);
    Atomics.store(words, 1, (performance.now() - sentAt) * 1000);
    Atomics.add(words, 2, 1);
  };
  socket.onDatagram = () => {
    turnsLeft = 2;
  };
  lcore.onTurn(() => {
    if (turnsLeft === 0 || --turnsLeft > 0) return 0;
    sentAt = performance.now();
    socket.send("x", 7, address);
    Atomics.add(words, 3, 1);
    return 0;
  });
}
