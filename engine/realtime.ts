/**
 * The difference between CLOCK_REALTIME and the clock that the XDP program stamps with. Timers and timeouts run on the
 * monotonic clock alone; this is all that a step of the machine's clock touches.
 */
import { readFileSync } from "node:fs";
import { sys } from "af-xdp-bindings";

/** Between two comparisons: how long stamps may be wrong after somebody has set the clock. */
const INTERVAL_MS = 1000;
export const CLOCK_REALTIME = 0;
export const CLOCK_MONOTONIC = 1;

/** Reads a clock into `clock`, a struct timespec: seconds in words 0 and 1, nanoseconds in word 2. */
export type ReadClock = (id: number, clock: Uint32Array) => void;

const clockGettime: ReadClock = (id, clock) => {
  sys.sys3(sys.SYS.clock_gettime, id, sys.addressOf(clock), 0);
};

export class Realtime {
  /** CLOCK_REALTIME less the program's clock: whole seconds, and nanoseconds between -2e9 and 2e9 to be added. */
  seconds = 0;
  nanoseconds = 0;
  /** Milliseconds of performance.now() from which on the clocks are to be compared again. */
  private dueAt = Number.NEGATIVE_INFINITY;
  private readonly clock = new Uint32Array(4);
  private readonly read: ReadClock;
  /** What the time namespace adds to CLOCK_MONOTONIC. */
  private readonly shift: TimeOffset;

  constructor(read: ReadClock = clockGettime, shift = namespaceOffset()) {
    this.read = read;
    this.shift = shift;
  }

  /** Compares the clocks if it is time. Between the two readings lies less than a microsecond. Returns whether it did. */
  update(now: number): boolean {
    if (now < this.dueAt) return false;
    this.dueAt = now + INTERVAL_MS;
    const { clock, shift } = this;
    this.read(CLOCK_MONOTONIC, clock);
    const seconds = clock[0] + clock[1] * 2 ** 32 - shift.seconds;
    const nanoseconds = clock[2] - shift.nanoseconds;
    this.read(CLOCK_REALTIME, clock);
    this.seconds = clock[0] + clock[1] * 2 ** 32 - seconds;
    this.nanoseconds = clock[2] - nanoseconds;
    return true;
  }
}

export interface TimeOffset {
  /** Whole, of either sign. */
  readonly seconds: number;
  /** 0 to 999,999,999. */
  readonly nanoseconds: number;
}

/**
 * What this process's time namespace adds to CLOCK_MONOTONIC (time_namespaces(7)). bpf_ktime_get_ns, with which the
 * program stamps, knows of no namespace.
 */
export function namespaceOffset(text = readOffsets()): TimeOffset {
  const [, seconds = "0", nanoseconds = "0"] = /^monotonic\s+(-?\d+)\s+(\d+)/m.exec(text) ?? [];
  return { seconds: Number(seconds), nanoseconds: Number(nanoseconds) };
}

function readOffsets(): string {
  try {
    return readFileSync("/proc/self/timens_offsets", "utf8");
  } catch {
    // A kernel without time namespaces.
    return "";
  }
}
