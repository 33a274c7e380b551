/** UDP frames built field by field, with a checksum computed the plain way: nothing here comes from the code under test. */
import { formatIp, parseIp } from "../../sockets/wire/address.ts";

export interface UdpFrame {
  source?: string;
  destination?: string;
  sourcePort?: number;
  port?: number;
  payload?: Uint8Array | string;
  /** VLAN tags before the EtherType, outermost first: [TPID, TCI]. */
  tags?: [number, number][];
  /** IPv4 options, a multiple of four bytes. */
  options?: number[];
  /** "none" leaves the UDP checksum 0, "partial" leaves the pseudo-header's sum as a kernel with offloads does. */
  checksum?: "full" | "none" | "partial";
  /** Bytes after the packet, as short frames are padded. */
  padding?: number;
  ttl?: number;
  tos?: number;
}

export const MAC_A = Uint8Array.of(2, 0, 0, 0, 0, 0xa);
export const MAC_B = Uint8Array.of(2, 0, 0, 0, 0, 0xb);

/** One's-complement sum of big-endian 16-bit words (RFC 1071), folded. */
export function onesSum(bytes: ArrayLike<number>, from = 0, to = bytes.length, initial = 0): number {
  let sum = initial;
  for (let i = from; i < to; i += 2) sum += (bytes[i] << 8) | (i + 1 < to ? bytes[i + 1] : 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
  return sum;
}

const u16 = (value: number): number[] => [(value >> 8) & 255, value & 255];

/** A frame from B to A. The family is that of the addresses. */
export function udpFrame(frame: UdpFrame = {}): Uint8Array<ArrayBuffer> {
  const { source = "198.18.0.2", destination = "198.18.0.1", sourcePort = 40000, port = 9000 } = frame;
  const { tags = [], options = [], checksum = "full", padding = 0, ttl = 64, tos = 0, payload = "hello" } = frame;
  const data = typeof payload === "string" ? new TextEncoder().encode(payload) : payload;
  const from = parseIp(source) as Uint8Array;
  const to = parseIp(destination) as Uint8Array;
  const length = data.length + 8;
  const udp = [...u16(sourcePort), ...u16(port), ...u16(length), 0, 0, ...data];
  const pseudo = [...from, ...to, 0, 17, ...u16(length)];
  if (checksum === "partial") udp.splice(6, 2, ...u16(onesSum(pseudo)));
  if (checksum === "full") udp.splice(6, 2, ...u16(~onesSum([...pseudo, ...udp]) & 0xffff || 0xffff));
  const v4 = from.length === 4;
  const header = v4 ? ipv4Header(from, to, length, options, ttl, tos) : ipv6Header(from, to, length, ttl, tos);
  const link = [...MAC_A, ...MAC_B, ...tags.flatMap(([tpid, tci]) => [...u16(tpid), ...u16(tci)])];
  return Uint8Array.from([...link, ...u16(v4 ? 0x0800 : 0x86dd), ...header, ...udp, ...new Uint8Array(padding)]);
}

function ipv4Header(from: Uint8Array, to: Uint8Array, length: number, options: number[], ttl: number, tos: number) {
  const size = 20 + options.length;
  const header = [
    0x40 | (size / 4),
    tos,
    ...u16(size + length),
    0,
    0,
    0x40,
    0,
    ttl,
    17,
    0,
    0,
    ...from,
    ...to,
    ...options,
  ];
  header.splice(10, 2, ...u16(~onesSum(header) & 0xffff));
  return header;
}

function ipv6Header(from: Uint8Array, to: Uint8Array, length: number, ttl: number, tos: number): number[] {
  return [0x60 | (tos >> 4), (tos & 15) << 4, 0, 0, ...u16(length), 17, ttl, ...from, ...to];
}

export interface ParsedUdp {
  macs: string;
  family: 4 | 6;
  source: string;
  destination: string;
  sourcePort: number;
  port: number;
  ttl: number;
  tos: number;
  payload: Uint8Array;
}

/** Takes an untagged UDP frame apart, throwing where a length or a checksum is wrong. */
export function parseUdpFrame(frame: Uint8Array): ParsedUdp {
  const word = (at: number): number => (frame[at] << 8) | frame[at + 1];
  const v4 = word(12) === 0x0800;
  if (!v4 && word(12) !== 0x86dd) throw new Error(`EtherType ${word(12).toString(16)}`);
  const ip = 14;
  const header = v4 ? (frame[ip] & 15) * 4 : 40;
  const udp = ip + header;
  const length = word(udp + 4);
  if (frame[ip] >> 4 !== (v4 ? 4 : 6)) throw new Error(`version ${frame[ip] >> 4}`);
  if (v4 && onesSum(frame, ip, udp) !== 0xffff) throw new Error("IPv4 header checksum");
  if ((v4 ? word(ip + 2) - header : word(ip + 4)) !== length) throw new Error(`UDP length ${length}`);
  if (frame.length !== udp + length) throw new Error(`frame of ${frame.length} bytes, packet ends at ${udp + length}`);
  const from = frame.slice(ip + (v4 ? 12 : 8), ip + (v4 ? 16 : 24));
  const to = frame.slice(ip + (v4 ? 16 : 24), ip + (v4 ? 20 : 40));
  const pseudo = onesSum([...from, ...to, 0, 17, ...u16(length)]);
  if (word(udp + 6) === 0 || onesSum(frame, udp, udp + length, pseudo) !== 0xffff) throw new Error("UDP checksum");
  return {
    macs: frame.slice(0, 12).toHex(),
    family: v4 ? 4 : 6,
    source: formatIp(from),
    destination: formatIp(to),
    sourcePort: word(udp),
    port: word(udp + 2),
    ttl: frame[ip + (v4 ? 8 : 7)],
    tos: v4 ? frame[ip + 1] : ((frame[ip] & 15) << 4) | (frame[ip + 1] >> 4),
    payload: frame.slice(udp + 8, udp + length),
  };
}
