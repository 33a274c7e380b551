/**
 * Sockets of the kernel for TCP sockets of the engine: each holds a port by the kernel's own rules and takes no part in TCP.
 * A filter drops whatever reaches one that listens, before the kernel has looked at it: no SYN is answered, and no segment
 * that was passed to the kernel meets a RST.
 */
import { sys } from "af-xdp-bindings";
import { sockFprog } from "../sockets/bpf/classic.ts";
import {
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  SO_ATTACH_FILTER,
  SO_BINDTOIFINDEX,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SOL_SOCKET,
} from "../sockets/options.ts";
import { AF_INET6, DEVICE, F_REUSEADDR, F_REUSEPORT, FAMILY, FLAGS, type SocketTable } from "../sockets/table.ts";

const SHUT_RD = 0;
/** `ret #0`: of every packet no byte is kept. */
const DROP_ALL = "1,6 0 0 0";

/** Sets the options that decide over ports. Returns 0 or -errno. */
export function prepareStream(fd: number, table: SocketTable, id: number, ipv6Only: boolean | undefined): number {
  const flags = table.get(id, FLAGS);
  const device = table.get(id, DEVICE);
  const wanted: [number, number, number][] = [];
  if (flags & F_REUSEADDR) wanted.push([SOL_SOCKET, SO_REUSEADDR, 1]);
  if (flags & F_REUSEPORT) wanted.push([SOL_SOCKET, SO_REUSEPORT, 1]);
  if (table.get(id, FAMILY) === AF_INET6 && ipv6Only !== undefined)
    wanted.push([IPPROTO_IPV6, IPV6_V6ONLY, ipv6Only ? 1 : 0]);
  if (device !== 0) wanted.push([SOL_SOCKET, SO_BINDTOIFINDEX, device]);
  for (const [level, name, value] of wanted) {
    const result = sys.setsockoptInt(fd, level, name, value);
    if (result < 0) return result;
  }
  return 0;
}

/** listen(2), deaf from the first packet on. Returns 0 or -errno. */
export function listenDeaf(fd: number, backlog: number): number {
  const deafened = sys.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, sockFprog(DROP_ALL));
  return deafened < 0 ? deafened : sys.sys3(sys.SYS.listen, fd, backlog, 0);
}

/** Ends listening; a port that bind(2) was not asked for is given up by that. Returns 0 or -errno. */
export function stopListening(fd: number): number {
  return sys.sys3(sys.SYS.shutdown, fd, SHUT_RD, 0);
}
