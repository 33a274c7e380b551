/** Finding an interface and attaching the steering program to it, in the mode that serves it best. */
import { type Link, SysError } from "af-xdp-bindings";
import { type AttachMode, CannotServe } from "./config.ts";
import { Ethtool } from "./host/ethtool.ts";
import { Rtnl } from "./host/rtnetlink.ts";
import type { Link as HostLink } from "./host/rtnetlink-decode.ts";
import type { Steering } from "./steering/program.ts";
import type { LinkDescriptor } from "./wiring.ts";

export interface FoundInterface {
  readonly link: HostLink;
  readonly driver: string;
  /** Receive queues in use: devices are made with more than they use, and no socket can be bound to the others. */
  readonly queues: number;
}

/** As ETHTOOL_GCHANNELS has it; drivers without it use all that the device was made with. */
export function activeQueues(ethtool: Ethtool, { name, rxQueues }: HostLink): number {
  try {
    const { rx, combined } = ethtool.channels(name);
    return Math.min(rx + combined, rxQueues) || rxQueues;
  } catch (error) {
    if (error instanceof SysError) return rxQueues;
    throw error;
  }
}

/** include/uapi/linux/if_arp.h */
const ARPHRD_ETHER = 1;

/** What the choices below depend on. */
export interface DeviceKind {
  readonly link: Pick<HostLink, "kind">;
  readonly driver: string;
}

/** Kinds of interface and drivers whose frames may carry checksums that the sending kernel left to hardware. */
const PARTIAL = ["veth", "tun", "bridge", "macvlan", "ipvlan", "virtio_net", "xen_netfront", "vmxnet3", "hv_netvsc"];

/** Looks the interface up in the thread's namespace. Throws SysError ENODEV, RangeError where it cannot serve. */
export function findInterface(name: string): FoundInterface {
  const rtnl = new Rtnl();
  const ethtool = new Ethtool();
  try {
    const link = rtnl.link(name);
    if (link.type !== ARPHRD_ETHER || link.mac.length !== 6)
      throw new CannotServe(`interface ${name}: not an Ethernet interface`);
    return { link, driver: driverOf(ethtool, name), queues: activeQueues(ethtool, link) };
  } finally {
    ethtool.close();
    rtnl.close();
  }
}

/** Name of the driver, or "" where it does not tell. */
function driverOf(ethtool: Ethtool, name: string): string {
  try {
    return ethtool.driver(name).driver;
  } catch (error) {
    if (error instanceof SysError) return "";
    throw error;
  }
}

/** Whether frames may come with a checksum that the sender's kernel left unfinished. */
export function mayBePartial({ link, driver }: DeviceKind): boolean {
  return PARTIAL.includes(link.kind) || PARTIAL.includes(driver);
}

/**
 * Mode to attach in. Native is the faster one on NICs; on veth, skb mode is: there the native one copies every frame
 * into a page of its own first (measured, docs/performance.md).
 */
export function chooseMode(mode: AttachMode, { link }: DeviceKind): { attach: "native" | "skb"; reason: string } {
  if (mode === "skb") return { attach: "skb", reason: "asked for" };
  if (mode === "native" || mode === "zerocopy") return { attach: "native", reason: "asked for" };
  if (link.kind === "veth") return { attach: "skb", reason: "faster than native mode on veth" };
  return { attach: "native", reason: "the driver's own hook" };
}

/** Errors by which drivers say that they have no native XDP, or not as they are set up. Mode auto gets over these. */
export const NO_NATIVE: readonly string[] = ["EOPNOTSUPP", "EINVAL"];

/**
 * Attaches the program to the interface, in the thread's namespace. In mode auto a driver without native XDP gets skb
 * mode: `fallback` then says why. Throws SysError.
 */
export function attachSteering(
  steering: Steering,
  link: Pick<LinkDescriptor, "name" | "ifindex">,
  attach: "native" | "skb",
  mode: AttachMode,
): { link: Link; fallback: string } {
  try {
    return { link: steering.attach(link.ifindex, attach), fallback: "" };
  } catch (error) {
    const refused = error instanceof SysError && NO_NATIVE.includes(error.code);
    if (mode !== "auto" || attach === "skb" || !refused) throw error;
    return {
      link: steering.attach(link.ifindex, "skb"),
      fallback: `the driver of ${link.name} refuses native mode (${error.code})`,
    };
  }
}
