/** What a connection of another lcore gives where there are no bytes in order: the urgent one, or why there are none. */
import { ERRNO } from "af-xdp-bindings";
import { URG_READ, URG_VALID } from "../tcp/tcb.ts";
import type { RemoteConnection } from "./remote-connection.ts";

export function readUrgent(
  connection: RemoteConnection,
  into: Uint8Array,
  offset: number,
  length: number,
  peeks: boolean,
): number {
  const { urgent } = connection;
  if (length === 0 || urgent === 0 || (urgent & URG_READ) !== 0 || connection.oobInline) return -ERRNO.EINVAL;
  if ((urgent & URG_VALID) === 0) return -ERRNO.EAGAIN;
  if (!peeks) connection.urgent = URG_READ;
  into[offset] = urgent & 0xff;
  return 1;
}

/** Whether there is nothing to read for now, or no more: 0, -EAGAIN, or the connection's error. */
export function nothingToRead(connection: RemoteConnection): number {
  // The end of the stream comes before whatever has happened since (SOCK_DONE).
  if (connection.isEnded) return 0;
  const error = connection.takeError();
  if (error !== 0) return -error;
  return connection.isDone ? 0 : -ERRNO.EAGAIN;
}
