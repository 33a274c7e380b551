import { describe, expect, test } from "bun:test";
import * as arp from "../../../sockets/wire/arp.ts";
import * as eth from "../../../sockets/wire/ethernet.ts";
import * as icmp from "../../../sockets/wire/icmp.ts";
import * as ip4 from "../../../sockets/wire/ipv4.ts";
import * as ip6 from "../../../sockets/wire/ipv6.ts";
import * as tcp from "../../../sockets/wire/tcp.ts";
import * as udp from "../../../sockets/wire/udp.ts";
import { FrameViews, readInt32, readUint16 } from "../../../sockets/wire/views.ts";

/** The frame at byte `at` of a memory of 2 KiB, otherwise 0xa5. */
function frame(hex: string, at = 256): FrameViews {
  const views = new FrameViews(new Uint8Array(new SharedArrayBuffer(2048)).fill(0xa5));
  views.bytes.set(Uint8Array.fromHex(hex.replace(/\s/g, "")), at);
  return views;
}

const AT = 256;

/** A datagram from 198.18.0.1 port 4660 to 198.18.0.2, at AT. */
function udp4(payload: string, port = 7): FrameViews {
  const views = frame("");
  const bytes = views.bytes;
  const length = udp.UDP_HEADER + payload.length;
  eth.writeEthernet(bytes, AT, Uint8Array.of(2, 0, 0, 0, 0, 1), Uint8Array.of(2, 0, 0, 0, 0, 2), eth.ETH_P_IP);
  ip4.writeIpv4(views, AT + 14, 0, 20 + length, 1, ip4.IPV4_DF, 64, ip4.IPPROTO_UDP, 0xc6120001 | 0, 0xc6120002 | 0);
  udp.writeUdp(bytes, AT + 34, 4660, port, length);
  for (let i = 0; i < payload.length; i++) bytes[AT + 42 + i] = payload.charCodeAt(i);
  udp.finishUdp4(views, AT + 34, length, AT + 14);
  return views;
}

describe("ethernet", () => {
  const plain = "ffffffffffff 020000000001 0800";
  test("untagged, one tag, two tags", () => {
    const untagged = frame(plain).bytes;
    expect(eth.networkOffset(untagged, AT, 60)).toBe(AT + 14);
    expect(eth.etherType(untagged, AT + 14)).toBe(eth.ETH_P_IP);
    expect(eth.isGroupAddress(untagged, AT + eth.ETH_DST)).toBe(true);
    expect(eth.isGroupAddress(untagged, AT + eth.ETH_SRC)).toBe(false);

    const tagged = frame("020000000002 020000000001 8100 e123 86dd").bytes;
    expect(eth.networkOffset(tagged, AT, 60)).toBe(AT + 18);
    expect(eth.etherType(tagged, AT + 18)).toBe(eth.ETH_P_IPV6);
    expect(eth.vlanId(tagged, AT)).toBe(0x123);

    const twice = frame("020000000002 020000000001 88a8 0001 8100 0002 0806").bytes;
    expect(eth.networkOffset(twice, AT, 60)).toBe(AT + 22);
    expect(eth.etherType(twice, AT + 22)).toBe(eth.ETH_P_ARP);
  });

  test("a third tag is left as an unknown protocol", () => {
    const views = frame("020000000002 020000000001 88a8 0001 8100 0002 8100 0003 0800");
    expect(eth.etherType(views.bytes, eth.networkOffset(views.bytes, AT, 60))).toBe(eth.ETH_P_8021Q);
  });

  test("runts and 802.3", () => {
    expect(eth.networkOffset(frame(plain).bytes, AT, 13)).toBe(eth.ETH_RUNT);
    expect(eth.networkOffset(frame(plain).bytes, AT, 14)).toBe(AT + 14);
    expect(eth.networkOffset(frame("020000000002 020000000001 8100 0001 0800").bytes, AT, 17)).toBe(eth.ETH_RUNT);
    const twice = frame("020000000002 020000000001 88a8 0001 8100 0002 0800").bytes;
    expect(eth.networkOffset(twice, AT, 21)).toBe(eth.ETH_RUNT);
    expect(eth.networkOffset(frame("020000000002 020000000001 0026 4242 03").bytes, AT, 60)).toBe(eth.ETH_LLC);
    expect(eth.networkOffset(frame("020000000002 020000000001 8100 0001 0026").bytes, AT, 60)).toBe(eth.ETH_LLC);
  });
});

describe("arp", () => {
  // Who has 198.18.0.2? Tell 198.18.0.1.
  const request = "0001 0800 06 04 0001 020000000001 c6120001 000000000000 c6120002";
  test("request: read, and written the same", () => {
    const { bytes } = frame(request);
    expect(arp.checkArp(bytes, AT, 46)).toBe(true);
    expect(arp.arpOperation(bytes, AT)).toBe(arp.ARPOP_REQUEST);
    expect(arp.arpSenderIp(bytes, AT)).toBe(0xc6120001 | 0);
    expect(arp.arpTargetIp(bytes, AT)).toBe(0xc6120002 | 0);
    const written = frame("").bytes;
    const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
    arp.writeArp(written, AT, arp.ARPOP_REQUEST, mac, 0xc6120001 | 0, new Uint8Array(6), 0xc6120002 | 0);
    expect(written.slice(AT, AT + 28).toHex()).toBe(request.replace(/\s/g, ""));
    expect(written[AT + 28]).toBe(0xa5);
  });

  test("truncated, another hardware, protocol or address length", () => {
    expect(arp.checkArp(frame(request).bytes, AT, 27)).toBe(false);
    for (const at of [1, 2, 4, 5]) {
      const { bytes } = frame(request);
      bytes[AT + at] ^= 0x40;
      expect(arp.checkArp(bytes, AT, 28)).toBe(false);
    }
  });
});

describe("ipv4", () => {
  // The header of RFC 1071's usual textbook example: checksum b861.
  const header = "4500 0073 0000 4000 4011 b861 c0a80001 c0a800c7";
  test("accessors", () => {
    const views = frame(header);
    const { bytes } = views;
    expect(ip4.checkIpv4(views, AT, 0x73)).toBe(ip4.IPV4_OK);
    expect(ip4.ipv4HeaderLength(bytes, AT)).toBe(20);
    expect(ip4.ipv4TotalLength(bytes, AT)).toBe(115);
    expect(ip4.ipv4Ttl(bytes, AT)).toBe(64);
    expect(ip4.ipv4Tos(bytes, AT)).toBe(0);
    expect(ip4.ipv4Id(bytes, AT)).toBe(0);
    expect(ip4.ipv4Protocol(bytes, AT)).toBe(ip4.IPPROTO_UDP);
    expect(ip4.ipv4IsFragment(bytes, AT)).toBe(false);
    expect(ip4.ipv4Source(bytes, AT) >>> 0).toBe(0xc0a80001);
    expect(ip4.ipv4Destination(bytes, AT) >>> 0).toBe(0xc0a800c7);
  });

  test("written the same, at every even alignment", () => {
    for (let at = AT; at < AT + 8; at += 2) {
      const views = frame("");
      ip4.writeIpv4(views, at, 0, 0x73, 0, ip4.IPV4_DF, 64, ip4.IPPROTO_UDP, 0xc0a80001 | 0, 0xc0a800c7 | 0);
      expect(views.bytes.slice(at, at + 20).toHex()).toBe(header.replace(/\s/g, ""));
    }
  });

  /** The header with its checksum made right again after `change`. */
  function changed(change: (bytes: Uint8Array) => void, length = 0x73): number {
    const views = frame(header);
    change(views.bytes);
    views.bytes.fill(0, AT + ip4.IPV4_CHECKSUM, AT + ip4.IPV4_CHECKSUM + 2);
    const headerLength = ip4.ipv4HeaderLength(views.bytes, AT);
    let total = 0;
    for (let i = 0; i < headerLength; i += 2) total += readUint16(views.bytes, AT + i);
    while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
    views.bytes[AT + ip4.IPV4_CHECKSUM] = ~total >>> 8;
    views.bytes[AT + ip4.IPV4_CHECKSUM + 1] = ~total;
    return ip4.checkIpv4(views, AT, length);
  }

  test("options and padding are accepted", () => {
    expect(changed((bytes) => bytes.fill(0x4f, AT, AT + 1))).toBe(ip4.IPV4_OK);
    expect(changed(() => {}, 0x73 + 40)).toBe(ip4.IPV4_OK);
  });

  test("each wrong field has its code", () => {
    expect(changed(() => {})).toBe(ip4.IPV4_OK);
    expect(changed(() => {}, 19)).toBe(ip4.IPV4_BAD_HEADER);
    expect(changed((bytes) => bytes.fill(0x65, AT, AT + 1))).toBe(ip4.IPV4_BAD_HEADER);
    expect(changed((bytes) => bytes.fill(0x44, AT, AT + 1))).toBe(ip4.IPV4_BAD_HEADER);
    expect(changed((bytes) => bytes.fill(0x4f, AT, AT + 1), 59)).toBe(ip4.IPV4_BAD_HEADER);
    expect(changed(() => {}, 0x72)).toBe(ip4.IPV4_TRUNCATED);
    expect(changed((bytes) => bytes.fill(19, AT + 3, AT + 4))).toBe(ip4.IPV4_BAD_HEADER);
    expect(changed((bytes) => bytes.fill(20, AT + 3, AT + 4))).toBe(ip4.IPV4_OK);
    const views = frame(header);
    views.bytes[AT + 8] = 63;
    expect(ip4.checkIpv4(views, AT, 0x73)).toBe(ip4.IPV4_BAD_CHECKSUM);
  });

  test("fragments: more to come, or not the first", () => {
    const { bytes } = frame(header);
    bytes[AT + 6] = 0x20;
    expect(ip4.ipv4IsFragment(bytes, AT)).toBe(true);
    bytes[AT + 6] = 0;
    bytes[AT + 7] = 1;
    expect(ip4.ipv4IsFragment(bytes, AT)).toBe(true);
  });

  test("address classes", () => {
    expect(ip4.isMulticast4(0xe0000001 | 0)).toBe(true);
    expect(ip4.isMulticast4(0xefffffff | 0)).toBe(true);
    expect(ip4.isMulticast4(0xf0000000 | 0)).toBe(false);
    expect(ip4.isLoopback4(0x7f010203)).toBe(true);
    expect(ip4.isLoopback4(0x80000000 | 0)).toBe(false);
  });
});

const A6 = Uint8Array.fromHex("20010db8000000000000000000000001");
const B6 = Uint8Array.fromHex("20010db8000000000000000000000002");

describe("ipv6", () => {
  function packet(payload: string, next: number): FrameViews {
    const views = frame("");
    const body = Uint8Array.fromHex(payload.replace(/\s/g, ""));
    ip6.writeIpv6(views.bytes, AT, 0xb8, 0x12345, body.length, next, 255, A6, 0, B6, 0);
    views.bytes.set(body, AT + 40);
    return views;
  }

  test("written and read back", () => {
    const { bytes } = packet("0000", ip4.IPPROTO_UDP);
    expect(bytes.slice(AT, AT + 8).toHex()).toBe("6b812345000211ff");
    expect(ip6.checkIpv6(bytes, AT, 60)).toBe(ip6.IPV6_OK);
    expect(ip6.ipv6TrafficClass(bytes, AT)).toBe(0xb8);
    expect(ip6.ipv6FlowLabel(bytes, AT)).toBe(0x12345);
    expect(ip6.ipv6PayloadLength(bytes, AT)).toBe(2);
    expect(ip6.ipv6NextHeader(bytes, AT)).toBe(17);
    expect(ip6.ipv6HopLimit(bytes, AT)).toBe(255);
    expect(ip6.equals6(bytes, AT + ip6.IPV6_SRC, A6, 0)).toBe(true);
    expect(ip6.equals6(bytes, AT + ip6.IPV6_DST, A6, 0)).toBe(false);
    expect(ip6.isMulticast6(Uint8Array.of(0xff, 2), 0)).toBe(true);
    expect(ip6.isLinkLocal6(Uint8Array.of(0xfe, 0xbf), 0)).toBe(true);
    expect(ip6.isLinkLocal6(Uint8Array.of(0xfe, 0xc0), 0)).toBe(false);
  });

  test("each wrong field has its code", () => {
    const { bytes } = packet("0000", ip4.IPPROTO_UDP);
    expect(ip6.checkIpv6(bytes, AT, 42)).toBe(ip6.IPV6_OK);
    expect(ip6.checkIpv6(bytes, AT, 41)).toBe(ip6.IPV6_TRUNCATED);
    expect(ip6.checkIpv6(bytes, AT, 39)).toBe(ip6.IPV6_BAD_HEADER);
    bytes[AT + ip6.IPV6_SRC] = 0xff;
    expect(ip6.checkIpv6(bytes, AT, 42)).toBe(ip6.IPV6_BAD_HEADER);
    const version = packet("0000", 17).bytes;
    version[AT] = 0x4b;
    expect(ip6.checkIpv6(version, AT, 42)).toBe(ip6.IPV6_BAD_HEADER);
    expect(ip6.checkIpv6(packet("", ip6.NEXTHDR_HOP).bytes, AT, 42)).toBe(ip6.IPV6_BAD_HEADER);
    expect(ip6.checkIpv6(packet("", ip6.NEXTHDR_NONE).bytes, AT, 42)).toBe(ip6.IPV6_OK);
  });

  test("extension headers are stepped over to the transport header", () => {
    expect(ip6.transport6(packet("0102030405060708", 17).bytes, AT)).toBe(8);
    expect(ip6.transport).toEqual({ offset: AT + 40, protocol: 17, field: AT + 6 });
    // Hop-by-hop (8 bytes), destination options (16 bytes), then UDP of 8 bytes.
    const chain = `3c00010400000000 1101${"00".repeat(14)} 0102030405060708`;
    expect(ip6.transport6(packet(chain, ip6.NEXTHDR_HOP).bytes, AT)).toBe(8);
    expect(ip6.transport).toEqual({ offset: AT + 64, protocol: 17, field: AT + 48 });
    expect(ip6.transport6(packet("1100000000000001 00000000", ip6.NEXTHDR_FRAGMENT).bytes, AT)).toBe(12);
    expect(ip6.transport.protocol).toBe(ip6.NEXTHDR_FRAGMENT);
  });

  test("a chain that leaves the packet or does not end is given up", () => {
    expect(ip6.transport6(packet("1101000000000000", ip6.NEXTHDR_DEST).bytes, AT)).toBe(-1);
    expect(ip6.transport6(packet("11000000", ip6.NEXTHDR_DEST).bytes, AT)).toBe(-1);
    expect(ip6.transport6(packet("3c00000000000000".repeat(9), ip6.NEXTHDR_DEST).bytes, AT)).toBe(-1);
    const eight = `${"3c00000000000000".repeat(7)}1100000000000000`;
    expect(ip6.transport6(packet(eight, ip6.NEXTHDR_DEST).bytes, AT)).toBe(0);
  });
});

describe("udp", () => {
  test("a written datagram is accepted and read back", () => {
    const views = udp4("hello");
    expect(ip4.checkIpv4(views, AT + 14, 46)).toBe(ip4.IPV4_OK);
    expect(udp.checkUdp4(views, AT + 34, 13, AT + 14)).toBe(udp.UDP_OK);
    expect(udp.udpSource(views.bytes, AT + 34)).toBe(4660);
    expect(udp.udpDestination(views.bytes, AT + 34)).toBe(7);
    expect(udp.udpLength(views.bytes, AT + 34)).toBe(13);
  });

  test("lengths", () => {
    const views = udp4("hello");
    expect(udp.checkUdp4(views, AT + 34, 7, AT + 14)).toBe(udp.UDP_BAD_LENGTH);
    expect(udp.checkUdp4(views, AT + 34, 12, AT + 14)).toBe(udp.UDP_BAD_LENGTH);
    expect(udp.checkUdp4(views, AT + 34, 20, AT + 14)).toBe(udp.UDP_OK);
    views.bytes[AT + 34 + udp.UDP_LENGTH + 1] = 7;
    expect(udp.checkUdp4(views, AT + 34, 13, AT + 14)).toBe(udp.UDP_BAD_LENGTH);
  });

  test("checksum: wrong, absent, unfinished", () => {
    const views = udp4("hello");
    views.bytes[AT + 44] ^= 1;
    expect(udp.checkUdp4(views, AT + 34, 13, AT + 14)).toBe(udp.UDP_BAD_CHECKSUM);
    views.bytes.fill(0, AT + 40, AT + 42);
    expect(udp.checkUdp4(views, AT + 34, 13, AT + 14)).toBe(udp.UDP_OK);
    // c612 + 0001 + c612 + 0002 + 0011 + 000d = 18c45, folded 8c46.
    views.bytes.set([0x8c, 0x46], AT + 40);
    expect(udp.checkUdp4(views, AT + 34, 13, AT + 14)).toBe(udp.UDP_PARTIAL);
  });

  test("a checksum that comes out 0 is sent as 0xffff", () => {
    const views = udp4("\0\0");
    const field = readUint16(views.bytes, AT + 40);
    views.bytes[AT + 42] = field >>> 8;
    views.bytes[AT + 43] = field;
    views.bytes.fill(0, AT + 40, AT + 42);
    udp.finishUdp4(views, AT + 34, 10, AT + 14);
    expect(readUint16(views.bytes, AT + 40)).toBe(0xffff);
    expect(udp.checkUdp4(views, AT + 34, 10, AT + 14)).toBe(udp.UDP_OK);
  });

  test("over IPv6, where the checksum is required", () => {
    const views = frame("");
    ip6.writeIpv6(views.bytes, AT, 0, 0, 11, 17, 64, A6, 0, B6, 0);
    udp.writeUdp(views.bytes, AT + 40, 1, 2, 11);
    expect(udp.checkUdp6(views, AT + 40, 11, AT)).toBe(udp.UDP_BAD_CHECKSUM);
    udp.finishUdp6(views, AT + 40, 11, AT);
    expect(udp.checkUdp6(views, AT + 40, 11, AT)).toBe(udp.UDP_OK);
    expect(udp.checkUdp6(views, AT + 40, 10, AT)).toBe(udp.UDP_BAD_LENGTH);
    views.bytes[AT + ip6.IPV6_DST + 15] ^= 4;
    expect(udp.checkUdp6(views, AT + 40, 11, AT)).toBe(udp.UDP_BAD_CHECKSUM);
  });
});

describe("icmp", () => {
  test("an echo request becomes its reply in place", () => {
    const views = frame("");
    icmp.writeIcmp(views.bytes, AT, icmp.ICMP_ECHO, 0, 0x12340001);
    icmp.finishIcmp4(views, AT, 40);
    expect(icmp.checkIcmp4(views, AT, 40)).toBe(icmp.ICMP_OK);
    icmp.echoToReply(views, AT, icmp.ICMP_ECHOREPLY);
    expect(icmp.icmpType(views.bytes, AT)).toBe(icmp.ICMP_ECHOREPLY);
    expect(icmp.icmpCode(views.bytes, AT)).toBe(0);
    expect(icmp.icmpRest(views.bytes, AT)).toBe(0x12340001);
    expect(icmp.checkIcmp4(views, AT, 40)).toBe(icmp.ICMP_OK);
    views.bytes[AT + 20] ^= 1;
    expect(icmp.checkIcmp4(views, AT, 40)).toBe(icmp.ICMP_BAD_CHECKSUM);
    expect(icmp.checkIcmp4(views, AT, 7)).toBe(icmp.ICMP_TRUNCATED);
  });

  test("the next hop's MTU", () => {
    const views = frame("");
    icmp.writeIcmp(views.bytes, AT, icmp.ICMP_DEST_UNREACH, icmp.ICMP_FRAG_NEEDED, 1400);
    expect(icmp.icmpNextHopMtu(views.bytes, AT)).toBe(1400);
  });

  test("ICMPv6 is over the pseudo-header, and stays right when the addresses are exchanged", () => {
    const views = frame("");
    ip6.writeIpv6(views.bytes, AT, 0, 0, 9, ip6.NEXTHDR_ICMP, 255, A6, 0, B6, 0);
    icmp.writeIcmp(views.bytes, AT + 40, icmp.ICMPV6_ECHO_REQUEST, 0, 7);
    icmp.finishIcmp6(views, AT + 40, 9, AT);
    expect(icmp.checkIcmp6(views, AT + 40, 9, AT)).toBe(icmp.ICMP_OK);
    icmp.echoToReply(views, AT + 40, icmp.ICMPV6_ECHO_REPLY);
    ip6.writeIpv6(views.bytes, AT, 0, 0, 9, ip6.NEXTHDR_ICMP, 64, B6, 0, A6, 0);
    expect(icmp.checkIcmp6(views, AT + 40, 9, AT)).toBe(icmp.ICMP_OK);
    views.bytes[AT + ip6.IPV6_SRC] ^= 1;
    expect(icmp.checkIcmp6(views, AT + 40, 9, AT)).toBe(icmp.ICMP_BAD_CHECKSUM);
    expect(icmp.checkIcmp6(views, AT + 40, 7, AT)).toBe(icmp.ICMP_TRUNCATED);
  });
});

describe("tcp", () => {
  function segment(): FrameViews {
    const views = frame("");
    ip4.writeIpv4(views, AT, 0, 48, 1, ip4.IPV4_DF, 64, ip4.IPPROTO_TCP, 0xc6120001 | 0, 0xc6120002 | 0);
    tcp.writeTcp(views.bytes, AT + 20, 80, 40000, -2, 0x7fffffff, 24, tcp.TCP_SYN | tcp.TCP_ACK, 65535);
    views.bytes.set([tcp.TCPOPT_MSS, tcp.TCPOLEN_MSS, 0x05, 0xb4], AT + 20 + tcp.TCP_OPTIONS);
    tcp.finishTcp4(views, AT + 20, 28, AT);
    return views;
  }

  test("written and read back", () => {
    const views = segment();
    const { bytes } = views;
    expect(tcp.checkTcp4(views, AT + 20, 28, AT)).toBe(tcp.TCP_OK);
    expect(tcp.tcpSource(bytes, AT + 20)).toBe(80);
    expect(tcp.tcpDestination(bytes, AT + 20)).toBe(40000);
    expect(tcp.tcpSeq(bytes, AT + 20)).toBe(-2);
    expect(tcp.tcpAckSeq(bytes, AT + 20)).toBe(0x7fffffff);
    expect(tcp.tcpHeaderLength(bytes, AT + 20)).toBe(24);
    expect(tcp.tcpFlags(bytes, AT + 20)).toBe(0x12);
    expect(tcp.tcpWindow(bytes, AT + 20)).toBe(65535);
    expect(tcp.tcpUrgent(bytes, AT + 20)).toBe(0);
  });

  test("header length and checksum", () => {
    const views = segment();
    expect(tcp.checkTcp4(views, AT + 20, 19, AT)).toBe(tcp.TCP_BAD_HEADER);
    expect(tcp.checkTcp4(views, AT + 20, 23, AT)).toBe(tcp.TCP_BAD_HEADER);
    views.bytes[AT + 46] ^= 1;
    expect(tcp.checkTcp4(views, AT + 20, 28, AT)).toBe(tcp.TCP_BAD_CHECKSUM);
    // c612 + 0001 + c612 + 0002 + 0006 + 001c = 18c49, folded 8c4a.
    views.bytes.set([0x8c, 0x4a], AT + 20 + tcp.TCP_CHECKSUM);
    expect(tcp.checkTcp4(views, AT + 20, 28, AT)).toBe(tcp.TCP_PARTIAL);
    views.bytes[AT + 20 + tcp.TCP_DATA_OFFSET] = 0x40;
    expect(tcp.checkTcp4(views, AT + 20, 28, AT)).toBe(tcp.TCP_BAD_HEADER);
  });

  test("over IPv6", () => {
    const views = frame("");
    ip6.writeIpv6(views.bytes, AT, 0, 0, 300, ip4.IPPROTO_TCP, 64, A6, 0, B6, 0);
    tcp.writeTcp(views.bytes, AT + 40, 80, 40000, 1, 2, 20, tcp.TCP_ACK, 1000);
    tcp.finishTcp6(views, AT + 40, 300, AT);
    expect(tcp.checkTcp6(views, AT + 40, 300, AT)).toBe(tcp.TCP_OK);
    views.bytes[AT + 339] ^= 0x80;
    expect(tcp.checkTcp6(views, AT + 40, 300, AT)).toBe(tcp.TCP_BAD_CHECKSUM);
    expect(tcp.checkTcp6(views, AT + 40, 19, AT)).toBe(tcp.TCP_BAD_HEADER);
  });
});

test("FrameViews takes whole words only, and reads int32 across the sign", () => {
  expect(() => new FrameViews(new Uint8Array(new ArrayBuffer(16), 2, 8))).toThrow(RangeError);
  expect(() => new FrameViews(new Uint8Array(7))).toThrow(RangeError);
  expect(readInt32(Uint8Array.of(0xff, 0xff, 0xff, 0xfe), 0)).toBe(-2);
});
