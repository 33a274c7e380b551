/** What this process may not do, and how to let it (capabilities(7)). */
import { readFileSync } from "node:fs";

/** Numbers of include/uapi/linux/capability.h. */
const CAPABILITIES = {
  CAP_NET_ADMIN: 12n,
  CAP_NET_RAW: 13n,
  CAP_SYS_ADMIN: 21n,
  CAP_BPF: 39n,
} as const;

export type Capability = keyof typeof CAPABILITIES;

/** What AF_XDP on an interface needs. */
export const AF_XDP_NEEDS: readonly Capability[] = ["CAP_NET_RAW", "CAP_BPF", "CAP_NET_ADMIN"];

/** Those of `wanted` that the process lacks. CAP_SYS_ADMIN stands for CAP_BPF, as in the kernel. */
export function lacking(wanted: readonly Capability[]): Capability[] {
  const hex = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  const effective = BigInt(`0x${hex}`);
  const has = (name: Capability): boolean => (effective & (1n << CAPABILITIES[name])) !== 0n;
  return wanted.filter((name) => !has(name) && !(name === "CAP_BPF" && has("CAP_SYS_ADMIN")));
}

/** The line for a process that lacks `missing`. */
export function howToGet(missing: readonly Capability[]): string {
  const all = AF_XDP_NEEDS.map((name) => name.toLowerCase()).join(",");
  return (
    `AF_XDP needs ${missing.join(", ")}: run as root, or give the runtime the capabilities once with ` +
    `sudo setcap ${all},cap_ipc_lock+ep ${process.execPath}`
  );
}
