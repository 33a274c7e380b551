/** What a running `lcore capture` costs the lcore that it looks at: the same echo without one, with one that filters all away, with one of all. */
import { type LcorePeerOptions, lcorePeer, type Peer } from "./peers.ts";

/** Matches no frame of the generator's. */
const NOTHING = "udp port 1";

export function capturePeers(): Peer[] {
  const peer = (name: string, title: string, more: LcorePeerOptions): Peer => ({
    ...lcorePeer("busy", more),
    name,
    title,
  });
  return [
    peer("lcore", "lcore", {}),
    peer("capture-none", "lcore, captured: none, by a filter", { capture: ["--filter", NOTHING] }),
    peer("capture-rx", "lcore, captured: received", { capture: ["--rx"] }),
    peer("capture-all", "lcore, captured: received and sent", { capture: [] }),
  ];
}
