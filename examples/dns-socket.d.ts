/** What the example uses of dns-socket 4, which comes without types. */
declare module "dns-socket" {
  import type { Socket } from "node:dgram";
  import type { EventEmitter } from "node:events";
  import type { DecodedPacket, Packet } from "dns-packet";

  class DnsSocket extends EventEmitter<{
    query: [query: DecodedPacket, port: number, host: string];
    warning: [Error];
  }> {
    readonly socket: object;
    bind(port: number, callback?: () => void): void;
    response(query: DecodedPacket, response: Packet, port: number, host: string): void;
    destroy(callback?: () => void): void;
  }

  /** A DNS end on a socket; without one, on a udp4 socket of its own. */
  export default function dnsSocket(options?: {
    socket?: Pick<Socket, keyof EventEmitter | "send" | "bind" | "close">;
  }): DnsSocket;
}
