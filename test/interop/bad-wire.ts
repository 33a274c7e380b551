/**
 * A bad wire between two veth pairs, whose inner ends nobody has an address on: frames are taken from the one and given to
 * the other by packet sockets, and on the way they meet the fates of an Impairment.
 */
import { Impairment, type ImpairmentOptions } from "../../queues/impairment.ts";
import { PacketSocket } from "../host/packet-socket.ts";
import type { Host } from "../support/hosts.ts";

const FRAME_MAX = 2048;
/** Frames moved before others have a turn. */
const BURST = 64;

interface Way {
  readonly from: PacketSocket;
  readonly to: PacketSocket;
  readonly fate: Impairment;
}

export class BadWire {
  readonly fates: readonly Impairment[];
  private readonly ways: readonly Way[];
  private readonly sockets: readonly PacketSocket[];
  private stopped = false;

  /** Begins to carry frames between the two ends. */
  constructor(ends: readonly [Host, Host], options: ImpairmentOptions) {
    this.sockets = ends.map(({ ns, ifindex, rtnl, ipv4, ipv6 }) => {
      rtnl.deleteAddress(ifindex, ipv4, 24);
      rtnl.deleteAddress(ifindex, ipv6, 64);
      return new PacketSocket(ns, ifindex);
    });
    this.fates = [0, 1].map((way) => new Impairment({ ...options, seed: options.seed + way }, FRAME_MAX));
    const [first, second] = this.sockets;
    this.ways = [
      { from: first, to: second, fate: this.fates[0] },
      { from: second, to: first, fate: this.fates[1] },
    ];
    void this.carry();
  }

  private async carry(): Promise<void> {
    while (!this.stopped) {
      for (const way of this.ways) move(way);
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (const socket of this.sockets) socket.close();
  }

  close(): void {
    this.stopped = true;
  }
}

function move({ from, to, fate }: Way): void {
  const now = performance.now();
  for (let i = 0; i < BURST; i++) {
    const frame = from.receive();
    if (frame === null) break;
    fate.offer(frame, 0, frame.length, now);
  }
  for (let slot = fate.take(now); slot >= 0; slot = fate.take(now)) {
    const at = slot * FRAME_MAX;
    to.send(fate.bytes.slice(at, at + fate.length[slot]));
  }
}
