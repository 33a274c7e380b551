/**
 * Findings about offloads: what the device, or the kernel that sends, does to frames so that the engine sees other ones
 * than were on the wire.
 */
import { mayBePartial } from "../interface.ts";
import { inShell, setFeatures, shellLine } from "./change.ts";
import type { Facts, Features, InterfaceFacts, NeighbourDevice } from "./facts.ts";
import { type Finding, info, list, type Mend, ok, onHost, warn } from "./finding.ts";

/** Offloads that merge received frames in hardware, before native XDP. */
const HARDWARE_MERGE = ["rx-lro", "rx-gro-hw"] as const;
/** Those that merge UDP datagrams, in the software of the device that received them. */
const DATAGRAM_MERGE = ["rx-gro-list", "rx-udp-gro-forwarding"] as const;
const VLAN_STRIP = ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"] as const;
const VLAN_INSERT = ["tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"] as const;
const CHECKSUM = ["tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6"] as const;
const DATAGRAM_SEGMENTATION = ["tx-udp-segmentation"] as const;

export function offloadFindings({ interface: dev }: Facts): Finding[] {
  if (dev === null || !dev.ethernet) return [];
  return [merging(dev), loweredMerging(dev), vlan(dev), partialChecksums(dev), peer(dev)].flat();
}

const active = (features: Features, names: readonly string[]): string[] =>
  names.filter((name) => features[name]?.active === true);

/** What turns the active ones of a list off; or why that cannot be. */
function off({ name, netns, features }: NeighbourDevice, names: readonly string[]): Mend {
  const changeable = active(features, names).filter((feature) => features[feature]?.changeable);
  if (changeable.length === 0) return "the driver does not let it be turned off";
  const change = setFeatures(name, Object.fromEntries(changeable.map((feature) => [feature, false])));
  if (netns === null) return { changes: [change] };
  // Of another namespace, and so of another host as far as its administrator is concerned: tune leaves it alone.
  return onHost(inShell(shellLine(change), { netns, sysfs: false }));
}

function merging({ name, features }: InterfaceFacts): Finding {
  const merges = active(features, HARDWARE_MERGE);
  if (merges.length === 0) return ok("merging", "no frames are merged in hardware (LRO, GRO_HW)");
  return warn(
    "merging",
    `the hardware merges frames: ${list(merges)}`,
    "drivers refuse native XDP meanwhile, or turn it off themselves; skb mode turns it off",
    off({ name, netns: null, features }, HARDWARE_MERGE),
  );
}

/** On a bridge, bond or VLAN device the frames come through the GRO of the device below. */
function loweredMerging({ name, lowers }: InterfaceFacts): Finding[] {
  return lowers.flatMap((lower) => {
    const merges = active(lower.features, ["rx-gro"]).length > 0 ? active(lower.features, DATAGRAM_MERGE) : [];
    if (merges.length === 0) return [];
    return [
      warn(
        "lower-merging",
        `${lower.name}, below ${name}, merges datagrams: ${list(merges)}`,
        "one frame of several datagrams fits no chunk of the engine's: it is lost, counted in IpInLong",
        off(lower, DATAGRAM_MERGE),
      ),
    ];
  });
}

/** veth takes no tag off: its peer may keep it beside the frame, see there. */
function vlan({ name, kind, features, uppers }: InterfaceFacts): Finding[] {
  if (kind === "veth") return [];
  const strips = active(features, VLAN_STRIP);
  if (strips.length === 0) return [ok("rx-vlan", "VLAN tags are in the frames that the program sees")];
  const found = `the hardware takes VLAN tags off frames: ${list(strips)}`;
  const cost = `a frame of any VLAN looks untagged to the program: a datagram for a port bound on ${name} may be one of another VLAN`;
  if (!uppers.some((upper) => upper.kind === "vlan")) return [info("rx-vlan", found, cost)];
  return [warn("rx-vlan", found, cost, off({ name, netns: null, features }, VLAN_STRIP))];
}

function partialChecksums({ kind, driver }: InterfaceFacts): Finding {
  const what = kind || driver || "this driver";
  if (!mayBePartial({ link: { kind }, driver })) {
    return ok("checksums", `frames on ${what} carry finished checksums: others are dropped as UdpInCsumErrors`);
  }
  return info(
    "checksums",
    `the sender's kernel may leave checksums unfinished on ${what}`,
    "the engine accepts those (UdpPartialChecksums); nothing protects such a payload on its way through memory",
  );
}

/** The other end of a veth pair is the sender: its transmit offloads are what the engine receives. */
function peer({ peer }: InterfaceFacts): Finding[] {
  if (peer === null) return [];
  if (peer === "unseen") {
    return [
      info(
        "veth-peer",
        "the other end of the veth pair is in a namespace that cannot be entered: its offloads are not known",
        "with tx-udp-segmentation a sender's UDP_SEGMENT makes one frame of several datagrams, which is lost; with " +
          "tx-vlan-hw-insert tags are out of the program's sight",
      ),
    ];
  }
  return [segmentation(peer), insertedVlan(peer), unfinishedChecksums(peer)];
}

function segmentation(peer: NeighbourDevice): Finding {
  const on = active(peer.features, DATAGRAM_SEGMENTATION);
  if (on.length === 0) return ok("peer-segmentation", `the peer ${peer.name} sends datagrams one by one`);
  return warn(
    "peer-segmentation",
    `the peer ${peer.name} lets senders hand over several datagrams as one frame: ${list(on)}`,
    "such a frame (of UDP_SEGMENT, as QUIC servers use it) fits no chunk of the engine's: lost, counted in IpInLong",
    off(peer, DATAGRAM_SEGMENTATION),
  );
}

function insertedVlan(peer: NeighbourDevice): Finding {
  const on = active(peer.features, VLAN_INSERT);
  if (on.length === 0) return ok("peer-vlan", `the peer ${peer.name} writes VLAN tags into its frames`);
  return warn(
    "peer-vlan",
    `the peer ${peer.name} keeps VLAN tags beside its frames: ${list(on)}`,
    "a frame of any VLAN looks untagged to the program",
    off(peer, VLAN_INSERT),
  );
}

function unfinishedChecksums(peer: NeighbourDevice): Finding {
  const on = active(peer.features, CHECKSUM);
  if (on.length === 0) return ok("peer-checksums", `the peer ${peer.name} finishes its checksums`);
  const found = `the peer ${peer.name} leaves checksums unfinished: ${list(on)}`;
  return info("peer-checksums", found, "accepted, and counted as UdpPartialChecksums");
}
