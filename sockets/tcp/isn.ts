/** Keyed hashes of a connection's addresses: initial sequence numbers (RFC 6528), clocks (RFC 7323, 5.4), ports (RFC 6056). */
import { halfSipHash } from "../host/half-sip-hash.ts";
import type { Tcp } from "./core.ts";
import { LOCAL, PORTS } from "./tcb.ts";

/** What a hash is for: no value tells another's. */
const HASH_ISN = 1;
const HASH_CLOCK = 2;
export const HASH_PORT = 3;
export const HASH_COOKIE = 4;
/** Microseconds of a step of the clock in sequence numbers (RFC 9293, section 3.4.1). */
const ISN_TICK_US = 4;

/** A hash of the addresses and ports of record `c`, an int32, and of two more words. */
export function hashFlow(t: Tcp, c: number, purpose: number, extra: number, more: number): number {
  const { w, hashed, secret } = t;
  for (let i = 0; i < 8; i++) hashed[i] = w[c + LOCAL + i];
  hashed[8] = w[c + PORTS];
  hashed[9] = extra;
  // Half of the key is mixed in as input: the function takes 64 bits of key, the secret has 128.
  hashed[10] = more;
  hashed[11] = secret[2] ^ purpose;
  hashed[12] = secret[3];
  return halfSipHash(secret[0], secret[1], hashed, 13);
}

/** ISN = M + F(addresses, ports, secret): larger than that of the connection's predecessor for hours. */
export function initialSequence(t: Tcp, c: number): number {
  return (hashFlow(t, c, HASH_ISN, 0, 0) + Math.floor(t.now / ISN_TICK_US)) | 0;
}

/** What is added to the time in a connection's timestamps. */
export function clockOffset(t: Tcp, c: number): number {
  return hashFlow(t, c, HASH_CLOCK, 0, 0);
}
