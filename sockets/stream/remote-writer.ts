/** Writes of a thread to its connections on lcores: bytes into frames that were lent, a message for each frame. */
import { ERRNO } from "af-xdp-bindings";
import type { RingProducer } from "../../queues/ring.ts";
import { M_KIND } from "../message.ts";
import { MSG_MORE, MSG_OOB } from "../tcp/calls.ts";
import { EV_WRITABLE } from "../tcp/tcb.ts";
import { copyMemory } from "../wire/views.ts";
import type { Outbox } from "./outbox.ts";
import type { RemoteConnection } from "./remote-connection.ts";
import type { RemoteTcpHost } from "./remote-tcp.ts";
import {
  CALL_WANT,
  MSG_TCP_ECHO,
  MSG_TCP_SEND,
  X_CONSUMED,
  X_FLAGS,
  X_FRAME,
  X_GENERATION,
  X_ID,
  X_LENGTH,
  X_OFFSET,
  X_WANTS,
} from "./tcp-messages.ts";

/** Bits of send(2) that go with bytes. */
const SEND_FLAGS = MSG_OOB | MSG_MORE;

export class RemoteWriter {
  private readonly host: RemoteTcpHost;
  private readonly rings: readonly RingProducer[];
  private readonly outbox: Outbox;
  /** Those whose writes have found no frame, or no room in the ring. */
  private readonly starved = new Set<RemoteConnection>();

  constructor(host: RemoteTcpHost, rings: readonly RingProducer[], outbox: Outbox) {
    this.host = host;
    this.rings = rings;
    this.outbox = outbox;
  }

  /** write() to a connection that takes bytes, at least one: bytes taken, or -EAGAIN. */
  write(connection: RemoteConnection, bytes: Uint8Array, offset: number, length: number, flags: number): number {
    const most = Math.min(length, connection.space);
    let done = 0;
    while (done < most) {
      const count = this.put(connection, bytes, offset + done, most - done);
      if (count === 0) break;
      done += count;
    }
    // What goes in several frames is one write: the last frame says how it ends.
    if (done > 0) this.seal(connection, done === length ? flags : flags & ~MSG_OOB);
    if (done === most) {
      if (done < length) this.wantRoom(connection);
    } else this.starved.add(connection);
    this.host.flushSoon();
    return done > 0 ? done : -ERRNO.EAGAIN;
  }

  /** Has the lcore send the first `count` bytes that can be read, as far as there is room: how many, or -EAGAIN. */
  echo(connection: RemoteConnection, count: number): number {
    const length = Math.min(count, connection.space);
    const at = length === 0 ? -1 : this.outbox.claim(connection.lcore);
    if (at < 0) {
      if (length === 0) this.wantRoom(connection);
      else this.starved.add(connection);
      return -ERRNO.EAGAIN;
    }
    const { words } = this.rings[connection.lcore];
    words[at + M_KIND] = MSG_TCP_ECHO;
    this.fill(connection, words, at, length, length < count ? X_WANTS : 0);
    if (length < count) connection.wantsRoom = true;
    connection.slot = -1;
    connection.take(length);
    // The lcore has it from the message.
    connection.unreturned -= length;
    this.host.flushSoon();
    return length;
  }

  /** Asks to be told when the lcore takes more. */
  wantRoom(connection: RemoteConnection): void {
    if (connection.wantsRoom) return;
    connection.wantsRoom = true;
    const ring = this.rings[connection.lcore];
    if (connection.slot >= 0 && ring.isOwn(connection.slotNumber)) {
      ring.words[connection.slot + X_FLAGS] |= X_WANTS;
      return;
    }
    this.outbox.call(connection.lcore, connection.id, connection.generation, CALL_WANT);
    this.host.flushSoon();
  }

  /** Whether a write would find a frame and a slot. If not, handlers are told when it would. */
  hasFrame(connection: RemoteConnection): boolean {
    if (this.isServed(connection)) return true;
    this.starved.add(connection);
    return false;
  }

  private isServed({ lcore }: RemoteConnection): boolean {
    return this.host.hasLoans(lcore) && !this.outbox.isBehind(lcore) && this.rings[lcore].free() > 0;
  }

  forget(connection: RemoteConnection): void {
    this.starved.delete(connection);
  }

  /** Calls `tell` for those that would find a frame now. */
  resume(tell: (connection: RemoteConnection) => void): void {
    for (const connection of this.starved) {
      if (!this.isServed(connection)) continue;
      this.starved.delete(connection);
      connection.events |= EV_WRITABLE;
      tell(connection);
    }
  }

  get hasStarved(): boolean {
    return this.starved.size > 0;
  }

  /** Puts bytes into the frame of the last write, or into another. How many; 0: there is no frame, or no slot. */
  private put(connection: RemoteConnection, bytes: Uint8Array, offset: number, length: number): number {
    const { lcore } = connection;
    const ring = this.rings[lcore];
    const { words } = ring;
    const { frameSizes, memories } = this.host.shared;
    const memory = memories[lcore].bytes;
    if (connection.slot >= 0 && ring.isOwn(connection.slotNumber)) {
      const at = connection.slot;
      const used = words[at + X_LENGTH];
      const more = Math.min(length, frameSizes[lcore] - used);
      if (more > 0) {
        copyMemory(memory, words[at + X_OFFSET] + used, bytes, offset, more);
        words[at + X_LENGTH] = used + more;
        connection.writeSeq = (connection.writeSeq + more) | 0;
        return more;
      }
    }
    const frame = this.host.takeFrame(lcore);
    if (frame < 0) return 0;
    const number = ring.claims;
    const at = this.outbox.claim(lcore);
    if (at < 0) {
      this.host.returnFrame(lcore, frame);
      return 0;
    }
    const count = Math.min(length, frameSizes[lcore]);
    copyMemory(memory, frame, bytes, offset, count);
    words[at + M_KIND] = MSG_TCP_SEND;
    words[at + X_FRAME] = frame;
    words[at + X_OFFSET] = frame;
    this.fill(connection, words, at, count, MSG_MORE);
    connection.slot = at;
    connection.slotNumber = number;
    return count;
  }

  private fill(connection: RemoteConnection, words: Int32Array, at: number, length: number, flags: number): void {
    words[at + X_ID] = connection.id;
    words[at + X_GENERATION] = connection.generation;
    words[at + X_LENGTH] = length;
    words[at + X_FLAGS] = flags;
    words[at + X_CONSUMED] = connection.unreturned;
    connection.unreturned = 0;
    connection.writeSeq = (connection.writeSeq + length) | 0;
  }

  private seal(connection: RemoteConnection, flags: number): void {
    const { words } = this.rings[connection.lcore];
    const at = connection.slot + X_FLAGS;
    words[at] = (words[at] & X_WANTS) | (flags & SEND_FLAGS);
    // An urgent byte is the last of its frame.
    if ((flags & MSG_OOB) !== 0) connection.slot = -1;
  }
}
