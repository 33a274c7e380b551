/**
 * Garbage collections of an lcore at full rate, counted in the runtime's own GC log (BUN_JSC_logGC). Each JavaScript
 * thread has a heap of its own, which the log names by address; the echo module tells which is the lcore's by collecting
 * once between two marks. That collection is also the proof that the log would show others.
 */
import { type EchoOptions, type EchoRun, echoOnce } from "./echo.ts";
import { MARK_BEGIN, MARK_END } from "./peers/echo-module.ts";
import { lcorePeer, type XdpMode } from "./peers.ts";

export interface GcResult {
  /** Collections in the lcore's heap while it was under load, and in all other heaps of the process. */
  readonly lcore: number;
  readonly others: number;
  readonly seconds: number;
  readonly run: EchoRun;
}

const START = /^\[GC<(0x[0-9a-f]+)>: START /;

/** Reads a GC log line by line, and counts collections by heap from `begin` on. */
export class GcLog {
  /** The heap between the marks, "" before. */
  marked = "";
  private inMark = false;
  private counting = false;
  private readonly counts = new Map<string, number>();

  line(text: string): void {
    if (text === MARK_BEGIN) this.inMark = true;
    else if (text === MARK_END) this.inMark = false;
    const heap = START.exec(text)?.[1];
    if (heap === undefined) return;
    if (this.inMark) this.marked = heap;
    if (this.counting) this.counts.set(heap, (this.counts.get(heap) ?? 0) + 1);
  }

  begin(): void {
    this.counting = true;
  }

  end(): void {
    this.counting = false;
  }

  /** Collections of the marked heap, and of the others. Throws when the marks showed no heap. */
  totals(): { marked: number; others: number } {
    if (this.marked === "") throw new Error("the GC log shows no collection between the marks: is BUN_JSC_logGC read?");
    const marked = this.counts.get(this.marked) ?? 0;
    const all = [...this.counts.values()].reduce((sum, count) => sum + count, 0);
    return { marked, others: all - marked };
  }
}

/** Loads an lcore for `options.measureMs` after its warm-up. Throws when the log cannot be read. */
export async function measureGc(mode: XdpMode, options: EchoOptions): Promise<GcResult> {
  const log = new GcLog();
  const run = await echoOnce(lcorePeer("busy", { markHeap: true, env: { BUN_JSC_logGC: "1" } }), mode, options, {
    errorLine: (text) => log.line(text),
    measuring: () => log.begin(),
    measured: () => log.end(),
  });
  const { marked, others } = log.totals();
  return { lcore: marked, others, seconds: options.measureMs / 1000, run };
}
