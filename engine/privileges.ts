/** What this process may not do, and how to let it (capabilities(7)). */
import { type Capability, effectiveCapabilities } from "./host/capabilities.ts";

/**
 * What AF_XDP on an interface needs: the socket, the program, attaching it, and (CAP_PERFMON) a program that skips IP
 * options, which is arithmetic the verifier else refuses for fear of speculation.
 */
export const AF_XDP_NEEDS: readonly Capability[] = ["CAP_NET_RAW", "CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"];

/** Those of `wanted` that the process lacks. */
export function lacking(wanted: readonly Capability[]): Capability[] {
  const held = effectiveCapabilities();
  return wanted.filter((name) => !held.has(name));
}

/** The line for a process that lacks `missing`. */
export function howToGet(missing: readonly Capability[]): string {
  const all = AF_XDP_NEEDS.map((name) => name.toLowerCase()).join(",");
  return (
    `AF_XDP needs ${missing.join(", ")}: run as root, or give the runtime the capabilities once with ` +
    `sudo setcap ${all},cap_ipc_lock+ep ${process.execPath}`
  );
}
