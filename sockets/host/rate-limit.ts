/**
 * How many ICMP errors may be sent: to all hosts together, and to each (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 f). Both
 * are Linux's buckets (icmp_global_allow(), net/ipv4/icmp.c; inet_peer_xrlim_allow(), net/ipv4/inetpeer.c). The host's is asked
 * first, so that nobody can count, by what is left for all, what others were sent.
 */
import type { Random } from "../../queues/random.ts";
import { IdLists } from "./id-lists.ts";
import { KeyTable } from "./key-table.ts";
import { copyWords } from "./words.ts";

/** net.ipv4.icmp_msgs_per_sec and icmp_msgs_burst. */
const MESSAGES_PER_SECOND = 1000;
const MESSAGES_BURST = 50;
/** The bucket of all is filled no more often. */
const FILL_INTERVAL_MS = 20;
/** Messages that a host gets at once (XRLIM_BURST_FACTOR). */
const HOST_BURST = 6;
/** Between two messages to one host: net.ipv4.icmp_ratelimit and, since Linux 6.18, net.ipv6.icmp.ratelimit. */
export const RATELIMIT_4_MS = 1000;
export const RATELIMIT_6_MS = 100;
/** Hosts whose buckets are kept. One who comes after that many others begins with a full one; the bound of all holds. */
const HOSTS_MAX = 1024;

export const ALLOWED = 0;
export const LIMITED_GLOBAL = 1;
const LIMITED_HOST = 2;

export class IcmpRateLimit {
  private readonly random: Random;
  private credit = MESSAGES_BURST;
  private filledAt: number;
  private readonly table: KeyTable;
  /** Time saved up, ms, at what time. */
  private readonly saved = new Float64Array(HOSTS_MAX);
  private readonly savedAt = new Float64Array(HOSTS_MAX);
  /** One list, of who was sent one longest ago first. */
  private readonly byUse = new IdLists(HOSTS_MAX, 1);

  constructor(random: Random, now: number) {
    this.random = random;
    this.filledAt = now;
    this.table = new KeyTable(4, HOSTS_MAX, random.int32());
  }

  /**
   * Asks for leave to send an error to a host, and takes it.
   * @param intervalMs RATELIMIT_4_MS or RATELIMIT_6_MS
   * @returns ALLOWED, LIMITED_GLOBAL or LIMITED_HOST
   */
  take(host: Int32Array, intervalMs: number, now: number): number {
    if (!this.hasCredit(now)) return LIMITED_GLOBAL;
    if (!this.takeOfHost(host, intervalMs, now)) return LIMITED_HOST;
    // One on average; which it is each time is nobody's to know.
    this.credit -= this.random.below(3);
    return ALLOWED;
  }

  private hasCredit(now: number): boolean {
    if (this.credit > 0) return true;
    const elapsedMs = Math.min(now - this.filledAt, 1000);
    if (elapsedMs < FILL_INTERVAL_MS) return false;
    this.filledAt = now;
    this.credit = Math.min(this.credit + Math.floor((MESSAGES_PER_SECOND * elapsedMs) / 1000), MESSAGES_BURST);
    return true;
  }

  private takeOfHost(host: Int32Array, intervalMs: number, now: number): boolean {
    const id = this.bucket(host, intervalMs, now);
    const saved = Math.min(this.saved[id] + now - this.savedAt[id], HOST_BURST * intervalMs);
    const allowed = saved >= intervalMs;
    this.saved[id] = allowed ? saved - intervalMs : saved;
    this.savedAt[id] = now;
    return allowed;
  }

  private bucket(host: Int32Array, intervalMs: number, now: number): number {
    copyWords(this.table.key, host);
    let id = this.table.find();
    if (id >= 0) {
      this.byUse.remove(id);
    } else {
      if (this.table.count === this.table.capacity) this.removeOldest();
      copyWords(this.table.key, host);
      id = this.table.add();
      this.saved[id] = HOST_BURST * intervalMs;
      this.savedAt[id] = now;
    }
    this.byUse.append(0, id);
    return id;
  }

  private removeOldest(): void {
    const oldest = this.byUse.first(0);
    this.byUse.remove(oldest);
    this.table.remove(oldest);
  }
}
