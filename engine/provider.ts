/**
 * What serves the sockets: the engine, over AF_XDP on an interface, or the kernel's own sockets, on machines where AF_XDP
 * cannot be had. "auto" tries the one and falls back to the other, and says why.
 */
import { SysError } from "af-xdp-bindings";
import { KERNEL_FRAMES_MAX } from "../sockets/kernel/frames.ts";
import { type AttachMode, CannotServe, type EngineConfig, type EngineOptions, uselessOnSockets } from "./config.ts";
import { NetNs } from "./host/netns.ts";
import { Rtnl } from "./host/rtnetlink.ts";
import { RTN_UNICAST } from "./host/rtnetlink-uapi.ts";
import { AF_XDP_NEEDS, howToGet, lacking } from "./privileges.ts";

export type Provider = "engine" | "kernel";
export type ProviderOption = Provider | "auto";

/** What a kernel without AF_XDP, one that is too old, or a policy against it says to one of the calls. */
const UNSUPPORTED: readonly string[] = [
  "EPERM",
  "EACCES",
  "EAFNOSUPPORT",
  "EPROTONOSUPPORT",
  "ENOPROTOOPT",
  "ENOSYS",
  "ENOMEM",
  "ENOBUFS",
];

/** What a driver says to a mode, too. */
const OF_MODES: readonly string[] = ["EOPNOTSUPP", "EINVAL"];

/** Why AF_XDP need not be tried, or "": nothing to serve, or no right to. */
export function obstacle(config: EngineConfig): string {
  const missing = lacking(AF_XDP_NEEDS);
  if (missing.length > 0) return howToGet(missing);
  return config.interface === null ? NO_INTERFACE : "";
}

export const NO_INTERFACE = "no default route leads over an interface: name one";

/** Whether an errno says that AF_XDP cannot be had, rather than that something else is wrong. */
export function refusedWith(code: string, mode: AttachMode): boolean {
  // A mode that was asked for by name is refused by name.
  return UNSUPPORTED.includes(code) || (OF_MODES.includes(code) && mode === "auto");
}

/** Why AF_XDP cannot be had, as an attempt has shown; or null where the attempt failed for another reason. */
export function refusal(error: unknown, config: EngineConfig, named: boolean): string | null {
  // Own addresses are the engine's alone: no socket of the kernel can stand in.
  if (config.addresses.length > 0) return null;
  if (error instanceof CannotServe) return error.message;
  if (!(error instanceof SysError)) return null;
  // Nobody asked for this interface: whatever stands in the way there is no reason to fail.
  return refusedWith(error.code, config.mode) || !named ? error.message : null;
}

/**
 * Makes do with kernel sockets where the engine was asked for first. Returns why they serve, and which of the options are
 * without effect.
 */
export function settleForSockets(config: EngineConfig, options: EngineOptions, reason: string): string {
  const lost: string[] = uselessOnSockets(options).map(({ name }) => name);
  if (config.frames > KERNEL_FRAMES_MAX) {
    lost.push(`frames ${config.frames} (${KERNEL_FRAMES_MAX} a thread)`);
    config.frames = KERNEL_FRAMES_MAX;
  }
  return lost.length === 0 ? reason : `${reason}; without effect there: ${lost.join(", ")}`;
}

/** As defaultInterfaceOf(), in a namespace by its path, or the thread's. */
export function defaultInterface(netnsPath: string | null): string | null {
  const netns = netnsPath === null ? NetNs.current() : NetNs.open(netnsPath);
  const rtnl = netns.run(() => new Rtnl());
  try {
    return defaultInterfaceOf(rtnl);
  } finally {
    rtnl.close();
    netns.close();
  }
}

/** The Ethernet interface of a namespace's default route, over IPv4 or else IPv6; null where there is none. */
export function defaultInterfaceOf(rtnl: Rtnl): string | null {
  const hops = rtnl
    .routes()
    .filter(({ prefixLength, sourceLength, type }) => prefixLength === 0 && sourceLength === 0 && type === RTN_UNICAST)
    .toSorted((a, b) => a.family - b.family || a.priority - b.priority)
    .flatMap(({ nextHops }) => nextHops);
  for (const { ifindex } of hops) {
    const link = rtnl.findLink(ifindex);
    if (link !== null && link.mac.length === 6) return link.name;
  }
  return null;
}
