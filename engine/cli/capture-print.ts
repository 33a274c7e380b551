/** A captured frame as a line: when, where, from whom, to whom, what. */
import {
  ENHANCED_PACKET,
  EPB_FLAGS,
  IF_NAME,
  INBOUND,
  INTERFACE_DESCRIPTION,
  OPT_END,
} from "../../queues/pcap/format.ts";
import { TimeScale } from "../../queues/pcap/time.ts";
import { formatIpv4, formatIpv6, formatMac } from "../../sockets/wire/address.ts";
import {
  ARP_LENGTH,
  ARP_SENDER_IP,
  ARP_SENDER_MAC,
  ARP_TARGET_IP,
  ARPOP_REQUEST,
  arpOperation,
} from "../../sockets/wire/arp.ts";
import { ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, ETH_SRC, etherType, networkOffset } from "../../sockets/wire/ethernet.ts";

const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const PROTOCOLS: Record<number, string> = { 1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP" };
const ICMP = 1;
const ICMP6 = 58;
const WITH_PORTS = [6, 17, 132];
const UDP = 17;
const UDP_HEADER = 8;

const u16 = (bytes: Uint8Array, at: number): number => (bytes[at] << 8) | bytes[at + 1];

/** What a frame is: "198.18.0.2:1000 > 198.18.0.1:53 UDP 12". */
export function describeFrame(bytes: Uint8Array, frame: number, captured: number, length: number): string {
  const end = frame + captured;
  const network = networkOffset(bytes, frame, captured);
  if (network < 0) return `${captured < 14 ? "runt" : "802.3"}, ${length} bytes`;
  const type = etherType(bytes, network);
  const tags = network > frame + 14 ? `vlan ${u16(bytes, frame + 14) & 0xfff} ` : "";
  return tags + describePacket(bytes, frame, network, end, type, length);
}

function describePacket(
  bytes: Uint8Array,
  frame: number,
  network: number,
  end: number,
  type: number,
  length: number,
): string {
  if (type === ETH_P_IP && network + IPV4_HEADER <= end) return describe4(bytes, network, end);
  if (type === ETH_P_IPV6 && network + IPV6_HEADER <= end) return describe6(bytes, network, end);
  if (type === ETH_P_ARP && network + ARP_LENGTH <= end) return describeArp(bytes, network);
  const macs = `${formatMac(bytes, frame + ETH_SRC)} > ${formatMac(bytes, frame)}`;
  return `${macs} type 0x${type.toString(16).padStart(4, "0")}, ${length} bytes`;
}

function describe4(bytes: Uint8Array, ip: number, end: number): string {
  const header = (bytes[ip] & 15) * 4;
  const payload = Math.max(u16(bytes, ip + 2) - header, 0);
  const fragment = u16(bytes, ip + 6);
  const [from, to] = [formatIpv4(bytes, ip + 12), formatIpv4(bytes, ip + 16)];
  const offset = (fragment & 0x1fff) * 8;
  if (offset > 0) return `${from} > ${to} ${protocolName(bytes[ip + 9])} fragment at ${offset}, ${payload} bytes`;
  return `${transport(bytes, ip + header, end, bytes[ip + 9], payload, from, to)}${fragment & 0x2000 ? " first fragment" : ""}`;
}

function describe6(bytes: Uint8Array, ip: number, end: number): string {
  const [from, to] = [formatIpv6(bytes, ip + 8), formatIpv6(bytes, ip + 24)];
  return transport(bytes, ip + IPV6_HEADER, end, bytes[ip + 6], u16(bytes, ip + 4), from, to);
}

/** @param length bytes of the transport's header and data, as the IP header has it */
function transport(
  bytes: Uint8Array,
  at: number,
  end: number,
  protocol: number,
  length: number,
  from: string,
  to: string,
): string {
  const name = protocolName(protocol);
  if (WITH_PORTS.includes(protocol) && at + 4 <= end) {
    const data = protocol === UDP ? Math.max(length - UDP_HEADER, 0) : length;
    return `${endpoint(from, u16(bytes, at))} > ${endpoint(to, u16(bytes, at + 2))} ${name} ${data}`;
  }
  const icmp = (protocol === ICMP || protocol === ICMP6) && at + 2 <= end;
  return `${from} > ${to} ${name}${icmp ? ` type ${bytes[at]} code ${bytes[at + 1]}` : ""} ${length}`;
}

const protocolName = (protocol: number): string => PROTOCOLS[protocol] ?? `protocol ${protocol}`;

function endpoint(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

function describeArp(bytes: Uint8Array, arp: number): string {
  const [sender, target] = [formatIpv4(bytes, arp + ARP_SENDER_IP), formatIpv4(bytes, arp + ARP_TARGET_IP)];
  if (arpOperation(bytes, arp) === ARPOP_REQUEST) return `ARP who has ${target}, tell ${sender}`;
  return `ARP ${sender} is at ${formatMac(bytes, arp + ARP_SENDER_MAC)}`;
}

/** Lines of packet blocks, one after the other. */
export class FramePrinter {
  private readonly names: string[] = [];
  private readonly scale = new TimeScale(9);
  private readonly time = { seconds: 0, nanoseconds: 0 };

  /** Takes whole blocks. Gives a line for each packet. */
  lines(blocks: Uint8Array): string[] {
    const view = new DataView(blocks.buffer, blocks.byteOffset, blocks.length);
    const lines: string[] = [];
    for (let at = 0; at < blocks.length; at += view.getUint32(at + 4, true)) {
      const type = view.getUint32(at, true);
      if (type === INTERFACE_DESCRIPTION) this.names.push(interfaceName(view, blocks, at));
      else if (type === ENHANCED_PACKET) lines.push(this.line(view, blocks, at));
    }
    return lines;
  }

  private line(view: DataView, blocks: Uint8Array, at: number): string {
    const { time } = this;
    this.scale.convert(view.getUint32(at + 12, true), view.getUint32(at + 16, true), time);
    const captured = view.getUint32(at + 20, true);
    const length = view.getUint32(at + 24, true);
    const options = at + 28 + ((captured + 3) & ~3);
    const direction = view.getUint16(options, true) === EPB_FLAGS ? view.getUint32(options + 4, true) : 0;
    const clock = new Date(time.seconds * 1000).toTimeString().slice(0, 8);
    const when = `${clock}.${String(time.nanoseconds).padStart(9, "0")}`;
    const what = describeFrame(blocks, at + 28, captured, length);
    return `${when} ${this.names[view.getUint32(at + 8, true)]} ${direction === INBOUND ? "rx" : "tx"} ${what}`;
  }
}

function interfaceName(view: DataView, blocks: Uint8Array, block: number): string {
  const end = block + view.getUint32(block + 4, true) - 4;
  for (let at = block + 16; at + 4 <= end; ) {
    const code = view.getUint16(at, true);
    const length = view.getUint16(at + 2, true);
    if (code === OPT_END) break;
    if (code === IF_NAME) return new TextDecoder().decode(blocks.subarray(at + 4, at + 4 + length));
    at += 4 + ((length + 3) & ~3);
  }
  return "?";
}
