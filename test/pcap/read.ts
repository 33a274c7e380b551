/** Reading whole captures in tests, and what tshark makes of them. */

import { readCapture } from "../../queues/pcap/reader.ts";
import type { CaptureReader } from "../../queues/pcap/record.ts";
import { MemorySource } from "../../queues/pcap/source.ts";

export interface Packet {
  /** "seconds.nanoseconds" */
  time: string;
  hex: string;
  original: number;
  interface: number;
  direction: number;
}

export const timeOf = (seconds: number, nanoseconds: number): string =>
  `${seconds}.${String(nanoseconds).padStart(9, "0")}`;

export function all(reader: CaptureReader): Packet[] {
  const packets: Packet[] = [];
  while (reader.next()) {
    const { bytes, offset, length, seconds, nanoseconds, originalLength, direction } = reader.record;
    packets.push({
      time: timeOf(seconds, nanoseconds),
      hex: bytes.subarray(offset, offset + length).toHex(),
      original: originalLength,
      interface: reader.record.interface,
      direction,
    });
  }
  return packets;
}

/** Packets of a file in memory, and how it ended. */
export function read(file: Uint8Array, chunk?: number): { packets: Packet[]; rest: string; format: string } {
  const reader = readCapture(new MemorySource(file, chunk));
  return { packets: all(reader), rest: reader.rest, format: reader.format };
}

/** Values of tshark's fields, a row a packet. Throws what it says on stderr, should it complain. */
export function tshark(path: string, fields: readonly string[], ...more: string[]): string[][] {
  const names = fields.flatMap((field) => ["-e", field]);
  const run = Bun.spawnSync(["tshark", "-n", "-r", path, "-T", "fields", ...names, ...more]);
  const complaint = run.stderr
    .toString()
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("Running as user"));
  if (run.exitCode !== 0 || complaint.length > 0) throw new Error(`tshark: ${complaint.join("; ")}`);
  const text = run.stdout.toString();
  return text === ""
    ? []
    : text
        .replace(/\n$/, "")
        .split("\n")
        .map((line) => line.split("\t"));
}

/** Why tests with tshark cannot run here: "" when they can. */
export const withoutTshark = Bun.which("tshark") === null ? "tshark is not installed" : "";
if (withoutTshark !== "") console.warn(`skipped tests: ${withoutTshark}`);
