/** Segments of tests: built whole, with IP header and checksums, and read back. */
import type { GsoSink, Tcp, TcpSink } from "../../sockets/tcp/core.ts";
import { input4, input6 } from "../../sockets/tcp/input.ts";
import { checkIpv4, IPPROTO_TCP, IPV4_HEADER, IPV4_OK, writeIpv4 } from "../../sockets/wire/ipv4.ts";
import { checkIpv6, IPV6_HEADER, IPV6_OK, writeIpv6 } from "../../sockets/wire/ipv6.ts";
import {
  checkTcp4,
  checkTcp6,
  finishTcp4,
  finishTcp6,
  TCP_HEADER,
  TCP_OK,
  TCP_URG,
  writeTcp,
} from "../../sockets/wire/tcp.ts";
import { FrameViews, readInt32, readUint16, writeInt32, writeUint16 } from "../../sockets/wire/views.ts";

/** The byte at a place in either direction's stream: neighbours, and places a power of two apart, differ. */
export function streamByte(place: number): number {
  return (place * 7 + (place >>> 8) * 13 + (place >>> 16) * 31) & 0xff;
}

export interface TcpOptions {
  mss?: number;
  wscale?: number;
  sackOk?: boolean;
  ts?: [value: number, echo: number];
  sack?: [start: number, end: number][];
  /** Written as they are, after the others. */
  raw?: number[];
}

/** A segment with numbers as on the wire, int32. */
export interface Segment {
  v6: boolean;
  sourcePort: number;
  destinationPort: number;
  seq: number;
  ack: number;
  flags: number;
  window: number;
  urgent: number;
  options: TcpOptions;
  payload: Uint8Array;
  tos: number;
}

function optionBytes(options: TcpOptions): number[] {
  const out: number[] = [];
  const word = (value: number): number[] => [
    (value >>> 24) & 255,
    (value >>> 16) & 255,
    (value >>> 8) & 255,
    value & 255,
  ];
  if (options.mss !== undefined) out.push(2, 4, options.mss >> 8, options.mss & 255);
  if (options.sackOk) out.push(4, 2);
  if (options.wscale !== undefined) out.push(3, 3, options.wscale);
  if (options.ts) {
    while (out.length % 4 !== 2) out.push(1);
    out.push(8, 10, ...word(options.ts[0]), ...word(options.ts[1]));
  }
  if (options.sack && options.sack.length > 0) {
    while (out.length % 4 !== 2) out.push(1);
    out.push(5, 2 + 8 * options.sack.length, ...options.sack.flatMap(([start, end]) => [...word(start), ...word(end)]));
  }
  if (options.raw) out.push(...options.raw);
  while (out.length % 4 !== 0) out.push(0);
  return out;
}

export const IP_AT = 14;
export const FRAME_MAX = 65_536 + 256;

/** Addresses of both ends as frames have them. */
export interface Ends {
  source: Uint8Array;
  destination: Uint8Array;
}

/** Writes a segment into a memory of its own, from IP_AT on. Returns the memory and bytes from the IP header on. */
export function buildFrame(segment: Segment, ends: Ends): { views: FrameViews; length: number; tcp: number } {
  const options = optionBytes(segment.options);
  const header = TCP_HEADER + options.length;
  const ipHeader = segment.v6 ? IPV6_HEADER : IPV4_HEADER;
  const total = header + segment.payload.length;
  const views = new FrameViews(new Uint8Array((IP_AT + ipHeader + total + 7) & ~3));
  const tcp = IP_AT + ipHeader;
  const { bytes } = views;
  if (segment.v6) writeIpv6(bytes, IP_AT, segment.tos, 0, total, IPPROTO_TCP, 64, ends.source, 0, ends.destination, 0);
  else
    writeIpv4(
      ...([views, IP_AT, segment.tos, ipHeader + total, 0, 0x4000, 64, IPPROTO_TCP] as const),
      ...([readInt32(ends.source, 0), readInt32(ends.destination, 0)] as const),
    );
  const { sourcePort, destinationPort, seq, ack, flags, window } = segment;
  writeTcp(bytes, tcp, sourcePort, destinationPort, seq, ack, header, flags, window);
  if (segment.urgent !== 0) writeUint16(bytes, tcp + 18, segment.urgent);
  bytes.set(options, tcp + TCP_HEADER);
  bytes.set(segment.payload, tcp + header);
  if (segment.v6) finishTcp6(views, tcp, total, IP_AT);
  else finishTcp4(views, tcp, total, IP_AT);
  return { views, length: ipHeader + total, tcp };
}

/** Takes a frame from IP_AT on through the doors into a TCP. False: a door has refused it. */
export function deliver(t: Tcp, views: FrameViews, length: number): boolean {
  const v6 = views.bytes[IP_AT] >> 4 === 6;
  const header = v6 ? IPV6_HEADER : IPV4_HEADER;
  const tcp = IP_AT + header;
  if (v6) {
    if (checkIpv6(views.bytes, IP_AT, length) !== IPV6_OK) return false;
    if (checkTcp6(views, tcp, length - header, IP_AT) !== TCP_OK) return false;
    input6(t, views, IP_AT, tcp, length - header);
  } else {
    if (checkIpv4(views, IP_AT, length) !== IPV4_OK) return false;
    if (checkTcp4(views, tcp, length - header, IP_AT) !== TCP_OK) return false;
    input4(t, views, IP_AT, tcp, length - header);
  }
  return true;
}

function readOptions(bytes: Uint8Array, at: number, end: number): TcpOptions {
  const options: TcpOptions = {};
  while (at < end) {
    const kind = bytes[at];
    if (kind === 0) break;
    if (kind === 1) {
      at++;
      continue;
    }
    const length = bytes[at + 1];
    if (length < 2 || at + length > end) throw new Error(`option ${kind} of ${length} bytes leaves the header`);
    if (kind === 2) options.mss = readUint16(bytes, at + 2);
    if (kind === 3) options.wscale = bytes[at + 2];
    if (kind === 4) options.sackOk = true;
    if (kind === 8) options.ts = [readInt32(bytes, at + 2), readInt32(bytes, at + 6)];
    if (kind === 5) {
      options.sack = [];
      for (let i = at + 2; i < at + length; i += 8) options.sack.push([readInt32(bytes, i), readInt32(bytes, i + 4)]);
    }
    at += length;
  }
  return options;
}

export function readSegment(bytes: Uint8Array, tcp: number, length: number, v6: boolean, tos: number): Segment {
  const header = (bytes[tcp + 12] >> 4) << 2;
  const flags = bytes[tcp + 13];
  return {
    ...{ v6, tos, flags, sourcePort: readUint16(bytes, tcp), destinationPort: readUint16(bytes, tcp + 2) },
    ...{ seq: readInt32(bytes, tcp + 4), ack: readInt32(bytes, tcp + 8), window: readUint16(bytes, tcp + 14) },
    urgent: (flags & TCP_URG) !== 0 ? readUint16(bytes, tcp + 18) : 0,
    options: readOptions(bytes, tcp + TCP_HEADER, tcp + header),
    payload: bytes.slice(tcp + header, tcp + length),
  };
}

/** A sink whose wire is an array, or a function. */
export class TestSink implements TcpSink {
  readonly views = new FrameViews(new Uint8Array(FRAME_MAX));
  readonly sent: Segment[] = [];
  linkMtu = 1500;
  /** A way for packets of many segments, before a Tcp is made. */
  gso: GsoSink | null = null;
  /** Frames that it still gives. */
  frames = Number.POSITIVE_INFINITY;
  /** Says now and then that there is none. */
  refuses: (() => boolean) | null = null;
  /** Takes whole frames in place of `sent`: a copy from IP_AT on, its bytes from the IP header on. */
  onFrame: ((views: FrameViews, length: number) => void) | null = null;

  frame(_length: number, v6: boolean): number {
    if (this.frames <= 0 || this.refuses?.()) return -1;
    this.frames--;
    return IP_AT + (v6 ? IPV6_HEADER : IPV4_HEADER);
  }

  send(tcp: number, length: number, words: Int32Array, at: number, v6: boolean, tos: number): void {
    const { bytes } = this.views;
    if (this.onFrame === null) {
      this.sent.push(readSegment(bytes, tcp, length, v6, tos));
      return;
    }
    const addresses = new Uint8Array(32);
    for (let i = 0; i < 8; i++) writeInt32(addresses, 4 * i, words[at + i]);
    if (v6) {
      const [source, destination] = [addresses.subarray(0, 16), addresses.subarray(16)];
      writeIpv6(bytes, IP_AT, tos, 0, length, IPPROTO_TCP, 64, source, 0, destination, 0);
      finishTcp6(this.views, tcp, length, IP_AT);
    } else {
      const total = length + IPV4_HEADER;
      writeIpv4(this.views, IP_AT, tos, total, 0, 0x4000, 64, IPPROTO_TCP, words[at + 3], words[at + 7]);
      finishTcp4(this.views, tcp, length, IP_AT);
    }
    const whole = tcp + length;
    const copy = new FrameViews(new Uint8Array((whole + 7) & ~3));
    copy.bytes.set(bytes.subarray(0, whole));
    this.onFrame(copy, whole - IP_AT);
  }

  mtu(): number {
    return this.linkMtu;
  }
}

/** Four words of a textual address's bytes, IPv4 mapped. */
export function addressWords(bytes: Uint8Array): Int32Array {
  if (bytes.length === 4) return Int32Array.of(0, 0, 0xffff, readInt32(bytes, 0));
  return Int32Array.of(readInt32(bytes, 0), readInt32(bytes, 4), readInt32(bytes, 8), readInt32(bytes, 12));
}
