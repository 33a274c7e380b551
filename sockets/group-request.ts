/**
 * Multicast groups of sockets whose engine has the host protocols itself. A socket's own thread decides, by the rules of
 * Linux, whether it may join or leave; what it then is a member of goes in messages to the thread of the host protocols,
 * which tells the network and delivers.
 */
import { ERRNO } from "af-xdp-bindings";
import type { Endpoint } from "./endpoint.ts";
import { addressBytes, addressWords } from "./fib.ts";
import { Membership } from "./host/membership.ts";
import { MCAST_EXCLUDE } from "./host/source-filter.ts";
import {
  M_FILTER,
  M_GENERATION,
  M_GROUP,
  M_GROUP_FAMILY,
  M_GROUP_OP,
  M_GROUP_SOURCE,
  M_KIND,
  M_SOCKET,
  MSG_GROUP,
} from "./message.ts";
import { GENERATION } from "./table.ts";
import { formatIp } from "./wire/address.ts";

export const GROUP_JOIN = 1;
export const GROUP_LEAVE = 2;
export const GROUP_JOIN_SOURCE = 3;
export const GROUP_LEAVE_SOURCE = 4;
export const GROUP_BLOCK = 5;
export const GROUP_UNBLOCK = 6;
/** The whole filter: M_FILTER has the mode and, from bit 8 on, how many GROUP_FILTER_SOURCE follow at once. */
export const GROUP_FILTER = 7;
export const GROUP_FILTER_SOURCE = 8;

/** A call as setsockopt(2) has it, addresses of 4 or 16 bytes. */
export interface GroupCall {
  readonly op: number;
  readonly group: Uint8Array;
  /** None for GROUP_JOIN and GROUP_LEAVE, one for others, all of them for GROUP_FILTER. */
  readonly sources: readonly Uint8Array[];
  /** MCAST_INCLUDE or MCAST_EXCLUDE, of GROUP_FILTER. */
  readonly mode?: number;
}

/** Does what a call asks for. Returns 0 or -errno. */
export function applyGroupCall(members: Membership, socket: number, call: GroupCall, now: number): number {
  const group = formatIp(call.group);
  const sources = call.sources.map(formatIp);
  switch (call.op) {
    case GROUP_JOIN:
      return members.join(socket, group, now);
    case GROUP_LEAVE:
      return members.leave(socket, group, now);
    case GROUP_JOIN_SOURCE:
      return members.joinSource(socket, group, sources[0], now);
    case GROUP_LEAVE_SOURCE:
      return members.leaveSource(socket, group, sources[0], now);
    case GROUP_BLOCK:
      return members.block(socket, group, sources[0], now);
    case GROUP_UNBLOCK:
      return members.unblock(socket, group, sources[0], now);
    default:
      return members.setFilter(socket, group, call.mode ?? MCAST_EXCLUDE, sources, now);
  }
}

/** One socket's memberships, as its own thread knows them. */
export class SocketGroups {
  private readonly endpoint: Endpoint;
  private readonly id: number;
  private readonly members = {
    4: new Membership(4, () => {}),
    6: new Membership(6, () => {}),
  };

  constructor(endpoint: Endpoint, id: number) {
    this.endpoint = endpoint;
    this.id = id;
  }

  /** Returns 0 or -errno: ENOPROTOOPT on a wire where nobody would tell the network. */
  call(family: 4 | 6, call: GroupCall): number {
    if (this.endpoint.shared.hostThread < 0) return -ERRNO.ENOPROTOOPT;
    const result = applyGroupCall(this.members[family], this.id, call, 0);
    if (result < 0) return result;
    const isFilter = call.op === GROUP_FILTER;
    const [source] = isFilter ? [] : call.sources;
    this.post(family, call.op, call.group, source, (call.mode ?? 0) | (isFilter ? call.sources.length << 8 : 0));
    if (isFilter) for (const each of call.sources) this.post(family, GROUP_FILTER_SOURCE, call.group, each, 0);
    this.endpoint.flush();
    return 0;
  }

  private post(family: number, op: number, group: Uint8Array, source: Uint8Array | undefined, filter: number): void {
    const { endpoint, id } = this;
    const { ring, at } = endpoint.claimForHost();
    if (at < 0) return;
    const { words } = ring;
    words[at + M_KIND] = MSG_GROUP;
    words[at + M_SOCKET] = id;
    words[at + M_GENERATION] = endpoint.table.get(id, GENERATION);
    words[at + M_GROUP_OP] = op;
    words[at + M_GROUP_FAMILY] = family;
    words[at + M_FILTER] = filter;
    words.set(addressWords(group), at + M_GROUP);
    if (source !== undefined) words.set(addressWords(source), at + M_GROUP_SOURCE);
  }
}

/** An address of a MSG_GROUP. */
export const addressIn = (words: Int32Array, at: number): Uint8Array =>
  addressBytes(words[at], words[at + 1], words[at + 2], words[at + 3]);
