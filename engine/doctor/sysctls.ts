/** Findings about sysctls that bound sockets. */
import { setSysctl } from "./change.ts";
import type { Facts, HostFacts } from "./facts.ts";
import { type Finding, info, ok, sysctlValues, warn } from "./finding.ts";

/** SK_WMEM_DEFAULT and SK_RMEM_DEFAULT of net/core/sock.c, with pages of 4 KiB. */
const KERNEL_DEFAULT = 212_992;

export function sysctlFindings({ host }: Facts): Finding[] {
  return [busyPolling(host), receiveBuffers(host), sendBuffers(host)];
}

function busyPolling({ sysctls }: HostFacts): Finding {
  const found = sysctlValues(sysctls, "net.core.busy_poll", "net.core.busy_read");
  if (!sysctls["net.core.busy_read"]) return ok("busy-sysctls", found);
  return info(
    "busy-sysctls",
    found,
    "every socket of the machine busy polls; the engine sets its own options and needs neither",
  );
}

function receiveBuffers({ sysctls }: HostFacts): Finding {
  const max = sysctls["net.core.rmem_max"];
  const found = sysctlValues(sysctls, "net.core.rmem_default", "net.core.rmem_max");
  if (max === null || max >= KERNEL_DEFAULT) return ok("receive-buffers", found);
  return warn(
    "receive-buffers",
    found,
    "setsockopt(SO_RCVBUF) of engine and kernel sockets gives no more (the option receiveBuffer does)",
    { changes: [setSysctl("net.core.rmem_max", KERNEL_DEFAULT)] },
  );
}

function sendBuffers({ sysctls }: HostFacts): Finding {
  const usual = sysctls["net.core.wmem_default"];
  const found = sysctlValues(sysctls, "net.core.wmem_default", "net.core.wmem_max");
  if (usual === null || usual >= KERNEL_DEFAULT) return ok("send-buffers", found);
  return warn(
    "send-buffers",
    found,
    "an AF_XDP socket in copy mode has at most so many bytes under way: the kernel's sends give EAGAIN beyond",
    { changes: [setSysctl("net.core.wmem_default", KERNEL_DEFAULT)] },
  );
}
