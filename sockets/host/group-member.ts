/**
 * The host's side of IGMPv3 (RFC 3376, sections 5 and 7.2, now RFC 9776) and of MLDv2 (RFC 3810, sections 6 and 8.2, now
 * RFC 9777), which are one protocol with two formats: igmp.ts and mld.ts have those.
 *
 * A change of what the interface wants is reported at once, and again robustness - 1 times at random within a second each;
 * a query is answered at random within the time that it gives. While a querier of an older version is about, the host
 * speaks that version: a report a group, which another host's report makes unnecessary, and a message on leaving.
 *
 * Time is an argument: milliseconds that do not go back.
 */
import type { Random } from "../../queues/random.ts";
import {
  ALLOW_NEW_SOURCES,
  BLOCK_OLD_SOURCES,
  CHANGE_TO_EXCLUDE,
  CHANGE_TO_INCLUDE,
  type GroupRecord,
  MODE_IS_EXCLUDE,
  MODE_IS_INCLUDE,
} from "./group-records.ts";
import { isNothing, isSameFilter, MCAST_INCLUDE, NOTHING, passes, type SourceFilter } from "./source-filter.ts";

/** Defaults until a querier says otherwise (RFC 3376, section 8; RFC 3810, section 9). */
const ROBUSTNESS = 2;
const QUERY_INTERVAL_MS = 125_000;
const QUERY_RESPONSE_INTERVAL_MS = 10_000;
/** Within which a report is repeated: of the newest version, and of the older ones. */
const UNSOLICITED_INTERVAL_MS = 1000;
const OLDER_UNSOLICITED_INTERVAL_MS = 10_000;
/** Sources of queries remembered for one answer. More are answered by the group's whole state, which is right, too. */
const QUERIED_SOURCES_MAX = 1024;

const NEVER = Number.POSITIVE_INFINITY;

/** The formats. Each call sends at once. */
export interface MemberWire {
  /** A report of the newest version. */
  report(records: readonly GroupRecord[]): void;
  /** A report of an older version. */
  olderReport(version: number, group: string): void;
  /** What an older version sends on leaving; nothing in IGMPv1. */
  olderLeave(version: number, group: string): void;
}

/** One group that is wanted, or was and is still reported. */
class Group {
  filter = NOTHING;
  /** Reports of a change of mode still to be sent, and of each source that was added or taken away. */
  modeReports = 0;
  readonly sourceReports = new Map<string, number>();
  /** When the next of them is due. */
  changeAt = NEVER;
  /** When a query of the group is to be answered, and of which sources; none: the whole state. */
  answerAt = NEVER;
  readonly queried = new Set<string>();
  /** Older versions: when the next report is due, how many follow by themselves, and whether the last one was ours. */
  reportAt = NEVER;
  repeats = 0;
  isReporter = false;

  /** Forgets what was to be sent. */
  cancel(): void {
    this.modeReports = 0;
    this.sourceReports.clear();
    this.changeAt = NEVER;
    this.answerAt = NEVER;
    this.queried.clear();
    this.reportAt = NEVER;
    this.repeats = 0;
    this.isReporter = false;
  }

  get nextAt(): number {
    return Math.min(this.changeAt, this.answerAt, this.reportAt);
  }

  get isIdle(): boolean {
    return isNothing(this.filter) && this.modeReports === 0 && this.sourceReports.size === 0;
  }
}

export class GroupMember {
  /** The version that is spoken now. */
  version: number;
  private readonly newest: number;
  private readonly random: Random;
  private readonly wire: MemberWire;
  private readonly groups = new Map<string, Group>();
  /** Until when each older version's querier is taken to be present. */
  private readonly olderUntil: number[];
  /** When a general query is to be answered. */
  private answerAt = NEVER;
  private robustness = ROBUSTNESS;
  private queryIntervalMs = QUERY_INTERVAL_MS;
  private nextAt = NEVER;

  /** @param newest version of the protocol: 3 of IGMP, 2 of MLD */
  constructor(newest: number, random: Random, wire: MemberWire) {
    this.version = newest;
    this.newest = newest;
    this.random = random;
    this.wire = wire;
    this.olderUntil = new Array<number>(newest).fill(-NEVER);
  }

  /** What the interface wants of a group from now on. */
  setFilter(group: string, filter: SourceFilter, now: number): void {
    this.updateVersion(now);
    const state = this.groups.get(group) ?? new Group();
    const before = state.filter;
    if (isSameFilter(before, filter)) return;
    state.filter = { mode: filter.mode, sources: new Set(filter.sources) };
    this.groups.set(group, state);
    if (this.version === this.newest) this.changed(group, state, before, now);
    else this.olderChanged(group, state, before, now);
    this.settle();
  }

  /** Reports all groups as if they had just been joined: the link was down, or has an address now. */
  announce(now: number): void {
    this.updateVersion(now);
    const records: GroupRecord[] = [];
    for (const [group, state] of this.groups) {
      if (this.version < this.newest) {
        if (!isNothing(state.filter)) this.olderJoin(group, state, now);
        continue;
      }
      this.noteChange(state, NOTHING);
      records.push(...this.changeRecords(group, state, now));
    }
    if (records.length > 0) this.wire.report(records);
    this.settle();
  }

  /** What a query of the newest version says of the querier; 0 in both means the default. */
  heardQuerier(robustness: number, queryIntervalMs: number): void {
    this.robustness = robustness === 0 ? ROBUSTNESS : robustness;
    this.queryIntervalMs = queryIntervalMs === 0 ? QUERY_INTERVAL_MS : queryIntervalMs;
  }

  /**
   * A query came.
   * @param version of the query
   * @param group null: of all groups
   * @param sources empty: of all sources
   * @param maxDelayMs within which it is to be answered
   */
  query(version: number, group: string | null, sources: readonly string[], maxDelayMs: number, now: number): void {
    // Only general queries tell of a querier (RFC 3376, section 7.2.1), and IGMPv1 has no others.
    if (version < this.newest && group === null) {
      this.olderUntil[version] = now + this.robustness * this.queryIntervalMs + QUERY_RESPONSE_INTERVAL_MS;
    }
    this.updateVersion(now);
    if (this.version < this.newest) this.olderQuery(group, maxDelayMs, now);
    else if (group === null) this.answerAt = Math.min(this.answerAt, this.within(maxDelayMs, now));
    else this.groupQuery(group, sources, maxDelayMs, now);
    this.settle();
  }

  /** Another host's report of an older version: ours of the group is not needed. */
  heardReport(group: string, now: number): void {
    this.updateVersion(now);
    const state = this.groups.get(group);
    if (this.version === this.newest || state === undefined) return;
    state.reportAt = NEVER;
    state.repeats = 0;
    state.isReporter = false;
    this.settle();
  }

  /**
   * Sends what is due.
   * @returns when it is to be called next, Infinity while nothing is to be sent
   */
  tick(now: number): number {
    if (now < this.nextAt) return this.nextAt;
    this.updateVersion(now);
    this.answerDue(now);
    this.changesDue(now);
    this.olderDue(now);
    this.settle();
    return this.nextAt;
  }

  // ---- newest version: changes ----

  private changed(group: string, state: Group, before: SourceFilter, now: number): void {
    this.noteChange(state, before);
    const records = this.changeRecords(group, state, now);
    if (records.length > 0) this.wire.report(records);
  }

  /** What is to be reported of a change (RFC 3376, section 5.1). */
  private noteChange(state: Group, before: SourceFilter): void {
    if (before.mode !== state.filter.mode) {
      // The whole state follows as often as any change of a source was still to be reported.
      state.modeReports = this.robustness;
      state.sourceReports.clear();
      return;
    }
    for (const source of before.sources.symmetricDifference(state.filter.sources)) {
      state.sourceReports.set(source, this.robustness);
    }
  }

  /** The records of a group's next report of changes; counts it as sent. */
  private changeRecords(group: string, state: Group, now: number): GroupRecord[] {
    const { filter, sourceReports } = state;
    const records: GroupRecord[] = [];
    if (state.modeReports > 0) {
      state.modeReports--;
      const type = filter.mode === MCAST_INCLUDE ? CHANGE_TO_INCLUDE : CHANGE_TO_EXCLUDE;
      records.push({ type, group, sources: [...filter.sources] });
    } else {
      const changed = [...sourceReports.keys()];
      const allowed = changed.filter((source) => passes(filter, source));
      const blocked = changed.filter((source) => !passes(filter, source));
      if (allowed.length > 0) records.push({ type: ALLOW_NEW_SOURCES, group, sources: allowed });
      if (blocked.length > 0) records.push({ type: BLOCK_OLD_SOURCES, group, sources: blocked });
    }
    for (const [source, left] of sourceReports) {
      if (left > 1) sourceReports.set(source, left - 1);
      else sourceReports.delete(source);
    }
    const more = state.modeReports > 0 || sourceReports.size > 0;
    state.changeAt = more ? this.within(UNSOLICITED_INTERVAL_MS, now) : NEVER;
    return records;
  }

  private changesDue(now: number): void {
    const records: GroupRecord[] = [];
    for (const [group, state] of this.groups) {
      if (state.changeAt <= now) records.push(...this.changeRecords(group, state, now));
    }
    if (records.length > 0) this.wire.report(records);
  }

  // ---- newest version: queries ----

  /** RFC 3376, section 5.2, rules 1 and 3 to 5. */
  private groupQuery(group: string, sources: readonly string[], maxDelayMs: number, now: number): void {
    const state = this.groups.get(group);
    const at = this.within(maxDelayMs, now);
    if (state === undefined || this.answerAt <= at) return;
    const isPending = state.answerAt !== NEVER;
    if (sources.length === 0 || (isPending && state.queried.size === 0)) state.queried.clear();
    else for (const source of sources) state.queried.add(source);
    if (state.queried.size > QUERIED_SOURCES_MAX) state.queried.clear();
    state.answerAt = Math.min(state.answerAt, at);
  }

  private answerDue(now: number): void {
    const records: GroupRecord[] = [];
    const isGeneral = this.answerAt <= now;
    for (const [group, state] of this.groups) {
      const isAsked = state.answerAt <= now;
      if (isGeneral) records.push(...currentState(group, state.filter));
      else if (isAsked && state.queried.size === 0) records.push(...currentState(group, state.filter));
      else if (isAsked) records.push(...queriedState(group, state));
      if (!isAsked) continue;
      state.answerAt = NEVER;
      state.queried.clear();
    }
    if (isGeneral) this.answerAt = NEVER;
    if (records.length > 0) this.wire.report(records);
  }

  // ---- older versions ----

  private olderChanged(group: string, state: Group, before: SourceFilter, now: number): void {
    if (isNothing(before)) {
      this.olderJoin(group, state, now);
    } else if (isNothing(state.filter)) {
      if (state.isReporter) this.wire.olderLeave(this.version, group);
      state.cancel();
    }
  }

  private olderJoin(group: string, state: Group, now: number): void {
    state.repeats = this.robustness;
    this.olderReport(group, state, now);
  }

  private olderReport(group: string, state: Group, now: number): void {
    this.wire.olderReport(this.version, group);
    state.isReporter = true;
    if (state.repeats > 0) state.repeats--;
    state.reportAt = state.repeats > 0 ? this.within(OLDER_UNSOLICITED_INTERVAL_MS, now) : NEVER;
  }

  /** RFC 2236, section 3; RFC 2710, section 4: a report that would come in time anyhow stays where it is. */
  private olderQuery(group: string | null, maxDelayMs: number, now: number): void {
    for (const [name, state] of this.groups) {
      if ((group !== null && group !== name) || isNothing(state.filter)) continue;
      state.repeats = 0;
      if (state.reportAt > now + maxDelayMs) state.reportAt = this.within(maxDelayMs, now);
    }
  }

  private olderDue(now: number): void {
    for (const [group, state] of this.groups) {
      if (state.reportAt <= now) this.olderReport(group, state, now);
    }
  }

  /** The version of the oldest querier that is present. A change of it cancels all that was to be sent. */
  private updateVersion(now: number): void {
    let version = this.newest;
    for (let older = this.newest - 1; older > 0; older--) if (this.olderUntil[older] > now) version = older;
    if (version === this.version) return;
    this.version = version;
    this.answerAt = NEVER;
    for (const state of this.groups.values()) state.cancel();
  }

  // ---- time ----

  private within(delayMs: number, now: number): number {
    return now + this.random.unit() * delayMs;
  }

  /** Forgets groups of which nothing is left to say, and finds out when the next thing is due. */
  private settle(): void {
    this.nextAt = this.answerAt;
    for (const [group, state] of this.groups) {
      if (state.isIdle) this.groups.delete(group);
      else this.nextAt = Math.min(this.nextAt, state.nextAt);
    }
    if (this.version < this.newest) this.nextAt = Math.min(this.nextAt, this.olderUntil[this.version]);
  }
}

/** The answer to a query of a group, or of all: what is wanted of it. */
function currentState(group: string, filter: SourceFilter): GroupRecord[] {
  if (isNothing(filter)) return [];
  const type = filter.mode === MCAST_INCLUDE ? MODE_IS_INCLUDE : MODE_IS_EXCLUDE;
  return [{ type, group, sources: [...filter.sources] }];
}

/** The answer to a query of some sources: those of them that are wanted. */
function queriedState(group: string, { filter, queried }: Group): GroupRecord[] {
  const sources = [...queried].filter((source) => passes(filter, source));
  return sources.length === 0 ? [] : [{ type: MODE_IS_INCLUDE, group, sources }];
}
