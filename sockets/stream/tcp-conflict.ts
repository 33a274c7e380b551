/** Whether TCP sockets may have one port (net/ipv4/inet_connection_sock.c of 6.18, inet_bind_conflict). */
import type { SocketTable } from "../table.ts";
import { F_LISTEN, F_REUSEADDR, F_REUSEPORT, FLAGS, GROUP, LOCAL_PORT, PROTOCOL, UID } from "../table-fields.ts";

/**
 * Whether socket `id`, whose record says where it is to be bound or to listen, is in the way of another at its port.
 * SO_REUSEADDR of both lets them share unless the other listens; SO_REUSEPORT of both does for one user, unless `id` has
 * been given a program for its group already. The table's mutex is held.
 */
export function conflicts(table: SocketTable, id: number): boolean {
  const flags = table.get(id, FLAGS);
  const mayGroup = table.get(id, GROUP) < 0 ? F_REUSEPORT : 0;
  const first = table.firstBound(table.get(id, PROTOCOL), table.get(id, LOCAL_PORT));
  for (let other = first; other >= 0; other = table.nextBound(other)) {
    if (other === id || !table.overlaps(id, other)) continue;
    const others = table.get(other, FLAGS);
    if ((flags & others & F_REUSEADDR) !== 0 && (others & F_LISTEN) === 0) continue;
    if ((flags & others & mayGroup) === 0 || table.get(id, UID) !== table.get(other, UID)) return true;
  }
  return false;
}
