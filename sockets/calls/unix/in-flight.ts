/**
 * Files that are on their way in messages, and the collector of sockets that nobody can reach any more: those whose every reference
 * is in the queue of such a one (net/unix/garbage.c). It looks whenever a socket in flight loses a reference, back from there: a
 * socket is reached by a descriptor, or by way of one in whose queue it waits. Linux looks in its own time instead.
 */
import type { Limits } from "../../sockopt/limits.ts";
import type { File } from "../file.ts";
import type { Packet } from "./packet.ts";
import { UnixSocket } from "./socket.ts";

export class InFlight {
  /** Files of any kind. */
  private count = 0;
  /** Files to be dropped, while one is: a socket that ends drops those that wait in it. */
  private dropping: File[] | null = null;

  /** too_many_unix_fds(): one who may not do more has more in flight than open files. */
  tooMany({ descriptors, sysAdmin, sysResource }: Limits): boolean {
    return this.count > descriptors && !sysAdmin && !sysResource;
  }

  /** They have been put into a message. */
  add(packet: Packet, files: readonly File[]): void {
    this.count += files.length;
    for (const file of files) {
      if (!(file instanceof UnixSocket)) continue;
      file.inFlight++;
      file.holders.add(packet);
    }
  }

  /** They have left it, all of them. */
  remove(packet: Packet, files: readonly File[]): void {
    this.count -= files.length;
    for (const file of files) {
      if (!(file instanceof UnixSocket)) continue;
      file.inFlight--;
      file.holders.delete(packet);
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

  /** Ends the socket, and those by way of which alone it could be reached, if nobody can reach it. */
  collect(socket: UnixSocket): void {
    const garbage = unreachable(socket);
    for (const packet of garbage.flatMap((each) => each.takeQueue())) packet.free();
  }
}

/** The socket and all that lead to it; none if it can be reached by one of them. */
function unreachable(socket: UnixSocket): UnixSocket[] {
  const found = new Set([socket]);
  // The set grows while it is gone through.
  for (const each of found) {
    if (each.referenceCount > each.inFlight && each.listener === null) return [];
    if (each.listener !== null) found.add(each.listener);
    for (const { receiver } of each.holders) {
      // Not in a queue yet: it is being sent by somebody.
      if (receiver === null) return [];
      found.add(receiver);
    }
  }
  return [...found];
}
