/** Opens a socket on each lcore and tells its descriptor: word `lcore.id` of `data.words`. Of kernel sockets alone. */
import type { Lcore } from "../../../engine/lcore.ts";
import { PLACEHOLDER } from "../../../sockets/table.ts";

export interface DescriptorsData {
  /** Int32Array over shared memory, -1 where there is none yet. */
  words: Int32Array;
}

export default function descriptors(lcore: Lcore): void {
  const { words } = lcore.data as DescriptorsData;
  const { endpoint, id } = lcore.udp({});
  Atomics.store(words, lcore.id, endpoint.table.get(id, PLACEHOLDER));
}
