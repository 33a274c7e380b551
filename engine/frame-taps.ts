/** Frames that pass an engine's lcores, for sockets of AF_PACKET: captures (capture.ts) that are read block by block in this process. */
import { check, ERRNO } from "af-xdp-bindings";
import { PACKET_DATA } from "../queues/pcap/blocks.ts";
import { OUTBOUND } from "../queues/pcap/format.ts";
import { type CaptureTime, TimeScale } from "../queues/pcap/time.ts";
import type { FrameTap, FrameTaps, TappedFrame } from "../sockets/calls/packet/taps.ts";
import type { CaptureRings } from "./capture.ts";

/** Bytes of each lcore's ring: 4 ms at 10 Gbit/s. */
export const TAP_RING_BYTES = 1 << 22;
/** The longest an lcore may take to see that it is tapped. */
const ATTACH_MS = 3000;
/** if_tsresol of the blocks: 10^-9 s. */
const NANOSECONDS = 9;

class RingTap implements FrameTap {
  private readonly rings: CaptureRings;
  /** Blocks taken from a ring, and where the next one begins. */
  private blocks: Uint8Array = new Uint8Array(0);
  private at = 0;
  private turn = 0;
  private readonly stamps = new TimeScale(NANOSECONDS);
  private readonly time: CaptureTime = { seconds: 0, nanoseconds: 0 };

  constructor(rings: CaptureRings) {
    this.rings = rings;
    check(rings.awaitAttached(ATTACH_MS) ? 0 : -ERRNO.ETIMEDOUT, "socket(AF_PACKET)", {
      ETIMEDOUT: "an lcore did not begin to show its frames: a handler of its module holds it",
    });
  }

  next(): TappedFrame | null {
    if (this.at === this.blocks.length && !this.fetch()) return null;
    const { blocks, at } = this;
    const view = new DataView(blocks.buffer, blocks.byteOffset + at);
    const total = view.getUint32(4, true);
    const captured = view.getUint32(20, true);
    this.at += total;
    const { time } = this;
    this.stamps.convert(view.getUint32(12, true), view.getUint32(16, true), time);
    return {
      bytes: blocks.subarray(at + PACKET_DATA, at + PACKET_DATA + captured),
      // The flags follow the padded data and the option's head.
      outgoing: view.getUint32(PACKET_DATA + ((captured + 3) & ~3) + 4, true) === OUTBOUND,
      seconds: time.seconds,
      nanoseconds: time.nanoseconds,
    };
  }

  get lost(): number {
    return this.rings.dropped;
  }

  close(): void {
    this.rings.stop();
  }

  private fetch(): boolean {
    const { readers } = this.rings;
    for (let i = 0; i < readers.length; i++) {
      const blocks = readers[this.turn].take();
      this.turn = (this.turn + 1) % readers.length;
      if (blocks.length === 0) continue;
      this.blocks = blocks;
      this.at = 0;
      return true;
    }
    return false;
  }
}

export const frameTaps = (ifindex: number, mac: Uint8Array, open: () => CaptureRings): FrameTaps => ({
  ifindex,
  mac,
  open: () => new RingTap(open()),
});
