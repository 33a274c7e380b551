/** The other host in the comparison of dgrams: kernel sockets that answer what the cases ask. */
import { check, sys } from "af-xdp-bindings";
import { getAffinity, setAffinity } from "../../engine/host/affinity.ts";
import type { Host } from "../../engine/host/hosts.ts";
import { addressBytes } from "../../sockets/fib.ts";
import { MessageHeader } from "../../sockets/msghdr.ts";
import {
  IP_ADD_MEMBERSHIP,
  IP_MULTICAST_IF,
  IP_RECVTTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_ADD_MEMBERSHIP,
  IPV6_MULTICAST_IF,
  IPV6_RECVHOPLIMIT,
} from "../../sockets/options.ts";
import { readSockaddr } from "../../sockets/sockaddr.ts";
import { formatIp, ip } from "../../sockets/wire/address.ts";
import { KernelUdp } from "../support/kernel-udp.ts";

/** The IPv6 sockets' ports are OFFSET6 further: a wildcard one would take IPv4 too. */
export const PEER_PORT = 7007;
export const OTHER_PORT = 7008;
export const CLOSED_PORT = 7099;
export const OFFSET6 = 10;
/** Groups that the peer has joined. */
export const PEER_GROUP4 = "239.1.2.3";
export const PEER_GROUP6 = "ff15::1:2:3";

const MSG_DONTWAIT = 0x40;
const PAYLOAD_MAX = 65536;

/**
 * What a case may ask of the peer; whatever is none of these comes back as it was sent.
 * - `hops`: answers with the hop limit with which the question came;
 * - `other`: answers from OTHER_PORT first, then as always;
 * - `to`: sends a text to another address, a group say, then answers "sent".
 */
export type Request =
  | { ask: "hops" }
  | { ask: "other"; text: string }
  | { ask: "to"; address: string; port: number; text: string };

/** One family's sockets. */
class PeerSocket extends KernelUdp {
  private readonly header = new MessageHeader();
  private readonly payload = new Uint8Array(PAYLOAD_MAX);
  private readonly other: KernelUdp;

  constructor(host: Host, family: 4 | 6) {
    const v6 = family === 6;
    const offset = v6 ? OFFSET6 : 0;
    super(host.ns, { address: v6 ? "::" : "0.0.0.0", port: PEER_PORT + offset });
    const address = v6 ? host.ipv6Text : host.ipv4Text;
    this.other = new KernelUdp(host.ns, { address, port: OTHER_PORT + offset });
    const [level, hops] = v6 ? [IPPROTO_IPV6, IPV6_RECVHOPLIMIT] : [IPPROTO_IP, IP_RECVTTL];
    check(sys.setsockoptInt(this.fd, level, hops, 1), "setsockopt");
    if (v6) this.multicast6(host);
    else this.multicast4(host);
  }

  private multicast4({ ipv4 }: Host): void {
    check(sys.setsockopt(this.fd, IPPROTO_IP, IP_MULTICAST_IF, ipv4), "IP_MULTICAST_IF");
    const request = Uint8Array.of(...ip(PEER_GROUP4), ...ipv4);
    check(sys.setsockopt(this.fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, request), "IP_ADD_MEMBERSHIP");
  }

  private multicast6({ ifindex }: Host): void {
    check(sys.setsockoptInt(this.fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, ifindex), "IPV6_MULTICAST_IF");
    const index = new Uint8Array(Int32Array.of(ifindex).buffer);
    const request = Uint8Array.of(...ip(PEER_GROUP6), ...index);
    check(sys.setsockopt(this.fd, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, request), "IPV6_ADD_MEMBERSHIP");
  }

  /** Answers what has come. */
  serve(): void {
    const { header, payload } = this;
    for (;;) {
      const size = header.receive(this.fd, sys.addressOf(payload), payload.length, MSG_DONTWAIT);
      if (size < 0) return;
      const words = new Int32Array(4);
      const port = readSockaddr(header.nameView, words);
      const address = formatIp(addressBytes(words[0], words[1], words[2], words[3]));
      this.answer(payload.slice(0, size), header.controlInt(header.firstControl()), address, port);
    }
  }

  override close(): void {
    this.other.close();
    super.close();
  }

  private answer(payload: Uint8Array, hops: number, address: string, port: number): void {
    const text = new TextDecoder().decode(payload);
    if (!text.startsWith('{"ask"')) {
      this.send(payload, address, port);
      return;
    }
    const request = JSON.parse(text) as Request;
    if (request.ask === "hops") {
      this.send(`hops ${hops}`, address, port);
    } else if (request.ask === "other") {
      this.other.send(`other ${request.text}`, address, port);
      this.send(request.text, address, port);
    } else {
      this.send(request.text, request.address, request.port);
      this.send("sent", address, port);
    }
  }
}

export class DgramPeer {
  private readonly sockets: PeerSocket[];
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(host: Host) {
    this.sockets = [new PeerSocket(host, 4), new PeerSocket(host, 6)];
    const all = getAffinity();
    // What one CPU sends over a veth arrives in order; what two send, each by its own backlog, may not on a loaded machine.
    const one = all.slice(0, 1);
    this.timer = setInterval(() => {
      setAffinity(0, one);
      for (const socket of this.sockets) socket.serve();
      setAffinity(0, all);
    }, 1);
  }

  close(): void {
    clearInterval(this.timer);
    for (const socket of this.sockets) socket.close();
  }
}
