/**
 * Segments of connections of other lcores: a host that sends them on another queue than before, or answers to a connection
 * whose port was chosen without knowing the NIC's hash. They are passed to the lcore that holds the port, or, where it is a
 * listener's, from lcore to lcore until one has the connection; the last one answers that nobody has.
 */
import type { FramePool } from "../../queues/pool.ts";
import type { RingProducer } from "../../queues/ring.ts";
import { C } from "../counters.ts";
import type { LcoreEndpoint } from "../lcore-endpoint.ts";
import { M_FRAME, M_HOME, M_KIND, M_L3, M_L4, M_LENGTH, M_PORT, M_REASON, MSG_TCP_SEGMENT } from "../message.ts";
import type { Tcp } from "../tcp/core.ts";
import { PORTS } from "../tcp/tcb.ts";
import { ETH_HEADER } from "../wire/ethernet.ts";
import type { FrameViews } from "../wire/views.ts";

/** Where a packet lies in its frame: on a word, as received ones do. */
export const STRAY_AT = 16;

interface StrayParts {
  readonly pool: FramePool;
  readonly views: FrameViews;
}

export class Strays {
  private readonly endpoint: LcoreEndpoint;
  private readonly parts: StrayParts;
  /** lcores with queues. */
  private readonly lcores: number;
  // The segment in hand.
  private ip = 0;
  private tcp = 0;
  private length = 0;
  private port = 0;
  private seen = 0;

  constructor(endpoint: LcoreEndpoint, parts: StrayParts) {
    this.endpoint = endpoint;
    this.parts = parts;
    this.lcores = endpoint.shared.tcbs.length;
  }

  /** Notes the segment in hand. `seen`: lcores that had it before. */
  at(ip: number, tcp: number, length: number, port: number, seen: number): void {
    this.ip = ip;
    this.tcp = tcp;
    this.length = length;
    this.port = port;
    this.seen = seen;
  }

  /**
   * Passes the segment in hand on.
   * @param home lcore that it is for, -1: whoever holds the port, else the next
   * @returns false: everybody has had it
   */
  pass(t: Tcp, home: number): boolean {
    const { endpoint, lcores, seen } = this;
    if (seen + 1 >= lcores) return false;
    const { counters, shared, thread } = endpoint;
    const owner = home >= 0 ? home : shared.portOwners[t.w[t.scratch + PORTS] >>> 16] - 1;
    if (owner === thread) return false;
    const to = owner >= 0 ? owner : (thread + 1) % lcores;
    const ring = endpoint.ringTo(to);
    const frame = this.parts.pool.take();
    const slot = frame < 0 ? -1 : ring.claim();
    if (slot < 0) {
      if (frame >= 0) this.parts.pool.give(frame);
      counters[C.TcpHandOverDrops]++;
      return true;
    }
    this.write(ring, slot, frame, owner >= 0 ? lcores : seen + 1);
    counters[C.TcpHandedOver]++;
    return true;
  }

  /** The frame is given back by the caller: a copy goes. */
  private write(ring: RingProducer, slot: number, frame: number, seen: number): void {
    const { ip, length, tcp } = this;
    const { bytes } = this.parts.views;
    const end = tcp + length;
    const at = frame + STRAY_AT;
    // The Ethernet header comes along: programs ask for it.
    bytes.copyWithin(at - ETH_HEADER, ip - ETH_HEADER, end);
    const { words } = ring;
    words[slot + M_KIND] = MSG_TCP_SEGMENT;
    words[slot + M_REASON] = seen;
    words[slot + M_FRAME] = frame;
    words[slot + M_LENGTH] = end - ip;
    words[slot + M_L3] = at;
    words[slot + M_L4] = at + tcp - ip;
    words[slot + M_PORT] = this.port;
    words[slot + M_HOME] = this.endpoint.thread;
  }

  /** MSG_TCP_SEGMENT: copies the packet into a frame of this lcore. Returns the frame, or -1: there is none. */
  take(words: Int32Array, at: number): number {
    const { pool, views } = this.parts;
    const frame = pool.take();
    if (frame < 0) {
      this.endpoint.counters[C.TcpHandOverDrops]++;
      return -1;
    }
    const from = words[at + M_L3];
    const { bytes } = this.endpoint.shared.memories[words[at + M_HOME]];
    views.bytes.set(bytes.subarray(from - ETH_HEADER, from + words[at + M_LENGTH]), frame + STRAY_AT - ETH_HEADER);
    return frame;
  }

  release(frame: number): void {
    this.parts.pool.give(frame);
  }
}
