/**
 * Receive-side scaling in software: which queue a NIC would put a frame in. The memory driver's wires use it, and a
 * steering table can be checked against it.
 *
 * The hash is Toeplitz's over the fields of a flow in network order (Microsoft, "RSS hashing functions" and "Verifying
 * the RSS hash calculation"): source address, destination address, and for TCP and UDP source port, destination port.
 * Bit i of the input, when set, adds (exclusive or) the 32 bits of the key that begin at its bit i.
 */

/** The key of Microsoft's verification suite, and many drivers' default. */
export const RSS_KEY_MICROSOFT = Uint8Array.fromHex(
  "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa",
);
/** A key with a period of 16 bits, so that both directions of a flow hash alike (Woo and Park, 2012). */
export const RSS_KEY_SYMMETRIC = Uint8Array.fromHex("6d5a".repeat(20));

/** Entries of the indirection table: its index is the hash's low 7 bits, as in most NICs. */
export const RSS_INDIRECTION = 128;

/** The longest input: two IPv6 addresses and two ports. */
const INPUT_MAX = 36;

/** A Toeplitz hash with its key worked out into a table for each byte of the input: 36 KiB. */
export class Toeplitz {
  private readonly table: Int32Array;

  /** @param key 40 bytes */
  constructor(key: Uint8Array) {
    if (key.length !== INPUT_MAX + 4) throw new RangeError(`RSS key of ${key.length} bytes: takes ${INPUT_MAX + 4}`);
    this.table = new Int32Array(INPUT_MAX * 256);
    for (let at = 0; at < INPUT_MAX; at++)
      for (let value = 0; value < 256; value++) {
        let hash = 0;
        for (let bit = 0; bit < 8; bit++) if ((value & (0x80 >> bit)) !== 0) hash ^= keyBits(key, at * 8 + bit);
        this.table[at * 256 + value] = hash;
      }
  }

  /**
   * Goes on from `hash` (0 to begin) over `length` bytes that are the input's bytes from `position` on.
   * @returns int32
   */
  add(hash: number, bytes: Uint8Array, offset: number, length: number, position: number): number {
    let result = hash;
    for (let i = 0; i < length; i++) result ^= this.table[((position + i) << 8) | bytes[offset + i]];
    return result;
  }
}

/** 32 bits of the key from `bit` on. */
function keyBits(key: Uint8Array, bit: number): number {
  const at = bit >> 3;
  const shift = bit & 7;
  const word = (key[at] << 24) | (key[at + 1] << 16) | (key[at + 2] << 8) | key[at + 3];
  return shift === 0 ? word : (word << shift) | (key[at + 4] >> (8 - shift));
}

const ETHERNET = 14;
const TAGS_MAX = 2;

/**
 * The hash that a NIC's parser takes of an Ethernet frame: addresses and ports of TCP and UDP, addresses alone of other
 * IP packets and of fragments, 0 of anything else. IPv6 extension headers count as another protocol.
 */
export function rssHash(toeplitz: Toeplitz, bytes: Uint8Array, frame: number, length: number): number {
  const end = frame + length;
  let network = frame + ETHERNET;
  if (network > end) return 0;
  let type = (bytes[network - 2] << 8) | bytes[network - 1];
  for (let tags = 0; (type === 0x8100 || type === 0x88a8) && tags < TAGS_MAX; tags++) {
    network += 4;
    if (network > end) return 0;
    type = (bytes[network - 2] << 8) | bytes[network - 1];
  }
  if (type === 0x0800) return hash4(toeplitz, bytes, network, end);
  return type === 0x86dd ? hash6(toeplitz, bytes, network, end) : 0;
}

function hash4(toeplitz: Toeplitz, bytes: Uint8Array, ip: number, end: number): number {
  if (ip + 20 > end) return 0;
  const hash = toeplitz.add(0, bytes, ip + 12, 8, 0);
  const transport = ip + ((bytes[ip] & 15) << 2);
  const isFragment = ((bytes[ip + 6] & 0x3f) | bytes[ip + 7]) !== 0;
  if (isFragment || !hasPorts(bytes[ip + 9]) || transport + 4 > end) return hash;
  return toeplitz.add(hash, bytes, transport, 4, 8);
}

function hash6(toeplitz: Toeplitz, bytes: Uint8Array, ip: number, end: number): number {
  if (ip + 40 > end) return 0;
  const hash = toeplitz.add(0, bytes, ip + 8, 32, 0);
  if (!hasPorts(bytes[ip + 6]) || ip + 44 > end) return hash;
  return toeplitz.add(hash, bytes, ip + 40, 4, 32);
}

function hasPorts(protocol: number): boolean {
  return protocol === 6 || protocol === 17;
}

/** The queue of a hash under the default indirection table (ethtool -X equal), which deals the entries out in turn. */
export function rssQueue(hash: number, queues: number): number {
  return (hash & (RSS_INDIRECTION - 1)) % queues;
}
