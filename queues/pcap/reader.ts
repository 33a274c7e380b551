/** Opening a capture file of either format. */
import { CaptureFileError, SECTION_HEADER } from "./format.ts";
import { isMagic, PcapReader } from "./pcap-reader.ts";
import { PcapngReader } from "./pcapng-reader.ts";
import type { CaptureReader } from "./record.ts";
import { type ByteSource, ByteWindow, FileSource } from "./source.ts";

/** First words, as bytes, of what people take for captures. */
const MISTAKES: [string, string][] = [
  ["1f8b", "compressed with gzip: gunzip it first"],
  ["28b52ffd", "compressed with zstd: unzstd it first"],
  ["04224d18", "compressed with LZ4: unlz4 it first"],
  ["34cdb2a1", "a modified pcap of patched kernels: `editcap -F pcapng` rewrites it"],
  ["a1b2cd34", "a modified pcap of patched kernels: `editcap -F pcapng` rewrites it"],
];

/** A reader over a source. Throws CaptureFileError when that is no capture. */
export function readCapture(source: ByteSource): CaptureReader {
  const window = new ByteWindow(source);
  if (!window.ensure(4)) throw new CaptureFileError(`${window.left} bytes: no capture`);
  const { bytes, view } = window;
  if (view.getUint32(0) === SECTION_HEADER) return new PcapngReader(window);
  if (isMagic(view.getUint32(0)) || isMagic(view.getUint32(0, true))) return new PcapReader(window);
  const start = bytes.subarray(0, 4).toHex();
  const mistake = MISTAKES.find(([magic]) => start.startsWith(magic));
  throw new CaptureFileError(mistake?.[1] ?? `begins with ${start}: neither pcap nor pcapng`);
}

/** Opens a capture file. Throws CaptureFileError with the file's name, or what open(2) says. */
export function openCapture(path: string): CaptureReader {
  const source = new FileSource(path);
  try {
    return readCapture(source);
  } catch (error) {
    source.close();
    if (error instanceof CaptureFileError) throw new CaptureFileError(`${path}: ${error.message}`);
    throw error;
  }
}
