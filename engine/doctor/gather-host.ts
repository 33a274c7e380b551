/** Facts about the machine and this process on it. */
import { existsSync } from "node:fs";
import { release } from "node:os";
import { effectiveCapabilities } from "../host/capabilities.ts";
import type { Link } from "../host/rtnetlink-decode.ts";
import { IFF_UP } from "../host/rtnetlink-uapi.ts";
import { defaultInterfaceOf } from "../provider.ts";
import { fileOf, isGlobal } from "./change.ts";
import { type HostFacts, type Limit, type LinkFacts, type Plan, type Softnet, SYSCTLS, type Sysctl } from "./facts.ts";
import { gatherCpus } from "./gather-cpus.ts";
import { gatherFirewall } from "./gather-firewall.ts";
import { tryKernel } from "./kernel-trials.ts";
import { ETHERNET, type Probes } from "./probes.ts";
import { readable, readNames, readNumber, readText } from "./read.ts";

/**
 * Call it with the thread in the namespace that is looked at. `global` are the sysctls of the machine, which only the
 * initial namespace shows.
 */
export function gatherHost(plan: Plan, probes: Probes, global: Partial<Record<Sysctl, number | null>>): HostFacts {
  const kernel = release();
  const [major = 0, minor = 0] = kernel.split(".").map((part) => Number.parseInt(part, 10));
  return {
    kernel,
    version: [major, minor],
    ...tryKernel(plan.frames),
    capabilities: effectiveCapabilities(),
    root: process.geteuid?.() === 0,
    // The map of the initial namespace is the identity over all 32 bits (user_namespaces(7)).
    initialUser: /^\s*0\s+0\s+4294967295$/.test(readText("/proc/self/uid_map") ?? ""),
    seccomp: /^Seccomp:\s*[12]$/m.test(readText("/proc/self/status") ?? ""),
    container: container(),
    readOnly: ["/proc/sys", "/sys"].filter((path) => isReadOnly(path, readText("/proc/self/mounts") ?? "")),
    memlock: limit("Max locked memory"),
    nofile: limit("Max open files"),
    sysctls: { ...(readSysctls((name) => !isGlobal(name)) as Record<Sysctl, number | null>), ...global },
    cpus: gatherCpus(),
    softnet: softnet(readText("/proc/net/softnet_stat") ?? ""),
    irqbalance: processNamed("irqbalance"),
    firewall: gatherFirewall(),
    defaultInterface: readable(() => defaultInterfaceOf(probes.rtnl), null),
    links: probes.rtnl.links().map((link) => brief(link, probes)),
  };
}

/** Those of SYSCTLS that are wanted, null where they cannot be read. */
export function readSysctls(wanted: (name: Sysctl) => boolean): Partial<Record<Sysctl, number | null>> {
  const names = SYSCTLS.filter(wanted);
  return Object.fromEntries(names.map((name) => [name, readNumber(fileOf({ kind: "sysctl", name }))]));
}

function container(): string {
  if (process.env.KUBERNETES_SERVICE_HOST) return "kubernetes";
  if (existsSync("/.dockerenv")) return "docker";
  if (existsSync("/run/.containerenv")) return "podman";
  return process.env.container ? "container" : "";
}

/** Whether a path is on a read-only mount: "sysfs /sys sysfs ro,nosuid 0 0", the longest and last match counts. */
function isReadOnly(path: string, mounts: string): boolean {
  let best = { length: 0, readOnly: false };
  for (const line of mounts.split("\n")) {
    const [, point = "", , options = ""] = line.split(" ");
    const holds = path === point || path.startsWith(point === "/" ? "/" : `${point}/`);
    if (holds && point.length >= best.length)
      best = { length: point.length, readOnly: options.split(",").includes("ro") };
  }
  return best.readOnly;
}

/** "Max locked memory  8388608  8388608  bytes" of /proc/self/limits. */
function limit(name: string): Limit {
  const line = (readText("/proc/self/limits") ?? "").split("\n").find((text) => text.startsWith(name));
  const [soft, hard] = line?.slice(name.length).trim().split(/\s+/) ?? [];
  const bytes = (text: string | undefined): number =>
    text === undefined || text === "unlimited" ? Number.POSITIVE_INFINITY : Number(text);
  return { soft: bytes(soft), hard: bytes(hard) };
}

/** /proc/net/softnet_stat: hexadecimal columns; the 2nd dropped, the 3rd squeezed, the 13th the CPU (Linux 5.10). */
export function softnet(text: string): Softnet[] {
  const lines = text.split("\n").filter((line) => line !== "");
  return lines.map((line, i) => {
    const columns = line.split(" ").map((word) => Number.parseInt(word, 16));
    return { cpu: columns[12] ?? i, dropped: columns[1] ?? 0, squeezed: columns[2] ?? 0 };
  });
}

/** Number of a process of this name, 0 for none. */
function processNamed(name: string): number {
  const found = readNames("/proc").find((pid) => /^\d+$/.test(pid) && readText(`/proc/${pid}/comm`) === name);
  return Number(found ?? 0);
}

function brief(link: Link, { ethtool, netdev, defaultRoutes }: Probes): LinkFacts {
  const { xdp } = link;
  return {
    name: link.name,
    ethernet: link.type === ETHERNET && link.mac.length === 6,
    up: (link.flags & IFF_UP) !== 0,
    kind: link.kind,
    driver: readable(() => ethtool.driver(link.name).driver, ""),
    rxQueues: link.rxQueues,
    xdpFeatures: readable(() => netdev?.features(link.ifindex).xdpFeatures ?? null, null),
    defaultRoute: defaultRoutes.has(link.ifindex),
    programs: [xdp.driverProgramId, xdp.genericProgramId, xdp.hardwareProgramId].filter((id) => id !== 0).length,
  };
}
