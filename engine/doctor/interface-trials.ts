/**
 * The modes an interface really gives, tried: a program that passes every frame is attached in each mode, and an AF_XDP
 * socket bound to the last queue, and both are taken away at once. A driver may stop its queues for a moment while it
 * makes room for XDP, so nothing is tried where that could cut somebody off.
 */
import { attachXdp, type Link, Umem, Xsk, type XskMode } from "af-xdp-bindings";
import type { Ethtool } from "../host/ethtool.ts";
import type { ModeTrial, Outcome } from "./facts.ts";
import { loadPass } from "./kernel-trials.ts";
import { attempt, readable, untried } from "./read.ts";

/** Chunks of the trial's memory: enough that frames of a zero-copy queue are not dropped while it is bound. */
const CHUNKS = 1024;
/** How long a queue that the trial before has just left may take to be free. */
const BIND_TIMEOUT_MS = 1000;

export interface ModeTrials {
  readonly trials: Record<ModeTrial, Outcome>;
  /** Offloads that attaching switched off and that the driver did not let be put back. */
  readonly notRestored: string[];
}

export function noTrials(why: string): ModeTrials {
  const outcome = untried(why);
  return { trials: { copy: outcome, native: outcome, zerocopy: outcome, skb: outcome }, notRestored: [] };
}

/** In the thread's namespace. `queue` is bound to. */
export function tryModes(name: string, ifindex: number, queue: number, ethtool: Ethtool): ModeTrials {
  const before = activeFeatures(ethtool, name);
  const copy = attempt(() => bindOnce(ifindex, queue, "copy"));
  let zerocopy = untried("it needs native mode");
  const native = attempt(() =>
    whileAttached(ifindex, "native", () => {
      zerocopy = attempt(() => bindOnce(ifindex, queue, "zerocopy"));
    }),
  );
  const skb = attempt(() => whileAttached(ifindex, "skb", () => {}));
  return { trials: { copy, native, zerocopy, skb }, notRestored: restore(ethtool, name, before) };
}

function whileAttached(ifindex: number, mode: "native" | "skb", act: () => void): void {
  using program = loadPass();
  const link: Link = attachXdp(program, ifindex, mode);
  try {
    act();
  } finally {
    link.close();
  }
}

/** Binds a socket whose fill ring is stocked, and lets go. */
function bindOnce(ifindex: number, queue: number, mode: XskMode): void {
  const umem = new Umem({ chunks: CHUNKS, mode });
  try {
    using xsk = new Xsk(umem, { ifindex, queue, rxSize: 64, txSize: 64, fillSize: CHUNKS, completionSize: 64 });
    const stocked = xsk.fill.reserve(CHUNKS);
    for (let i = 0; i < stocked; i++) xsk.fill.set(i, i * umem.chunkSize);
    xsk.fill.submit(stocked);
    xsk.bind(BIND_TIMEOUT_MS);
  } finally {
    umem.close();
  }
}

function activeFeatures(ethtool: Ethtool, name: string): Map<string, boolean> {
  const features = readable(() => [...ethtool.features(name)], []);
  return new Map(features.map(([feature, { active }]) => [feature, active]));
}

/**
 * Attaching in skb mode turns LRO and hardware GRO off for good (generic_xdp_install, net/core/dev.c). Returns what
 * could not be put back.
 */
function restore(ethtool: Ethtool, name: string, before: ReadonlyMap<string, boolean>): string[] {
  const changed = (): [string, boolean][] => {
    const now = activeFeatures(ethtool, name);
    return [...before].filter(([feature, active]) => now.get(feature) !== active);
  };
  const lost = changed();
  if (lost.length === 0) return [];
  readable(() => ethtool.setFeatures(name, Object.fromEntries(lost)), undefined);
  return changed().map(([feature]) => feature);
}
