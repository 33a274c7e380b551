/** Socket filters of TCP sockets and listeners: SO_ATTACH_FILTER, SO_ATTACH_BPF and SO_DETACH_FILTER as calls. Each returns 0 or -errno. */
import { ERRNO } from "af-xdp-bindings";
import {
  attachClassic,
  attachClassicTo,
  attachHandle,
  attachHandleTo,
  detachFilter,
  detachFrom,
  type FilterPlace,
} from "../bpf/attach.ts";
import { SOCK_FILTER_BYTES } from "../bpf/classic.ts";
import type { SocketTable } from "../table.ts";
import type { TcpListener } from "./tcp-listener.ts";
import type { TcpSocket } from "./tcp-socket.ts";

/** A filter: a classic program as an array of struct sock_filter (encodeClassic()), or the handle of a loaded one. */
export type Filter = Uint8Array | number;

/** A socket as the place of its filter. SO_LOCK_FILTER is known by descriptor alone. */
class SocketPlace implements FilterPlace {
  readonly table: SocketTable;
  readonly isLocked = false;
  private readonly socket: TcpSocket;

  constructor(socket: TcpSocket) {
    this.table = socket.end.shared.table;
    this.socket = socket;
  }

  get filter(): number {
    return this.socket.end.filterOf(this.socket);
  }

  put(filter: number): void {
    this.socket.end.setFilter(this.socket, filter);
  }
}

const isCut = (filter: Filter): boolean => typeof filter !== "number" && filter.length % SOCK_FILTER_BYTES !== 0;

export function attachToSocket(socket: TcpSocket, filter: Filter): number {
  if (socket.closed) return -ERRNO.EBADF;
  if (isCut(filter)) return -ERRNO.EINVAL;
  const place = new SocketPlace(socket);
  const optmem = socket.end.shared.sysctl.get("optmem_max");
  return typeof filter === "number" ? attachHandleTo(place, filter, optmem) : attachClassicTo(place, filter, optmem);
}

export function detachFromSocket(socket: TcpSocket): number {
  return socket.closed ? -ERRNO.EBADF : detachFrom(new SocketPlace(socket));
}

/** Its connections have it from when they open. */
export function attachToListener({ closed, record, source }: TcpListener, filter: Filter): number {
  if (closed) return -ERRNO.EBADF;
  if (isCut(filter)) return -ERRNO.EINVAL;
  const { sysctl, table } = source.shared;
  const optmem = sysctl.get("optmem_max");
  const result =
    typeof filter === "number"
      ? attachHandle(table, record, filter, optmem)
      : attachClassic(table, record, filter, optmem);
  source.tableChanged();
  return result;
}

export function detachFromListener({ closed, record, source }: TcpListener): number {
  if (closed) return -ERRNO.EBADF;
  const result = detachFilter(source.shared.table, record);
  source.tableChanged();
  return result;
}
