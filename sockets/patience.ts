/**
 * How long a thread that blocks waits for what an lcore is to give: room to send, mostly. Not by the clock, for the lcore
 * may share its CPU with the thread and with strangers: an lcore that takes its turns and gives nothing has nothing to give,
 * one that has not been on a CPU for a while may have.
 */
import type { Mesh } from "./mesh.ts";

/** Pauses of PAUSE_MS between two looks: the lcore may share the thread's CPU. */
const PAUSE_MS = 0.02;
/**
 * Looks that find the lcore to have taken turns and given nothing, before it is believed to have nothing: about 10 ms, for a
 * pause takes 70 µs with the kernel's timer slack. A device whose TX ring is full has room again sooner; an event loop stands
 * still meanwhile.
 */
export const VAIN_LOOKS = 128;
/** The longest that an lcore takes no turn at all, milliseconds: a handler of its module holds it, or others have its CPU. */
export const LATE_MS = 1000;

export class Patience {
  private readonly mesh: Mesh;
  private readonly lcore: number;
  private readonly endMs: number;
  private readonly pause = new Int32Array(new SharedArrayBuffer(4));
  private turns: number;
  private given: number;
  private vain = 0;
  /** When the lcore last took a turn or gave something. */
  private heardMs: number;

  /**
   * @param given a number that changes with whatever the lcore gives
   * @param limitMs the longest wait in all, milliseconds
   */
  constructor(mesh: Mesh, lcore: number, given: number, limitMs: number) {
    this.mesh = mesh;
    this.lcore = lcore;
    this.turns = mesh.turns(lcore);
    this.given = given;
    this.heardMs = performance.now();
    this.endMs = this.heardMs + limitMs;
  }

  /** After a look in vain: pauses and returns true, or false where it is of no use to look again. */
  pauses(given: number): boolean {
    const { lcore, mesh } = this;
    const now = performance.now();
    const turns = mesh.turns(lcore);
    const runs = turns !== this.turns;
    if (given !== this.given) this.vain = 0;
    else if (runs) this.vain++;
    if (given !== this.given || runs) this.heardMs = now;
    if (mesh.isStopped() || this.vain >= VAIN_LOOKS || now - this.heardMs >= LATE_MS || now >= this.endMs) return false;
    // It may sleep, having sent all it has.
    if (given === this.given && !runs) mesh.ring(lcore);
    this.given = given;
    this.turns = turns;
    Atomics.wait(this.pause, 0, 0, Math.min(PAUSE_MS, this.endMs - now));
    return true;
  }
}
