/** Gathering all facts, in the network namespace that was named. */
import { ERRNO, SysError } from "af-xdp-bindings";
import { NetNs } from "../host/netns.ts";
import { Sysfs } from "../host/sysfs.ts";
import { isGlobal } from "./change.ts";
import type { Facts, Plan } from "./facts.ts";
import { gatherHost, readSysctls } from "./gather-host.ts";
import { gatherInterface } from "./gather-interface.ts";
import { Probes } from "./probes.ts";

export interface Question {
  /** Null for the host alone. */
  readonly interface: string | null;
  /** A name of /run/netns, or a path; null for the caller's namespace. */
  readonly netns: string | null;
  /** Whether modes may be tried on the interface. */
  readonly attach: boolean;
  readonly plan: Plan;
}

/** Opens a namespace by name or path. Throws SysError. */
export function openNetns(netns: string | null): NetNs {
  if (netns === null) return NetNs.current();
  const path = netns.includes("/") ? netns : `/run/netns/${netns}`;
  try {
    return NetNs.open(path);
  } catch (error) {
    const errno = (error as { errno?: number }).errno ?? -ERRNO.EIO;
    throw new SysError(Math.abs(errno), `open(${path})`, "network namespaces are listed by `ip netns`");
  }
}

/** Throws SysError: ENODEV for an interface that is not there, EPERM for a namespace that may not be entered. */
export function gather(question: Question): Facts {
  const ns = openNetns(question.netns);
  try {
    const global = readSysctls(isGlobal);
    return ns.run(() => gatherHere(question, global));
  } finally {
    ns.close();
  }
}

function gatherHere(question: Question, global: ReturnType<typeof readSysctls>): Facts {
  const { interface: name, netns, attach, plan } = question;
  const probes = new Probes();
  try {
    const found = name === null ? null : gatherInterface(name, probes, attach);
    const host = gatherHost(plan, probes, global);
    return { where: { netns, sysfs: netns === null && showsHere(probes) }, plan, host, interface: found };
  } finally {
    probes.close();
  }
}

/** Whether /sys is of this namespace: it shows every interface as rtnetlink does. */
function showsHere({ rtnl }: Probes): boolean {
  const mounted = Sysfs.mounted();
  return rtnl.links().every(({ name, ifindex, mac }) => mounted.shows(name, ifindex, mac));
}
