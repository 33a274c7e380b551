/** Facts about one interface and what surrounds it. */
import { ip } from "../../sockets/wire/address.ts";
import { type Capability, effectiveCapabilities } from "../host/capabilities.ts";
import { parseCpuList } from "../host/cpu-list.ts";
import type { HashFlow } from "../host/ethtool.ts";
import type { Link } from "../host/rtnetlink-decode.ts";
import { IF_OPER_UNKNOWN, IF_OPER_UP, IFF_LOWER_UP, IFF_UP } from "../host/rtnetlink-uapi.ts";
import { irqAffinity, irqName } from "../host/sysfs.ts";
import { attachedPrograms } from "./attached-programs.ts";
import type { Features, InterfaceFacts, IrqFacts, NapiFacts, NeighbourDevice } from "./facts.ts";
import { noTrials, tryModes } from "./interface-trials.ts";
import { peerOf } from "./peer.ts";
import { ETHERNET, type Probes } from "./probes.ts";
import { readable, readNumber, readText } from "./read.ts";

/** Kinds of device whose IFLA_LINK is the device below. */
const STACKED = ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"];

/** In the thread's namespace. With `attach` false nothing is tried. Throws SysError ENODEV. */
export function gatherInterface(name: string, probes: Probes, attach: boolean): InterfaceFacts {
  const { rtnl, ethtool, netdev } = probes;
  const link = rtnl.link(name);
  const links = rtnl.links();
  const features = featuresOf(probes, name);
  const uppers = uppersOf(link.ifindex, links);
  const programs = readable(() => attachedPrograms(link.ifindex), []);
  const queues = queueCounts(link, probes);
  const up = (link.flags & IFF_UP) !== 0;
  const protection = up ? protectionOf(link, uppers, programs.length, attach, probes) : "it is down";
  // Before the trials: they come and go with the program on some drivers.
  const napis = napisOf(link.ifindex, probes);
  const modes = protection === "" ? tryModes(name, link.ifindex, queues.rx - 1, ethtool) : noTrials(protection);
  const rss = readable(() => ethtool.rss(name), null);
  return {
    name,
    ifindex: link.ifindex,
    kind: link.kind,
    driver: readable(() => ethtool.driver(name).driver, ""),
    ethernet: link.type === ETHERNET && link.mac.length === 6,
    up,
    carrier: (link.flags & IFF_LOWER_UP) !== 0 && [IF_OPER_UP, IF_OPER_UNKNOWN].includes(link.operstate),
    mtu: link.mtu,
    master: links.find(({ ifindex }) => ifindex === link.master)?.name ?? "",
    uppers: uppers.map(({ name, kind }) => ({ name, kind })),
    protection,
    programs,
    xdpFeatures: readable(() => netdev?.features(link.ifindex).xdpFeatures ?? null, null),
    ...modes,
    queues,
    channels: readable(() => ethtool.channels(name), null),
    rings: readable(() => ethtool.rings(name), null),
    rssTable: rss?.table ?? null,
    rssKey: rss?.key.toHex() ?? "",
    hashFields: { udp4: hashOf(probes, name, "udp4"), udp6: hashOf(probes, name, "udp6") },
    napis,
    irqs: irqsOf(name, napis, probes),
    features,
    groFlushTimeoutNs: readable(() => probes.sysfs.groFlushTimeoutNs(name), null),
    napiDeferHardIrqs: readable(() => probes.sysfs.napiDeferHardIrqs(name), null),
    rps: Array.from({ length: queues.rx }, (_, queue) => readable(() => probes.sysfs.rpsCpus(name, queue), [])),
    numaNode: readable(() => probes.sysfs.numaNode(name), -1),
    peer: peerOf(link, probes),
    lowers: lowersOf(link, links, probes),
    rpFilter: rpFilter(name),
  };
}

const featuresOf = ({ ethtool }: Probes, name: string): Features =>
  readable(() => Object.fromEntries(ethtool.features(name)), {});

const hashOf = ({ ethtool }: Probes, name: string, flow: HashFlow): string | null =>
  readable(() => ethtool.hashFields(name, flow), null);

const neighbour = (link: Link, probes: Probes): NeighbourDevice => ({
  name: link.name,
  netns: null,
  features: featuresOf(probes, link.name),
});

/** Devices that receive what this one does not keep: its bridge or bond, VLAN devices on it, and what is above those. */
function uppersOf(ifindex: number, links: readonly Link[]): Link[] {
  const self = links.find((link) => link.ifindex === ifindex);
  const direct = links.filter(
    (link) =>
      link.ifindex === self?.master || (STACKED.includes(link.kind) && link.linkNamespace < 0 && link.link === ifindex),
  );
  return direct.flatMap((link) => [link, ...uppersOf(link.ifindex, links)]);
}

function lowersOf(link: Link, links: readonly Link[], probes: Probes): NeighbourDevice[] {
  const lowers = links.filter(
    (lower) =>
      lower.master === link.ifindex ||
      (STACKED.includes(link.kind) && link.linkNamespace < 0 && link.link === lower.ifindex),
  );
  return lowers.map((lower) => neighbour(lower, probes));
}

const TRIAL_NEEDS: readonly Capability[] = ["CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_BPF"];

/** Why nothing may be attached, or "". */
function protectionOf(
  link: Link,
  uppers: readonly Link[],
  programs: number,
  attach: boolean,
  { defaultRoutes, rtnl }: Probes,
): string {
  if (!attach) return "--no-try was given";
  const held = effectiveCapabilities();
  const missing = TRIAL_NEEDS.filter((name) => !held.has(name));
  if (missing.length > 0) return `it needs ${missing.join(", ")}`;
  if (programs > 0) return "an XDP program is attached";
  const above = [link, ...uppers];
  if (above.some(({ ifindex }) => defaultRoutes.has(ifindex))) return "it carries the default route";
  const client = sshClient();
  const out = client === null ? undefined : readable(() => rtnl.getRoute(client), null)?.nextHops[0]?.ifindex;
  if (above.some(({ ifindex }) => ifindex === out)) return "this SSH session comes over it";
  return "";
}

/** Address of the other end of the SSH session that this runs in, 4 or 16 bytes; null where it runs in none. */
function sshClient(): Uint8Array | null {
  const [address] = process.env.SSH_CONNECTION?.split(" ") ?? [];
  if (address === undefined) return null;
  try {
    return ip(address);
  } catch {
    // An address with a zone, of a link that this host shares with the client.
    return null;
  }
}

function queueCounts(link: Link, { sysfs }: Probes): InterfaceFacts["queues"] {
  const { rx, tx } = readable(() => sysfs.queues(link.name), { rx: link.rxQueues, tx: link.txQueues });
  return { allocatedRx: link.rxQueues, rx: Math.max(rx, 1), tx };
}

function napisOf(ifindex: number, { netdev }: Probes): NapiFacts[] {
  if (netdev === null) return [];
  const queues = readable(() => netdev.queues(ifindex), []).filter(({ type }) => type === "rx");
  return readable(() => netdev.napis(ifindex), []).map(({ id, irq, pid }) => ({
    id,
    queue: queues.find(({ napiId }) => napiId === id)?.id ?? -1,
    irq,
    pid,
    threadCpus: pid === 0 ? [] : threadCpus(pid),
  }));
}

function threadCpus(pid: number): number[] {
  const line = /^Cpus_allowed_list:\s*(.+)$/m.exec(readText(`/proc/${pid}/status`) ?? "")?.[1];
  return line === undefined ? [] : parseCpuList(line);
}

function irqsOf(name: string, napis: readonly NapiFacts[], { sysfs }: Probes): IrqFacts[] {
  const numbers = new Set([...readable(() => sysfs.irqs(name), []), ...napis.map(({ irq }) => irq)]);
  numbers.delete(0);
  return [...numbers]
    .toSorted((a, b) => a - b)
    .map((irq) => {
      const served = irqName(irq);
      return {
        irq,
        name: served,
        queue: napis.find((napi) => napi.irq === irq)?.queue ?? queueOfIrq(served),
        affinity: readable(() => irqAffinity(irq), []),
        effective: readable(() => irqAffinity(irq, true), []),
      };
    });
}

/**
 * Receive queue that a driver's name for an interrupt tells: "eth0-TxRx-3", "ens5-rx-3", "virtio2-input.3",
 * "mlx5_comp3@pci:…". -1 for those of configuration, events and transmission alone.
 */
function queueOfIrq(name: string): number {
  const match = /(?:TxRx-|tx-rx-|rx-|rx|input\.|comp)(\d+)(?:@|$)/i.exec(name);
  return match === null ? -1 : Number(match[1]);
}

function rpFilter(name: string): number | null {
  const conf = "/proc/sys/net/ipv4/conf";
  const own = readNumber(`${conf}/${name}/rp_filter`);
  // Documentation/networking/ip-sysctl.rst: the maximum of both is used.
  return own === null ? null : Math.max(own, readNumber(`${conf}/all/rp_filter`) ?? 0);
}
