/** The other host's end of a case: a kernel socket that also sees hop limits, joins groups and sends to a zone. */
import { check, sys } from "af-xdp-bindings";
import { addressBytes, addressWords } from "../../sockets/fib.ts";
import { MessageHeader } from "../../sockets/msghdr.ts";
import {
  IP_ADD_MEMBERSHIP,
  IP_MULTICAST_IF,
  IP_RECVTTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVHOPLIMIT,
} from "../../sockets/options.ts";
import { readSockaddr, SOCKADDR_IN6_BYTES, writeSockaddr } from "../../sockets/sockaddr.ts";
import { AF_INET6 } from "../../sockets/table.ts";
import { formatIp, ip } from "../../sockets/wire/address.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";

/** struct sockaddr_in6: offset of the scope id. */
const SIN6_SCOPE_ID = 24;
const MSG_DONTWAIT = 0x40;
const PAYLOAD_MAX = 2048;

export interface WithHopLimit {
  text: string;
  address: string;
  hopLimit: number;
}

export class Peer extends KernelUdp {
  private readonly header = new MessageHeader();

  /** Sends to a link-local address or group through the interface with this index. */
  sendScoped(text: string, address: string, port: number, index: number): void {
    const bytes = new TextEncoder().encode(text);
    const sockaddr = new Uint8Array(SOCKADDR_IN6_BYTES);
    const view = new DataView(sockaddr.buffer);
    const [w0, w1, w2, w3] = addressWords(ip(address));
    const length = writeSockaddr(view, AF_INET6, w0, w1, w2, w3, port);
    view.setUint32(SIN6_SCOPE_ID, index, true);
    check(sys.sendto(this.fd, sys.addressOf(bytes), bytes.length, 0, sys.addressOf(sockaddr), length), "sendto");
  }

  /** Joins an IPv4 group on the interface with an address. */
  join(group: string, address: string): void {
    check(sys.setsockopt(this.fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, Uint8Array.of(...ip(group), ...ip(address))), "join");
  }

  /** IPv4 multicasts leave through the interface with an address. */
  multicastFrom(address: string): void {
    check(sys.setsockopt(this.fd, IPPROTO_IP, IP_MULTICAST_IF, ip(address)), "IP_MULTICAST_IF");
  }

  /** Has receiveWithHopLimit() learn what it returns. */
  receiveHopLimit(): void {
    const option = this.family === AF_INET6 ? IPV6_RECVHOPLIMIT : IP_RECVTTL;
    check(sys.setsockoptInt(this.fd, this.family === AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP, option, 1), "setsockopt");
  }

  async receiveWithHopLimit(): Promise<WithHopLimit> {
    let got: WithHopLimit | null = null;
    await until("a datagram", () => {
      got = this.takeMessage();
      return got !== null;
    });
    return got as unknown as WithHopLimit;
  }

  private takeMessage(): WithHopLimit | null {
    const payload = new Uint8Array(PAYLOAD_MAX);
    const { header } = this;
    const size = header.receive(this.fd, sys.addressOf(payload), payload.length, MSG_DONTWAIT);
    if (size < 0) return null;
    const words = new Int32Array(4);
    readSockaddr(header.nameView, words);
    return {
      text: new TextDecoder().decode(payload.subarray(0, size)),
      address: formatIp(addressBytes(words[0], words[1], words[2], words[3])),
      hopLimit: header.controlInt(header.firstControl()),
    };
  }
}
