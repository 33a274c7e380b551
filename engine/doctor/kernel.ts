/** Findings about the kernel: what AF_XDP needs of it, each tried. */
import type { Facts, HostFacts, Outcome, Plan } from "./facts.ts";
import { type Finding, fail, info, ok, onHost, warn } from "./finding.ts";

/** SO_NETNS_COOKIE, by which the bindings tell queues of different namespaces apart. */
const OLDEST = [5, 14] as const;

export function kernelFindings({ host, plan }: Facts): Finding[] {
  return [
    kernelVersion(host),
    needed(host, "af-xdp", host.trials.socket, "AF_XDP sockets open", "an AF_XDP socket"),
    needed(host, "xskmap", host.trials.xskmap, "an XSKMAP can be made", "an XSKMAP"),
    needed(host, "xdp-program", host.trials.program, "XDP programs load", "the XDP program"),
    needed(host, "steering", host.trials.steering, "the steering program passes the verifier", "the steering program"),
    xdpLink(host),
    jit(host),
    busyPoll(host, plan),
    txBudget(host),
    netdev(host),
  ];
}

function kernelVersion({ kernel, version }: HostFacts): Finding {
  const [major, minor] = version;
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return ok("kernel", `Linux ${kernel}`);
  return fail(
    "kernel",
    `Linux ${kernel}`,
    `the engine needs ${OLDEST.join(".")} or later`,
    "a newer kernel has to be installed",
  );
}

/** Something that no engine runs without. */
function needed(host: HostFacts, id: string, outcome: Outcome, good: string, what: string): Finding {
  if (outcome.state === "works") return ok(id, good);
  const said = outcome.state === "refused" ? outcome.message : outcome.why;
  return fail(id, `refused: ${said}`, `without ${what} there is no engine`, wayOut(host, outcome));
}

/** Who stands in the way, as far as the errno and the surroundings tell. */
function wayOut(host: HostFacts, outcome: Outcome): string {
  const code = outcome.state === "refused" ? outcome.code : "";
  if (code === "EAFNOSUPPORT") return "the kernel has to be built with CONFIG_XDP_SOCKETS";
  if (code === "ENOSYS") return "bpf(2) is hidden by a seccomp filter, or the kernel has none";
  if (code !== "EPERM" && code !== "EACCES") return "the message says what the kernel wants";
  if (!host.initialUser) return "a user namespace's capabilities do not count for BPF: run it in the initial one";
  if (host.capabilities.size < 4) return "see the finding 'capabilities'";
  if (host.seccomp)
    return "the capabilities are there, so a seccomp filter refuses it: allow bpf(2) and socket(AF_XDP)";
  return "see the finding 'capabilities'; where they are complete, a security module or kernel lockdown refuses it";
}

function xdpLink({ trials }: HostFacts): Finding {
  const { link } = trials;
  if (link.state === "works") return ok("xdp-link", "XDP programs attach by a BPF link");
  if (link.state === "untried") return info("xdp-link", `BPF links not tried: ${link.why}`);
  return fail("xdp-link", `refused: ${link.message}`, "the program cannot be attached", "BPF links need Linux 5.9");
}

function jit({ jited, sysctls }: HostFacts): Finding {
  if (jited === false || sysctls["net.core.bpf_jit_enable"] === 0) {
    return warn("bpf-jit", "BPF programs are interpreted", "every frame runs the steering program in the interpreter", {
      changes: [{ target: { kind: "sysctl", name: "net.core.bpf_jit_enable" }, value: "1" }],
    });
  }
  if (sysctls["net.core.bpf_jit_harden"] === 2) {
    return warn(
      "bpf-jit",
      "net.core.bpf_jit_harden is 2",
      "constants are blinded in every program, the steering program's too: more instructions a frame",
      { changes: [{ target: { kind: "sysctl", name: "net.core.bpf_jit_harden" }, value: "1" }] },
    );
  }
  return ok("bpf-jit", "BPF programs are compiled");
}

function busyPoll({ trials }: HostFacts, { poll }: Plan): Finding {
  const { busyPoll } = trials;
  if (busyPoll.state === "works") return ok("busy-poll", "sockets take the busy-poll options");
  const found = `refused: ${busyPoll.state === "refused" ? busyPoll.message : busyPoll.why}`;
  const cost = "the policy 'busy' cannot start; 'adaptive' and 'interrupt' do without";
  if (poll !== "busy") return info("busy-poll", found, cost);
  return fail("busy-poll", found, cost, "start it with --poll adaptive");
}

function txBudget({ trials }: HostFacts): Finding {
  const { txBudget } = trials;
  if (txBudget.state === "works") return ok("tx-budget", "a kick sends up to 256 frames in copy mode");
  const cost = "a kick sends 32 frames in copy mode: up to eight system calls for a burst of 256 answers";
  return info("tx-budget", "no XDP_MAX_TX_SKB_BUDGET (Linux 6.17)", cost);
}

function netdev({ trials }: HostFacts): Finding {
  if (trials.netdev.state === "works") return ok("netdev", "the netdev family tells queues and NAPI instances");
  return info("netdev", "no netdev netlink family (Linux 6.3)", "NAPI IDs are known only after the first frame");
}

/** Findings that hold whatever the kernel can do: the clock that the loop reads. */
export function clockFindings({ host }: Facts): Finding[] {
  const { clocksource, clocksources } = host.cpus;
  if (!SLOW_CLOCKS.includes(clocksource)) return [ok("clocksource", `the clock is ${clocksource || "read as usual"}`)];
  const better = clocksources.find((name) => !SLOW_CLOCKS.includes(name));
  return [
    warn(
      "clocksource",
      `the clock is ${clocksource}`,
      "reading it is a system call; a spinning lcore reads it every 16 turns",
      better === undefined
        ? "the kernel offers no other: it did not trust the CPU's counter (dmesg | grep -i tsc)"
        : onHost(`echo ${better} > /sys/devices/system/clocksource/clocksource0/current_clocksource`),
    ),
  ];
}

/** Clocks that the vDSO cannot read. */
const SLOW_CLOCKS = ["hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"];
