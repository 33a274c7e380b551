/** Connecting a UDP socket: its remote address in the table, agreed with the kernel. */
import { ERRNO } from "af-xdp-bindings";
import type { Endpoint } from "./endpoint.ts";
import { F_CHILD, FLAGS, IPPROTO_UDP, LOCAL, LOCAL_PORT, REMOTE, REMOTE_PORT } from "./table.ts";
import { wordsAt } from "./text-address.ts";

/** Connects to an address of four words, IPv4 mapped; port 0 dissolves the connection. Returns 0 or -errno. */
export function connectRecord(endpoint: Endpoint, id: number, words: Int32Array, port: number): number {
  const { table, shared } = endpoint;
  // Datagrams on their way leave from the address they were sent from.
  endpoint.settle();
  const result = table.mutex.hold(() => {
    if (table.get(id, FLAGS) & F_CHILD) return -ERRNO.EISCONN;
    const local = wordsAt(table, id, LOCAL);
    const before = wordsAt(table, id, REMOTE);
    const beforePort = table.get(id, REMOTE_PORT);
    for (let i = 0; i < 4; i++) table.set(id, REMOTE + i, words[i]);
    table.set(id, REMOTE_PORT, port);
    const connected = shared.binder.connect(table, id);
    if (connected < 0) {
      for (let i = 0; i < 4; i++) table.set(id, REMOTE + i, before[i]);
      table.set(id, REMOTE_PORT, beforePort);
      return connected;
    }
    table.connectLocked(id);
    shared.binder.steer(table, IPPROTO_UDP, table.get(id, LOCAL_PORT), local);
    return 0;
  });
  endpoint.tableChanged();
  return result;
}
