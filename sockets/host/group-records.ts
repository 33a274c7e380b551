/**
 * Group records of reports (RFC 3376, sections 4.2.4 to 4.2.16; RFC 3810, sections 5.2.4 to 5.2.15): what a host wants of a
 * group. Both protocols have one layout of record and of the eight bytes before them, but for the length of addresses.
 */
import { ip } from "../wire/address.ts";
import { writeUint16 } from "../wire/views.ts";

/** Record types (include/uapi/linux/igmp.h, IGMPV3_...; include/net/mld.h takes the same numbers). */
export const MODE_IS_INCLUDE = 1;
export const MODE_IS_EXCLUDE = 2;
export const CHANGE_TO_INCLUDE = 3;
export const CHANGE_TO_EXCLUDE = 4;
export const ALLOW_NEW_SOURCES = 5;
export const BLOCK_OLD_SOURCES = 6;

export interface GroupRecord {
  readonly type: number;
  /** Text, as the sources are. */
  readonly group: string;
  readonly sources: readonly string[];
}

/** Bytes of a report before its records: type, reserved, checksum, reserved, number of records. */
export const REPORT_HEADER = 8;
const REPORT_COUNT = 6;
/** Bytes of a record before its group: type, length of auxiliary data, number of sources. */
const RECORD_HEADER = 4;

/** Bytes of a record whose addresses have `size` bytes. */
function recordBytes(record: GroupRecord, size: number): number {
  return RECORD_HEADER + size * (1 + record.sources.length);
}

/**
 * Records dealt out to as many reports as are needed (RFC 3376, section 4.2.16): one that is too long is split, but that an
 * EXCLUDE goes without the sources that do not fit, since a second one would replace it.
 * @param size bytes of an address; `room`: bytes that a report has for records, enough for one with a source
 */
export function packRecords(records: readonly GroupRecord[], size: number, room: number): GroupRecord[][] {
  const reports: GroupRecord[][] = [];
  let left = 0;
  const begin = (): void => {
    reports.push([]);
    left = room;
  };
  const put = (record: GroupRecord): void => {
    reports[reports.length - 1].push(record);
    left -= recordBytes(record, size);
  };
  const fitting = (): number => Math.floor((left - RECORD_HEADER - size) / size);
  for (const record of records) {
    const { type, group, sources } = record;
    const isWhole = type === MODE_IS_EXCLUDE || type === CHANGE_TO_EXCLUDE || sources.length === 0;
    if (recordBytes(record, size) <= left) {
      put(record);
    } else if (isWhole) {
      begin();
      put({ type, group, sources: sources.slice(0, fitting()) });
    } else {
      for (let from = 0; from < sources.length; ) {
        if (fitting() < 1) begin();
        const part = sources.slice(from, from + fitting());
        put({ type, group, sources: part });
        from += part.length;
      }
    }
  }
  return reports;
}

/**
 * Writes a report's eight bytes, its checksum 0, and its records.
 * @returns its bytes
 */
export function writeReport(bytes: Uint8Array, at: number, type: number, records: readonly GroupRecord[]): number {
  bytes.fill(0, at, at + REPORT_HEADER);
  bytes[at] = type;
  writeUint16(bytes, at + REPORT_COUNT, records.length);
  let to = at + REPORT_HEADER;
  for (const record of records) {
    bytes[to] = record.type;
    bytes[to + 1] = 0;
    writeUint16(bytes, to + 2, record.sources.length);
    to += RECORD_HEADER;
    for (const address of [record.group, ...record.sources]) {
      const part = ip(address);
      bytes.set(part, to);
      to += part.length;
    }
  }
  return to - at;
}
