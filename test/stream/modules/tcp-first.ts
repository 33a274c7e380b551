/** Only the first lcore listens; whatever comes is sent back. */
import type { Lcore } from "../../../engine/lcore.ts";
import { echoHandlers } from "../pair.ts";

export default function (lcore: Lcore): void {
  if (lcore.id === 0) lcore.listen({ address: "0.0.0.0", port: lcore.data as number }, echoHandlers());
}
