/**
 * Whether TCP sockets may have one port: inet_csk_get_port of net/ipv4/inet_connection_sock.c, Linux 6.18, with the short cut
 * that lets in what the full comparison of sockets would refuse: struct inet_bind_bucket remembers of a port the last socket
 * with SO_REUSEPORT that was in nobody's way, and what that one covers is not compared again. (Its other short cut, fastreuse,
 * is never taken: inet_csk_update_fastreuse takes no port for empty, since the socket's own bhash2 bucket is there by then.)
 * All is done with the socket table's mutex held.
 */
import { ERRNO } from "af-xdp-bindings";
import type { SocketTable } from "../table.ts";
import {
  AF_INET,
  F_LISTEN,
  F_REUSEADDR,
  F_REUSEPORT,
  F_V6ONLY,
  FAMILY,
  FLAGS,
  GROUP,
  IPPROTO_TCP,
  LOCAL,
  LOCAL_PORT,
  UID,
} from "../table-fields.ts";

/** int32 words of a port in the table's plane `buckets`. They count while some socket is bound to the port. */
export const BUCKET_WORDS = 8;
/** fastreuseport: 1 if the rest holds. */
const B_GROUP = 0;
/** The socket's user, its family | ONLY6, and its address, four words. */
const B_UID = 1;
const B_FAMILY = 2;
const B_LOCAL = 4;
const ONLY6 = 0x100;

/** What stands for an IPv6 address where IPv4 ones are compared (LOOPBACK4_IPV6, 127.0.0.6). */
const LOOPBACK4_IPV6 = 0x7f000006;

/** Lets socket `id`, whose record says where, bind to its port, or listen at it. Returns 0 or -EADDRINUSE. */
export function admit(table: SocketTable, id: number): number {
  const bucket = table.get(id, LOCAL_PORT) * BUCKET_WORDS;
  if (table.firstBound(IPPROTO_TCP, table.get(id, LOCAL_PORT)) < 0) table.buckets[bucket + B_GROUP] = 0;
  const matches = matchesGroup(table, bucket, id);
  if (!matches && conflicts(table, id)) return -ERRNO.EADDRINUSE;
  if ((table.get(id, FLAGS) & F_REUSEPORT) === 0) table.buckets[bucket + B_GROUP] = 0;
  else if (!matches) remember(table, bucket, id);
  return 0;
}

/**
 * inet_bind_conflict: SO_REUSEADDR of both lets two sockets share unless the other listens; SO_REUSEPORT of both does for one
 * user, unless `id` has been given a program for its group already.
 */
function conflicts(table: SocketTable, id: number): boolean {
  const flags = table.get(id, FLAGS);
  const mayGroup = table.get(id, GROUP) < 0 ? F_REUSEPORT : 0;
  const first = table.firstBound(IPPROTO_TCP, table.get(id, LOCAL_PORT));
  for (let other = first; other >= 0; other = table.nextBound(other)) {
    if (other === id || !table.overlaps(id, other)) continue;
    const others = table.get(other, FLAGS);
    if ((flags & others & F_REUSEADDR) !== 0 && (others & F_LISTEN) === 0) continue;
    if ((flags & others & mayGroup) === 0 || table.get(id, UID) !== table.get(other, UID)) return true;
  }
  return false;
}

/** sk_reuseport_match. */
function matchesGroup(table: SocketTable, bucket: number, id: number): boolean {
  const { buckets } = table;
  if (buckets[bucket + B_GROUP] === 0 || (table.get(id, FLAGS) & F_REUSEPORT) === 0) return false;
  if (table.get(id, GROUP) >= 0 || buckets[bucket + B_UID] !== table.get(id, UID)) return false;
  return covers(table, bucket, id);
}

/** inet_csk_update_fastreuse. */
function remember({ buckets, records, stride }: SocketTable, bucket: number, id: number): void {
  const at = id * stride;
  // The rest holds when this says so: a thread may die on the way.
  buckets[bucket + B_GROUP] = 0;
  buckets[bucket + B_UID] = records[at + UID];
  buckets[bucket + B_FAMILY] = records[at + FAMILY] | ((records[at + FLAGS] & F_V6ONLY) === 0 ? 0 : ONLY6);
  for (let i = 0; i < 4; i++) buckets[bucket + B_LOCAL + i] = records[at + LOCAL + i];
  buckets[bucket + B_GROUP] = 1;
}

/** Whether the address that the port remembers is that of socket `id`, or takes in all it may be (inet_rcv_saddr_equal). */
function covers(table: SocketTable, bucket: number, id: number): boolean {
  const { buckets, records } = table;
  const at = bucket + B_LOCAL;
  const own = id * table.stride + LOCAL;
  const isOnly6 = (table.get(id, FLAGS) & F_V6ONLY) !== 0;
  const known4 = ipv4Of(buckets, at);
  const equal4 = !isOnly6 && (known4 === 0 || known4 === ipv4Of(records, own));
  const family = buckets[bucket + B_FAMILY];
  if ((family & ~ONLY6) === AF_INET) return equal4;
  const isOwnMapped = table.get(id, FAMILY) === AF_INET || isMapped(records, own);
  if (isMapped(buckets, at) && isOwnMapped) return equal4;
  if (isZero(buckets, at)) return !isOwnMapped || (family & ONLY6) === 0;
  for (let i = 0; i < 4; i++) if (buckets[at + i] !== records[own + i]) return false;
  return true;
}

function ipv4Of(words: Int32Array, at: number): number {
  if (isZero(words, at)) return 0;
  return isMapped(words, at) ? words[at + 3] : LOOPBACK4_IPV6;
}

const isMapped = (words: Int32Array, at: number): boolean =>
  words[at] === 0 && words[at + 1] === 0 && words[at + 2] === 0xffff;

const isZero = (words: Int32Array, at: number): boolean =>
  words[at] === 0 && words[at + 1] === 0 && words[at + 2] === 0 && words[at + 3] === 0;
