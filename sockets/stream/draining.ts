/** Ports whose sockets have been closed while connections were using them: given up when the last of those has ended. */
import type { LcoreEndpoint } from "../lcore-endpoint.ts";
import { GENERATION, LOCAL_PORT } from "../table.ts";
import { isPortUsed, releaseTcpRecord } from "./tcp-record.ts";

/** Milliseconds between two looks. */
const INTERVAL_MS = 50;

export class Draining {
  private readonly endpoint: LcoreEndpoint;
  /** Generations of the records, by record of the socket table. */
  private readonly records = new Map<number, number>();
  private at = 0;

  constructor(endpoint: LcoreEndpoint) {
    this.endpoint = endpoint;
  }

  get count(): number {
    return this.records.size;
  }

  /** When to look again, milliseconds of performance.now(). */
  get dueMs(): number {
    return this.records.size === 0 ? Number.POSITIVE_INFINITY : this.at;
  }

  add(record: number, generation: number): void {
    this.records.set(record, generation);
  }

  look(nowMs: number): void {
    if (nowMs < this.at) return;
    this.at = nowMs + INTERVAL_MS;
    const { endpoint, records } = this;
    for (const [record, generation] of records) {
      const isSame = endpoint.table.get(record, GENERATION) === generation;
      if (isSame && isPortUsed(endpoint, endpoint.table.get(record, LOCAL_PORT))) continue;
      records.delete(record);
      if (isSame) releaseTcpRecord(endpoint, record);
    }
  }
}
