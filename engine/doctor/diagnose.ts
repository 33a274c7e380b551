/** All findings about a host, and what they amount to. */

import { cpuFindings } from "./cpus.ts";
import type { Facts, LinkFacts } from "./facts.ts";
import { count, type Finding, fail, info, type Level } from "./finding.ts";
import { firewallFindings } from "./firewall.ts";
import { interfaceFindings } from "./interface.ts";
import { interruptFindings } from "./interrupts.ts";
import { clockFindings, kernelFindings } from "./kernel.ts";
import { claimed, modeFindings } from "./modes.ts";
import { offloadFindings } from "./offloads.ts";
import { privilegeFindings } from "./privileges.ts";
import { providerFindings } from "./provider.ts";
import { queueFindings } from "./queues.ts";
import { sysctlFindings } from "./sysctls.ts";

/** Topics in the order in which they are told. */
const TOPICS: readonly (readonly [topic: string, find: (facts: Facts) => Finding[]])[] = [
  ["kernel", kernelFindings],
  ["privileges", privilegeFindings],
  ["interface", interfaceFindings],
  ["modes", modeFindings],
  ["provider", providerFindings],
  ["queues", queueFindings],
  ["offloads", offloadFindings],
  ["interrupts", interruptFindings],
  ["CPUs", (facts) => [...cpuFindings(facts), ...clockFindings(facts)]],
  ["sysctls", sysctlFindings],
  ["firewall", firewallFindings],
  ["candidates", candidateFindings],
];

export interface TopicFinding extends Finding {
  readonly topic: string;
}

export function diagnose(facts: Facts): TopicFinding[] {
  return TOPICS.flatMap(([topic, find]) => find(facts).map((finding) => ({ topic, ...finding })));
}

/** 0 all fine, 1 warnings, 2 the engine cannot run. */
export function verdict(findings: readonly Finding[]): 0 | 1 | 2 {
  const has = (level: Level): boolean => findings.some((finding) => finding.level === level);
  return has("fail") ? 2 : has("warn") ? 1 : 0;
}

/** Without an interface to look at: a line for each that could be one. */
function candidateFindings({ host, interface: dev }: Facts): Finding[] {
  if (dev !== null) return [];
  const candidates = host.links.filter(({ ethernet }) => ethernet);
  if (candidates.length > 0) return candidates.map((link) => info(`interface ${link.name}`, describe(link)));
  return [
    fail(
      "interfaces",
      "no Ethernet interface in this namespace",
      "there is nothing to serve",
      "--netns NAME looks elsewhere; `lcore demo` needs none",
    ),
  ];
}

function describe({ up, kind, driver, rxQueues, xdpFeatures, defaultRoute, programs }: LinkFacts): string {
  return [
    kind || driver || "hardware",
    up ? "up" : "down",
    count(rxQueues, "queue"),
    claimed(xdpFeatures),
    ...(defaultRoute ? ["carries the default route"] : []),
    ...(programs > 0 ? ["has an XDP program"] : []),
  ].join(", ");
}
