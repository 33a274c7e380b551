/** Records of an lcore's connections as any thread sees them: the lcore alone writes. */
import { GENERATION, SCRATCH_ORIGIN, SCRATCH_USED, STATE, TCB_WORDS } from "./tcb.ts";

/** Notes when the clock began that the Tcp's time is read from: performance.timeOrigin of its thread, milliseconds. */
export function tellOrigin(records: Int32Array, origin: number): void {
  originOf(records)[0] = origin;
}

/** How many have ever been used: those behind are zero. */
export function recordsUsed(records: Int32Array): number {
  return Atomics.load(records, records.length - TCB_WORDS + SCRATCH_USED);
}

/**
 * Time of the Tcp whose records these are, microseconds: by this thread's clock, and what lies between the beginnings of
 * both. A machine whose clock was set between those two moments makes it wrong by as much.
 */
export function recordsTime(records: Int32Array): number {
  return (performance.timeOrigin - originOf(records)[0] + performance.now()) * 1000;
}

function originOf(records: Int32Array): Float64Array {
  return new Float64Array(records.buffer, records.byteOffset + (records.length - TCB_WORDS + SCRATCH_ORIGIN) * 4, 1);
}

/** Copies a record. False: it was given to another connection meanwhile. Fields may be of different moments. */
export function copyRecord(records: Int32Array, id: number, into: Int32Array): boolean {
  const c = id * TCB_WORDS;
  const generation = Atomics.load(records, c + GENERATION);
  for (let i = 0; i < TCB_WORDS; i++) into[i] = records[c + i];
  return Atomics.load(records, c + GENERATION) === generation && into[STATE] === Atomics.load(records, c + STATE);
}
