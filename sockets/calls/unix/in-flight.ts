/**
 * Sockets that are on their way in messages, and the collector of those that nobody can reach any more: sockets whose every reference
 * is in the queue of such a one (net/unix/garbage.c). It runs when one of them loses its last descriptor, and when a socket is closed.
 */
import type { Limits } from "../../sockopt/limits.ts";
import type { File } from "../file.ts";
import { UnixSocket } from "./socket.ts";

export class InFlight {
  private readonly sockets = new Set<UnixSocket>();
  /** Files of any kind. */
  private count = 0;
  private collecting = false;
  /** Files to be dropped, while one is: a socket that ends drops those that wait in it. */
  private dropping: File[] | null = null;

  /** too_many_unix_fds(): one who may not do more has more in flight than open files. */
  tooMany({ descriptors, sysAdmin, sysResource }: Limits): boolean {
    return this.count > descriptors && !sysAdmin && !sysResource;
  }

  /** They have been put into a message. */
  add(files: readonly File[]): void {
    this.count += files.length;
    for (const file of files) {
      if (!(file instanceof UnixSocket)) continue;
      file.inFlight++;
      this.sockets.add(file);
    }
  }

  /** They have left it. */
  remove(files: readonly File[]): void {
    this.count -= files.length;
    for (const file of files) {
      if (file instanceof UnixSocket && --file.inFlight === 0) this.sockets.delete(file);
    }
  }

  /** Drops files that were in a message. Each may be a socket with messages that have files in turn, and so on, to any depth. */
  drop(files: readonly File[]): void {
    if (this.dropping !== null) {
      this.dropping.push(...files);
      return;
    }
    this.dropping = [...files];
    for (let file = this.dropping.pop(); file !== undefined; file = this.dropping.pop()) file.drop();
    this.dropping = null;
  }

  collect(): void {
    if (this.collecting || this.sockets.size === 0) return;
    this.collecting = true;
    try {
      // What is freed may leave others unreachable.
      for (let garbage = this.unreachable(); garbage.length > 0; garbage = this.unreachable()) {
        for (const packet of garbage.flatMap((socket) => socket.takeQueue())) packet.free();
      }
    } finally {
      this.collecting = false;
    }
  }

  private unreachable(): UnixSocket[] {
    // Those without a descriptor; what others in turn refer to is reached, and what these refer to.
    const candidates = new Set([...this.sockets].filter((socket) => socket.referenceCount === socket.inFlight));
    const inside = new Map<UnixSocket, number>();
    for (const socket of candidates) {
      for (const held of heldBy(socket)) inside.set(held, (inside.get(held) ?? 0) + 1);
    }
    const reached = [...candidates].filter((socket) => socket.inFlight > (inside.get(socket) ?? 0));
    for (const socket of reached) candidates.delete(socket);
    for (let socket = reached.pop(); socket !== undefined; socket = reached.pop()) {
      for (const held of heldBy(socket)) if (candidates.delete(held)) reached.push(held);
    }
    return [...candidates];
  }
}

/** Sockets in the messages that wait at a socket, and at the connections that it has not accepted yet. */
function heldBy(socket: UnixSocket): UnixSocket[] {
  const packets = [socket, ...socket.pending].flatMap(({ received }) => received);
  return packets.flatMap(({ files }) => files.filter((file) => file instanceof UnixSocket));
}
