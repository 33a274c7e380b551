/**
 * The arrival time that the XDP program leaves in the bytes before a frame: u64 nanoseconds of CLOCK_MONOTONIC, u32 magic,
 * u32 receive queue, in host order. The program is engine/steering/code.ts.
 */
export const STAMP_TIME = 0;
export const STAMP_MAGIC_AT = 8;
export const STAMP_QUEUE = 12;
export const STAMP_BYTES = 16;
/** "lcor": tells a stamp from what an earlier frame or a driver left there. */
export const STAMP_MAGIC = 0x6c636f72;

/** Writes a stamp for a time of less than 2^53 nanoseconds. */
export function writeStamp(bytes: Uint8Array, at: number, ns: number): void {
  for (let i = 0, rest = ns; i < 8; i++, rest = Math.floor(rest / 256)) bytes[at + STAMP_TIME + i] = rest % 256;
  for (let i = 0; i < 4; i++) bytes[at + STAMP_MAGIC_AT + i] = STAMP_MAGIC >> (8 * i);
}

/** Where a time of arrival goes: CLOCK_REALTIME. */
export interface Stamped {
  frame: number;
  seconds: number;
  nanoseconds: number;
}

/** Reads the stamp before a frame, where there is one. The offsets are those from CLOCK_MONOTONIC to CLOCK_REALTIME. */
export function readStamp(bytes: Uint8Array, into: Stamped, offsetSeconds: number, offsetNs: number): void {
  const at = into.frame - STAMP_BYTES;
  if (at < 0 || littleEndian32(bytes, at + STAMP_MAGIC_AT) !== STAMP_MAGIC) return;
  // Seconds and nanoseconds are added apart: nanoseconds since 1970 exceed what a number holds exactly.
  const monotonicNs = littleEndian32(bytes, at + STAMP_TIME) + littleEndian32(bytes, at + STAMP_TIME + 4) * 2 ** 32;
  const seconds = Math.floor(monotonicNs / 1e9);
  const nanoseconds = monotonicNs - seconds * 1e9 + offsetNs;
  const carry = Math.floor(nanoseconds / 1e9);
  into.seconds = seconds + offsetSeconds + carry;
  into.nanoseconds = nanoseconds - carry * 1e9;
}

/** The unsigned number at `at`, least significant byte first, as the XDP program writes it. */
function littleEndian32(bytes: Uint8Array, at: number): number {
  return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
}
