/**
 * A module that echoes, and whose kicks the kernel seems to refuse: veth sends at once, so there a full send buffer or
 * want of memory cannot be had.
 */
import type { Lcore } from "../../engine/lcore.ts";
import type { XdpPort } from "../../queues/xdp.ts";

export interface RefusedKicks {
  port: number;
  /** Two int32: the errno to refuse with, 0 for none; frames in the pool, written each turn. */
  words: SharedArrayBuffer;
}

export default function refusedKicks(lcore: Lcore): void {
  const { port, words } = lcore.data as RefusedKicks;
  const shared = new Int32Array(words);
  const { pool, xsk } = lcore.ports[0] as XdpPort;
  const kick = xsk.kickTx.bind(xsk);
  xsk.kickTx = () => {
    const errno = Atomics.load(shared, 0);
    return errno === 0 ? kick() : -errno;
  };
  lcore.onTurn(() => {
    Atomics.store(shared, 1, pool.available);
    // Never idle: an lcore whose CPU others want sleeps when it is, and poll(2) sends what is in the TX ring (xsk_poll).
    return 1;
  });
  lcore.udp({ port }).onDatagram = (datagram) => void datagram.reply();
}
