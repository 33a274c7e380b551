/** Both families of ICMP side by side, for scripts that say the same of each; and a host with a gateway that is known. */
import type { CounterName } from "../../sockets/counters.ts";
import { ip } from "../../sockets/wire/address.ts";
import { HostScript, OWN, OWN4, OWN6, SECOND } from "./host-script.ts";
import { arp, framed, icmp4, icmp6, ip4, ip6, macOption, udp } from "./messages.ts";
import { fragmentOf, sealed4 } from "./packets.ts";

export const GATEWAY_MAC = Uint8Array.of(2, 0, 0, 0, 0, 0xfe);
export const STRANGER_MAC = Uint8Array.of(2, 0, 0, 0, 0, 0xc);
const GATEWAY4 = "198.18.0.254";
const GATEWAY6 = "2001:db8::fe";
const ECHO_ID = 0x1234_0007;

export interface Ends {
  source?: string;
  destination?: string;
}

/** A host whose addresses are settled and whose gateways have made themselves known. */
export function withGateway(): HostScript {
  const host = new HostScript({ gateways: [GATEWAY4, GATEWAY6] });
  host.pass(10 * SECOND);
  host.take(arp({ operation: "request", sender: GATEWAY4, senderMac: GATEWAY_MAC, target: OWN4 }));
  const options = [...ip(OWN6), ...macOption(1, GATEWAY_MAC)];
  host.packet(icmp6(GATEWAY6, OWN6, [135, 0, 0], options, 255), GATEWAY_MAC);
  return host;
}

/** An error's line: type and code, bytes of the packet. */
export function errorTo(family: Family, [type, code]: readonly [number, number], length: number): string {
  return `${GATEWAY_MAC.toHex()} < ${family.own} > ${family.peer} ${family.icmpName} ${type}/${code} ${length}`;
}

type Head = [type: number, code: number, rest: number];

/** What one family's messages are. Packets have no Ethernet header and go from `peer` to `own` unless told otherwise. */
export abstract class Family {
  abstract readonly name: string;
  abstract readonly icmpName: string;
  abstract readonly icmpProtocol: number;
  /** Bytes of the IP header. */
  abstract readonly header: number;
  abstract readonly own: string;
  /** Hosts behind the gateway. */
  abstract readonly peer: string;
  abstract readonly second: string;
  /** One on the link of which nothing is known. */
  abstract readonly near: string;
  abstract readonly asksNear: string;
  /** A frame. */
  abstract readonly nearAnswers: Uint8Array;
  /** On no link of the host's, and not the host's. */
  abstract readonly other: string;
  abstract readonly groups: readonly string[];
  abstract readonly badSources: readonly string[];
  /** Bytes of the longest quotation. */
  abstract readonly quoteMax: number;
  abstract readonly intervalMs: number;
  abstract readonly echoTypes: readonly [request: number, reply: number];
  abstract readonly portUnreachable: readonly [number, number];
  abstract readonly unknownProtocol: readonly [number, number];
  abstract readonly timeExceeded: readonly [number, number];
  /** Types about which no error is sent. */
  abstract readonly errorTypes: readonly number[];
  abstract readonly badSums: CounterName;
  abstract readonly inErrors: CounterName;
  abstract readonly limitedHost: CounterName;

  abstract packet(protocol: number, payload: Uint8Array, ends?: Ends): Uint8Array;
  abstract icmp(head: Head, data: ArrayLike<number>, ends?: Ends): Uint8Array;
  abstract withTos(packet: Uint8Array, tos: number): Uint8Array;
  abstract tos(packet: Uint8Array): number;
  /** Host `i` behind the gateway. */
  abstract many(i: number): string;

  get replyName(): string {
    return `${this.icmpName} ${this.echoTypes[1]}/0`;
  }

  echo(data: ArrayLike<number> = [], ends: Ends = {}): Uint8Array {
    return this.icmp([this.echoTypes[0], 0, ECHO_ID], data, ends);
  }

  reply(): Uint8Array {
    return this.icmp([this.echoTypes[1], 0, ECHO_ID], []);
  }

  /** ICMP whose bytes are as given, the checksum too. */
  message(payload: Uint8Array): Uint8Array {
    return this.packet(this.icmpProtocol, payload);
  }

  /** What the host has sent. */
  sentTo(destination: string, payload: Uint8Array): Uint8Array {
    return this.packet(17, payload, { source: this.own, destination });
  }

  /** Sixteen bytes, from `offset` on, of a datagram from port 4000 that is longer. */
  fragment(offset: number, more: boolean, source = this.peer, destination = this.own): Uint8Array {
    const whole = this.packet(17, udp(4000, 9, Array(64).fill(1)), { source, destination });
    return fragmentOf(whole, offset, whole.subarray(this.header + offset, this.header + offset + 16), more, 77);
  }
}

class Family4 extends Family {
  readonly name = "IPv4";
  readonly icmpName = "icmp";
  readonly icmpProtocol = 1;
  readonly header = 20;
  readonly own = OWN4;
  readonly peer = "198.18.7.2";
  readonly second = "198.18.7.3";
  readonly near = "198.18.0.12";
  readonly asksNear = `ffffffffffff < who has ${this.near}, tell ${OWN4}`;
  readonly nearAnswers = arp({
    operation: "reply",
    sender: this.near,
    senderMac: STRANGER_MAC,
    target: OWN4,
    to: Uint8Array.fromHex(OWN),
  });
  readonly other = "198.18.9.9";
  readonly groups = ["198.18.0.255", "255.255.255.255", "224.0.0.1"];
  readonly badSources = ["0.0.0.0", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.255", OWN4];
  readonly quoteMax = 576 - 28;
  readonly intervalMs = 1000;
  readonly echoTypes = [8, 0] as const;
  readonly portUnreachable = [3, 3] as const;
  readonly unknownProtocol = [3, 2] as const;
  readonly timeExceeded = [11, 1] as const;
  readonly errorTypes = [3, 4, 5, 11, 12, 19, 200];
  readonly badSums = "IcmpInCsumErrors";
  readonly inErrors = "IcmpInErrors";
  readonly limitedHost = "IcmpOutRateLimitHost";

  packet(protocol: number, payload: Uint8Array, { source = this.peer, destination = OWN4 }: Ends = {}): Uint8Array {
    return ip4({ source, destination, protocol, payload });
  }

  icmp([type, code, rest]: Head, data: ArrayLike<number>, ends: Ends = {}): Uint8Array {
    return this.packet(1, icmp4(type, code, rest, data), ends);
  }

  withTos(packet: Uint8Array, tos: number): Uint8Array {
    packet[1] = tos;
    return sealed4(packet);
  }

  tos(packet: Uint8Array): number {
    return packet[1];
  }

  many(i: number): string {
    return `198.19.${(i >> 8) & 255}.${i & 255}`;
  }
}

class Family6 extends Family {
  readonly name = "IPv6";
  readonly icmpName = "icmp6";
  readonly icmpProtocol = 58;
  readonly header = 40;
  readonly own = OWN6;
  readonly peer = "2001:db8:7::2";
  readonly second = "2001:db8:7::3";
  readonly near = "2001:db8::12";
  readonly asksNear = `3333ff000012 < ${OWN6} > ff02::1:ff00:12 NS ${this.near} slla ${OWN}`;
  readonly nearAnswers = framed(
    Uint8Array.fromHex(OWN),
    STRANGER_MAC,
    icmp6(this.near, OWN6, [136, 0, 0x6000_0000], [...ip(this.near), ...macOption(2, STRANGER_MAC)], 255),
  );
  readonly other = "2001:db8:9::9";
  readonly groups = ["ff02::1", "ff02::1:ff00:1"];
  readonly badSources = ["::", "::1", "ff02::1", OWN6];
  readonly quoteMax = 1280 - 48;
  readonly intervalMs = 100;
  readonly echoTypes = [128, 129] as const;
  readonly portUnreachable = [1, 4] as const;
  readonly unknownProtocol = [4, 1] as const;
  readonly timeExceeded = [3, 1] as const;
  readonly errorTypes = [1, 2, 3, 4, 100, 137];
  readonly badSums = "Icmp6InCsumErrors";
  readonly inErrors = "Icmp6InErrors";
  readonly limitedHost = "Icmp6OutRateLimitHost";

  packet(protocol: number, payload: Uint8Array, { source = this.peer, destination = OWN6 }: Ends = {}): Uint8Array {
    return ip6({ source, destination, protocol, payload });
  }

  icmp(head: Head, data: ArrayLike<number>, { source = this.peer, destination = OWN6 }: Ends = {}): Uint8Array {
    return icmp6(source, destination, head, data);
  }

  withTos(packet: Uint8Array, tos: number): Uint8Array {
    packet[0] = 0x60 | (tos >> 4);
    packet[1] = (tos & 15) << 4;
    return packet;
  }

  tos(packet: Uint8Array): number {
    return ((packet[0] & 15) << 4) | (packet[1] >> 4);
  }

  many(i: number): string {
    return `2001:db8:8::${(i + 1).toString(16)}`;
  }
}

export const FAMILIES: readonly [Family, Family] = [new Family4(), new Family6()];
