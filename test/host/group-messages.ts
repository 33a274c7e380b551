/** IGMP and MLD messages taken apart and made, byte by byte: nothing here comes from the code under test. */
import { formatIpv4, formatIpv6, ip } from "../../sockets/wire/address.ts";
import { onesSum } from "../support/frames.ts";
import { framed, sealed4 } from "./packets.ts";

const IP = 14;

export interface GroupMessage {
  type: number;
  /** Of the IP header. */
  source: string;
  destination: string;
  /** Group of a message of an older version, or of a query: "" when it is of all. */
  group: string;
  /** Of a report of the newest version: "TYPE GROUP SOURCES", sources in order. */
  records: string[];
  bytes: number;
}

const TYPES = ["", "IS_IN", "IS_EX", "TO_IN", "TO_EX", "ALLOW", "BLOCK"];

/**
 * Takes a frame apart, throwing where it is not as RFC 3376 or RFC 3810 wants it: Ethernet address, TTL 1, router alert,
 * lengths, both checksums. Null: of another protocol.
 */
export function parseGroupMessage(frame: Uint8Array): GroupMessage | null {
  const word = (at: number): number => (frame[at] << 8) | frame[at + 1];
  const v4 = word(12) === 0x0800;
  if (v4 ? frame[IP + 9] !== 2 : word(12) !== 0x86dd || frame[IP + 6] !== 0 || frame[IP + 40] !== 58) return null;
  const at = IP + (v4 ? (frame[IP] & 15) * 4 : 48);
  const end = IP + (v4 ? word(IP + 2) : 40 + word(IP + 4));
  if (!v4 && frame[at] < 130) return null;
  if (!v4 && frame[at] > 132 && frame[at] !== 143) return null;
  const destination = frame.subarray(IP + (v4 ? 16 : 24), IP + (v4 ? 20 : 40));
  const mac = v4
    ? [1, 0, 0x5e, destination[1] & 127, destination[2], destination[3]]
    : [0x33, 0x33, ...destination.subarray(12)];
  must(frame.subarray(0, 6).join() === mac.join(), "Ethernet address");
  must(frame.length === end, `${frame.length} bytes, not ${end}`);
  must(frame[IP + (v4 ? 8 : 7)] === 1, "TTL");
  const alert = v4 ? [148, 4, 0, 0] : [58, 0, 5, 2, 0, 0, 1, 0];
  must(frame.subarray(at - alert.length, at).join() === alert.join(), "router alert");
  if (v4) must(onesSum(frame, IP, at) === 0xffff, "header checksum");
  const pseudo = v4 ? 0 : onesSum([...frame.subarray(IP + 8, IP + 40), 0, 58, (end - at) >> 8, (end - at) & 255]);
  must(onesSum(frame, at, end, pseudo) === 0xffff, "checksum");
  const format = v4 ? formatIpv4 : formatIpv6;
  const isReport = frame[at] === 0x22 || frame[at] === 143;
  const group = isReport ? "" : format(frame, at + (v4 ? 4 : 8));
  return {
    type: frame[at],
    source: format(frame, IP + (v4 ? 12 : 8)),
    destination: format(destination),
    group: /^(0\.0\.0\.0|::)$/.test(group) ? "" : group,
    records: isReport ? recordsAt(frame, at, end, v4 ? 4 : 16) : [],
    bytes: end - IP,
  };
}

function recordsAt(frame: Uint8Array, at: number, end: number, size: number): string[] {
  const format = size === 4 ? formatIpv4 : formatIpv6;
  const records: string[] = [];
  let from = at + 8;
  for (let left = (frame[at + 6] << 8) | frame[at + 7]; left > 0; left--) {
    must(frame[from + 1] === 0, "auxiliary data");
    const count = (frame[from + 2] << 8) | frame[from + 3];
    const sources = Array.from({ length: count }, (_, i) => format(frame, from + 4 + size * (i + 1)));
    records.push([TYPES[frame[from]], format(frame, from + 4), ...sources.toSorted()].join(" "));
    from += 4 + size * (1 + count);
  }
  must(from === end, `records end at ${from}, the message at ${end}`);
  return records;
}

function must(is: boolean, what: string): void {
  if (!is) throw new Error(`group message: ${what}`);
}

export interface Query {
  version: number;
  group?: string;
  sources?: string[];
  /** As the field has it. */
  code?: number;
  qrv?: number;
  qqic?: number;
  source?: string;
  destination?: string;
  ttl?: number;
  /** Without a router alert. */
  plain?: boolean;
}

/** A packet with a query of IGMP. */
export function igmpQuery(query: Query): Uint8Array {
  const { version, group = "0.0.0.0", sources = [], code = version === 1 ? 0 : 10, qrv = 2, qqic = 125 } = query;
  const { source = "198.18.0.1", destination = group === "0.0.0.0" ? "224.0.0.1" : group } = query;
  const message = [0x11, code, 0, 0, ...ip(group)];
  if (version === 3) message.push(qrv, qqic, 0, sources.length, ...sources.flatMap((address) => [...ip(address)]));
  return igmpPacket(message, source, destination, query);
}

/** A packet with a report of IGMPv1 (0x12), v2 (0x16) or a leave (0x17). */
export function igmpReport(type: number, group: string, source = "198.18.0.9"): Uint8Array {
  return igmpPacket([type, 0, 0, 0, ...ip(group)], source, group, {});
}

function igmpPacket(
  message: number[],
  source: string,
  destination: string,
  { ttl = 1, plain = false }: { ttl?: number; plain?: boolean },
): Uint8Array {
  const sum = ~onesSum(message) & 0xffff;
  message[2] = sum >> 8;
  message[3] = sum & 255;
  const options = plain ? [] : [148, 4, 0, 0];
  const header = 20 + options.length;
  const length = header + message.length;
  const fields = [0x40 | (header / 4), 0xc0, length >> 8, length & 255, 0, 0, 0, 0, ttl, 2, 0, 0];
  return sealed4(Uint8Array.from([...fields, ...ip(source), ...ip(destination), ...options, ...message]));
}

/** A packet with a query of MLD. */
export function mldQuery(query: Query): Uint8Array {
  const { version, group = "::", sources = [], code = 1000, qrv = 2, qqic = 125 } = query;
  const { source = "fe80::1", destination = group === "::" ? "ff02::1" : group } = query;
  const message = [130, 0, 0, 0, code >> 8, code & 255, 0, 0, ...ip(group)];
  if (version === 2) message.push(qrv, qqic, 0, sources.length, ...sources.flatMap((address) => [...ip(address)]));
  return mldPacket(message, source, destination, query);
}

/** A packet with a report of MLDv1 (131) or a done message (132). */
export function mldReport(type: number, group: string, source = "fe80::9"): Uint8Array {
  return mldPacket([type, 0, 0, 0, 0, 0, 0, 0, ...ip(group)], source, group, {});
}

function mldPacket(
  message: number[],
  source: string,
  destination: string,
  { ttl = 1, plain = false }: { ttl?: number; plain?: boolean },
): Uint8Array {
  const length = message.length;
  const addresses = [...ip(source), ...ip(destination)];
  const sum = ~onesSum(message, 0, length, onesSum([...addresses, 0, 58, length >> 8, length & 255])) & 0xffff;
  message[2] = sum >> 8;
  message[3] = sum & 255;
  const options = plain ? [58, 0, 1, 4, 0, 0, 0, 0] : [58, 0, 5, 2, 0, 0, 1, 0];
  const payload = options.length + length;
  return Uint8Array.from([0x60, 0, 0, 0, payload >> 8, payload & 255, 0, ttl, ...addresses, ...options, ...message]);
}

/** A packet to a group, as a frame to that group's Ethernet address. */
export function toGroup(packet: Uint8Array, source: Uint8Array): Uint8Array {
  const v4 = packet[0] >> 4 === 4;
  const group = packet.subarray(v4 ? 16 : 24, v4 ? 20 : 40);
  const mac = v4 ? [1, 0, 0x5e, group[1] & 127, group[2], group[3]] : [0x33, 0x33, ...group.subarray(12)];
  return framed(Uint8Array.from(mac), source, packet);
}
