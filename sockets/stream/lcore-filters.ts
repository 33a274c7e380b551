/**
 * Socket filters on an lcore's segments: they are run as the lookups' programs are, over the segment that the listeners know to be
 * in hand, and each that any record here has is held in the store by one use.
 *
 * Uses change without the socket table's mutex, for records come and go with segments; what is too much, or is used no more, is
 * given back to the store at the turn's end.
 */
import type { Programs } from "../bpf/programs.ts";
import { SLOTS_MAX } from "../bpf/store.ts";
import { DROPS, type SocketTable } from "../table.ts";
import type { SegmentFilters } from "../tcp/filter.ts";
import { TCB_WORDS } from "../tcp/tcb.ts";
import { tcpHeaderLength } from "../wire/tcp.ts";
import type { LcoreListeners } from "./lcore-listeners.ts";

export class LcoreFilters implements SegmentFilters {
  private readonly table: SocketTable;
  private readonly programs: Programs;
  private readonly listeners: LcoreListeners;
  private readonly bytes: Uint8Array;
  /** By slot: records that have it, and uses of it that are this lcore's. */
  private readonly records = new Int32Array(SLOTS_MAX);
  private readonly uses = new Int32Array(SLOTS_MAX);
  /** Slots of which there may be too many uses. */
  private readonly unsettled: number[] = [];

  constructor(table: SocketTable, programs: Programs, listeners: LcoreListeners, bytes: Uint8Array) {
    this.table = table;
    this.programs = programs;
    this.listeners = listeners;
    this.bytes = bytes;
  }

  run(filter: number): number {
    const { bytes, listeners, programs } = this;
    const { header, length } = listeners;
    const slot = filter - 1;
    if (!programs.isReady(slot)) this.table.mutex.hold(() => programs.prepare(slot));
    const { arrival } = programs;
    arrival.beginSegment(bytes, listeners.port, listeners.frame, listeners.ip, header, length);
    const kept = programs.filter(slot, bytes) >>> 0;
    arrival.endSegment();
    // The header stays, whatever is cut off (sk_filter_trim_cap).
    return kept === 0 ? -1 : Math.max(kept - tcpHeaderLength(bytes, header), 0);
  }

  /** On every lcore the record is the same. */
  dropped(c: number): void {
    const record = this.listeners.recordOf(c / TCB_WORDS);
    if (record >= 0) Atomics.add(this.table.records, record * this.table.stride + DROPS, 1);
  }

  take(filter: number): void {
    this.uses[filter - 1]++;
    this.share(filter);
    if (this.uses[filter - 1] > 1) this.unsettled.push(filter - 1);
  }

  share(filter: number): void {
    this.records[filter - 1]++;
  }

  drop(filter: number): void {
    if (--this.records[filter - 1] === 0) this.unsettled.push(filter - 1);
  }

  /** A use that was given away, of a record that is no more. */
  discard(filter: number): void {
    this.take(filter);
    this.drop(filter);
  }

  get isUnsettled(): boolean {
    return this.unsettled.length > 0;
  }

  /** Gives back to the store what is not needed. Not with the table's mutex held. */
  settle(): void {
    const { records, table, unsettled, uses } = this;
    table.mutex.hold(() => {
      for (const slot of unsettled.splice(0)) {
        const needed = records[slot] > 0 ? 1 : 0;
        for (; uses[slot] > needed; uses[slot]--) table.releaseApart(slot + 1);
      }
    });
  }
}
