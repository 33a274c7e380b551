/**
 * One receive, which may take several attempts: of a stream bytes are gathered until there are as many as SO_RCVLOWAT or MSG_WAITALL
 * want. Whether its caller blocks or awaits is no part of it.
 */
import { ERRNO } from "af-xdp-bindings";
import { MSG_OOB, MSG_PEEK, MSG_WAITALL } from "./constants.ts";
import type { File } from "./file.ts";
import type { FileTable } from "./file-table.ts";
import { lengthOf, type Message, partsFrom } from "./message.ts";
import type { Credentials } from "./unix/credentials.ts";

/** What a receive has got in earlier attempts, and what must not be told together with that. */
export interface Gathered {
  /** Whether there may be another attempt after this one. */
  readonly goesOn: boolean;
  bytes: number;
  /** Whose bytes they are, where the socket tells it; bytes of others do not go with them. */
  from: Credentials | null;
  /** Files came along: nothing goes with them but the bytes they came with. */
  files: boolean;
}

export class Reception {
  private readonly file: File;
  private readonly message: Message;
  private readonly flags: number;
  private readonly descriptors: FileTable;
  /** Fewest bytes to return with. */
  private readonly wanted: number;
  private readonly gathered: Gathered;

  /**
   * @param flags MSG_DONTWAIT as File.receive() is to be told of it
   * @param gathers whether the caller waits for more than one attempt gives
   */
  constructor(file: File, message: Message, flags: number, descriptors: FileTable, gathers: boolean) {
    this.file = file;
    this.message = message;
    this.flags = flags;
    this.descriptors = descriptors;
    const room = lengthOf(message.iov);
    const least = (flags & MSG_WAITALL) !== 0 ? room : file.receiveLowWater;
    this.wanted = gathers && (flags & (MSG_PEEK | MSG_OOB)) === 0 ? Math.min(room, least) : 0;
    this.gathered = { goesOn: this.wanted > 1, bytes: 0, from: null, files: false };
  }

  /** Takes what is there. -EAGAIN: more is wanted; else what recvmsg(2) returns. */
  attempt(): number {
    const { gathered } = this;
    for (;;) {
      const result = gathered.bytes === 0 ? this.receive(this.message) : this.receiveMore();
      if (result === -ERRNO.EAGAIN) return result;
      if (result < 0) return this.end(result);
      gathered.bytes += result;
      if (gathered.bytes >= this.wanted || result === 0) return gathered.bytes;
    }
  }

  /** What the call returns that ends here, with `result` of the last attempt: the bytes that there are, if any. */
  end(result: number): number {
    return result < 0 && this.gathered.bytes > 0 ? this.gathered.bytes : result;
  }

  private receive(message: Message): number {
    return this.file.receive(message, this.flags, this.descriptors, this.gathered);
  }

  /** Of what is told beside the bytes the last attempt that got some has the word; who sent them was told with the first. */
  private receiveMore(): number {
    const { message } = this;
    const control = message.control === null ? null : new Uint8Array(message.control.length);
    const part = { ...message, name: null, control, iov: partsFrom(message.iov, this.gathered.bytes) };
    const result = this.receive(part);
    if (result <= 0) return result;
    message.flags = part.flags;
    message.controlLength = part.controlLength;
    if (control !== null) message.control?.set(control);
    return result;
  }
}
