/** Differences from the kernel that have a reason. A reason that no difference needs any more fails the run. */

import { EXPLAINED_STREAMS } from "./explained-streams.ts";

export interface Explanation {
  /** Sides it holds for. */
  readonly sides: readonly string[];
  readonly scenario: RegExp;
  /** The kernel's line and ours. */
  readonly kernel: RegExp;
  readonly ours: RegExp;
  /** As it stands in docs/socket7.md. */
  readonly reason: string;
  /** It comes of how the scenario is written, and says nothing of sockets. */
  readonly ofScenario?: boolean;
}

const ALL = ["process", "engine", "memory"];

/** An option that is refused where the kernel takes it: EOPNOTSUPP, and it goes on being told as not set. */
const refused = (option: string, reason: string): Explanation[] => [
  {
    sides: ALL,
    scenario: /./,
    kernel: new RegExp(`setsockopt\\(\\S+ ${option}, .*\\) = 0$`),
    ours: / = -EOPNOTSUPP$/,
    reason: `${option}: ${reason}`,
  },
  {
    sides: ALL,
    scenario: new RegExp(`${option}$`),
    kernel: new RegExp(`getsockopt\\(\\S+ ${option}, `),
    ours: / = \d+ 0+$/,
    reason: `${option}: told as not set, for it was refused`,
  },
];

/** Options that no socket of the engine has, whatever the kernel says of them: by the numbers or names of traces. */
const absent = (options: string, reason: string): Explanation => ({
  sides: ["engine", "memory"],
  scenario: new RegExp(`: (${options})$`),
  kernel: /./,
  ours: / = -ENOPROTOOPT$/,
  reason,
});

/** What a wire in memory has otherwise, or not at all. */
const onWire = (scenario: RegExp, kernel: RegExp, reason: string): Explanation => ({
  sides: ["memory"],
  scenario,
  kernel,
  ours: /./,
  reason,
});

/** What a kernel's socket answers where there is one, and nobody where there is none. */
const KERNEL_ALONE =
  "SO_(DONTROUTE|INQ|MAX_PACING_RATE|NETNS_COOKIE|PEERCRED|PEERGROUPS|PEERNAME|PEERSEC)|" +
  "IP_(OPTIONS|RECVFRAGSIZE|TRANSPARENT|UNICAST_IF)|UDP_CORK|" +
  "IPV6_(ADDR_PREFERENCES|AUTOFLOWLABEL|DSTOPTS|FLOWINFO_SEND|FLOWLABEL_MGR|HOPOPTS|JOIN_ANYCAST|LEAVE_ANYCAST|MTU|PATHMTU|" +
  "PKTINFO|RECVFRAGSIZE|ROUTER_ALERT|ROUTER_ALERT_ISOLATE|RTHDR|RTHDRDSTOPTS|TRANSPARENT|UNICAST_IF|FLOWINFO)";

/** Of a wire in memory, where there is no kernel to ask. */
const ON_WIRE: readonly Explanation[] = [
  {
    sides: ["memory"],
    scenario: new RegExp(`: (${KERNEL_ALONE}|SO_TIMESTAMP\\w*)$`),
    kernel: /./,
    ours: / = -(ENOPROTOOPT|EINVAL)$/,
    reason: "refused on a wire in memory: only a kernel could obey or answer",
  },
  onWire(/: IP(V6)?_MULTICAST_IF$/, /MULTICAST_IF/, "the interface has an index of the wire's own"),
  onWire(/control: |hears IPv4/, /PKTINFO/, "the interface has an index of the wire's own"),
  onWire(/source address and interface/, /sendmsg|poll/, "the interface has an index of the wire's own"),
  onWire(
    /nowhere|SO_DONTROUTE/,
    /0x4 |SO_DONTROUTE|poll|recv/,
    "MSG_DONTROUTE, SO_DONTROUTE: the kernel alone has routes to pass over",
  ),
  onWire(/^IPv\d: ioctl/, /ioctl/, "interfaces by name are the kernel's"),
  onWire(/link-local/, /./, "there is one interface, which link-local addresses need not name"),
];

/**
 * Scenarios of what only a kernel has: stamps of the XDP program, the beginning of a datagram that is kept (MSG_MORE, UDP_CORK), routes
 * to pass over; a buffer that counts struct sk_buff, and is full sooner; and those that need more errors a second than a host reports, ours too.
 */
export const WITH_KERNEL_ALONE =
  /with a kernel|TIMESTAMP|everything at once|hears IPv4|SIOCGSTAMP: not|MSG_MORE|UDP_CORK|flags that change|error queue|SO_SELECT_ERR|nobody listens|tcp: SO_SNDTIMEO/;

export const EXPLAINED: readonly Explanation[] = [
  ...EXPLAINED_STREAMS,
  {
    sides: ["kernel files"],
    scenario: /: a queued signal$/,
    kernel: /^signals: .*true/,
    ours: /^signals: .*false/,
    reason: "signals for a descriptor of the kernel come from the kernel, and name the kernel's descriptor",
  },
  {
    sides: ["process", "kernel files"],
    scenario: /control messages that are malformed/,
    kernel: /getsockopt\(\S+ SO_TYPE, 4\) = -ENOTSOCK$/,
    ours: /SO_TYPE/,
    ofScenario: true,
    reason: "the number that the scenario guesses is another file's in each process",
  },
  ...refused("SO_TIMESTAMPING", "of TCP, of AF_UNIX and without a kernel there are no stamps of transmission"),
  ...refused("SO_TIMESTAMPING_NEW", "of TCP, of AF_UNIX and without a kernel there are no stamps of transmission"),
  // Nothing of what is set tells it apart from what it was before.
  refused("SO_TXTIME", "nothing is sent at a time that is given")[0],
  ...refused("SO_ZEROCOPY", "what is sent is copied into a frame, and there is nothing to report"),
  ...refused("UDP_ENCAP", "tunnels are the kernel's"),
  absent(
    "IP_RECVOPTS|IP_RETOPTS|IPV6_[3456]|IPV6_53|IPV6_56|IPV6_58",
    "IP_RECVOPTS, IP_RETOPTS, IPV6_RECVHOPOPTS, _RECVRTHDR, _RECVDSTOPTS and their forebears: options and extension headers of packets are not told",
  ),
  absent("IP_26|IPV6_31", "IP_RECVERR_RFC4884: errors are told without the extensions of ICMP"),
  absent("IP_16|IP_17|IP_18|IPV6_34", "IP_IPSEC_POLICY, IP_XFRM_POLICY, IP_PASSSEC: IPsec and labels are the kernel's"),
  absent("IPV6_64|IPV6_65|IPV6_68|IPV6_69", "the tables of ip6tables are set up with another socket"),
  absent("IPV6_1", "IPV6_ADDRFORM: a socket stays of its family"),
  absent("IPV6_60", "IPV6_RECVPATHMTU: path MTUs are told by IPV6_MTU, IPV6_PATHMTU and the error queue"),
];

/** Of a wire in memory: what holds for every engine, and what for want of a kernel. */
export const WITHOUT_KERNEL: readonly Explanation[] = [...ON_WIRE, ...EXPLAINED];
