/** A stream of pcapng blocks from an engine, taken apart where whole blocks end. The engine writes little-endian. */
import {
  BLOCK_OVERHEAD,
  CaptureFileError,
  ENHANCED_PACKET,
  INTERFACE_DESCRIPTION,
  INTERFACE_STATISTICS,
  ISB_FILTERACCEPT,
  ISB_IFDROP,
  OPT_COMMENT,
  OPT_END,
  PACKET_MAX,
} from "../../queues/pcap/format.ts";

/** The longest block that is believed: a packet, or texts. */
const BLOCK_MAX = 2 * PACKET_MAX;

/** What an interface's statistics take at most, bytes: six counts and times, and why it ended. */
const STATISTICS_BYTES = 256;

/** Whole blocks of one kind, one after the other. */
export interface BlockRun {
  readonly bytes: Uint8Array;
  /** Whether they are packets. */
  readonly packets: boolean;
}

export class BlockStream {
  /** Packets handed out. */
  packets = 0;
  /** From the statistics at the end: frames that the filter took, those of them without room, and why it ended. */
  accepted = 0;
  dropped = 0;
  reason = "";
  /** Whether the statistics have come: nothing is missing. */
  complete = false;
  interfaces = 0;
  /** Frames after this many, and those with which the file would be longer than so many bytes, are left out. */
  private readonly most: number;
  private readonly bytesMost: number;
  /** Bytes of the blocks handed out. */
  private bytes = 0;
  private stopped = false;
  /** The beginning of a block whose end has not come yet. */
  private rest: Uint8Array = new Uint8Array(0);

  constructor(most = Number.POSITIVE_INFINITY, bytesMost = Number.POSITIVE_INFINITY) {
    this.most = most;
    this.bytesMost = bytesMost;
  }

  /** Whether as many packets have come as are wanted. */
  get full(): boolean {
    return this.stopped || this.packets >= this.most;
  }

  /** Whether a packet's block is wanted. After the first that is not, none is: a capture has no holes of its own. */
  private wants(total: number): boolean {
    // The statistics of every interface come after the packets.
    const end = this.bytes + total + this.interfaces * STATISTICS_BYTES;
    if (end > this.bytesMost) this.stopped = true;
    return !this.full;
  }

  /** Takes what has come. Gives the whole blocks in it that are wanted. Throws CaptureFileError on what are no blocks. */
  take(chunk: Uint8Array): BlockRun[] {
    const bytes = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const runs: { from: number; to: number; packets: boolean }[] = [];
    let at = 0;
    while (bytes.length - at >= BLOCK_OVERHEAD) {
      const total = view.getUint32(at + 4, true);
      if (total < BLOCK_OVERHEAD || total > BLOCK_MAX) throw new CaptureFileError(`a block of ${total} bytes`);
      if (total > bytes.length - at) break;
      const type = view.getUint32(at, true);
      const packets = type === ENHANCED_PACKET;
      if (!packets || this.wants(total)) {
        const last = runs.at(-1);
        if (last !== undefined && last.packets === packets && last.to === at) last.to = at + total;
        else runs.push({ from: at, to: at + total, packets });
        this.bytes += total;
        this.note(view, type, at, total);
      }
      at += total;
    }
    this.rest = bytes.slice(at);
    return runs.map(({ from, to, packets }) => ({ bytes: bytes.subarray(from, to), packets }));
  }

  private note(view: DataView, type: number, at: number, total: number): void {
    if (type === ENHANCED_PACKET) this.packets++;
    else if (type === INTERFACE_DESCRIPTION) this.interfaces++;
    else if (type === INTERFACE_STATISTICS) this.statistics(view, at + 20, at + total - 4);
  }

  private statistics(view: DataView, from: number, to: number): void {
    this.complete = true;
    for (let at = from; at + 4 <= to; ) {
      const code = view.getUint16(at, true);
      const length = view.getUint16(at + 2, true);
      if (code === OPT_END) return;
      if (code === ISB_FILTERACCEPT) this.accepted += Number(view.getBigUint64(at + 4, true));
      else if (code === ISB_IFDROP) this.dropped += Number(view.getBigUint64(at + 4, true));
      else if (code === OPT_COMMENT) this.reason = text(view, at + 4, length);
      at += 4 + ((length + 3) & ~3);
    }
  }
}

function text(view: DataView, at: number, length: number): string {
  return new TextDecoder().decode(new Uint8Array(view.buffer, view.byteOffset + at, length));
}
