/**
 * Errors that the network reports about what a socket has sent: the error queue of recvmsg(MSG_ERRQUEUE), as ip(7) and
 * ipv6(7) describe it under IP_RECVERR and IPV6_RECVERR.
 */
import { ERRNO } from "af-xdp-bindings";
import { addressBytes } from "./fib.ts";
import { M_ADDRESS, M_ERRNO, M_ERROR_PORT, M_FRAME, M_INFO, M_OFFENDER, M_OFFENDER_REST, M_ORIGIN } from "./message.ts";
import { CHARGE_OVERHEAD } from "./queue.ts";
import { formatIp } from "./wire/address.ts";
import { ICMP_DEST_UNREACH, ICMP_PARAMETERPROB, ICMPV6_DEST_UNREACH, ICMPV6_PARAMPROB } from "./wire/icmp.ts";

/** Who found the error (include/uapi/linux/errqueue.h): this host, an ICMP message, an ICMPv6 one. */
export const SO_EE_ORIGIN_LOCAL = 1;
export const SO_EE_ORIGIN_ICMP = 2;
export const SO_EE_ORIGIN_ICMP6 = 3;
/** No error: a stamp of transmission (SO_TIMESTAMPING). */
export const SO_EE_ORIGIN_TIMESTAMPING = 4;

export const isIcmp = (origin: number): boolean => origin === SO_EE_ORIGIN_ICMP || origin === SO_EE_ORIGIN_ICMP6;

/** struct sock_extended_err, with what recvmsg(2) tells beside it. */
export interface QueuedError {
  errno: number;
  /** SO_EE_ORIGIN_.... */
  origin: number;
  /** Type and code of the ICMP message; 0 for a local error. */
  type: number;
  code: number;
  /** With EMSGSIZE, the path MTU in bytes. */
  info: number;
  /** Where the datagram was sent to. */
  address: string;
  port: number;
  /** Who reported it: "" for a local error. */
  offender: string;
  /** The first bytes of the datagram's payload. */
  payload: Uint8Array;
  /** Control messages (cmsg(3)) that the kernel has told beside it, where one has: what receiveError() gives has those of stamps alone. */
  told?: Uint8Array;
}

/** Codes of ICMP_DEST_UNREACH that are soft: a network or host that may come back (icmp_err_convert, net/ipv4/icmp.c). */
const SOFT_4 = new Set([0, 1, 5, 11, 12]);
/** The same of ICMPV6_DEST_UNREACH (tab_unreach, net/ipv6/icmp.c). */
const SOFT_6 = new Set([0, 2, 3]);

/**
 * Whether an ICMP error is one that a connected socket is told of without having asked (__udp4_lib_err, __udp6_lib_err).
 * That a packet was too big counts as one.
 */
export function isHard(origin: number, errno: number, type: number, code: number): boolean {
  if (errno === ERRNO.EMSGSIZE) return true;
  if (origin === SO_EE_ORIGIN_ICMP) {
    return type === ICMP_PARAMETERPROB || (type === ICMP_DEST_UNREACH && !SOFT_4.has(code));
  }
  return type === ICMPV6_PARAMPROB || (type === ICMPV6_DEST_UNREACH && !SOFT_6.has(code));
}

/** Bits of M_ORIGIN above the code: a hard error, and control messages in words of eight bytes: up to 1,016, and a MessageHeader has 512. */
const HARD = 1 << 24;
const TOLD_SHIFT = 25;

/** An error on its way from the thread that heard of it: filled in again for each. */
export class ErrorReport {
  errno = 0;
  origin = 0;
  type = 0;
  code = 0;
  info = 0;
  hard = false;
  /** Where the datagram was sent to, and who says that it did not arrive (zeros: nobody). Four words, IPv4 mapped. */
  readonly remote = new Int32Array(4);
  remotePort = 0;
  readonly offender = new Int32Array(4);

  /**
   * Writes the fields into a MSG_ERROR at `at`. The excerpt is `length` bytes from `frame` on, and `told` bytes of control messages, whole
   * words of eight, come behind it.
   */
  store(words: Int32Array, at: number, frame: number, length: number, told = 0): void {
    words[at + M_FRAME] = length + told === 0 ? -1 : frame;
    words[at + M_ERRNO] = this.errno;
    const hard = this.hard ? HARD : 0;
    words[at + M_ORIGIN] = this.origin | (this.type << 8) | (this.code << 16) | hard | ((told / 8) << TOLD_SHIFT);
    words[at + M_INFO] = this.info;
    words[at + M_ERROR_PORT] = this.remotePort | (length << 16);
    words[at + M_OFFENDER] = this.offender[0];
    for (let i = 0; i < 4; i++) words[at + M_ADDRESS + i] = this.remote[i];
    for (let i = 0; i < 3; i++) words[at + M_OFFENDER_REST + i] = this.offender[1 + i];
  }
}

/** Whether the error of a MSG_ERROR is hard. */
export const isHardMessage = (words: Int32Array, at: number): boolean => (words[at + M_ORIGIN] & HARD) !== 0;

/** Bytes of control messages behind the excerpt of a MSG_ERROR. */
export const toldLength = (words: Int32Array, at: number): number => (words[at + M_ORIGIN] >>> TOLD_SHIFT) * 8;

/** Bytes of the excerpt that a MSG_ERROR brings. */
export const excerptLength = (words: Int32Array, at: number): number => words[at + M_ERROR_PORT] >>> 16;

/** The entry that a MSG_ERROR brings. */
export function loadError(words: Int32Array, at: number, payload: Uint8Array, told?: Uint8Array): QueuedError {
  const origin = words[at + M_ORIGIN];
  const rest = at + M_OFFENDER_REST;
  return {
    errno: words[at + M_ERRNO],
    origin: origin & 0xff,
    type: (origin >> 8) & 0xff,
    code: (origin >> 16) & 0xff,
    info: words[at + M_INFO] >>> 0,
    address: text(
      words[at + M_ADDRESS],
      words[at + M_ADDRESS + 1],
      words[at + M_ADDRESS + 2],
      words[at + M_ADDRESS + 3],
    ),
    port: words[at + M_ERROR_PORT] & 0xffff,
    offender: !isIcmp(origin & 0xff) ? "" : text(words[at + M_OFFENDER], words[rest], words[rest + 1], words[rest + 2]),
    payload,
    ...(told === undefined || told.length === 0 ? {} : { told }),
  };
}

function text(w0: number, w1: number, w2: number, w3: number): string {
  return formatIp(addressBytes(w0, w1, w2, w3));
}

/** What waits for receiveError(): charged as datagrams are, within the socket's receive buffer. */
export class ErrorQueue {
  private entries: QueuedError[] = [];
  private charged = 0;

  /** Appends an entry; one that exceeds `limit` bytes is dropped, as sock_queue_err_skb() does. */
  push(entry: QueuedError, limit: number): boolean {
    const charge = entry.payload.length + CHARGE_OVERHEAD;
    if (this.charged + charge >= limit) return false;
    this.charged += charge;
    this.entries.push(entry);
    return true;
  }

  shift(): QueuedError | null {
    const entry = this.entries.shift();
    if (entry === undefined) return null;
    this.charged -= entry.payload.length + CHARGE_OVERHEAD;
    return entry;
  }

  /** The oldest, left where it is. */
  peek(): QueuedError | null {
    return this.entries[0] ?? null;
  }

  /** As skb_errqueue_purge(): stamps stay. */
  clear(): void {
    const { entries } = this;
    this.entries = entries.filter(({ origin }) => origin === SO_EE_ORIGIN_TIMESTAMPING);
    this.charged = 0;
    for (const { payload } of this.entries) this.charged += payload.length + CHARGE_OVERHEAD;
  }
}
