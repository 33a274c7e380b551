/** Writing captures of Ethernet frames to a sink, buffered: pcapng, or pcap for what reads nothing else. */
import { closeSync, openSync, writeSync } from "node:fs";
import {
  type InterfaceCounts,
  type InterfaceOptions,
  interfaceDescription,
  interfaceStatistics,
  PACKET_DATA,
  packetBytes,
  type SectionOptions,
  sectionHeader,
  writePacket,
} from "./blocks.ts";
import {
  DIRECTION_UNKNOWN,
  type Direction,
  LINKTYPE_ETHERNET,
  PACKET_MAX,
  PCAP_HEADER_BYTES,
  PCAP_MAGIC_NANOSECONDS,
  PCAP_RECORD_BYTES,
} from "./format.ts";
import { nanosHigh, nanosLow } from "./time.ts";

/** Where a writer's bytes go. They are the writer's again after the call. */
export interface ByteSink {
  write(bytes: Uint8Array): void;
}

/** A file by its path, made anew. Throws what open(2) and write(2) say. */
export class FileSink implements ByteSink {
  private readonly fd: number;

  constructor(path: string) {
    this.fd = openSync(path, "w");
  }

  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) at += writeSync(this.fd, bytes, at, bytes.length - at);
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** Room for several of the longest packets. */
const BUFFER_BYTES = 4 * PACKET_MAX;

/** Whole blocks or records, gathered until the buffer is full. */
class Gather {
  readonly bytes: Buffer;
  readonly words: Int32Array;
  private readonly sink: ByteSink;
  private used = 0;

  constructor(sink: ByteSink) {
    const buffer = new ArrayBuffer(BUFFER_BYTES);
    this.bytes = Buffer.from(buffer);
    this.words = new Int32Array(buffer);
    this.sink = sink;
  }

  /** Where `count` bytes may be written now. */
  claim(count: number): number {
    if (this.used + count > BUFFER_BYTES) this.flush();
    const at = this.used;
    this.used += count;
    return at;
  }

  put(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.claim(bytes.length));
  }

  flush(): void {
    if (this.used > 0) this.sink.write(this.bytes.subarray(0, this.used));
    this.used = 0;
  }
}

function checkLength(length: number): void {
  if (length > PACKET_MAX) throw new RangeError(`a packet of ${length} bytes: at most ${PACKET_MAX}`);
}

/** Writes pcapng, stamps in nanoseconds. */
export class PcapngWriter {
  private readonly out: Gather;
  private interfaces = 0;

  constructor(sink: ByteSink, section: SectionOptions = {}) {
    this.out = new Gather(sink);
    this.out.put(sectionHeader(section));
  }

  /** Describes an interface. Returns its number, which packets name. */
  interface(options: InterfaceOptions = {}): number {
    this.out.put(interfaceDescription(options));
    return this.interfaces++;
  }

  /**
   * Writes `bytes[offset .. offset + length)` captured of a packet.
   * @param originalLength bytes that the packet had, when it was cut
   */
  packet(
    interfaceId: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    seconds: number,
    nanoseconds: number,
    originalLength = length,
    direction: Direction = DIRECTION_UNKNOWN,
  ): void {
    checkLength(length);
    const { out } = this;
    const at = out.claim(packetBytes(length));
    const high = nanosHigh(seconds, nanoseconds);
    const low = nanosLow(seconds, nanoseconds);
    writePacket(out.words, at >> 2, interfaceId, high, low, length, originalLength, direction);
    out.bytes.set(bytes.subarray(offset, offset + length), at + PACKET_DATA);
  }

  statistics(interfaceId: number, counts: InterfaceCounts): void {
    this.out.put(interfaceStatistics(interfaceId, counts));
  }

  /** Hands what is gathered to the sink. */
  flush(): void {
    this.out.flush();
  }
}

/** Writes pcap, stamps in nanoseconds. */
export class PcapWriter {
  private readonly out: Gather;

  constructor(sink: ByteSink, snapLength = PACKET_MAX) {
    this.out = new Gather(sink);
    const header = new DataView(new ArrayBuffer(PCAP_HEADER_BYTES));
    header.setUint32(0, PCAP_MAGIC_NANOSECONDS, true);
    header.setUint16(4, 2, true);
    header.setUint16(6, 4, true);
    header.setUint32(16, snapLength, true);
    header.setUint32(20, LINKTYPE_ETHERNET, true);
    this.out.put(new Uint8Array(header.buffer));
  }

  /** Writes `bytes[offset .. offset + length)` captured of a packet that had `originalLength` bytes. */
  packet(
    bytes: Uint8Array,
    offset: number,
    length: number,
    seconds: number,
    nanoseconds: number,
    originalLength = length,
  ): void {
    checkLength(length);
    const { out } = this;
    const at = out.claim(PCAP_RECORD_BYTES + length);
    const header = new DataView(out.bytes.buffer, at, PCAP_RECORD_BYTES);
    header.setUint32(0, seconds, true);
    header.setUint32(4, nanoseconds, true);
    header.setUint32(8, length, true);
    header.setUint32(12, originalLength, true);
    out.bytes.set(bytes.subarray(offset, offset + length), at + PCAP_RECORD_BYTES);
  }

  /** Hands what is gathered to the sink. */
  flush(): void {
    this.out.flush();
  }
}
