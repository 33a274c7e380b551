/**
 * IPv4 options (RFC 791, section 3.1) of a packet that has come, as Linux looks at them (__ip_options_compile(),
 * net/ipv4/ip_options.c): one that is malformed has its packet dropped and its sender told (RFC 1122, section 3.2.1.8), one
 * that routes by the sender's wish has it dropped (accept_source_route is 0), and of the others none is obeyed.
 */
import { IPOPT_END, IPOPT_NOOP, IPOPT_RA, IPV4_HEADER, ipv4HeaderLength } from "./ipv4.ts";

export const OPTIONS_OK = 0;
/** The packet is dropped, and nobody is told. */
export const OPTIONS_DROP = 1;
/** It is dropped, and its sender told that the byte at `optionsProblem.pointer` is wrong. */
export const OPTIONS_PROBLEM = 2;

/** Offset in the packet of what checkOptions4() found last. */
export const optionsProblem = { pointer: 0 };

const IPOPT_RR = 7;
const IPOPT_TIMESTAMP = 68;
const IPOPT_LSRR = 131;
const IPOPT_CIPSO = 134;
const IPOPT_SSRR = 137;
/** Offsets in an option: of its length, of the pointer to the next free byte (counted from 1), of a time stamp's flags. */
const LENGTH = 1;
const POINTER = 2;
const FLAGS = 3;
/** Low half of the flags: addresses beside the times, and addresses that the sender has put there. */
const TS_TSANDADDR = 1;
const TS_PRESPEC = 3;
/** High half of them: hosts that found no room. */
const TS_OVERFLOW_MAX = 15;
/** Domain of a CIPSO option, and the least length of one. */
const CIPSO_DOI = 2;
const CIPSO_MIN = 8;

const NONE = -1;

/** Looks at the options between the IPv4 header at `ip`, which checkIpv4() has passed, and what follows it. */
export function checkOptions4(bytes: Uint8Array, ip: number): number {
  const end = ip + ipv4HeaderLength(bytes, ip);
  let routed = false;
  let recorded = false;
  let stamped = false;
  for (let at = ip + IPV4_HEADER; at < end && bytes[at] !== IPOPT_END; ) {
    const type = bytes[at];
    if (type === IPOPT_NOOP) {
      at++;
      continue;
    }
    const size = at + LENGTH < end ? bytes[at + LENGTH] : 0;
    if (size < 2 || at + size > end) return problemAt(at - ip);
    let wrong = NONE;
    if (type === IPOPT_LSRR || type === IPOPT_SSRR) {
      wrong = routed ? 0 : wrongRoute(bytes, at, size);
      routed = true;
    } else if (type === IPOPT_RR) {
      wrong = recorded ? 0 : wrongRecord(bytes, at, size);
      recorded = true;
    } else if (type === IPOPT_TIMESTAMP) {
      wrong = stamped ? 0 : wrongStamp(bytes, at, size);
      stamped = true;
    } else if (type === IPOPT_RA && size < 4) {
      wrong = LENGTH;
    } else if (type === IPOPT_CIPSO) {
      wrong = wrongLabel(size);
    }
    if (wrong !== NONE) return problemAt(at + wrong - ip);
    at += size;
  }
  return routed ? OPTIONS_DROP : OPTIONS_OK;
}

function problemAt(pointer: number): number {
  optionsProblem.pointer = pointer;
  return OPTIONS_PROBLEM;
}

// Each returns the offset in the option at `at` of what is wrong with it, or NONE.

function wrongRoute(bytes: Uint8Array, at: number, size: number): number {
  if (size < 3) return LENGTH;
  return bytes[at + POINTER] < 4 ? POINTER : NONE;
}

function wrongRecord(bytes: Uint8Array, at: number, size: number): number {
  if (size < 3) return LENGTH;
  const pointer = bytes[at + POINTER];
  return pointer < 4 || (pointer <= size && pointer + 3 > size) ? POINTER : NONE;
}

function wrongStamp(bytes: Uint8Array, at: number, size: number): number {
  if (size < 4) return LENGTH;
  const pointer = bytes[at + POINTER];
  const kind = bytes[at + FLAGS] & 15;
  if (pointer < 5) return POINTER;
  if (pointer > size) return kind !== TS_PRESPEC && bytes[at + FLAGS] >> 4 === TS_OVERFLOW_MAX ? FLAGS : NONE;
  const needed = kind === TS_TSANDADDR || kind === TS_PRESPEC ? 8 : 4;
  return pointer + needed - 1 > size ? POINTER : NONE;
}

/** No domain is known, as in a kernel with NetLabel that was told of none (cipso_v4_validate(), net/ipv4/cipso_ipv4.c). */
function wrongLabel(size: number): number {
  return size < CIPSO_MIN ? LENGTH : CIPSO_DOI;
}
