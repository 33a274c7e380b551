/** Frames of a host's protocols, made and read field by field: nothing here comes from the code under test. */
import { formatIp, ip } from "../../sockets/wire/address.ts";
import { onesSum } from "../support/frames.ts";

const ETHERNET = 14;
export const BROADCAST = new Uint8Array(6).fill(0xff);

const u16 = (bytes: Uint8Array, at: number): number => (bytes[at] << 8) | bytes[at + 1];
export const put16 = (bytes: Uint8Array, at: number, value: number): void => {
  bytes[at] = value >> 8;
  bytes[at + 1] = value;
};
const be16 = (value: number): number[] => [value >> 8, value & 255];
export const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value & 0xffff)];

export function ethernet(to: Uint8Array, from: Uint8Array, type: number, payload: ArrayLike<number>): Uint8Array {
  return Uint8Array.from([...to, ...from, ...be16(type), ...Array.from(payload)]);
}

export interface ArpPacket {
  operation: "request" | "reply" | number;
  sender: string;
  senderMac: Uint8Array;
  target: string;
  targetMac?: Uint8Array;
  to?: Uint8Array;
}

export function arp({ operation, sender, senderMac, target, targetMac, to = BROADCAST }: ArpPacket): Uint8Array {
  const code = operation === "request" ? 1 : operation === "reply" ? 2 : operation;
  const body = [0, 1, 8, 0, 6, 4, ...be16(code), ...senderMac, ...ip(sender)];
  return ethernet(to, senderMac, 0x0806, [
    ...body,
    ...(targetMac ?? new Uint8Array(6)),
    ...ip(target),
    ...Array(18).fill(0),
  ]);
}

export interface Ip4 {
  source: string;
  destination: string;
  protocol: number;
  payload: Uint8Array;
  tos?: number;
  ttl?: number;
  /** Flags and offset of fragments. */
  fragment?: number;
  options?: number[];
}

/** An IPv4 packet, no Ethernet header. */
export function ip4(packet: Ip4): Uint8Array {
  const { source, destination, protocol, payload, tos = 0, ttl = 64, fragment = 0, options = [] } = packet;
  const length = 20 + options.length;
  const bytes = Uint8Array.from([
    ...[0x40 | (length / 4), tos, ...be16(length + payload.length), 0, 7, ...be16(fragment), ttl, protocol, 0, 0],
    ...[...ip(source), ...ip(destination), ...options, ...payload],
  ]);
  put16(bytes, 10, ~onesSum(bytes, 0, length) & 0xffff);
  return bytes;
}

export interface Ip6 {
  source: string;
  destination: string;
  protocol: number;
  payload: Uint8Array;
  hopLimit?: number;
}

/** An IPv6 packet, no Ethernet header. */
export function ip6({ source, destination, protocol, payload, hopLimit = 64 }: Ip6): Uint8Array {
  const head = [0x60, 0, 0, 0, ...be16(payload.length), protocol, hopLimit];
  return Uint8Array.from([...head, ...ip(source), ...ip(destination), ...payload]);
}

/** ICMP: type, code, the four bytes after the checksum, data. */
export function icmp4(type: number, code: number, rest: number, data: ArrayLike<number> = []): Uint8Array {
  const bytes = Uint8Array.from([type, code, 0, 0, ...be32(rest), ...Array.from(data)]);
  put16(bytes, 2, ~onesSum(bytes) & 0xffff);
  return bytes;
}

const pseudo6 = (source: string, destination: string, length: number, protocol: number): number =>
  onesSum([...ip(source), ...ip(destination), ...be32(length), 0, 0, 0, protocol]);

/** An IPv6 packet with ICMPv6. */
export function icmp6(
  source: string,
  destination: string,
  [type, code, rest]: [number, number, number],
  data: ArrayLike<number> = [],
  hopLimit = 64,
): Uint8Array {
  const payload = Uint8Array.from([type, code, 0, 0, ...be32(rest), ...Array.from(data)]);
  const sum = onesSum(payload, 0, payload.length, pseudo6(source, destination, payload.length, 58));
  put16(payload, 2, ~sum & 0xffff);
  return ip6({ source, destination, protocol: 58, payload, hopLimit });
}

/** UDP, its checksum 0 in IPv4 and wrong in IPv6: whoever quotes it does not look. */
export const udp = (sourcePort: number, port: number, data: ArrayLike<number> = []): Uint8Array =>
  Uint8Array.from([...be16(sourcePort), ...be16(port), ...be16(8 + data.length), 0, 0, ...Array.from(data)]);

/** An option with a link-layer address: 1 the source's, 2 the target's. */
export const macOption = (type: number, mac: Uint8Array): number[] => [type, 1, ...mac];

/** The packet in a frame that its version says. */
export function framed(to: Uint8Array, from: Uint8Array, packet: Uint8Array): Uint8Array {
  return ethernet(to, from, packet[0] >> 4 === 4 ? 0x0800 : 0x86dd, packet);
}

const hexMac = (bytes: Uint8Array, at: number): string => bytes.subarray(at, at + 6).toHex();

/** What a frame of the host says, on a line; throws where a length or a checksum is wrong. */
export function describe(frame: Uint8Array): string {
  const to = `${hexMac(frame, 0)} <`;
  const type = u16(frame, 12);
  if (type === 0x0806) return `${to} ${describeArp(frame)}`;
  const packet = frame.subarray(ETHERNET);
  return `${to} ${type === 0x0800 ? describe4(packet) : describe6(packet)}`;
}

function describeArp(frame: Uint8Array): string {
  const arp = frame.subarray(ETHERNET);
  if (frame.length !== 60 || arp.subarray(0, 6).toHex() !== "000108000604") throw new Error(`ARP ${frame.toHex()}`);
  if (hexMac(frame, 6) !== hexMac(arp, 8)) throw new Error("ARP and Ethernet name two senders");
  const [sender, target] = [formatIp(arp.slice(14, 18)), formatIp(arp.slice(24, 28))];
  if (u16(arp, 6) === 1) return `who has ${target}, tell ${sender}`;
  return `${sender} is at ${hexMac(arp, 8)}, for ${target} at ${hexMac(arp, 18)}`;
}

function describe4(packet: Uint8Array): string {
  if (u16(packet, 2) !== packet.length) throw new Error(`length ${u16(packet, 2)} of ${packet.length}`);
  const header = (packet[0] & 15) * 4;
  if (onesSum(packet, 0, header) !== 0xffff) throw new Error("header checksum");
  const ends = `${formatIp(packet.slice(12, 16))} > ${formatIp(packet.slice(16, 20))}`;
  if (packet[9] !== 1) return `${ends} protocol ${packet[9]} ${packet.length}`;
  if (onesSum(packet, header) !== 0xffff) throw new Error("ICMP checksum");
  return `${ends} icmp ${packet[header]}/${packet[header + 1]} ${packet.length}`;
}

function describe6(packet: Uint8Array): string {
  const length = u16(packet, 4);
  if (length !== packet.length - 40) throw new Error(`length ${length} of ${packet.length - 40}`);
  const [source, destination] = [formatIp(packet.slice(8, 24)), formatIp(packet.slice(24, 40))];
  const ends = `${source} > ${destination}`;
  if (packet[6] !== 58) return `${ends} protocol ${packet[6]} ${packet.length}`;
  if (onesSum(packet, 40, packet.length, pseudo6(source, destination, length, 58)) !== 0xffff) {
    throw new Error("ICMPv6 checksum");
  }
  const type = packet[40];
  const isDiscovery = type >= 133 && type <= 137;
  if (isDiscovery && packet[7] !== 255) throw new Error(`hop limit ${packet[7]}`);
  if (type === 133) return `${ends} RS${options(packet, 48)}`;
  const target = isDiscovery ? formatIp(packet.slice(48, 64)) : "";
  if (type === 135) return `${ends} NS ${target}${options(packet, 64)}`;
  if (type === 136) return `${ends} NA ${target}${flags(packet[44])}${options(packet, 64)}`;
  return `${ends} icmp6 ${type}/${packet[41]} ${packet.length}`;
}

function flags(bits: number): string {
  return ` ${[...(bits & 0x80 ? ["R"] : []), ...(bits & 0x40 ? ["S"] : []), ...(bits & 0x20 ? ["O"] : [])].join("")}`;
}

function options(packet: Uint8Array, from: number): string {
  let text = "";
  for (let at = from; at < packet.length; at += packet[at + 1] * 8) {
    text += packet[at] === 14 ? " nonce" : ` ${packet[at] === 1 ? "slla" : "tlla"} ${hexMac(packet, at + 2)}`;
  }
  return text;
}
