/** Findings about what this process may do. */
import type { Capability } from "../host/capabilities.ts";
import type { Facts, HostFacts } from "./facts.ts";
import { type Finding, fail, info, list, ok, onHost, warn } from "./finding.ts";

/** What each is for. */
const NEEDS: readonly (readonly [Capability, string])[] = [
  ["CAP_NET_RAW", "the AF_XDP socket"],
  ["CAP_NET_ADMIN", "the XSKMAP, attaching the program, busy polling"],
  ["CAP_BPF", "maps and program"],
  ["CAP_PERFMON", "a program that steps over IP options: pointer arithmetic with a variable"],
];

const BYTES_A_FRAME = 2048;

export function privilegeFindings(facts: Facts): Finding[] {
  const { host } = facts;
  return [
    capabilities(host),
    userNamespace(host),
    surroundings(host),
    memlock(facts),
    nofile(host),
    lowPorts(host),
    otherNamespaces(host),
    unprivilegedBpf(host),
  ];
}

function capabilities({ capabilities }: HostFacts): Finding {
  const missing = NEEDS.filter(([name]) => !capabilities.has(name));
  if (missing.length === 0) return ok("capabilities", `${list(NEEDS.map(([name]) => name))} are effective`);
  const names = NEEDS.map(([name]) => name.toLowerCase()).join(",");
  return fail(
    "capabilities",
    `missing: ${list(missing.map(([name]) => name))}`,
    missing.map(([name, use]) => `${name} is for ${use}`).join("; "),
    onHost(`setcap ${names},cap_ipc_lock+ep ${process.execPath}`),
  );
}

function userNamespace({ initialUser }: HostFacts): Finding {
  if (initialUser) return ok("user-namespace", "the initial user namespace");
  return fail(
    "user-namespace",
    "a user namespace of its own, as rootless containers have",
    "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN count for BPF in the initial one only",
    "run the container as root's, with the capabilities granted",
  );
}

function surroundings({ container, seccomp, readOnly }: HostFacts): Finding {
  const where = container === "" ? "no container" : `a container (${container})`;
  const found = `${where}; ${seccomp ? "a seccomp filter watches its system calls" : "no seccomp filter"}`;
  if (readOnly.length === 0) return container === "" ? ok("container", found) : info("container", found);
  return info(
    "container",
    `${found}; ${list(readOnly)} read-only`,
    "neither `lcore tune` nor its commands can set what lies there: set it on the host",
  );
}

/** The memory of the lcores is pinned, and counted against the limit of the user unless CAP_IPC_LOCK is held. */
function memlock({ host, plan }: Facts): Finding {
  const { memlock, capabilities, trials } = host;
  const needed = plan.frames * BYTES_A_FRAME * plan.cpus.length;
  const limit = memlock.soft === Number.POSITIVE_INFINITY ? "unlimited" : mebibytes(memlock.soft);
  const wanted = `${mebibytes(needed)} for ${plan.cpus.length} lcore${plan.cpus.length === 1 ? "" : "s"}`;
  if (capabilities.has("CAP_IPC_LOCK")) return ok("memlock", `CAP_IPC_LOCK: frames may be pinned (${wanted})`);
  const { umem } = trials;
  const refused = umem.state === "refused" && umem.code === "ENOBUFS";
  if (!refused && memlock.soft >= needed) return ok("memlock", `RLIMIT_MEMLOCK is ${limit}, frames take ${wanted}`);
  return fail(
    "memlock",
    `RLIMIT_MEMLOCK is ${limit}, frames take ${wanted}`,
    "setsockopt(XDP_UMEM_REG) fails with ENOBUFS",
    onHost(`prlimit --pid $$ --memlock=${needed}:${needed}`),
  );
}

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toLocaleString("en-US")} MiB`;

/** Each bound socket has a placeholder in the kernel, and so a descriptor. */
function nofile({ nofile }: HostFacts): Finding {
  const found = `RLIMIT_NOFILE is ${nofile.soft.toLocaleString("en-US")}`;
  if (nofile.soft >= 4096) return ok("nofile", found);
  return info(
    "nofile",
    found,
    "each bound socket takes a descriptor: so many sockets at most, less those of the runtime",
  );
}

function lowPorts({ capabilities, sysctls }: HostFacts): Finding {
  const start = sysctls["net.ipv4.ip_unprivileged_port_start"] ?? 1024;
  if (start === 0 || capabilities.has("CAP_NET_BIND_SERVICE")) return ok("low-ports", "every port may be bound");
  return info("low-ports", `ports below ${start} need CAP_NET_BIND_SERVICE`, "bind there fails with EACCES");
}

function otherNamespaces({ capabilities }: HostFacts): Finding {
  if (capabilities.has("CAP_SYS_ADMIN")) return ok("namespaces", "other network namespaces may be entered");
  return info("namespaces", "other network namespaces need CAP_SYS_ADMIN", "the option netns fails with EPERM");
}

function unprivilegedBpf({ sysctls }: HostFacts): Finding {
  const value = sysctls["kernel.unprivileged_bpf_disabled"];
  if (value !== 0) return ok("unprivileged-bpf", "unprivileged users may not load BPF programs");
  return warn(
    "unprivileged-bpf",
    "kernel.unprivileged_bpf_disabled is 0",
    "every user may load programs; the engine needs it not, and the kernel's documentation advises against it",
    onHost("sysctl -w kernel.unprivileged_bpf_disabled=2"),
  );
}
