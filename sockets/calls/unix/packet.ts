/** What is under way between two sockets: a datagram, or a part of a stream. */
import { ERRNO } from "af-xdp-bindings";
import { unixTruesize } from "../../truesize.ts";
import type { File } from "../file.ts";
import type { Credentials } from "./credentials.ts";
import type { Enclosed } from "./scm.ts";
import type { UnixSocket } from "./socket.ts";
import { SHUT_SEND } from "./state.ts";

const PAGE = 4096;
/** The most that kmalloc() gives in one piece. */
const SLAB_MAX = 4 << 20;

const pageAligned = (bytes: number): number => (bytes + PAGE - 1) & ~(PAGE - 1);

export class Packet {
  data: Uint8Array;
  readonly sender: UnixSocket;
  /** Bytes it counts for in the sender's buffer. */
  private readonly truesize: number;
  /** Bytes of a stream that have been read. */
  consumed = 0;
  /** Null where neither side has asked for them. */
  credentials: Credentials | null = null;
  files: File[] = [];
  /** In whose queue it is. */
  receiver: UnixSocket | null = null;
  /** Of a datagram without data: that it has been peeked at. */
  peeked = false;
  /** CLOCK_REALTIME at which it was queued; 0: nobody had asked. */
  seconds = 0;
  nanoseconds = 0;

  constructor(sender: UnixSocket, data: Uint8Array, truesize: number) {
    this.sender = sender;
    this.data = data;
    this.truesize = truesize;
    sender.underWay += truesize;
  }

  /** Bytes not read yet. */
  get length(): number {
    return this.data.length - this.consumed;
  }

  /** Encloses what goes along: files, if any, are its own from now on. Returns 0 or -errno. */
  enclose(enclosed: Enclosed): number {
    const { family, options } = this.sender;
    this.credentials = enclosed.credentials;
    if (enclosed.files.length === 0) return 0;
    if (family.inFlight.tooMany(options.limits)) return -ERRNO.ETOOMANYREFS;
    this.files = enclosed.files.splice(0);
    family.inFlight.add(this, this.files);
    return 0;
  }

  /** A filter keeps so many bytes: it counts for as much as before. */
  trim(length: number): void {
    this.data = this.data.subarray(0, length);
  }

  /** The files are the caller's from now on. */
  detach(): File[] {
    const { files } = this;
    this.files = [];
    this.sender.family.inFlight.remove(this, files);
    return files;
  }

  /** It is read, or lost. @param told whether the sender is to be told that he has room */
  free(told = true): void {
    if (this.files.length > 0) this.sender.family.inFlight.drop(this.detach());
    this.sender.underWay -= this.truesize;
    if (told) this.sender.writeSpace();
  }
}

/**
 * sock_alloc_send_pskb(): a packet with a copy of the bytes of `data` from `at` on, `head` of them in one piece and `paged` in pages,
 * or -errno.
 */
export function allocate(
  sender: UnixSocket,
  data: Uint8Array,
  at: number,
  head: number,
  paged: number,
): Packet | number {
  const error = sender.takeError();
  if (error !== 0) return -error;
  if ((sender.shut & SHUT_SEND) !== 0) return -ERRNO.EPIPE;
  if (sender.underWay >= sender.sendBuffer) return -ERRNO.EAGAIN;
  const truesize = unixTruesize(head);
  if (truesize > SLAB_MAX + PAGE) return -ERRNO.ENOBUFS;
  return new Packet(sender, data.slice(at, at + head + paged), truesize + pageAligned(paged));
}
