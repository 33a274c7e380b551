/** What the thread of a kernel socket knows of it. The descriptor is the PLACEHOLDER of its record. */
import { FAMILY, LOCAL, LOCAL_PORT, PLACEHOLDER, type SocketTable } from "../table.ts";
import type { UdpSocket } from "../udp-socket.ts";
import { swap16 } from "../wire/checksum.ts";
import type { KernelFlows } from "./flows.ts";
import { swap32 } from "./frames.ts";

export class KernelSocket {
  /** The socket that opened it; its flows share it. */
  readonly socket: UdpSocket;
  readonly id: number;
  readonly fd: number;
  readonly family: number;
  closed = false;
  /** Sockets with a handler: it and its flows. */
  handlers = 0;
  /** Somebody waits for a datagram that has no handler to go to. */
  awaited = false;
  /** Somebody wants to hear of errors as they come. */
  listens = false;
  /** Frames ran out: not watched until there are some again. */
  starved = false;
  /** A datagram waits for room in its send buffer. */
  blocked = false;
  /** Events that epoll watches for, 0 while it is not registered. */
  watched = 0;
  /** Read at every turn without asking epoll first. */
  hot = false;
  /** Hot, and not in epoll at all. */
  detached = false;
  /** Reads in a row that found nothing while it was hot. */
  misses = 0;
  /** Read since its drops were last counted. */
  read = false;
  /** Drops that the kernel has counted and we have taken over. */
  drops = 0;
  /** Flows of the socket, null before the first. */
  flows: KernelFlows | null = null;
  /** Local address and port as they lie in memory, in network byte order: IPv4 mapped. */
  readonly local = new Int32Array(4);
  port = 0;

  constructor(socket: UdpSocket, table: SocketTable) {
    this.socket = socket;
    this.id = socket.id;
    this.fd = table.get(socket.id, PLACEHOLDER);
    this.family = table.get(socket.id, FAMILY);
    this.refresh(table);
  }

  /** Takes over the address: connect() narrows that of a wildcard. */
  refresh(table: SocketTable): void {
    const { id, local } = this;
    for (let i = 0; i < 4; i++) local[i] = swap32(table.get(id, LOCAL + i));
    this.port = swap16(table.get(id, LOCAL_PORT));
  }
}
