/** What recvmsg(MSG_ERRQUEUE) tells of an error beside the datagram that it is about: ip(7) and ipv6(7), IP_RECVERR. */
import { type ErrorReport, isHard, isIcmp, SO_EE_ORIGIN_LOCAL, SO_EE_ORIGIN_TIMESTAMPING } from "./error-queue.ts";
import type { MessageHeader } from "./msghdr.ts";
import { IP_PKTINFO, IP_RECVERR, IPPROTO_IP, IPPROTO_IPV6, IPV6_PKTINFO, IPV6_RECVERR } from "./options.ts";
import { readSockaddr } from "./sockaddr.ts";

export const MSG_ERRQUEUE = 0x2000;
/** Longest excerpt that is passed on: what ICMP may quote (RFC 1812, section 4.3.2.3; RFC 4443, section 2.4). */
export const EXCERPT_MAX = 1280;
/** The same of a whole packet, its headers with it, of which a stamp is told. */
export const STAMPED_MAX = 65_535;

/** struct sock_extended_err (include/uapi/linux/errqueue.h), followed by the sockaddr of the offender. */
const EE_ORIGIN = 4;
const EE_TYPE = 5;
const EE_CODE = 6;
const EE_INFO = 8;
const EE_BYTES = 16;

/**
 * Fills in the report, all but the destination, which is the message's name; and the own address, four words, zeros where
 * it is not told. False: the control messages have no error that concerns a socket.
 */
export function readErrorControl(header: MessageHeader, report: ErrorReport, local: Int32Array): boolean {
  let found = false;
  local.fill(0);
  for (let at = header.firstControl(); at >= 0; at = header.nextControl(at)) {
    const level = header.controlLevel(at);
    const type = header.controlType(at);
    const data = header.controlData(at);
    if (level === IPPROTO_IP && type === IP_PKTINFO) header.readPktinfo(at, local);
    if (level === IPPROTO_IPV6 && type === IPV6_PKTINFO) header.readPktinfo6(at, local);
    const isError = level === IPPROTO_IP ? type === IP_RECVERR : level === IPPROTO_IPV6 && type === IPV6_RECVERR;
    if (!isError) continue;
    const view = header.controlView;
    report.errno = view.getUint32(data, true);
    report.origin = view.getUint8(data + EE_ORIGIN);
    report.type = view.getUint8(data + EE_TYPE);
    report.code = view.getUint8(data + EE_CODE);
    report.info = view.getInt32(data + EE_INFO, true);
    report.offender.fill(0);
    readSockaddr(header.viewFrom(data + EE_BYTES), report.offender);
    report.hard = isIcmp(report.origin) && isHard(report.origin, report.errno, report.type, report.code);
    found = report.origin >= SO_EE_ORIGIN_LOCAL && report.origin <= SO_EE_ORIGIN_TIMESTAMPING;
  }
  return found;
}
