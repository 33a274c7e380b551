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
