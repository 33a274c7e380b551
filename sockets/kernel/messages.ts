/**
 * A block of messages for recvmmsg(2) and sendmmsg(2): an array of struct mmsghdr, and the struct iovec of each behind
 * them. It is laid out once; a datagram changes the few words that differ.
 */
import { SharedArea } from "af-xdp-bindings";
import {
  IOVEC_BYTES,
  IOVEC_LENGTH,
  MSG_CONTROL,
  MSG_CONTROLLEN,
  MSG_IOV,
  MSG_IOVLEN,
  MSG_NAME,
  MSG_NAMELEN,
  MSGHDR_BYTES,
} from "../msghdr.ts";

/** struct mmsghdr { struct msghdr; unsigned int msg_len; }, padded to a cache line (include/linux/socket.h). */
export const MMSGHDR_BYTES = 64;

/** Word offsets in a message. */
export const NAME = MSG_NAME / 4;
export const NAMELEN = MSG_NAMELEN / 4;
export const CONTROL = MSG_CONTROL / 4;
export const CONTROLLEN = MSG_CONTROLLEN / 4;
/** Bytes received or sent, written by the kernel. */
export const LENGTH = MSGHDR_BYTES / 4;

export const MESSAGE_WORDS = MMSGHDR_BYTES / 4;
const VECTOR_WORDS = IOVEC_BYTES / 4;
const VECTOR_LENGTH = IOVEC_LENGTH / 4;

export class MessageBlock {
  readonly capacity: number;
  /** Message i begins at word i * MESSAGE_WORDS. Lengths of 64 bits are below 2^31: their upper halves stay 0. */
  readonly words: Int32Array;
  /** Address of message 0. */
  readonly address: number;
  /** First word of the vectors. */
  private readonly vectors: number;

  constructor(capacity: number) {
    const area = new SharedArea(capacity * (MMSGHDR_BYTES + IOVEC_BYTES));
    this.capacity = capacity;
    this.words = new Int32Array(area.buffer, area.byteOffset, area.byteLength / 4);
    this.address = area.address;
    this.vectors = capacity * MESSAGE_WORDS;
    for (let i = 0; i < capacity; i++) {
      const at = i * MESSAGE_WORDS;
      this.putAddress(at + MSG_IOV / 4, area.address + capacity * MMSGHDR_BYTES + i * IOVEC_BYTES);
      this.words[at + MSG_IOVLEN / 4] = 1;
    }
  }

  /** Writes a 64-bit address: addresses are below 2^53. */
  putAddress(word: number, address: number): void {
    this.words[word] = address | 0;
    this.words[word + 1] = Math.floor(address / 2 ** 32);
  }

  /** Where message i has its payload. */
  putVector(i: number, address: number, length: number): void {
    const at = this.vectors + i * VECTOR_WORDS;
    this.putAddress(at, address);
    this.words[at + VECTOR_LENGTH] = length;
  }

  /** Bytes of payload of message i, as putVector() set them. */
  vectorLength(i: number): number {
    return this.words[this.vectors + i * VECTOR_WORDS + VECTOR_LENGTH];
  }

  /** Moves what message `from` says to message `to`. */
  move(from: number, to: number): void {
    const { vectors, words } = this;
    const source = from * MESSAGE_WORDS;
    const target = to * MESSAGE_WORDS;
    // All but the address of the vector, which is each message's own.
    for (const field of [NAME, NAME + 1, NAMELEN, CONTROL, CONTROL + 1, CONTROLLEN])
      words[target + field] = words[source + field];
    const vector = vectors + from * VECTOR_WORDS;
    words.copyWithin(vectors + to * VECTOR_WORDS, vector, vector + VECTOR_WORDS);
  }
}
