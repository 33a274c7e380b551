/**
 * Reading pcapng: sections in either byte order, each with interfaces of its own. Blocks that carry no packet are passed
 * over, whatever their type and length.
 */
import {
  BLOCK_OVERHEAD,
  BYTE_ORDER_MAGIC,
  CaptureFileError,
  DIRECTION_UNKNOWN,
  type Direction,
  ENHANCED_PACKET,
  EPB_FLAGS,
  IF_TSOFFSET,
  IF_TSRESOL,
  INTERFACE_DESCRIPTION,
  LINKTYPE_ETHERNET,
  linkTypeName,
  OPT_END,
  OUTBOUND,
  PACKET,
  PACKET_MAX,
  SECTION_HEADER,
  SIMPLE_PACKET,
} from "./format.ts";
import { type CaptureReader, CaptureRecord } from "./record.ts";
import type { ByteWindow } from "./source.ts";
import { TimeScale } from "./time.ts";

const VERSION_MAJOR = 1;
/** Bytes of the fixed part of a body, before packet data or options. */
const SECTION_FIXED = 16;
const INTERFACE_FIXED = 8;
const PACKET_FIXED = 20;
const SIMPLE_FIXED = 4;
/** The longest block that is read whole, bytes: a packet and its options. Longer ones are passed over or damaged. */
const BLOCK_MAX = 2 * PACKET_MAX;
/** Interfaces of one file. A damaged one must not fill the memory with them. */
const INTERFACES_MAX = 65_536;

interface Interface {
  readonly linkType: number;
  /** Longest packet it captures, bytes; 0 for no limit. */
  readonly snapLength: number;
  readonly scale: TimeScale;
}

export class PcapngReader implements CaptureReader {
  readonly format = "pcapng";
  readonly record: CaptureRecord;
  rest = "";
  private readonly window: ByteWindow;
  private little = true;
  /** Interfaces of this section, and how many the sections before had. */
  private interfaces: Interface[] = [];
  private before = 0;

  /** @param window stands at the file's first byte, of a section header. Throws CaptureFileError. */
  constructor(window: ByteWindow) {
    this.window = window;
    this.record = new CaptureRecord(window.bytes);
    // The section header is looked at here, so that a file that is none is refused when it is opened.
    if (!this.ensureBlock()) throw new CaptureFileError("ends within the section header");
    this.section();
  }

  next(): boolean {
    for (;;) {
      const { window } = this;
      if (!window.ensure(BLOCK_OVERHEAD)) return this.end(window.left);
      const type = window.view.getUint32(window.at, this.little);
      if (!isRead(type)) {
        if (!this.pass()) return false;
        continue;
      }
      if (!this.ensureBlock()) return this.end(window.left);
      const total = window.view.getUint32(window.at + 4, this.little);
      if (type === SECTION_HEADER) this.section();
      else if (type === INTERFACE_DESCRIPTION) this.describe(total);
      else if (this.packet(type, total)) return true;
    }
  }

  rewind(): void {
    this.rest = "";
    this.record.seconds = 0;
    this.record.nanoseconds = 0;
    this.window.rewind();
    this.before = 0;
    this.interfaces = [];
    this.ensureBlock();
    this.section();
  }

  close(): void {
    this.window.close();
  }

  /**
   * Has the block at the window's position there, whole, its two lengths compared. False: the file ends within it. A
   * section header's byte order is taken from it first, for its length is written in that.
   */
  private ensureBlock(): boolean {
    const { window } = this;
    if (!window.ensure(BLOCK_OVERHEAD)) return false;
    if (window.view.getUint32(window.at, true) === SECTION_HEADER) this.little = this.byteOrder();
    const total = this.totalLength();
    if (total > BLOCK_MAX) throw this.damaged(`a block of ${total} bytes, ${BLOCK_MAX} is the most`);
    if (!window.ensure(total)) return false;
    const after = window.view.getUint32(window.at + total - 4, this.little);
    if (after !== total) throw this.damaged(`a block of ${total} bytes ends with the length ${after}`);
    return true;
  }

  /** Total length of the block at the window's position. */
  private totalLength(): number {
    const { window } = this;
    const total = window.view.getUint32(window.at + 4, this.little);
    if (total < BLOCK_OVERHEAD || (total & 3) !== 0) throw this.damaged(`a block length of ${total}`);
    return total;
  }

  private byteOrder(): boolean {
    const { view, at } = this.window;
    const little = view.getUint32(at + 8, true) === BYTE_ORDER_MAGIC;
    if (!little && view.getUint32(at + 8, false) !== BYTE_ORDER_MAGIC) throw this.damaged("no byte-order magic");
    return little;
  }

  /** Passes over a block that is not read. False: the file ends within it. */
  private pass(): boolean {
    const { window } = this;
    const start = window.position;
    const total = this.totalLength();
    if (window.skip(total)) return true;
    return this.end(window.position - start, start);
  }

  /** The file's end, `left` bytes after the start of the block that stands at byte `start`. */
  private end(left: number, start = this.window.position): false {
    if (left > 0) this.rest = `ends within a block at byte ${start}: ${left} bytes are left over`;
    return false;
  }

  private section(): void {
    const { window, little } = this;
    const { at, view } = window;
    const total = view.getUint32(at + 4, little);
    if (total < BLOCK_OVERHEAD + SECTION_FIXED) throw this.damaged(`a section header of ${total} bytes`);
    const major = view.getUint16(at + 12, little);
    if (major !== VERSION_MAJOR) throw this.damaged(`pcapng version ${major}: only ${VERSION_MAJOR} is known`);
    this.before += this.interfaces.length;
    this.interfaces = [];
    window.at += total;
  }

  private describe(total: number): void {
    const { window, little } = this;
    const { at, view } = window;
    if (total < BLOCK_OVERHEAD + INTERFACE_FIXED) throw this.damaged(`an interface description of ${total} bytes`);
    if (this.before + this.interfaces.length >= INTERFACES_MAX) {
      throw this.damaged(`more than ${INTERFACES_MAX} interfaces`);
    }
    const options = at + 8 + INTERFACE_FIXED;
    const end = at + total - 4;
    const resolution = this.option(options, end, IF_TSRESOL, 1);
    const offset = this.option(options, end, IF_TSOFFSET, 8);
    this.interfaces.push({
      linkType: view.getUint16(at + 8, little),
      snapLength: view.getUint32(at + 12, little),
      scale: new TimeScale(
        resolution < 0 ? undefined : window.bytes[resolution],
        offset < 0 ? 0 : Number(view.getBigInt64(offset, little)),
      ),
    });
    window.at += total;
  }

  /** Where the value of an option of `length` bytes begins, or -1 where the list from `at` to `end` has none. */
  private option(at: number, end: number, code: number, length: number): number {
    const { view } = this.window;
    for (let o = at; o + 4 <= end; ) {
      const found = view.getUint16(o, this.little);
      const size = view.getUint16(o + 2, this.little);
      if (found === OPT_END) return -1;
      if (o + 4 + size > end) throw this.damaged(`an option of ${size} bytes in a block that ends before`);
      if (found === code && size === length) return o + 4;
      o += 4 + ((size + 3) & ~3);
    }
    return -1;
  }

  /** Takes the packet of a block and steps past it. */
  private packet(type: number, total: number): boolean {
    if (type === SIMPLE_PACKET) this.simplePacket(total);
    else this.enhancedPacket(type, total);
    this.window.at += total;
    return true;
  }

  private enhancedPacket(type: number, total: number): void {
    const { window, little, record } = this;
    const { at, view } = window;
    if (total < BLOCK_OVERHEAD + PACKET_FIXED) throw this.damaged(`a packet block of ${total} bytes`);
    const number = type === PACKET ? view.getUint16(at + 8, little) : view.getUint32(at + 8, little);
    const { scale } = this.interfaceOf(number);
    const length = view.getUint32(at + 20, little);
    const data = at + 8 + PACKET_FIXED;
    const end = at + total - 4;
    if (length > end - data) throw this.damaged(`a packet of ${length} bytes in a block of ${total}`);
    scale.convert(view.getUint32(at + 12, little), view.getUint32(at + 16, little), record);
    this.fill(number, data, length, view.getUint32(at + 24, little));
    const flags = this.option(data + ((length + 3) & ~3), end, EPB_FLAGS, 4);
    if (flags >= 0) record.direction = directionOf(view.getUint32(flags, little));
  }

  /** A packet of the section's first interface, without a stamp; its captured length follows from the snap length. */
  private simplePacket(total: number): void {
    const { window, little } = this;
    if (total < BLOCK_OVERHEAD + SIMPLE_FIXED) throw this.damaged(`a packet block of ${total} bytes`);
    const { snapLength } = this.interfaceOf(0);
    const original = window.view.getUint32(window.at + 8, little);
    const length = snapLength === 0 ? original : Math.min(original, snapLength);
    if (length > total - BLOCK_OVERHEAD - SIMPLE_FIXED) {
      throw this.damaged(`a packet of ${length} bytes in a block of ${total}`);
    }
    this.fill(0, window.at + 8 + SIMPLE_FIXED, length, original);
  }

  private fill(number: number, offset: number, length: number, original: number): void {
    if (length > PACKET_MAX) throw this.damaged(`a packet of ${length} bytes, ${PACKET_MAX} is the most`);
    const { record } = this;
    record.interface = this.before + number;
    record.offset = offset;
    record.length = length;
    record.originalLength = original;
    record.direction = DIRECTION_UNKNOWN;
  }

  private interfaceOf(number: number): Interface {
    const found = this.interfaces[number];
    if (found === undefined) throw this.damaged(`a packet of interface ${number}, which is not described before it`);
    if (found.linkType !== LINKTYPE_ETHERNET) {
      throw this.damaged(
        `interface ${number} has packets of ${linkTypeName(found.linkType)}: only Ethernet (link type 1) is read`,
      );
    }
    return found;
  }

  private damaged(what: string): CaptureFileError {
    return new CaptureFileError(`byte ${this.window.position}: ${what}`);
  }
}

/** Whether blocks of the type are looked into. */
function isRead(type: number): boolean {
  switch (type) {
    case SECTION_HEADER:
    case INTERFACE_DESCRIPTION:
    case ENHANCED_PACKET:
    case SIMPLE_PACKET:
    case PACKET:
      return true;
    default:
      return false;
  }
}

/** The two low bits of the flags word: 1 in, 2 out, 0 and 3 nothing known. */
function directionOf(flags: number): Direction {
  const bits = flags & 3;
  return bits > OUTBOUND ? DIRECTION_UNKNOWN : (bits as Direction);
}
