/** Fails where `data.where` says: in set-up (having opened a socket), in a handler, in its turn work, or nowhere. */
import type { Lcore } from "../../../engine/lcore.ts";

export interface ThrowsData {
  where: "setup" | "later" | "handler" | "turn" | "nowhere";
  port: number;
}

export default async function throws(lcore: Lcore): Promise<void> {
  const { where, port } = lcore.data as ThrowsData;
  const socket = lcore.udp({ port, address: "::" });
  if (where === "setup") throw new Error("in setup");
  if (where === "later") {
    await Bun.sleep(1);
    throw new Error("in setup, later");
  }
  socket.onDatagram = (datagram) => {
    if (where === "handler") throw new Error("in the handler");
    armed = true;
    datagram.reply();
  };
  let armed = false;
  if (where === "turn") {
    lcore.onTurn(() => {
      if (armed) throw new Error("in the turn");
      return 0;
    });
  }
}
