/** Findings about an interface: whether it can serve at all, and what else is on it. */
import { FRAME_SIZE_MAX, mtuMax } from "../config.ts";
import type { AttachedProgram, Facts, InterfaceFacts } from "./facts.ts";
import { type Finding, fail, info, inNetns, list, ok, warn } from "./finding.ts";

export function interfaceFindings({ interface: dev }: Facts): Finding[] {
  if (dev === null) return [];
  return [kind(dev), state(dev), mtu(dev), programs(dev), master(dev), uppers(dev)].flat();
}

function kind({ name, ethernet, kind, driver, ifindex }: InterfaceFacts): Finding {
  const what = `${name} (ifindex ${ifindex}): ${kind || "hardware"}, driver ${driver || "unknown"}`;
  if (ethernet) return ok("interface", what);
  return fail("interface", `${what}, not Ethernet`, "the engine speaks Ethernet only", "choose another interface");
}

function state({ name, up, carrier }: InterfaceFacts): Finding {
  if (!up) {
    const cost = "the engine starts, and serves nothing until it is up";
    return warn("link", `${name} is down`, cost, inNetns(`ip link set dev ${name} up`));
  }
  if (!carrier)
    return warn("link", `${name} has no carrier`, "nothing comes in", "the other end or the cable is missing");
  return ok("link", `${name} is up`);
}

function mtu({ name, mtu }: InterfaceFacts): Finding {
  const max = mtuMax(FRAME_SIZE_MAX);
  if (mtu <= max)
    return ok("mtu", `MTU ${mtu}: frames of ${mtu <= mtuMax(2048) ? 2048 : FRAME_SIZE_MAX} bytes hold it`);
  return fail(
    "mtu",
    `MTU ${mtu}`,
    `a packet of more than ${max} bytes fits no frame, and the engine does not start`,
    inNetns(`ip link set dev ${name} mtu ${max}`),
  );
}

function programs({ name, programs }: InterfaceFacts): Finding[] {
  if (programs.length === 0) return [ok("xdp-programs", "no XDP program is attached")];
  return programs.map((program) => {
    const found = `program ${program.id}${program.name ? ` "${program.name}"` : ""} in ${program.mode} mode, ${heldBy(program)}`;
    if (program.name === "lcore") {
      return info("xdp-programs", found, "an engine serves it; a second one cannot start on it");
    }
    const owner = program.holders[0];
    const off = { native: "xdpdrv", skb: "xdpgeneric", offload: "xdpoffload" }[program.mode];
    return fail(
      "xdp-programs",
      found,
      "an interface runs one program: the engine's cannot be attached",
      owner === undefined ? inNetns(`ip link set dev ${name} ${off} off`) : `stop its owner, process ${owner.pid}`,
    );
  });
}

function heldBy({ holders }: AttachedProgram): string {
  if (holders.length === 0) return "no process seen that holds it";
  return `held by ${list(holders.map(({ pid, name }) => `process ${pid} (${name})`))}`;
}

function master({ name, master }: InterfaceFacts): Finding[] {
  if (master === "") return [];
  return [
    warn(
      "master",
      `${name} is a port of ${master}`,
      `addresses and routes are those of ${master}: the engine on ${name} finds no neighbour of its own and sends through the kernel`,
      `serve ${master} instead (in skb mode), or take the port out of it`,
    ),
  ];
}

function uppers({ name, uppers }: InterfaceFacts): Finding[] {
  const above = uppers.filter(({ kind }) => kind !== "bridge" && kind !== "bond");
  if (above.length === 0) return [];
  return [
    info(
      "uppers",
      `${list(above.map((upper) => upper.name))} on top of ${name}`,
      "frames for them pass the engine's program",
    ),
  ];
}
