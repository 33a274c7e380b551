/** Test hosts: two namespaces on a veth pair, and the reasons a machine cannot run them. */
import { sys } from "af-xdp-bindings";
import { type VethOptions, VethPair } from "../../engine/host/hosts.ts";
import { NetNs } from "../../engine/host/netns.ts";

export type { Host } from "../../engine/host/hosts.ts";
export { VethPair } from "../../engine/host/hosts.ts";

/** Two hosts, see VethPair. The caller closes them: `afterAll(() => hosts.close())`. */
export const makeHosts = (options: Partial<VethOptions> = {}): VethPair => new VethPair(options);

export type Requirement = "netns" | "veth" | "af_xdp" | "bpf";

const AF_XDP = 44;
const SOCK_RAW = 3;
const BPF_MAP_CREATE = 0;
const BPF_MAP_TYPE_ARRAY = 2;

const probes: Record<Requirement, () => string> = {
  netns: () => failure("network namespaces", () => NetNs.create().close()),
  veth: () => failure("veth", () => new VethPair().close()),
  af_xdp: () => resource("AF_XDP sockets", sys.socket(AF_XDP, SOCK_RAW, 0)),
  bpf: () => {
    // union bpf_attr for BPF_MAP_CREATE: map_type, key_size, value_size, max_entries
    const attr = Uint32Array.of(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
    return resource("bpf(2)", sys.sys3(sys.SYS.bpf, BPF_MAP_CREATE, sys.addressOf(attr), attr.byteLength));
  },
};

const results = new Map<Requirement, string>();

/**
 * Why this machine cannot run tests that need `requirements`: "" when it can, else the first thing missing, such as
 * "network namespaces: unshare(CLONE_NEWNET): EPERM". Use: `describe.skipIf(requires("veth") !== "")(…)`; the reason
 * is also printed once, so that a skip is never silent.
 */
export function requires(...requirements: Requirement[]): string {
  for (const requirement of requirements) {
    let reason = results.get(requirement);
    if (reason === undefined) {
      reason = probes[requirement]();
      results.set(requirement, reason);
      if (reason !== "") console.warn(`skipped tests: ${reason}`);
    }
    if (reason !== "") return reason;
  }
  return "";
}

function failure(what: string, attempt: () => void): string {
  try {
    attempt();
    return "";
  } catch (error) {
    return `${what}: ${(error as Error).message}`;
  }
}

function resource(what: string, fd: number): string {
  if (fd < 0) return `${what}: errno ${-fd}`;
  sys.close(fd);
  return "";
}
