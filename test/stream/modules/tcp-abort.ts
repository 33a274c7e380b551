/** Resets each connection when its first bytes come. */
import type { Lcore } from "../../../engine/lcore.ts";

export default function (lcore: Lcore): void {
  const { port } = lcore.data as { port: number };
  lcore.listen({ port }, { open: () => {}, readable: (socket) => socket.abort() });
}
