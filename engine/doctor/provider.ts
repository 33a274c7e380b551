/**
 * What the provider "auto" would choose on this host: the attempts of an engine's start in their order, as the trials
 * have answered them, judged as the start judges them (engine/provider.ts).
 */
import { FRAME_SIZE_MAX, mtuMax } from "../config.ts";
import { chooseMode, NO_NATIVE } from "../interface.ts";
import { AF_XDP_NEEDS, howToGet } from "../privileges.ts";
import { NO_INTERFACE, type Provider, refusedWith } from "../provider.ts";
import type { Facts, InterfaceFacts, Outcome } from "./facts.ts";
import { type Finding, info, ok } from "./finding.ts";

export interface Choice {
  /** Null where the start fails: with an error that is no refusal of AF_XDP, on an interface that was named. */
  readonly provider: Provider | null;
  /** The interface that would be tried: the one that was named, else that of the default route. */
  readonly interface: string | null;
  /** Why not the engine; or what of it was not tried, "" for nothing. */
  readonly reason: string;
}

/** What stops a start: the errno's name where it is one, in words else. */
interface Obstacle {
  readonly code: string | null;
  readonly message: string;
}

export function providerFindings(facts: Facts): Finding[] {
  const { provider, interface: name, reason } = choice(facts);
  if (provider === "engine") {
    const found = `'auto' takes the engine on ${name}`;
    return [reason === "" ? ok("provider", found) : info("provider", found, reason)];
  }
  if (provider === "kernel")
    return [info("provider", `'auto' takes kernel sockets: ${reason}`, "the same sockets without AF_XDP, slower")];
  return [info("provider", `'auto' fails, and takes no kernel sockets instead: ${reason}`, KEPT_FROM)];
}

const KEPT_FROM = "an interface that was named, and that something else keeps from serving, is no refusal of AF_XDP";

export function choice(facts: Facts): Choice {
  const { host, plan, interface: dev } = facts;
  const name = dev?.name ?? host.defaultInterface;
  const kernel = (reason: string): Choice => ({ provider: "kernel", interface: name, reason });
  const missing = AF_XDP_NEEDS.filter((capability) => !host.capabilities.has(capability));
  if (missing.length > 0) return kernel(howToGet(missing));
  if (name === null) return kernel(NO_INTERFACE);
  const obstacle = first(facts);
  if (obstacle === null) return { provider: "engine", interface: name, reason: untriedOf(facts, name) };
  const { code, message } = obstacle;
  const falls = code === null || dev === null || refusedWith(code, plan.mode);
  return falls ? kernel(message) : { provider: null, interface: name, reason: message };
}

/** The first attempt of a start that would fail, or null. */
function first({ host, plan, interface: dev }: Facts): Obstacle | null {
  const { socket, umem, xskmap, program, steering, link, busyPoll } = host.trials;
  const attempts: (Obstacle | Outcome | null)[] = [
    dev === null || dev.ethernet ? null : { code: null, message: `interface ${dev.name}: not an Ethernet interface` },
    xskmap,
    program,
    steering,
    dev === null || dev.mtu <= mtuMax(FRAME_SIZE_MAX)
      ? null
      : { code: null, message: `interface ${dev.name}: packets of its MTU ${dev.mtu} fit no frame` },
    umem,
    socket,
    plan.poll === "busy" ? busyPoll : null,
    dev === null ? null : dev.trials.copy,
    link,
    dev === null ? null : attaching(dev, plan.mode),
  ];
  for (const attempt of attempts) {
    if (attempt === null) continue;
    if (!("state" in attempt)) return attempt;
    if (attempt.state === "refused") return attempt;
  }
  return null;
}

/** Attaching the program, as attachSteering() does. */
function attaching({ name, kind, driver, programs, trials }: InterfaceFacts, mode: Facts["plan"]["mode"]) {
  if (programs.length > 0) return { code: "EBUSY", message: `an XDP program is attached to ${name}` };
  const { attach } = chooseMode(mode, { link: { kind }, driver });
  const { native, skb, zerocopy } = trials;
  if (attach === "skb") return skb;
  if (native.state === "refused" && mode === "auto" && NO_NATIVE.includes(native.code)) return skb;
  return mode === "zerocopy" && native.state === "works" ? zerocopy : native;
}

/** What only a start will show, "" for nothing. */
function untriedOf({ interface: dev }: Facts, name: string): string {
  if (dev === null) return `the interface of the default route, which was not looked at: --interface ${name} does`;
  return dev.protection === "" ? "" : `what its driver says was not tried: ${dev.protection}`;
}
