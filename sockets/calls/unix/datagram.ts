/** SOCK_DGRAM, and SOCK_RAW, which is the same: unix_dgram_connect(), net/unix/af_unix.c. */
import { ERRNO } from "af-xdp-bindings";
import { AF_UNSPEC, SOCK_DGRAM } from "../constants.ts";
import type { File } from "../file.ts";
import type { FileTable } from "../file-table.ts";
import type { Message } from "../message.ts";
import { familyOf, PATH_AT, validate } from "./address.ts";
import type { UnixFamily } from "./family.ts";
import { PacketSocket } from "./packets.ts";
import type { UnixSocket } from "./socket.ts";

export class DatagramSocket extends PacketSocket {
  constructor(family: UnixFamily) {
    super(family, SOCK_DGRAM);
  }

  override listen(_backlog: number): number {
    return -ERRNO.EOPNOTSUPP;
  }

  override accept(): File | number {
    return -ERRNO.EOPNOTSUPP;
  }

  override connect(address: Uint8Array): number {
    if (address.length < PATH_AT) return -ERRNO.EINVAL;
    if (familyOf(address) === AF_UNSPEC) {
      this.changePeer(null);
      return 0;
    }
    const verdict = validate(address) || this.autobindIfTold();
    if (verdict < 0) return verdict;
    const other = this.family.names.find(address, this.type);
    if (typeof other === "number") return other;
    if (other.peer !== null && other.peer !== this) return -ERRNO.EPERM;
    this.changePeer(other);
    return 0;
  }

  private changePeer(other: UnixSocket | null): void {
    const former = this.peer;
    this.peer = other;
    if (former === null) return;
    former.waiters.delete(this);
    this.queue.wake(this.writableBits(true), 0);
    if (other !== former) this.forgetMessagesOf(former);
  }

  override send(message: Message, flags: number, descriptors: FileTable): number {
    const { name } = message;
    const address = name === null || name.length <= 0 ? null : name.bytes.subarray(0, name.length);
    return this.sendPacket(message, address, flags, descriptors);
  }

  override receive(message: Message, flags: number, descriptors: FileTable): number {
    return this.receivePacket(message, flags, descriptors);
  }

  protected override readable(): number {
    return this.received[0]?.data.length ?? 0;
  }
}
