/** SOCK_SEQPACKET: connections as of streams, messages as of datagram sockets (unix_seqpacket_sendmsg, net/unix/af_unix.c). */
import { ERRNO } from "af-xdp-bindings";
import { SOCK_SEQPACKET } from "../constants.ts";
import type { FileTable } from "../file-table.ts";
import type { AddressBuffer, Message } from "../message.ts";
import { acceptFrom, connectTo, listenOn } from "./connection.ts";
import type { UnixFamily } from "./family.ts";
import { PacketSocket } from "./packets.ts";
import type { UnixSocket } from "./socket.ts";
import { ESTABLISHED } from "./state.ts";

export class SeqpacketSocket extends PacketSocket {
  constructor(family: UnixFamily) {
    super(family, SOCK_SEQPACKET);
  }

  override listen(backlog: number): number {
    return listenOn(this, backlog);
  }

  override connect(address: Uint8Array): number {
    return connectTo(this, address, () => new SeqpacketSocket(this.family));
  }

  override accept(address: AddressBuffer | null, waits: boolean): UnixSocket | number {
    return acceptFrom(this, address, waits);
  }

  override send(message: Message, flags: number, descriptors: FileTable): number {
    const error = this.takeError();
    if (error !== 0) return -error;
    return this.state === ESTABLISHED ? this.sendPacket(message, null, flags, descriptors) : -ERRNO.ENOTCONN;
  }

  override receive(message: Message, flags: number, descriptors: FileTable): number {
    return this.state === ESTABLISHED ? this.receivePacket(message, flags, descriptors) : -ERRNO.ENOTCONN;
  }

  protected override readable(): number {
    return this.received.reduce((bytes, { data }) => bytes + data.length, 0);
  }
}
