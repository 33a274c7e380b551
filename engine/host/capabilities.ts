/** Capabilities of this process (capabilities(7)). */
import { readFileSync } from "node:fs";

/** Bit numbers of include/uapi/linux/capability.h. */
const CAPABILITIES = {
  CAP_NET_BIND_SERVICE: 10,
  CAP_NET_ADMIN: 12,
  CAP_NET_RAW: 13,
  CAP_IPC_LOCK: 14,
  CAP_SYS_ADMIN: 21,
  CAP_PERFMON: 38,
  CAP_BPF: 39,
} as const;

export type Capability = keyof typeof CAPABILITIES;

/** Capabilities that were once part of CAP_SYS_ADMIN, which still stands for them. */
const SPLIT_OFF: readonly Capability[] = ["CAP_BPF", "CAP_PERFMON"];

/** Those that count when this process calls the kernel, CAP_SYS_ADMIN's part in the others included. */
export function effectiveCapabilities(): Set<Capability> {
  const hex = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  const bits = BigInt(`0x${hex}`);
  const names = Object.keys(CAPABILITIES) as Capability[];
  const held = new Set(names.filter((name) => (bits & (1n << BigInt(CAPABILITIES[name]))) !== 0n));
  if (held.has("CAP_SYS_ADMIN")) for (const name of SPLIT_OFF) held.add(name);
  return held;
}
