/**
 * Which XDP programs an interface has, from the RTM_GETLINK answer's IFLA_XDP. BPF links alone would not tell: a
 * program may also have been attached over netlink (`ip link set dev … xdp …`).
 *
 * linux/netlink.h, linux/rtnetlink.h and linux/if_link.h of Linux 6.18. Netlink is in host order.
 */
import { check, ERRNO } from "../errno.ts";
import * as sys from "../sys.ts";

export interface AttachedXdp {
  readonly mode: "native" | "skb" | "offload";
  readonly programId: number;
}

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const NETLINK_ROUTE = 0;
const NLMSG_ERROR = 2;
const RTM_GETLINK = 18;
const NLM_F_REQUEST = 1;
/** struct nlmsghdr, struct ifinfomsg, in bytes. */
const HEADER_SIZE = 16;
const IFINFO_SIZE = 16;
const IFINFO_INDEX = 4;
const IFLA_XDP = 43;
/** Nested in IFLA_XDP: the program of each mode. */
const MODES = new Map<number, AttachedXdp["mode"]>([
  [5, "native"], // IFLA_XDP_DRV_PROG_ID
  [6, "skb"], // IFLA_XDP_SKB_PROG_ID
  [7, "offload"], // IFLA_XDP_HW_PROG_ID
]);
/** The two bits above an attribute's type. */
const NLA_TYPE_MASK = 0x3fff;
/** A link's answer is about 2 KB, more with many virtual functions. */
const ANSWER_SIZE = 64 << 10;

/** The programs on an interface of the calling thread's network namespace, at most one a mode. */
export function attachedXdp(ifindex: number): AttachedXdp[] {
  const answer = requestLink(ifindex);
  if (answer.getUint16(4, true) === NLMSG_ERROR) {
    check(answer.getInt32(HEADER_SIZE, true), `netlink RTM_GETLINK(${ifindex})`, { ENODEV: "no such interface here" });
  }
  const found: AttachedXdp[] = [];
  for (const xdp of attributes(answer, HEADER_SIZE + IFINFO_SIZE, answer.getUint32(0, true))) {
    if (xdp.type !== IFLA_XDP) continue;
    for (const inner of attributes(answer, xdp.start, xdp.end)) {
      const mode = MODES.get(inner.type);
      if (mode) found.push({ mode, programId: answer.getUint32(inner.start, true) });
    }
  }
  return found;
}

function requestLink(ifindex: number): DataView {
  const request = new DataView(new ArrayBuffer(HEADER_SIZE + IFINFO_SIZE));
  request.setUint32(0, request.byteLength, true);
  request.setUint16(4, RTM_GETLINK, true);
  request.setUint16(6, NLM_F_REQUEST, true);
  request.setInt32(HEADER_SIZE + IFINFO_INDEX, ifindex, true);
  const answer = new DataView(new ArrayBuffer(ANSWER_SIZE));
  const fd = check(sys.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_ROUTE), "socket(AF_NETLINK)");
  try {
    const sent = sys.sendto(fd, sys.addressOf(request), request.byteLength, 0, 0, 0);
    check(sent, "sendto(NETLINK_ROUTE)");
    const length = receive(fd, answer);
    return new DataView(answer.buffer, 0, length);
  } finally {
    sys.close(fd);
  }
}

function receive(fd: number, answer: DataView): number {
  for (;;) {
    const length = sys.recvfrom(fd, sys.addressOf(answer), answer.byteLength, 0, 0, 0);
    if (length !== -ERRNO.EINTR) return check(length, "recvfrom(NETLINK_ROUTE)");
  }
}

/** The attributes (struct rtattr: u16 length with its header, u16 type) between two offsets. */
function* attributes(
  view: DataView,
  from: number,
  end: number,
): Generator<{ type: number; start: number; end: number }> {
  for (let at = from; at + 4 <= end; ) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > end) return;
    yield { type: view.getUint16(at + 2, true) & NLA_TYPE_MASK, start: at + 4, end: at + length };
    at += (length + 3) & ~3;
  }
}
