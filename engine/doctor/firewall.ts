/**
 * Findings about what filters packets in the kernel's stack. The engine's own packets pass by it both ways; what goes
 * through the placeholders (fragments, multicast, the first datagrams to a new neighbour) does not.
 */
import type { Facts, FirewallChain, HostFacts, InterfaceFacts } from "./facts.ts";
import { type Finding, info, list, ok, warn } from "./finding.ts";

const BYPASS = "the engine receives and sends past it: rules for its ports do not apply";

export function firewallFindings({ host, interface: dev }: Facts): Finding[] {
  return [chains(host), legacy(host), conntrack(host), reversePath(dev)].flat();
}

function chains({ firewall }: HostFacts): Finding {
  const { chains } = firewall;
  if (chains === null) return info("firewall", "nf_tables cannot be listed: no CAP_NET_ADMIN, or not in this kernel");
  const ours = chains.filter(({ hook }) => hook === "input" || hook === "output" || hook === "prerouting");
  if (ours.length === 0) return ok("firewall", "nf_tables filters neither input nor output");
  const words = (some: readonly FirewallChain[]): string =>
    list(some.map(({ family, table, name, hook }) => `${family} ${table} ${name} (${hook})`));
  const dropping = ours.filter(({ drops }) => drops);
  if (dropping.length === 0) return info("firewall", `nf_tables filters: ${words(ours)}`, BYPASS);
  return warn(
    "firewall",
    `nf_tables drops what no rule accepts: ${words(dropping)}`,
    `${BYPASS}; what comes through a placeholder is dropped unless its port is accepted`,
    "which ports to accept is yours to say: nft add rule FAMILY TABLE CHAIN udp dport PORT accept",
  );
}

function legacy({ firewall }: HostFacts): Finding[] {
  const { legacyTables } = firewall;
  if (legacyTables.length === 0) return [];
  return [info("iptables", `iptables has tables: ${list(legacyTables)}`, BYPASS)];
}

/** Nine tenths: then a burst of datagrams through the kernel fills it. */
function conntrack({ firewall }: HostFacts): Finding[] {
  const { conntrack } = firewall;
  if (conntrack === null) return [];
  const found = `connection tracking has ${conntrack.count} of ${conntrack.max} entries`;
  if (conntrack.count < conntrack.max * 0.9) return [ok("conntrack", found)];
  return [
    warn(
      "conntrack",
      found,
      "datagrams through placeholders are dropped while it is full; the engine's own packets are not tracked",
      {
        changes: [
          { target: { kind: "sysctl", name: "net.netfilter.nf_conntrack_max" }, value: String(conntrack.max * 2) },
        ],
      },
    ),
  ];
}

function reversePath(dev: InterfaceFacts | null): Finding[] {
  if (dev === null || dev.rpFilter === null) return [];
  const found = `rp_filter is ${dev.rpFilter} on ${dev.name}`;
  if (dev.rpFilter !== 1) return [ok("rp-filter", found)];
  const cost =
    "the kernel drops datagrams whose answers would leave elsewhere; the engine does not look, and takes them";
  return [info("rp-filter", `${found}: strict`, cost)];
}
