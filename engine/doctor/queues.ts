/** Findings about an interface's queues: how many, who serves them, how frames spread over them, how deep they are. */

import { formatCpuList } from "../host/cpu-list.ts";
import type { HashFlow } from "../host/ethtool.ts";
import { type Change, setChannels, setHash, setRings } from "./change.ts";
import type { Facts, InterfaceFacts } from "./facts.ts";
import { count, type Finding, fail, info, list, type Mend, ok, warn } from "./finding.ts";

/** Descriptors below which a receive ring is called short: of 64-byte frames, 1,024 are 0.7 ms at 1.5 M a second. */
const RING_SHORT = 1024;
/** What a short ring is set to, where the device has as many. */
const RING_WANTED = 2048;

export function queueFindings({ interface: dev, plan }: Facts): Finding[] {
  if (dev === null || !dev.ethernet) return [];
  return [
    counts(dev, plan.cpus.length),
    napi(dev),
    table(dev),
    hash(dev, "udp4"),
    hash(dev, "udp6"),
    rings(dev),
  ].flat();
}

function counts(dev: InterfaceFacts, lcores: number): Finding {
  const { rx, tx, allocatedRx } = dev.queues;
  const more = allocatedRx > rx ? ` (of ${allocatedRx} that could be in use)` : "";
  const found = `${count(rx, "receive queue")}${more}, ${count(tx, "transmit queue")}`;
  if (rx >= lcores && tx >= rx) return ok("queues", `${found} for ${count(lcores, "lcore")}`);
  if (rx >= lcores) {
    // xsk_generic_xmit and drivers alike: a socket sends on the queue that it is bound to.
    const cost = `what an lcore sends on queues ${formatCpuList(range(tx, rx))} is not sent: a socket sends on its own queue`;
    return warn("queues", found, cost, moreQueues(dev, rx));
  }
  return fail(
    "queues",
    `${found}, and ${count(lcores, "lcore")} planned`,
    "each lcore needs a queue: the engine does not start",
    moreQueues(dev, lcores),
  );
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

function moreQueues({ name, channels }: InterfaceFacts, wanted: number): Mend {
  if (channels === null) return "the driver does not let its queues be counted or set: plan fewer lcores (--cpus)";
  if (channels.combinedMax >= wanted) return { changes: [setChannels(name, { combined: wanted })] };
  if (channels.rxMax >= wanted && channels.txMax >= wanted)
    return { changes: [setChannels(name, { rx: wanted, tx: wanted })] };
  const max = Math.max(channels.combinedMax, Math.min(channels.rxMax, channels.txMax));
  return `the device has ${max} at most: plan fewer lcores (--cpus)`;
}

function napi({ napis, kind }: InterfaceFacts): Finding {
  if (napis.length === 0) {
    const why =
      kind === "veth" ? "veth has them only while native XDP or GRO is on" : "none, or the kernel does not tell";
    return info(
      "napi",
      `no NAPI instances: ${why}`,
      "busy polling does nothing; receive softirqs run where the frames are sent from or the interrupt comes",
    );
  }
  const words = napis.map(({ id, queue, irq, pid, threadCpus }) => {
    const where = pid === 0 ? "" : `, thread ${pid} on CPUs ${formatCpuList(threadCpus)}`;
    return `${queue < 0 ? "?" : queue}: ${id}${irq > 0 ? ` (IRQ ${irq})` : ""}${where}`;
  });
  return info("napi", `NAPI IDs by receive queue: ${words.join(", ")}`);
}

/** Queues that the indirection table leaves out get no hashed frame. */
function table({ name, queues, rssTable, rssKey }: InterfaceFacts): Finding[] {
  if (queues.rx < 2 || rssTable === null || rssTable.length === 0) return [];
  const used = new Set(rssTable);
  const idle = range(0, queues.rx).filter((queue) => !used.has(queue));
  const key = rssKey === "" ? "" : `, key ${rssKey.slice(0, 16)}…`;
  if (idle.length === 0)
    return [ok("rss", `RSS spreads over all ${queues.rx} queues: ${rssTable.length} entries${key}`)];
  return [
    warn(
      "rss",
      `RSS leaves out queue${idle.length === 1 ? "" : "s"} ${formatCpuList(idle)}`,
      "lcores on them get nothing but what rules of the device send there",
      { byHand: [{ line: `ethtool -X ${name} equal ${queues.rx}`, scope: "net" }] },
    ),
  ];
}

/** With addresses alone, all datagrams between two hosts fall on one queue. */
function hash({ name, queues, hashFields }: InterfaceFacts, flow: HashFlow): Finding[] {
  const fields = hashFields[flow];
  if (queues.rx < 2 || fields === null) return [];
  const id = `rss-${flow}`;
  if (fields.includes("f") && fields.includes("n")) return [ok(id, `RSS hashes ${flow} by addresses and ports`)];
  const change: Change = setHash(name, flow, "sdfn");
  const what = fields === "" ? "nothing" : fields.includes("s") || fields.includes("d") ? "addresses alone" : fields;
  return [
    warn(
      id,
      `RSS hashes ${flow} by ${what}`,
      "all datagrams between two hosts fall on one queue, and so on one lcore",
      {
        changes: [change],
      },
    ),
  ];
}

function rings({ name, rings }: InterfaceFacts): Finding[] {
  if (rings === null || rings.rxMax === 0) return [];
  const found = `rings of ${rings.rx} (RX, at most ${rings.rxMax}) and ${rings.tx} (TX, at most ${rings.txMax})`;
  const wanted = Math.min(RING_WANTED, rings.rxMax);
  if (rings.rx >= RING_SHORT || wanted <= rings.rx) return [ok("rings", found)];
  return [
    warn("rings", found, `${rings.rx} frames fill it: a burst while its CPU is busy elsewhere is lost in the device`, {
      changes: [setRings(name, { rx: wanted })],
    }),
  ];
}

/** "queue 0 on lcore 0 (CPU 2)": which lcore serves which queue, as the engine deals them out. */
export function lcoreOfQueue(queue: number, cpus: readonly number[]): number {
  return cpus[queue % cpus.length] ?? -1;
}

/** The planned lcores in words. */
export function dealt({ interface: dev, plan }: Facts): string {
  const { cpus } = plan;
  const queues = range(0, dev?.queues.rx ?? 1);
  return list(
    cpus.map(
      (cpu, l) => `CPU ${cpu} queues ${formatCpuList(queues.filter((queue) => queue % cpus.length === l)) || "none"}`,
    ),
  );
}
