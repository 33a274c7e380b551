/** recvmsg(2) with MSG_ERRQUEUE: ip_recv_error (net/ipv4/ip_sockglue.c) and ipv6_recv_error (net/ipv6/datagram.c). */
import { type QueuedError, SO_EE_ORIGIN_LOCAL, SO_EE_ORIGIN_TIMESTAMPING } from "../../error-queue.ts";
import { IP_RECVERR, IPPROTO_IP, IPPROTO_IPV6, IPV6_RECVERR } from "../../options.ts";
import { SOCKADDR_IN_BYTES, SOCKADDR_IN6_BYTES, sockaddrOf } from "../../sockaddr.ts";
import { AF_INET } from "../../table.ts";
import { ip } from "../../wire/address.ts";
import { MSG_ERRQUEUE, MSG_TRUNC } from "../constants.ts";
import { ControlWriter, visitControl } from "../control.ts";
import { lengthOf, type Message, putAddress, scatter } from "../message.ts";
import { needsScope } from "./address.ts";

/** struct sock_extended_err (include/uapi/linux/errqueue.h). */
const EE_BYTES = 16;

/**
 * Fills a message with an entry of the error queue of an AF_INET or AF_INET6 socket. Returns the bytes of the excerpt given.
 * @param asks whether the socket has asked for a control message that the kernel has told of the entry
 */
export function putError(
  entry: QueuedError,
  family: number,
  ifindex: number,
  message: Message,
  asks: (level: number, type: number) => boolean,
): number {
  const { payload } = entry;
  const given = scatter(message.iov, payload);
  message.flags |= MSG_ERRQUEUE;
  if (payload.length > lengthOf(message.iov)) message.flags |= MSG_TRUNC;
  const out = new ControlWriter(message);
  if (entry.told !== undefined) {
    visitControl(entry.told, entry.told.length, ({ level, type, data }) => {
      if (asks(level, type) || isErrorOf(level, type)) out.put(level, type, data);
      return 0;
    });
  }
  if (entry.origin === SO_EE_ORIGIN_TIMESTAMPING) {
    // Where it went is not told of a stamp.
    if (message.name !== null) message.name.length = 0;
    out.end();
    return given;
  }
  if (message.name !== null) putAddress(message.name, inFamily(entry.address, entry.port, family, ifindex));
  if (entry.told !== undefined) {
    out.end();
    return given;
  }
  const ipv4 = family === AF_INET;
  const data = new Uint8Array(EE_BYTES + (ipv4 ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES));
  const view = new DataView(data.buffer);
  view.setUint32(0, entry.errno, true);
  view.setUint8(4, entry.origin);
  view.setUint8(5, entry.type);
  view.setUint8(6, entry.code);
  view.setUint32(8, entry.info, true);
  if (entry.origin !== SO_EE_ORIGIN_LOCAL) data.set(inFamily(entry.offender, 0, family, ifindex), EE_BYTES);
  out.put(ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_RECVERR : IPV6_RECVERR, data);
  out.end();
  return given;
}

const isErrorOf = (level: number, type: number): boolean =>
  (level === IPPROTO_IP && type === IP_RECVERR) || (level === IPPROTO_IPV6 && type === IPV6_RECVERR);

/** The sockaddr of an address as text; an IPv6 socket is told the mapped form. */
function inFamily(text: string, port: number, family: number, ifindex: number): Uint8Array {
  const address = ip(text);
  if (family === AF_INET || address.length === 16) {
    const first = new DataView(address.buffer, address.byteOffset).getInt32(0);
    return sockaddrOf(address, port, needsScope(first) ? ifindex : 0);
  }
  const mapped = new Uint8Array(16);
  mapped.set([0xff, 0xff, ...address], 10);
  return sockaddrOf(mapped, port);
}
