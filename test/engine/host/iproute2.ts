/** iproute2 as the oracle: what `ip -j` says of a namespace. */
import { existsSync } from "node:fs";
import type { NetNs } from "../../../engine/host/netns.ts";

const IP = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].find((path) => existsSync(path));

/** False where iproute2 is not installed: comparisons are skipped then. */
export const hasIproute2 = IP !== undefined;

export interface IpObject {
  readonly [key: string]: unknown;
}

/** The objects of `ip -j ARGUMENTS` in a namespace; throws what `ip` says when it fails. */
export function ipJson(ns: NetNs, ...args: string[]): IpObject[] {
  const text = ipRun(ns, "-j", ...args);
  return text === "" ? [] : (JSON.parse(text) as IpObject[]);
}

/** Output of `ip ARGUMENTS` in a namespace. */
export function ipRun(ns: NetNs, ...args: string[]): string {
  const child = ns.run(() => Bun.spawnSync([IP as string, ...args]));
  if (child.exitCode !== 0) throw new Error(`ip ${args.join(" ")}: ${child.stderr}`);
  return child.stdout.toString().trim();
}
