/** The lcore's module of the echo peer: every datagram goes back to its sender. */
import { writeSync } from "node:fs";
import type { Lcore } from "../../engine/lcore.ts";

export interface EchoModuleData {
  port: number;
  /** Collects garbage once, between two lines on standard error: so that the runtime's GC log tells this heap's name. */
  markHeap: boolean;
}

/** What stands on standard error around the marked collection. */
export const MARK_BEGIN = "lcore heap:";
export const MARK_END = "lcore heap.";

const STDERR = 2;

export default (lcore: Lcore): void => {
  const { port, markHeap } = lcore.data as EchoModuleData;
  const socket = lcore.udp({ port });
  socket.onDatagram = (datagram) => {
    datagram.reply();
  };
  if (!markHeap) return;
  writeSync(STDERR, `${MARK_BEGIN}\n`);
  Bun.gc(true);
  writeSync(STDERR, `${MARK_END}\n`);
};
