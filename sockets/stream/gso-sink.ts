/**
 * Packets of many segments from an lcore's TCP: link, IP and TCP header are written once, behind the frames; the payload stays in
 * the chunks of the send queue, from where the kernel takes it (queues/segmenter.ts).
 */
import { ERRNO } from "af-xdp-bindings";
import type { Port } from "../../queues/driver.ts";
import {
  isFull,
  type Segmenter,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
} from "../../queues/segmenter.ts";
import { C } from "../counters.ts";
import { VIA_KERNEL } from "../destinations.ts";
import { GSO_FULL, GSO_REFUSED, GSO_SENT, type GsoSink } from "../tcp/core.ts";
import { HOPS_TTL } from "../tcp/tcb.ts";
import { fold, pseudoSum4, pseudoSum6 } from "../wire/checksum.ts";
import { ETH_HEADER, ETH_P_IP, ETH_P_IPV6 } from "../wire/ethernet.ts";
import { IPPROTO_TCP, IPV4_HEADER } from "../wire/ipv4.ts";
import { IPV6_HEADER } from "../wire/ipv6.ts";
import { TCP_CHECKSUM } from "../wire/tcp.ts";
import { writeIp4, writeIp6 } from "./tcp-headers.ts";
import type { SinkParts } from "./tcp-sink.ts";

/** Bytes of an IP packet, as its length field has them. */
const PACKET_MAX = 65_535;
/** Where the TCP header lies in the memory for headers: on a word, with room for those before it. */
const TCP_AT = 64;

export class FrameGso implements GsoSink {
  private readonly parts: SinkParts;
  /** Offset of the memory for headers: GSO_HEADER_BYTES. */
  private readonly tcp: number;
  /** The way that room() has found. */
  private entry = 0;
  private port: Port | null = null;
  private segmenter: Segmenter | null = null;

  constructor(parts: SinkParts, header: number) {
    this.parts = parts;
    this.tcp = header + TCP_AT;
  }

  room(words: Int32Array, at: number, v6: boolean, hops: number): number {
    // What only the kernel can do for a segment goes by raw sockets.
    if (hops > HOPS_TTL) return 0;
    const { destinations } = this.parts.out;
    const d = at + 4;
    const entry = destinations.resolve(words[d], words[d + 1], words[d + 2], words[d + 3]);
    if (entry === VIA_KERNEL) return 0;
    const port = this.parts.ports[destinations.port[entry]];
    if (port.segmenter === null || port.segmenter.isBroken) return 0;
    this.entry = entry;
    this.port = port;
    this.segmenter = port.segmenter;
    return v6 ? PACKET_MAX : PACKET_MAX - IPV4_HEADER;
  }

  begin(v6: boolean, header: number): number {
    const before = (v6 ? IPV6_HEADER : IPV4_HEADER) + ETH_HEADER;
    this.segmenter?.begin();
    this.segmenter?.add(this.tcp - before, before + header);
    return this.tcp;
  }

  add(offset: number, length: number): boolean {
    return this.segmenter?.add(offset, length) ?? false;
  }

  send(
    header: number,
    payload: number,
    size: number,
    words: Int32Array,
    at: number,
    v6: boolean,
    tos: number,
    hops: number,
  ): number {
    const { parts, port, segmenter, tcp } = this;
    if (port === null || segmenter === null) return GSO_REFUSED;
    // The MTU has become smaller, and this connection has not heard of it: the kernel looks at single segments alone.
    const most = parts.out.destinations.mtu[this.entry] - (v6 ? IPV6_HEADER : IPV4_HEADER);
    if (header + Math.min(size, payload) > most) return GSO_REFUSED;
    // Frames that were queued before go first.
    port.txFlush();
    if (port.unsent) return GSO_FULL;
    const { out, views } = parts;
    const length = header + payload;
    const ip = v6
      ? writeIp6(views, tcp, length, words, at, tos, hops)
      : writeIp4(views, tcp, length, words, at, tos, hops);
    const sum = v6 ? pseudoSum6(views, ip, IPPROTO_TCP, length) : pseudoSum4(views, ip, IPPROTO_TCP, length);
    views.half[(tcp + TCP_CHECKSUM) >> 1] = fold(sum);
    const link = ip - ETH_HEADER;
    out.writeLink(link, this.entry, v6 ? ETH_P_IPV6 : ETH_P_IP);
    const cut = v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
    const type = payload > size ? cut : VIRTIO_NET_HDR_GSO_NONE;
    const before = tcp - link;
    const result = segmenter.send(type, before + header, size, before, TCP_CHECKSUM);
    // What has not left is lost as on any wire: the peer may have some of it.
    const dropped = result === -ERRNO.ENOBUFS;
    if (dropped) parts.counters[C.TcpGsoDrops]++;
    if (result === 0 || dropped) {
      out.sentElsewhere(Math.max(Math.ceil(payload / size), 1), before + header, payload);
      return GSO_SENT;
    }
    if (isFull(result)) return GSO_FULL;
    parts.counters[C.TcpGsoRefused]++;
    return GSO_REFUSED;
  }
}
