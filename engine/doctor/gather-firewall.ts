/**
 * What filters packets on their way through the kernel's stack: base chains of nf_tables, tables of iptables-legacy,
 * connection tracking.
 *
 * Layouts: include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h, Linux 6.18. Integers are in network byte order.
 */
import { NetlinkSocket, nest, parseAttributes, text, viewOf } from "../host/netlink.ts";
import type { FirewallChain, FirewallFacts } from "./facts.ts";
import { readable, readNumber, readText } from "./read.ts";

const NETLINK_NETFILTER = 12;
const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_GETCHAIN = 4;
const NFTA_CHAIN_TABLE = 1;
const NFTA_CHAIN_NAME = 3;
const NFTA_CHAIN_HOOK = 4;
const NFTA_CHAIN_POLICY = 5;
const NFTA_CHAIN_TYPE = 7;
const NFTA_HOOK_HOOKNUM = 1;
const NF_DROP = 0;
/** struct nfgenmsg { u8 family, version; be16 res_id } */
const NFGEN_HDRLEN = 4;

/** NFPROTO_* whose base chains sit at the hooks of an IP stack; ARP, bridges and netdev have hooks of their own. */
const FAMILIES = new Map([
  [1, "inet"],
  [2, "ip"],
  [10, "ip6"],
]);
/** enum nf_inet_hooks */
const HOOKS = ["prerouting", "input", "forward", "output", "postrouting"] as const;

/** In the thread's namespace. */
export function gatherFirewall(): FirewallFacts {
  const net = "/proc/thread-self/net";
  const legacy = [`${net}/ip_tables_names`, `${net}/ip6_tables_names`].flatMap((path) =>
    (readText(path) ?? "").split("\n"),
  );
  const count = readNumber("/proc/sys/net/netfilter/nf_conntrack_count");
  const max = readNumber("/proc/sys/net/netfilter/nf_conntrack_max");
  return {
    chains: readable(baseChains, null),
    legacyTables: [...new Set(legacy.filter((name) => name !== ""))],
    conntrack: count === null || max === null ? null : { count, max },
  };
}

/** Filtering chains with a hook. Throws SysError EPERM without CAP_NET_ADMIN, EINVAL where the kernel has no nf_tables. */
function baseChains(): FirewallChain[] {
  const socket = new NetlinkSocket(NETLINK_NETFILTER);
  try {
    const type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETCHAIN;
    const messages = socket.dump("NFT_MSG_GETCHAIN", type, new Uint8Array(NFGEN_HDRLEN));
    return messages.flatMap(({ payload }) => decodeChain(payload));
  } finally {
    socket.close();
  }
}

function decodeChain(payload: Uint8Array): FirewallChain[] {
  const family = FAMILIES.get(payload[0] as number);
  const attributes = parseAttributes(payload, NFGEN_HDRLEN);
  const number = bigEndian(nest(attributes, NFTA_CHAIN_HOOK).get(NFTA_HOOK_HOOKNUM));
  const hook = HOOKS[number];
  if (family === undefined || hook === undefined || text(attributes, NFTA_CHAIN_TYPE) !== "filter") return [];
  return [
    {
      family,
      table: text(attributes, NFTA_CHAIN_TABLE),
      name: text(attributes, NFTA_CHAIN_NAME),
      hook,
      drops: bigEndian(attributes.get(NFTA_CHAIN_POLICY)) === NF_DROP,
    },
  ];
}

/** A be32 attribute, -1 where it is absent. */
const bigEndian = (value: Uint8Array | undefined): number =>
  value === undefined ? -1 : viewOf(value).getUint32(0, false);
