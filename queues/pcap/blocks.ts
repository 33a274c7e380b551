/** Blocks of pcapng as bytes, in this machine's byte order (little-endian). */
import {
  BLOCK_OVERHEAD,
  BYTE_ORDER_MAGIC,
  type Direction,
  ENHANCED_PACKET,
  EPB_FLAGS,
  IF_DESCRIPTION,
  IF_FILTER,
  IF_NAME,
  IF_TSRESOL,
  INTERFACE_DESCRIPTION,
  INTERFACE_STATISTICS,
  ISB_ENDTIME,
  ISB_FILTERACCEPT,
  ISB_IFDROP,
  ISB_IFRECV,
  ISB_STARTTIME,
  ISB_USRDELIV,
  LINKTYPE_ETHERNET,
  OPT_COMMENT,
  SECTION_HEADER,
  SHB_OS,
  SHB_USERAPPL,
} from "./format.ts";
import { type CaptureTime, nanosHigh, nanosLow } from "./time.ts";

/** Time stamps count nanoseconds: if_tsresol. */
const NANOSECONDS = 9;
/** What an option may hold, bytes: its length has 16 bits. Longer texts are cut. */
const OPTION_MAX = 65_532;

/** Options of one block: code, length, value, padded to words. */
class Options {
  private readonly parts: Uint8Array[] = [];

  /** Adds a text, unless there is none. */
  text(code: number, text: string | undefined): this {
    return text ? this.bytes(code, new TextEncoder().encode(text).subarray(0, OPTION_MAX)) : this;
  }

  bytes(code: number, value: Uint8Array): this {
    const part = new Uint8Array(4 + ((value.length + 3) & ~3));
    const view = new DataView(part.buffer);
    view.setUint16(0, code, true);
    view.setUint16(2, value.length, true);
    part.set(value, 4);
    this.parts.push(part);
    return this;
  }

  /** A 64-bit count. */
  count(code: number, value: number): this {
    return this.halves(code, Math.floor(value / 2 ** 32), value % 2 ** 32, true);
  }

  /** A time stamp: the high half first, as in packet blocks. */
  time(code: number, { seconds, nanoseconds }: CaptureTime): this {
    return this.halves(code, nanosHigh(seconds, nanoseconds), nanosLow(seconds, nanoseconds), false);
  }

  /** All options and the end of the list; nothing where there are none. */
  finish(): Uint8Array {
    return this.parts.length === 0 ? new Uint8Array(0) : Buffer.concat([...this.parts, new Uint8Array(4)]);
  }

  private halves(code: number, high: number, low: number, lowFirst: boolean): this {
    const value = new Uint8Array(8);
    const view = new DataView(value.buffer);
    view.setUint32(lowFirst ? 4 : 0, high, true);
    view.setUint32(lowFirst ? 0 : 4, low, true);
    return this.bytes(code, value);
  }
}

function block(type: number, fixed: Uint8Array, options: Options): Uint8Array<ArrayBuffer> {
  const rest = options.finish();
  const total = BLOCK_OVERHEAD + fixed.length + rest.length;
  const bytes = new Uint8Array(total);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, total, true);
  bytes.set(fixed, 8);
  bytes.set(rest, 8 + fixed.length);
  view.setUint32(total - 4, total, true);
  return bytes;
}

export interface SectionOptions {
  /** Program that writes the file, with its version. */
  application?: string;
  os?: string;
  comment?: string;
}

/** A section header: begins a file. Its length is not given, so sections may be of any. */
export function sectionHeader({ application, os, comment }: SectionOptions = {}): Uint8Array<ArrayBuffer> {
  const fixed = new Uint8Array(16);
  const view = new DataView(fixed.buffer);
  view.setUint32(0, BYTE_ORDER_MAGIC, true);
  view.setUint16(4, 1, true);
  view.setBigInt64(8, -1n, true);
  const options = new Options().text(SHB_OS, os).text(SHB_USERAPPL, application).text(OPT_COMMENT, comment);
  return block(SECTION_HEADER, fixed, options);
}

export interface InterfaceOptions {
  name?: string;
  description?: string;
  /** Longest packet captured, bytes; 0 for no limit. */
  snapLength?: number;
  /** The filter, as its author wrote it. */
  filter?: string;
  comment?: string;
}

/** An interface of Ethernet frames, stamped in nanoseconds. Packets name it by its number in the section, from 0. */
export function interfaceDescription(options: InterfaceOptions = {}): Uint8Array<ArrayBuffer> {
  const { name, description, snapLength = 0, filter, comment } = options;
  const fixed = new Uint8Array(8);
  const view = new DataView(fixed.buffer);
  view.setUint16(0, LINKTYPE_ETHERNET, true);
  view.setUint32(4, snapLength, true);
  const list = new Options().text(IF_NAME, name).text(IF_DESCRIPTION, description);
  list.bytes(IF_TSRESOL, Uint8Array.of(NANOSECONDS));
  // The first byte says how the filter is given: 0, as text.
  if (filter) list.text(IF_FILTER, `\0${filter}`);
  return block(INTERFACE_DESCRIPTION, fixed, list.text(OPT_COMMENT, comment));
}

export interface InterfaceCounts {
  /** When the counts are taken, and when counting began. */
  at: CaptureTime;
  start: CaptureTime;
  /** Frames seen, those that the filter took, and of these those that found no room. */
  received: number;
  accepted: number;
  dropped: number;
  comment?: string;
}

/** What became of an interface's frames. */
export function interfaceStatistics(interfaceId: number, counts: InterfaceCounts): Uint8Array<ArrayBuffer> {
  const { at, start, received, accepted, dropped, comment } = counts;
  const fixed = new Uint8Array(12);
  const view = new DataView(fixed.buffer);
  view.setUint32(0, interfaceId, true);
  view.setUint32(4, nanosHigh(at.seconds, at.nanoseconds), true);
  view.setUint32(8, nanosLow(at.seconds, at.nanoseconds), true);
  const options = new Options()
    .time(ISB_STARTTIME, start)
    .time(ISB_ENDTIME, at)
    .count(ISB_IFRECV, received)
    .count(ISB_IFDROP, dropped)
    .count(ISB_FILTERACCEPT, accepted)
    .count(ISB_USRDELIV, accepted - dropped)
    .text(OPT_COMMENT, comment);
  return block(INTERFACE_STATISTICS, fixed, options);
}

/** Bytes of a packet's block before its data, and after the padded data: flags, end of options, length. */
const PACKET_BEFORE = 28;
const PACKET_AFTER = 16;

/** Bytes of the block that writePacket() writes for `captured` bytes of a packet. */
export function packetBytes(captured: number): number {
  return PACKET_BEFORE + ((captured + 3) & ~3) + PACKET_AFTER;
}

/** Where in such a block the packet's bytes go. */
export const PACKET_DATA = PACKET_BEFORE;

/**
 * Writes an enhanced packet block around `captured` bytes that the caller copies to byte PACKET_DATA of it. Allocates
 * nothing. `words[at]` is the block's first word; the stamp is in nanoseconds since 1970.
 */
export function writePacket(
  words: Int32Array,
  at: number,
  interfaceId: number,
  timeHigh: number,
  timeLow: number,
  captured: number,
  original: number,
  direction: Direction,
): void {
  const total = packetBytes(captured);
  words[at] = ENHANCED_PACKET;
  words[at + 1] = total;
  words[at + 2] = interfaceId;
  words[at + 3] = timeHigh;
  words[at + 4] = timeLow;
  words[at + 5] = captured;
  words[at + 6] = original;
  // The last word of the data is cleared for the sake of its padding.
  const options = at + ((PACKET_BEFORE + captured + 3) >> 2);
  if (captured > 0) words[options - 1] = 0;
  words[options] = EPB_FLAGS | (4 << 16);
  words[options + 1] = direction;
  words[options + 2] = 0;
  words[options + 3] = total;
}
