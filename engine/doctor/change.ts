/**
 * Changes that `lcore tune` makes: what is set to what, and the shell line that does the same. Applying them is
 * apply.ts; nothing here touches the host.
 */
import { formatCpuList } from "../host/cpu-list.ts";
import type { HashFlow } from "../host/ethtool.ts";
import type { InterfaceSetting } from "../host/sysfs.ts";
import type { Where } from "./facts.ts";

/** A line for a shell, and where that has to be. */
export interface ShellLine {
  readonly line: string;
  /** "net": in the network namespace. "sysfs": there, and with a /sys of it. */
  readonly scope: "host" | "net" | "sysfs";
}

/** A setting's value: text of a file, or numbers and switches by name. */
export type Value = string | Readonly<Record<string, string | number | boolean>>;

/** What can be changed. */
export type Target =
  /** /proc/sys, of the interface's namespace or of the machine: "net.core.bpf_jit_enable". */
  | { readonly kind: "sysctl"; readonly name: string }
  /** /sys/class/net/INTERFACE/SETTING */
  | { readonly kind: "setting"; readonly interface: string; readonly setting: InterfaceSetting }
  /** /proc/irq/IRQ/smp_affinity_list */
  | { readonly kind: "irq"; readonly irq: number }
  /** /sys/devices/system/cpu/cpuCPU/FILE: the governor, an idle state. */
  | { readonly kind: "cpu"; readonly cpu: number; readonly file: string }
  /** Queue counts: rx, tx, combined. */
  | { readonly kind: "channels"; readonly interface: string }
  /** Descriptors a ring: rx, tx. */
  | { readonly kind: "rings"; readonly interface: string }
  /** Offloads by the kernel's names. */
  | { readonly kind: "features"; readonly interface: string }
  /** Fields of the RSS hash of a kind of flow, as letters. */
  | { readonly kind: "hash"; readonly interface: string; readonly flow: HashFlow };

export interface Change {
  readonly target: Target;
  readonly value: Value;
}

export const setSysctl = (name: string, value: number): Change => ({
  target: { kind: "sysctl", name },
  value: String(value),
});

export const setSetting = (name: string, setting: InterfaceSetting, value: number): Change => ({
  target: { kind: "setting", interface: name, setting },
  value: String(value),
});

export const setIrq = (irq: number, cpus: readonly number[]): Change => ({
  target: { kind: "irq", irq },
  value: formatCpuList(cpus),
});

export const setCpu = (cpu: number, file: string, value: string): Change => ({
  target: { kind: "cpu", cpu, file },
  value,
});

export const setChannels = (name: string, value: Readonly<Record<string, number>>): Change => ({
  target: { kind: "channels", interface: name },
  value,
});

export const setRings = (name: string, value: Readonly<Record<string, number>>): Change => ({
  target: { kind: "rings", interface: name },
  value,
});

export const setFeatures = (name: string, value: Readonly<Record<string, boolean>>): Change => ({
  target: { kind: "features", interface: name },
  value,
});

export const setHash = (name: string, flow: HashFlow, fields: string): Change => ({
  target: { kind: "hash", interface: name, flow },
  value: { fields },
});

/** Whether applying it interrupts traffic: drivers stop their queues for it, some take the link down. */
export const interrupts = ({ target }: Change): boolean => target.kind === "channels" || target.kind === "rings";

/** Whether a sysctl is the machine's, of those that are looked at here. The rest of net is a namespace's. */
export const isGlobal = (name: string): boolean =>
  name.startsWith("net.core.") || name === "net.netfilter.nf_conntrack_max" || !name.startsWith("net.");

/** The file behind a target, or "" where it is no file. */
export function fileOf(target: Target): string {
  switch (target.kind) {
    case "sysctl":
      return `/proc/sys/${target.name.replaceAll(".", "/")}`;
    case "setting":
      return `/sys/class/net/${target.interface}/${target.setting}`;
    case "irq":
      return `/proc/irq/${target.irq}/smp_affinity_list`;
    case "cpu":
      return `/sys/devices/system/cpu/cpu${target.cpu}/${target.file}`;
    default:
      return "";
  }
}

/** The line that sets a target to a value. */
export function shellLine({ target, value }: Change): ShellLine {
  const pairs = typeof value === "string" ? [] : Object.entries(value);
  const words = pairs.map(([name, v]) => `${name} ${v === true ? "on" : v === false ? "off" : v}`).join(" ");
  switch (target.kind) {
    case "sysctl":
      return { line: `sysctl -w ${target.name}=${value}`, scope: isGlobal(target.name) ? "host" : "net" };
    case "setting":
      return { line: `echo ${value} > ${fileOf(target)}`, scope: "sysfs" };
    case "irq":
    case "cpu":
      return { line: `echo ${value} > ${fileOf(target)}`, scope: "host" };
    case "channels":
      return { line: `ethtool -L ${target.interface} ${words}`, scope: "net" };
    case "rings":
      return { line: `ethtool -G ${target.interface} ${words}`, scope: "net" };
    case "features":
      return { line: `ethtool -K ${target.interface} ${words}`, scope: "net" };
    case "hash":
      return { line: `ethtool -N ${target.interface} rx-flow-hash ${target.flow} ${pairs[0]?.[1]}`, scope: "net" };
  }
}

const quoted = (line: string): string => `'${line.replaceAll("'", "'\\''")}'`;

/** A shell line as it is typed in the caller's shell, as root: sent into the namespace where it belongs there. */
export function inShell({ line, scope }: ShellLine, { netns, sysfs }: Where): string {
  if (scope === "host") return line;
  const named = netns !== null && !netns.includes("/");
  const enter = netns === null ? "" : named ? `ip netns exec ${netns} ` : `nsenter --net=${netns} `;
  if (scope === "net") return `${enter}${line}`;
  // A mounted sysfs shows the namespace that it was mounted in; `ip netns exec` mounts one, nsenter does not.
  if (sysfs || named) return enter === "" ? line : `${enter}sh -c ${quoted(line)}`;
  return `${enter}unshare -m sh -c ${quoted(`mount -t sysfs sysfs /sys && ${line}`)}`;
}
