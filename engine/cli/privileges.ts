/** What this process may not do, and how to let it (capabilities(7)). */
import { readFileSync } from "node:fs";

/** Numbers of include/uapi/linux/capability.h. */
const CAPABILITIES = {
  CAP_NET_ADMIN: 12n,
  CAP_NET_RAW: 13n,
  CAP_SYS_ADMIN: 21n,
  CAP_PERFMON: 38n,
  CAP_BPF: 39n,
} as const;

export type Capability = keyof typeof CAPABILITIES;

/**
 * What AF_XDP on an interface needs: the socket, the program, attaching it, and (CAP_PERFMON) a program that skips IP
 * options, which is arithmetic the verifier else refuses for fear of speculation.
 */
export const AF_XDP_NEEDS: readonly Capability[] = ["CAP_NET_RAW", "CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"];

/** Capabilities that were once part of CAP_SYS_ADMIN, which still stands for them. */
const SPLIT_OFF: readonly Capability[] = ["CAP_BPF", "CAP_PERFMON"];

/** Those of `wanted` that the process lacks. */
export function lacking(wanted: readonly Capability[]): Capability[] {
  const hex = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  const effective = BigInt(`0x${hex}`);
  const has = (name: Capability): boolean => (effective & (1n << CAPABILITIES[name])) !== 0n;
  return wanted.filter((name) => !has(name) && !(SPLIT_OFF.includes(name) && has("CAP_SYS_ADMIN")));
}

/** The line for a process that lacks `missing`. */
export function howToGet(missing: readonly Capability[]): string {
  const all = AF_XDP_NEEDS.map((name) => name.toLowerCase()).join(",");
  return (
    `AF_XDP needs ${missing.join(", ")}: run as root, or give the runtime the capabilities once with ` +
    `sudo setcap ${all},cap_ipc_lock+ep ${process.execPath}`
  );
}
