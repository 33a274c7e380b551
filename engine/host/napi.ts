/** Which NAPI instance serves which receive queue. */
import { SysError } from "af-xdp-bindings";
import { Netdev } from "./netdev.ts";

/**
 * NAPI ID of each of the interface's queues 0..queues-1, 0 where there is none or nobody can tell. Looks in the
 * thread's namespace, at the interface as it is now: veth has NAPI instances only while native XDP or GRO is on.
 *
 * Drivers that do not say which instance belongs to which queue (veth in Linux 6.18) create one a queue in queue order,
 * and IDs are given out in ascending order (napi_hash_add, net/core/dev.c): as many instances as queues match up so.
 */
export function queueNapiIds(ifindex: number, queues: number): number[] {
  const ids = new Array<number>(queues).fill(0);
  try {
    const netdev = new Netdev();
    try {
      for (const queue of netdev.queues(ifindex)) {
        if (queue.type === "rx" && queue.id < queues) ids[queue.id] = queue.napiId;
      }
      if (ids.some((id) => id !== 0)) return ids;
      const instances = netdev.napis(ifindex).map((napi) => napi.id);
      return instances.length === queues ? instances.sort((a, b) => a - b) : ids;
    } finally {
      netdev.close();
    }
  } catch (error) {
    // Before Linux 6.3 there is no such family.
    if (error instanceof SysError) return ids;
    throw error;
  }
}
