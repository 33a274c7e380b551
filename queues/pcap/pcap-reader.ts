/** Reading pcap: a header, then records. Either byte order, micro- or nanoseconds. */
import {
  CaptureFileError,
  LINKTYPE_ETHERNET,
  linkTypeName,
  PACKET_MAX,
  PCAP_HEADER_BYTES,
  PCAP_MAGIC_MICROSECONDS,
  PCAP_MAGIC_NANOSECONDS,
  PCAP_RECORD_BYTES,
} from "./format.ts";
import { type CaptureReader, CaptureRecord } from "./record.ts";
import type { ByteWindow } from "./source.ts";

const VERSION_MAJOR = 2;
/** Of the link type's word; above are length and presence of a frame check sequence. */
const LINKTYPE_MASK = 0x03ffffff;
const NANO = 1_000_000_000;

export class PcapReader implements CaptureReader {
  readonly format = "pcap";
  readonly record: CaptureRecord;
  rest = "";
  private readonly window: ByteWindow;
  private readonly little: boolean;
  /** Nanoseconds a unit of the stamps' second word. */
  private readonly unitNs: number;

  /** @param window stands at the file's first byte. Throws CaptureFileError. */
  constructor(window: ByteWindow) {
    this.window = window;
    this.record = new CaptureRecord(window.bytes);
    if (!window.ensure(PCAP_HEADER_BYTES)) throw new CaptureFileError("ends within the file header");
    const { view, at } = window;
    this.little = isMagic(view.getUint32(at, true));
    this.unitNs = view.getUint32(at, this.little) === PCAP_MAGIC_NANOSECONDS ? 1 : 1000;
    const major = view.getUint16(at + 4, this.little);
    if (major !== VERSION_MAJOR) throw new CaptureFileError(`pcap version ${major}: only ${VERSION_MAJOR} is known`);
    const linkType = view.getUint32(at + 20, this.little) & LINKTYPE_MASK;
    if (linkType !== LINKTYPE_ETHERNET) {
      throw new CaptureFileError(`packets of ${linkTypeName(linkType)}: only Ethernet (link type 1) is read`);
    }
    window.at += PCAP_HEADER_BYTES;
  }

  next(): boolean {
    const { little, record, window } = this;
    if (!window.ensure(PCAP_RECORD_BYTES)) return this.end("a record's header");
    const { at, view } = window;
    const length = view.getUint32(at + 8, little);
    if (length > PACKET_MAX) {
      throw new CaptureFileError(`byte ${window.position}: a packet of ${length} bytes, ${PACKET_MAX} is the most`);
    }
    if (!window.ensure(PCAP_RECORD_BYTES + length)) return this.end("a packet");
    // The window may have moved what it holds.
    const from = window.at;
    const fraction = view.getUint32(from + 4, little) * this.unitNs;
    record.seconds = view.getUint32(from, little) + Math.floor(fraction / NANO);
    record.nanoseconds = fraction % NANO;
    record.offset = from + PCAP_RECORD_BYTES;
    record.length = length;
    record.originalLength = view.getUint32(from + 12, little);
    window.at += PCAP_RECORD_BYTES + length;
    return true;
  }

  rewind(): void {
    this.rest = "";
    this.window.rewind();
    this.window.skip(PCAP_HEADER_BYTES);
  }

  close(): void {
    this.window.close();
  }

  private end(within: string): false {
    const { left, position } = this.window;
    if (left > 0) this.rest = `ends within ${within} at byte ${position}: ${left} bytes are left over`;
    return false;
  }
}

/** Whether a word is the first of a pcap file. */
export function isMagic(word: number): boolean {
  return word === PCAP_MAGIC_MICROSECONDS || word === PCAP_MAGIC_NANOSECONDS;
}
