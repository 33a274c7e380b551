/** ICMP messages of our own: written into memory of their sender's, then finished with the headers before them. */
import { ETH_P_IP, ETH_P_IPV6 } from "../wire/ethernet.ts";
import { finishIcmp4, finishIcmp6 } from "../wire/icmp.ts";
import { IPPROTO_ICMP, IPV4_HEADER, writeIpv4 } from "../wire/ipv4.ts";
import { IPV6_DST, IPV6_HEADER, IPV6_SRC, NEXTHDR_ICMP, writeIpv6 } from "../wire/ipv6.ts";
import { FrameViews, writeUint16 } from "../wire/views.ts";
import { FRAME_AT, PACKET_AT } from "./link.ts";
import { storeIpv6 } from "./words.ts";

/** Time to live of what a host sends (RFC 1700; net.ipv4.ip_default_ttl). */
const TTL = 64;

export class Message4 {
  readonly views: FrameViews;
  /** Where the message begins. */
  readonly at = PACKET_AT + IPV4_HEADER;

  /** @param lengthMax bytes of the longest message */
  constructor(lengthMax: number) {
    this.views = new FrameViews(new Uint8Array((PACKET_AT + IPV4_HEADER + lengthMax + 3) & ~3));
  }

  /**
   * Headers and checksum for a message of `length` bytes. Addresses as int32.
   * @returns the frame, without Ethernet addresses
   */
  finish(length: number, tos: number, id: number, source: number, destination: number): Uint8Array {
    const { views } = this;
    finishIcmp4(views, this.at, length);
    writeIpv4(views, PACKET_AT, tos, IPV4_HEADER + length, id, 0, TTL, IPPROTO_ICMP, source, destination);
    writeUint16(views.bytes, PACKET_AT - 2, ETH_P_IP);
    return views.bytes.subarray(FRAME_AT, this.at + length);
  }
}

export class Message6 {
  readonly views: FrameViews;
  /** Where the message begins. */
  readonly at = PACKET_AT + IPV6_HEADER;

  /** @param lengthMax bytes of the longest message */
  constructor(lengthMax: number) {
    this.views = new FrameViews(new Uint8Array((PACKET_AT + IPV6_HEADER + lengthMax + 3) & ~3));
  }

  /** As Message4.finish(). */
  finish(
    length: number,
    trafficClass: number,
    hopLimit: number,
    source: Int32Array,
    destination: Int32Array,
  ): Uint8Array {
    const { bytes } = this.views;
    const from = PACKET_AT + IPV6_SRC;
    const to = PACKET_AT + IPV6_DST;
    storeIpv6(bytes, from, source);
    storeIpv6(bytes, to, destination);
    writeIpv6(bytes, PACKET_AT, trafficClass, 0, length, NEXTHDR_ICMP, hopLimit, bytes, from, bytes, to);
    finishIcmp6(this.views, this.at, length, PACKET_AT);
    writeUint16(bytes, PACKET_AT - 2, ETH_P_IPV6);
    return bytes.subarray(FRAME_AT, this.at + length);
  }
}
