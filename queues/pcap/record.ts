/** What a reader of captures hands out. */
import { DIRECTION_UNKNOWN, type Direction } from "./format.ts";
import type { CaptureTime } from "./time.ts";

/** One packet, of Ethernet. The reader uses the object again for the next one. */
export class CaptureRecord implements CaptureTime {
  /** Where the packet's bytes are: `bytes[offset .. offset + length)`, valid until the reader's next step. */
  readonly bytes: Uint8Array;
  offset = 0;
  /** Bytes captured. */
  length = 0;
  /** Bytes that the packet had; more than `length` where the capture cut it. */
  originalLength = 0;
  /** When it was captured. A packet without a stamp (simple packet blocks) has that of the packet before. */
  seconds = 0;
  nanoseconds = 0;
  /** Interface, counted from the file's first. */
  interface = 0;
  direction: Direction = DIRECTION_UNKNOWN;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

/** Steps through a capture. Holds one packet at a time, so the file may be of any length. */
export interface CaptureReader {
  readonly record: CaptureRecord;
  /** "pcap" or "pcapng". */
  readonly format: string;
  /** What the end of the file was that is no whole packet, in words; "" as long as everything was whole. */
  readonly rest: string;
  /** Steps to the next packet. False at the end. Throws CaptureFileError where the file is damaged. */
  next(): boolean;
  /** Begins again. */
  rewind(): void;
  close(): void;
}
