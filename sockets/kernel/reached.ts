/**
 * Destinations that a socket has sent to before: the kernel has let it, so the next datagram that is no longer may be
 * gathered. The first one goes by itself, so that whoever sends it hears at once what the kernel says to it (ENETUNREACH,
 * EACCES for a broadcast, EMSGSIZE). A direct-mapped cache: one that has been displaced costs a system call.
 */

/** Entries, a power of two: two that share one cost a system call each time they take turns. */
const ENTRIES = 1024;
const ENTRY_BITS = 10;
/** 2^32 divided by the golden ratio (Knuth, The Art of Computer Programming, 6.4). */
const HASH_MULTIPLIER = 0x9e3779b1;

const ENTRY_WORDS = 8;
const SOCKET = 4;
const GENERATION = 5;
const LENGTH = 6;
/** Length of an entry that nothing fits. */
const NONE = -1;

export class Reached {
  private readonly words = new Int32Array(ENTRIES * ENTRY_WORDS).fill(NONE);

  /** Whether the socket has sent as many bytes to the address, four words, before. */
  has(socket: number, generation: number, length: number, w0: number, w1: number, w2: number, w3: number): boolean {
    const { words } = this;
    const at = slot(socket, w0, w2, w3);
    return (
      words[at + 3] === w3 &&
      words[at + 2] === w2 &&
      words[at + 1] === w1 &&
      words[at] === w0 &&
      words[at + SOCKET] === socket &&
      words[at + GENERATION] === generation &&
      words[at + LENGTH] >= length
    );
  }

  add(socket: number, generation: number, length: number, w0: number, w1: number, w2: number, w3: number): void {
    const { words } = this;
    const at = slot(socket, w0, w2, w3);
    words[at] = w0;
    words[at + 1] = w1;
    words[at + 2] = w2;
    words[at + 3] = w3;
    words[at + SOCKET] = socket;
    words[at + GENERATION] = generation;
    words[at + LENGTH] = length;
  }

  /** The kernel has refused one after all: every destination is to be tried again. */
  clear(): void {
    this.words.fill(NONE);
  }
}

function slot(socket: number, w0: number, w2: number, w3: number): number {
  return (Math.imul(w3 ^ (w2 << 7) ^ w0 ^ (socket << 16), HASH_MULTIPLIER) >>> (32 - ENTRY_BITS)) * ENTRY_WORDS;
}
