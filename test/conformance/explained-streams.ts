/** Why streams differ from the kernel's: see explained.ts. */
import type { Explanation } from "./explained.ts";

const SIDES = ["engine", "memory"];
const STREAM = /^IPv\d tcp: /;

/** Options that are refused with EOPNOTSUPP where the kernel takes them, and go on being told as not set. */
const refused = (options: string, reason: string): Explanation[] => [
  {
    sides: SIDES,
    scenario: STREAM,
    // Or after another check of the kernel's, where what was refused would have changed what it says.
    kernel: new RegExp(`setsockopt\\(\\S+ (${options}), .*\\) = (0|-EINVAL)$`),
    ours: / = -EOPNOTSUPP$/,
    reason,
  },
  {
    sides: SIDES,
    scenario: STREAM,
    kernel: new RegExp(`getsockopt\\(\\S+ (${options}), \\d+\\) = \\d+ `),
    ours: / = (0 -|\d+ [0f]+)$/,
    reason,
  },
];

/** Options that streams of an engine do not have. */
const absent = (options: string, reason: string): Explanation => ({
  sides: SIDES,
  scenario: STREAM,
  kernel: new RegExp(`etsockopt\\(\\S+ (${options}), `),
  ours: / = -ENOPROTOOPT$/,
  reason,
});

export const EXPLAINED_STREAMS: readonly Explanation[] = [
  ...refused(
    "SO_TIMESTAMPING|SO_TIMESTAMPING_NEW",
    "SO_TIMESTAMPING: there are no stamps of transmission, nor of hardware",
  ),
  ...refused("SO_ZEROCOPY", "SO_ZEROCOPY: what is sent is copied into a frame, and there is nothing to report"),
  ...refused(
    "TCP_FASTOPEN|TCP_FASTOPEN_CONNECT|TCP_FASTOPEN_NO_COOKIE|TCP_FASTOPEN_KEY",
    "TCP Fast Open (RFC 7413) is not built",
  ),
  ...refused("TCP_SAVE_SYN", "TCP_SAVE_SYN: the headers of a SYN are not kept"),
  ...refused("TCP_TX_DELAY", "TCP_TX_DELAY: delays are emulated by tc-netem(8)"),
  ...refused("IP_OPTIONS", "IP_OPTIONS of TCP: no segment has options of IP"),
  ...refused(
    "IP_RECVERR|IPV6_RECVERR",
    "IP_RECVERR of TCP: an ICMP error ends a handshake or waits for a timeout, and is told by SO_ERROR alone",
  ),
  ...refused(
    "IP_TRANSPARENT|IPV6_TRANSPARENT",
    "IP_TRANSPARENT of TCP: addresses that are not the host's are routed to the kernel's sockets",
  ),
  ...refused(
    "IPV6_HOPOPTS|IPV6_RTHDRDSTOPTS|IPV6_RTHDR|IPV6_DSTOPTS|IPV6_6|IPV6_PKTINFO",
    "IPV6_PKTINFO, IPV6_HOPOPTS, _RTHDR, _DSTOPTS of TCP: no segment has extension headers, and each has the address it was bound to",
  ),
  {
    sides: SIDES,
    scenario: /(IPV6_HOPOPTS|IPV6_RTHDRDSTOPTS|IPV6_RTHDR|IPV6_DSTOPTS), every value/,
    kernel: /etsockopt\(\S+ IPV6_(HOPOPTS|RTHDRDSTOPTS|RTHDR|DSTOPTS), /,
    ours: / = (-EINVAL|0 -)$/,
    reason:
      "IPV6_PKTINFO, IPV6_HOPOPTS, _RTHDR, _DSTOPTS of TCP: no segment has extension headers, and each has the address it was bound to",
  },
  {
    sides: SIDES,
    scenario: /IPV6_FLOWLABEL_MGR, every value/,
    kernel: /IPV6_FLOWLABEL_MGR/,
    ours: / = -EINVAL$/,
    reason: "IPV6_FLOWLABEL_MGR: labels are leased of the kernel, and segments have none",
  },
  {
    sides: ["memory"],
    scenario: /SO_NETNS_COOKIE, every value/,
    kernel: /SO_NETNS_COOKIE/,
    ours: / = -ENOPROTOOPT$/,
    reason: "a wire in memory is in no network namespace",
  },
  ...refused("IPV6_FLOWINFO_SEND", "IPV6_FLOWINFO_SEND of TCP: segments have no flow label"),
  {
    sides: SIDES,
    scenario: STREAM,
    kernel: /etsockopt\(\S+ IPV6_ADDR_PREFERENCES, /,
    ours: / = (-EOPNOTSUPP|4 00050000)$/,
    reason: "IPV6_ADDR_PREFERENCES of TCP: source addresses are chosen by the rules alone",
  },
  {
    sides: SIDES,
    scenario: STREAM,
    kernel: /etsockopt\(\S+ (TCP_RTO_MAX_MS|TCP_RTO_MIN_US|TCP_DELACK_MAX_US), /,
    ours: / = (-EOPNOTSUPP|4 c0d40100|4 400d0300)$/,
    reason: "TCP_RTO_MAX_MS, TCP_RTO_MIN_US, TCP_DELACK_MAX_US: the bounds of timers are an engine's, not a socket's",
  },
  {
    sides: SIDES,
    scenario: /TCP_ZEROCOPY_RECEIVE/,
    kernel: /getsockopt\(\S+ TCP_ZEROCOPY_RECEIVE, /,
    ours: / = -EINVAL$/,
    reason: "TCP_ZEROCOPY_RECEIVE: it maps pages of the kernel's",
  },
  {
    sides: SIDES,
    scenario: /SO_MAX_PACING_RATE, every value/,
    kernel: / = 8 0101010101010101$/,
    ours: / = 8 0001010101010101$/,
    reason: "SO_MAX_PACING_RATE above 2^53 bytes a second is told without its last bits",
  },
  absent("IPV6_1", "IPV6_ADDRFORM: a socket stays of its family"),
  absent(
    "IPV6_64|IPV6_65|IPV6_68|IPV6_69|IPV6_80",
    "the tables of ip6tables are set up, and asked, with another socket",
  ),
  absent("IP_16|IP_17|IPV6_34|IPV6_35", "IP_IPSEC_POLICY, IP_XFRM_POLICY: IPsec is the kernel's"),
  {
    sides: SIDES,
    scenario: STREAM,
    kernel: /SO_SNDBUF, \d+\) = \d 00b4/,
    ours: / = \d 00(54|40)/,
    reason:
      "SO_SNDBUF of what is a connection, or has been one: the kernel counts what its struct sk_buff takes, which depends on how it was built",
  },
  {
    sides: SIDES,
    scenario: /accepted: options of IPPROTO_IP/,
    kernel: /_MULTICAST_(TTL|HOPS|IF), 4\) = 4 /,
    ours: / = 4 0[01]000000$/,
    reason:
      "IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_IF of a TCP socket mean nothing: where it was accepted the kernel leaves there what the handshake's last segment had",
  },
  {
    sides: SIDES,
    scenario: /socket: types and protocols/,
    kernel: /socket\(AF_INET6?, 10, |close\(/,
    ours: /-ESOCKTNOSUPPORT$/,
    reason: "SOCK_PACKET of AF_INET is not built: AF_PACKET stands in its place since Linux 2.2 (packet(7))",
  },
  {
    sides: SIDES,
    scenario: /connect: to any address/,
    kernel: /-EINPROGRESS$/,
    ours: /-ENETUNREACH$/,
    reason: "the loopback interface is the kernel's: no socket of the engine connects to 127.0.0.1 or ::1",
  },
  {
    sides: SIDES,
    scenario: /reads gso_segs of its context$/,
    kernel: / = (0 01000000|1 02) ?$/,
    ours: / = (0 00000000|-EAGAIN)$/,
    ofScenario: true,
    reason: "gso_segs of a segment over veth is its sender's: a packet of a NIC, or of AF_XDP, has none",
  },
  {
    sides: SIDES,
    scenario: /(connect|connect twice|TIME_WAIT: while the listener is there|both families: .*)$/,
    kernel: /(getsockname|getpeername|accept)\(.*\) = 0.* from \S+:p\d+ /,
    ours: /(getsockname|getpeername|accept)\(.*\) = 0.* from \S+:p\d+ /,
    ofScenario: true,
    reason: "a port that is chosen anew may be the one that the socket had before",
  },
];
