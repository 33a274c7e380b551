/**
 * What the ports of one replay share: the word that lets it begin, and what each has done. In a SharedArrayBuffer, since
 * each port is on its lcore's thread.
 *
 *   byte  0  go          0: not yet; 1: begun. Written by whoever starts the replay
 *         8  start       CLOCK_MONOTONIC at the start, milliseconds, float64; before `go`
 *        16  rows        one a queue: COUNTS float64, then a note of NOTE_BYTES. Written by the queue's port
 */
import { sys } from "af-xdp-bindings";

const CLOCK_MONOTONIC = 1;
const START_BYTE = 8;
const ROWS_BYTE = 16;
const NOTE_BYTES = 512;

/** What is counted, each at its index in a queue's row. */
export const REPLAY_COUNTS = [
  ["frames", "frames that the engine received"],
  ["bytes", "… their bytes"],
  ["sent", "frames in the file that its host had sent itself: not received"],
  ["cut", "frames of which the file has only the beginning: not received"],
  ["oversize", "frames longer than a frame buffer, as segmentation offload makes them: not received"],
  ["noFrame", "frames lost because none was free to receive into; at full speed the replay waits instead"],
  ["passes", "times that the file has been read to its end"],
  ["txFrames", "frames that the engine sent"],
  ["txBytes", "… their bytes"],
  ["txUnwritten", "… of them not written, because the file would take no more"],
  ["ended", "1 when there is nothing more to receive"],
] as const;

export type ReplayCount = (typeof REPLAY_COUNTS)[number][0];

/** Index of each count in a row. */
export const R = Object.fromEntries(REPLAY_COUNTS.map(([name], i) => [name, i])) as Record<ReplayCount, number>;

const ROW_BYTES = REPLAY_COUNTS.length * 8 + NOTE_BYTES;

export class ReplayState {
  readonly buffer: SharedArrayBuffer;
  readonly queues: number;
  private readonly go: Int32Array;
  private readonly start: Float64Array;

  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    this.queues = (buffer.byteLength - ROWS_BYTE) / ROW_BYTES;
    this.go = new Int32Array(buffer, 0, 1);
    this.start = new Float64Array(buffer, START_BYTE, 1);
  }

  static create(queues: number): ReplayState {
    return new ReplayState(new SharedArrayBuffer(ROWS_BYTE + queues * ROW_BYTES));
  }

  /** Lets every port begin; the recorded times count from now. Does nothing when they have begun. */
  begin(): void {
    if (this.begun) return;
    this.start[0] = monotonicMs();
    Atomics.store(this.go, 0, 1);
  }

  get begun(): boolean {
    return Atomics.load(this.go, 0) === 1;
  }

  /** Milliseconds since begin(). */
  elapsedMs(): number {
    return monotonicMs() - this.start[0];
  }

  /** A queue's counts, for its port to count in. */
  row(queue: number): Float64Array {
    return new Float64Array(this.buffer, ROWS_BYTE + queue * ROW_BYTES, REPLAY_COUNTS.length);
  }

  /** Counts of all queues together; `passes` and `ended` are the least of any. */
  counts(): Record<ReplayCount, number> {
    const rows = Array.from({ length: this.queues }, (_, queue) => this.row(queue));
    const total = (name: ReplayCount): number => {
      const values = rows.map((row) => row[R[name]]);
      const least = name === "passes" || name === "ended";
      return least ? Math.min(...values) : values.reduce((sum, value) => sum + value, 0);
    };
    return Object.fromEntries(REPLAY_COUNTS.map(([name]) => [name, total(name)])) as Record<ReplayCount, number>;
  }

  /** Leaves word of what is wrong with a file: that it ends early, is damaged, or cannot be written. */
  note(queue: number, text: string): void {
    const area = this.noteArea(queue);
    area.fill(0).set(new TextEncoder().encode(text).subarray(0, NOTE_BYTES));
  }

  /** What the queues' ports had to say, each thing once. */
  notes(): string[] {
    const texts = Array.from({ length: this.queues }, (_, queue) => {
      // A copy: text is not decoded from shared memory.
      const bytes = this.noteArea(queue).slice();
      const end = bytes.indexOf(0);
      return new TextDecoder().decode(bytes.subarray(0, end < 0 ? NOTE_BYTES : end));
    });
    return [...new Set(texts.filter((text) => text !== ""))];
  }

  private noteArea(queue: number): Uint8Array {
    const at = ROWS_BYTE + queue * ROW_BYTES + REPLAY_COUNTS.length * 8;
    return new Uint8Array(this.buffer, at, NOTE_BYTES);
  }
}

/** The clock that all threads have in common. */
function monotonicMs(): number {
  const timespec = new BigInt64Array(2);
  sys.sys3(sys.SYS.clock_gettime, CLOCK_MONOTONIC, sys.addressOf(timespec), 0);
  return Number(timespec[0]) * 1000 + Number(timespec[1]) / 1e6;
}
