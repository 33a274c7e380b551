/** listen(2), connect(2) and accept(2) of sockets that have connections: SOCK_STREAM and SOCK_SEQPACKET (net/unix/af_unix.c). */
import { ERRNO } from "af-xdp-bindings";
import { type AddressBuffer, putAddress } from "../message.ts";
import { UNNAMED, validate } from "./address.ts";
import { ownGroups, peerCredentials } from "./credentials.ts";
import type { UnixSocket } from "./socket.ts";
import { CLOSED, ESTABLISHED, LISTENING, SHUT_RECEIVE } from "./state.ts";

export function listenOn(socket: UnixSocket, backlog: number): number {
  if (socket.name === null) return -ERRNO.EINVAL;
  if (socket.state === ESTABLISHED) return -ERRNO.EINVAL;
  const { backlogMax } = socket.family;
  const given = backlog >>> 0 > backlogMax ? backlogMax : backlog;
  if (given > socket.backlog) socket.wakeWaiters();
  socket.backlog = given;
  socket.state = LISTENING;
  // Whoever connects is told these.
  setPeer(socket);
  return 0;
}

/** Two sockets back to back: socketpair(2). */
export function joinPair(a: UnixSocket, b: UnixSocket): void {
  for (const [socket, peer] of [
    [a, b],
    [b, a],
  ]) {
    socket.peer = peer;
    socket.state = ESTABLISHED;

    setPeer(socket);
  }
}

/** The other side is this process. */
function setPeer(socket: UnixSocket): void {
  socket.peerCredentials = peerCredentials();
  socket.peerGroups = ownGroups();
}

/**
 * unix_stream_connect(). -EAGAIN: the listener has too many waiting already.
 * @param make makes the other end
 */
export function connectTo(socket: UnixSocket, address: Uint8Array, make: () => UnixSocket): number {
  const verdict = validate(address) || socket.autobindIfTold();
  if (verdict < 0) return verdict;
  const listener = socket.family.names.find(address, socket.type);
  if (typeof listener === "number") return listener;
  if (listener.state !== LISTENING || (listener.shut & SHUT_RECEIVE) !== 0) return -ERRNO.ECONNREFUSED;
  if (listener.full) {
    listener.waiters.add(socket);
    return -ERRNO.EAGAIN;
  }
  if (socket.state !== CLOSED) return socket.state === ESTABLISHED ? -ERRNO.EISCONN : -ERRNO.EINVAL;
  const connection = make();
  connection.peer = socket;
  connection.state = ESTABLISHED;
  connection.name = listener.name;
  connection.listener = listener;
  connection.options.inherit(listener.options);
  setPeer(connection);
  socket.peerCredentials = listener.peerCredentials;
  socket.peerGroups = listener.peerGroups;
  socket.state = ESTABLISHED;
  socket.peer = connection;
  listener.pending.push(connection);
  listener.tellNews();
  return 0;
}

/** unix_accept(): the next connection, or -errno. */
export function acceptFrom(socket: UnixSocket, address: AddressBuffer | null, waits: boolean): UnixSocket | number {
  if (socket.state !== LISTENING) return -ERRNO.EINVAL;
  const error = socket.takeError();
  if (error !== 0) return -error;
  const connection = socket.pending.shift();
  // Who waits is told that nothing comes any more; who does not is not.
  if (connection === undefined) return waits && (socket.shut & SHUT_RECEIVE) !== 0 ? -ERRNO.EINVAL : -ERRNO.EAGAIN;
  socket.wakeWaiters();
  connection.attached = true;
  connection.listener = null;
  if (address !== null) putAddress(address, connection.peer?.name ?? UNNAMED);
  return connection;
}
