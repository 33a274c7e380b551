/** Findings about the ways frames can cross: what the driver claims, what it gave when tried, what the engine would take. */

import { NETDEV_XDP_ACT_BASIC, NETDEV_XDP_ACT_REDIRECT, NETDEV_XDP_ACT_XSK_ZEROCOPY } from "../host/netdev.ts";
import { chooseMode, NO_NATIVE } from "../interface.ts";
import type { Facts, InterfaceFacts, Outcome } from "./facts.ts";
import { type Finding, fail, info, ok, warn } from "./finding.ts";

export function modeFindings(facts: Facts): Finding[] {
  const dev = facts.interface;
  if (dev === null || !dev.ethernet) return [];
  return [
    claims(dev),
    tried(dev),
    native(dev),
    zeroCopy(dev),
    copy(dev),
    skb(dev),
    chosen(facts, dev),
    notRestored(dev),
  ].flat();
}

/** What NETDEV_XDP_ACT_* bits claim, in words. */
export function claimed(xdpFeatures: number | null): string {
  if (xdpFeatures === null) return "the kernel does not tell";
  if ((xdpFeatures & NETDEV_XDP_ACT_BASIC) === 0) return "no native XDP";
  const redirect = (xdpFeatures & NETDEV_XDP_ACT_REDIRECT) !== 0 ? "native XDP" : "native XDP without redirection";
  return (xdpFeatures & NETDEV_XDP_ACT_XSK_ZEROCOPY) !== 0 ? `${redirect}, zero copy` : redirect;
}

function claims({ driver, kind, xdpFeatures }: InterfaceFacts): Finding {
  return info("xdp-features", `${driver || kind || "the driver"} claims: ${claimed(xdpFeatures)}`);
}

function tried({ name, protection }: InterfaceFacts): Finding[] {
  if (protection === "") return [];
  return [
    info(
      "modes",
      `no mode was tried on ${name}: ${protection}`,
      "attaching a program may stop a driver's queues for a moment",
    ),
  ];
}

const said = (outcome: Outcome): string => (outcome.state === "refused" ? outcome.message : "");

function native({ trials }: InterfaceFacts): Finding[] {
  const { native } = trials;
  if (native.state === "untried") return [];
  if (native.state === "works") return [ok("native", "native mode works")];
  return [
    info(
      "native",
      `refused: ${said(native)}`,
      NATIVE_COSTS[native.code] ?? "'auto' takes skb mode, 'native' does not start",
    ),
  ];
}

/** What the errors of a native attachment mean for the mode 'auto', which gets over those of the driver only. */
const NATIVE_COSTS: Record<string, string> = {
  ENOSPC:
    "a veth end needs as many receive queues as its peer has transmit queues: create the pair with numrxqueues and numtxqueues",
  ERANGE: "the MTU is too large for one of the driver's buffers",
};

function zeroCopy({ trials }: InterfaceFacts): Finding[] {
  const { zerocopy } = trials;
  if (zerocopy.state === "untried") return [];
  if (zerocopy.state === "works") return [ok("zero-copy", "a zero-copy socket binds")];
  return [
    info("zero-copy", `refused: ${said(zerocopy)}`, "every frame is copied once, into and out of the lcore's memory"),
  ];
}

function copy({ trials, name }: InterfaceFacts): Finding[] {
  const { copy } = trials;
  if (copy.state === "untried") return [];
  if (copy.state === "works") return [ok("copy", "a socket binds in copy mode")];
  const cost = "no lcore can serve the queue";
  if (copy.code === "EBUSY")
    return [
      fail(
        "copy",
        said(copy),
        cost,
        `another process holds a queue of ${name}: ss -f xdp, or the engine that still runs`,
      ),
    ];
  return [fail("copy", `refused: ${said(copy)}`, cost, "the message says what the kernel wants")];
}

function skb({ trials }: InterfaceFacts): Finding[] {
  const { skb, native } = trials;
  if (skb.state === "untried") return [];
  if (skb.state === "works") return [ok("skb", "skb mode works")];
  if (native.state === "works") return [info("skb", `refused: ${said(skb)}`)];
  return [
    fail(
      "skb",
      `refused: ${said(skb)}`,
      "the program can be attached in no mode",
      "the message says what the kernel wants",
    ),
  ];
}

/** What an engine would take, given what worked. */
function chosen({ plan }: Facts, dev: InterfaceFacts): Finding[] {
  if (dev.protection !== "") return [];
  const { native, zerocopy } = dev.trials;
  const { mode } = plan;
  const choice = chooseMode(mode, { link: { kind: dev.kind }, driver: dev.driver });
  if (choice.attach === "skb") return [info("mode", `--mode ${mode} takes skb mode, copy: ${choice.reason}`)];
  const impossible = (found: string, instead: string): Finding[] => [
    fail("mode", found, "the engine does not start", `start it with ${instead}`),
  ];
  if (native.state === "works") {
    const zero = zerocopy.state === "works";
    if (mode === "zerocopy" && !zero) return impossible("--mode zerocopy, and the driver has none", "--mode auto");
    return [info("mode", `--mode ${mode} takes native mode, ${zero ? "zero copy" : "copy"}: ${choice.reason}`)];
  }
  const code = native.state === "refused" ? native.code : "";
  if (mode !== "auto") return impossible(`--mode ${mode}, and native mode is refused`, "--mode auto");
  if (!NO_NATIVE.includes(code))
    return impossible(`--mode auto, and native mode is refused with ${code}`, "--mode skb");
  const cost = "the kernel makes an skb of every frame before the program sees it";
  return [
    warn("mode", "--mode auto falls back to skb mode", cost, "this driver, or its present set-up, has no native XDP"),
  ];
}

function notRestored({ name, notRestored }: InterfaceFacts): Finding[] {
  if (notRestored.length === 0) return [];
  return [
    warn(
      "trial",
      `trying changed ${notRestored.join(", ")} of ${name}, and the driver did not let it be put back`,
      "the offloads differ from what they were before this command",
      "the kernel turns them off wherever a program is attached",
    ),
  ];
}
