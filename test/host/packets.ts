/** IP packets and fragments of them, made field by field: nothing here comes from the code under test. */
import { onesSum, type UdpFrame, udpFrame } from "../support/frames.ts";

const ETHERNET = 14;
const FRAGMENT = 44;

const put16 = (bytes: Uint8Array, at: number, value: number): void => {
  bytes[at] = value >> 8;
  bytes[at + 1] = value;
};

/** A UDP packet over IP, no Ethernet header. `id` is IPv4's identification; DF is clear. */
export function udpPacket(frame: UdpFrame & { id?: number }): Uint8Array {
  const packet = udpFrame({ ...frame, tags: [], padding: 0 }).slice(ETHERNET);
  if (packet[0] >> 4 === 6) return packet;
  put16(packet, 4, frame.id ?? 0);
  put16(packet, 6, 0);
  return sealed4(packet);
}

/** Bytes of a packet's headers that a fragment has: IPv4 with options, IPv6 without extensions. */
export const headerBytes = (packet: Uint8Array): number => (packet[0] >> 4 === 4 ? (packet[0] & 15) * 4 : 40);

export const payloadOf = (packet: Uint8Array): Uint8Array => packet.subarray(headerBytes(packet));

/** A fragment with bytes [from, from + data.length) of what the packet carries, whatever they are. */
export function fragmentOf(packet: Uint8Array, from: number, data: Uint8Array, more: boolean, id = 0): Uint8Array {
  const header = headerBytes(packet);
  if (packet[0] >> 4 === 4) {
    const out = new Uint8Array(header + data.length);
    out.set(packet.subarray(0, header));
    out.set(data, header);
    put16(out, 2, out.length);
    put16(out, 6, (more ? 0x2000 : 0) | (from >> 3));
    return sealed4(out);
  }
  const out = new Uint8Array(header + 8 + data.length);
  out.set(packet.subarray(0, header));
  out.set([packet[6], 0], header);
  put16(out, header + 2, from | Number(more));
  new DataView(out.buffer).setUint32(header + 4, id);
  out.set(data, header + 8);
  out[6] = FRAGMENT;
  put16(out, 4, out.length - 40);
  return out;
}

/** The packet cut at the given offsets of its payload, ascending multiples of 8, into fragments in order. */
export function cutAt(packet: Uint8Array, offsets: readonly number[], id = 0): Uint8Array[] {
  const payload = payloadOf(packet);
  const starts = [0, ...offsets.filter((offset) => offset > 0 && offset < payload.length)];
  return starts.map((from, i) => {
    const to = starts[i + 1] ?? payload.length;
    return fragmentOf(packet, from, payload.subarray(from, to), to < payload.length, id);
  });
}

/** The packet cut into fragments of `step` bytes of payload, a multiple of 8. */
export function cutEvery(packet: Uint8Array, step: number, id = 0): Uint8Array[] {
  const count = Math.ceil(payloadOf(packet).length / step);
  return cutAt(
    packet,
    Array.from({ length: count }, (_, i) => i * step),
    id,
  );
}

/** Header checksum of an IPv4 packet made right. */
export function sealed4(packet: Uint8Array): Uint8Array {
  put16(packet, 10, 0);
  put16(packet, 10, ~onesSum(packet, 0, headerBytes(packet)) & 0xffff);
  return packet;
}

/** An Ethernet header and the packet. */
export function framed(destination: Uint8Array, source: Uint8Array, packet: Uint8Array): Uint8Array {
  const frame = new Uint8Array(ETHERNET + packet.length);
  frame.set(destination, 0);
  frame.set(source, 6);
  put16(frame, 12, packet[0] >> 4 === 4 ? 0x0800 : 0x86dd);
  frame.set(packet, ETHERNET);
  return frame;
}

/** Bytes that differ from one place, and from one seed, to the next. */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (seed * 31 + i * 7 + (i >> 8) * 13) & 0xff;
  return bytes;
}
