/** The way out through kernel sockets: who a datagram goes to and from, written before its payload; then to the Sender. */
import { ERRNO } from "af-xdp-bindings";
import { C } from "../counters.ts";
import type { Datagram } from "../datagram.ts";
import { CMSG_DATA, PKTINFO_BYTES, PKTINFO6_BYTES } from "../msghdr.ts";
import { IP_PKTINFO, IPPROTO_IP, IPPROTO_IPV6, IPV6_PKTINFO } from "../options.ts";
import { SOCKADDR_IN_BYTES, SOCKADDR_IN6_BYTES } from "../sockaddr.ts";
import {
  AF_INET,
  CONNECTED,
  F_CHILD,
  F_WILDCARD,
  FAMILY,
  FLAGS,
  GENERATION,
  LOCAL,
  PLACEHOLDER,
  REMOTE,
  REMOTE_PORT,
  type SocketTable,
  STATE,
} from "../table.ts";
import { swap16 } from "../wire/checksum.ts";
import { UDP_HEADER } from "../wire/udp.ts";
import { CONTROL_AT, type KernelFrames, NAME_AT, PAYLOAD_MAX, SOURCE_AT, swap32 } from "./frames.ts";
import { Reached } from "./reached.ts";
import { PKTINFO_SPACE, PKTINFO6_SPACE } from "./receiver.ts";
import { Sender, type SenderOwner } from "./sender.ts";

/** Bytes of struct in_pktinfo and in6_pktinfo with the struct cmsghdr before them. */
const PKTINFO_LEN = CMSG_DATA + PKTINFO_BYTES;
const PKTINFO6_LEN = CMSG_DATA + PKTINFO6_BYTES;

export class KernelOutput {
  readonly sender: Sender;
  private readonly table: SocketTable;
  private readonly frames: KernelFrames;
  private readonly words: Int32Array;
  private readonly counters: Float64Array;
  private readonly reached = new Reached();

  constructor(table: SocketTable, frames: KernelFrames, counters: Float64Array, owner: SenderOwner) {
    this.table = table;
    this.frames = frames;
    this.words = frames.words;
    this.counters = counters;
    this.sender = new Sender(frames, counters, owner);
  }

  /** Whether a datagram of the socket would be taken now. */
  canSend(socket: number): boolean {
    return this.frames.pool.available > 0 && this.sender.hasRoom(this.table.get(socket, PLACEHOLDER));
  }

  /**
   * Sends the payload at `payload` of an own frame to an address given as four words, IPv4 mapped. The frame is given
   * away whatever happens. Returns `length`, or -errno.
   */
  send(
    socket: number,
    payload: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    const { sender, table } = this;
    const { records } = table;
    const record = socket * table.stride;
    const fd = records[record + PLACEHOLDER];
    const generation = records[record + GENERATION];
    const known = this.reached.has(socket, generation, length, w0, w1, w2, w3);
    // What the socket has sent before leaves before.
    if (!known) sender.flush();
    if (!sender.hasRoom(fd)) return this.refuse(payload);
    const flags = records[record + FLAGS];
    const toPeer = (flags & F_CHILD) === 0 && this.isPeer(record, w0, w1, w2, w3, port);
    const name = toPeer ? 0 : this.writeName(payload, records[record + FAMILY], w0, w1, w2, w3, port);
    const source = (flags & F_CHILD) !== 0 && (flags & F_WILDCARD) !== 0 ? this.writeSource(payload, record) : 0;
    sender.push(fd, payload, length, payload + NAME_AT, name, payload + CONTROL_AT, source);
    if (!known) return this.sendFirst(socket, generation, length, w0, w1, w2, w3);
    if (sender.due) sender.flush();
    return length;
  }

  private sendFirst(
    socket: number,
    generation: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
  ): number {
    const result = this.sender.sendLast();
    if (result < 0) {
      this.counters[result === -ERRNO.EAGAIN ? C.UdpSndbufErrors : C.UdpOutErrors]++;
      return result;
    }
    this.reached.add(socket, generation, length, w0, w1, w2, w3);
    return length;
  }

  /** See Datagram.reply: to who sent it, from the address it was sent to. */
  reply(datagram: Datagram, length: number): number {
    const { sender, table } = this;
    const { records } = table;
    if (length < 0 || length > PAYLOAD_MAX || length > datagram.room) return -ERRNO.EMSGSIZE;
    datagram.owned = false;
    const record = datagram.socketId * table.stride;
    const payload = datagram.l4 + UDP_HEADER;
    const fd = records[record + PLACEHOLDER];
    if (fd < 0 || records[record + GENERATION] !== datagram.generation) {
      this.frames.give(payload);
      return -ERRNO.EBADF;
    }
    if (!sender.hasRoom(fd)) return this.refuse(payload);
    if (records[record + STATE] === CONNECTED && (records[record + FLAGS] & F_CHILD) === 0) {
      sender.push(fd, datagram.offset, length, 0, 0, 0, 0);
    } else {
      const name = records[record + FAMILY] === AF_INET ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES;
      const source = this.words[(payload + SOURCE_AT) >> 2];
      sender.push(fd, datagram.offset, length, payload + NAME_AT, name, payload + CONTROL_AT, source);
    }
    if (sender.due) sender.flush();
    return length;
  }

  /** Sends what is gathered. */
  flush(): void {
    if (this.sender.count > 0) this.sender.flush();
  }

  /** The kernel has refused a datagram to somebody it had been sent to before. */
  forgetReached(): void {
    this.reached.clear();
  }

  private refuse(payload: number): number {
    this.counters[C.UdpSndbufErrors]++;
    this.frames.give(payload);
    return -ERRNO.EAGAIN;
  }

  /** Whether the address is that of the connected peer: then it need not be named, and the kernel keeps the route. */
  private isPeer(record: number, w0: number, w1: number, w2: number, w3: number, port: number): boolean {
    const { records } = this.table;
    return (
      records[record + STATE] === CONNECTED &&
      records[record + REMOTE + 3] === w3 &&
      records[record + REMOTE + 2] === w2 &&
      records[record + REMOTE + 1] === w1 &&
      records[record + REMOTE] === w0 &&
      records[record + REMOTE_PORT] === port
    );
  }

  /** Writes the sockaddr. Returns its length. */
  private writeName(
    payload: number,
    family: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    const { words } = this;
    const at = (payload + NAME_AT) >> 2;
    words[at] = family | (swap16(port) << 16);
    if (family === AF_INET) {
      words[at + 1] = swap32(w3);
      words[at + 2] = 0;
      words[at + 3] = 0;
      return SOCKADDR_IN_BYTES;
    }
    words[at + 1] = 0;
    words[at + 2] = swap32(w0);
    words[at + 3] = swap32(w1);
    words[at + 4] = swap32(w2);
    words[at + 5] = swap32(w3);
    words[at + 6] = 0;
    return SOCKADDR_IN6_BYTES;
  }

  /** Writes the control message that says from which address it leaves: the record's. Returns its length. */
  private writeSource(payload: number, record: number): number {
    const { records } = this.table;
    const { words } = this;
    const at = (payload + CONTROL_AT) >> 2;
    const v4 = records[record + FAMILY] === AF_INET;
    words[at] = v4 ? PKTINFO_LEN : PKTINFO6_LEN;
    words[at + 1] = 0;
    words[at + 2] = v4 ? IPPROTO_IP : IPPROTO_IPV6;
    words[at + 3] = v4 ? IP_PKTINFO : IPV6_PKTINFO;
    if (v4) {
      words[at + 4] = 0;
      words[at + 5] = swap32(records[record + LOCAL + 3]);
      words[at + 6] = 0;
      return PKTINFO_SPACE;
    }
    for (let i = 0; i < 4; i++) words[at + 4 + i] = swap32(records[record + LOCAL + i]);
    words[at + 8] = 0;
    return PKTINFO6_SPACE;
  }
}
