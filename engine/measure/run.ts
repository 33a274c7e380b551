/**
 * Measuring: a target under its load, warmed up until its figures are steady, then for the time asked for.
 *
 *   warm up   stretches of WARMUP_MS until rate and p50 stay where they are
 *   drain     nothing is sent until every request is settled, so that what is counted adds up
 *   measure   stretches of spec.intervalMs: the series
 *   drain     what is under way is answered or lost
 */

import { type Bed, openBed } from "./bed.ts";
import { type Counters, type Difference, difference, type Snapshot } from "./board.ts";
import { HiccupMeter } from "./hiccups.ts";
import { quantilesOf, toHistogram } from "./latency.ts";
import { WAYS } from "./serve.ts";
import { resolveSpec, type TrialHooks, type TrialSpec } from "./spec.ts";
import type { TargetCounts } from "./target.ts";
import type { Interval, Parameters, Trial } from "./trial.ts";

/** A stretch of the warm-up, and how many of them must agree, within a share of their median. */
const WARMUP_MS = 50;
const STEADY_STRETCHES = 5;
const STEADY_SHARE = 0.1;
/** Share of the requests due that the load may be too late for: they are not sent, so that no latency is theirs. */
export const BEHIND_SHARE = 0.05;
/** Share of the requests from which what else went wrong makes a trial worthless. */
const SPOILT_SHARE = 0.01;
/** How often a drain looks. */
const LOOK_MS = 2;

/** A target that serves and a load that is ready: for any number of trials, one after another. */
export class Bench {
  private spec: TrialSpec;
  private readonly hooks: TrialHooks;
  private readonly bed: Bed;
  private readonly meter: HiccupMeter;
  private warm = false;

  /** Throws RangeError for a bad spec, SysError for what the host refuses, Error for a target that does not start. */
  static async open(spec: TrialSpec, hooks: TrialHooks = {}): Promise<Bench> {
    resolveSpec(spec);
    hooks.progress?.("starting", 0, 0);
    return new Bench(spec, hooks, await openBed(spec));
  }

  private constructor(spec: TrialSpec, hooks: TrialHooks, bed: Bed) {
    this.spec = spec;
    this.hooks = hooks;
    this.bed = bed;
    this.meter = new HiccupMeter();
  }

  /** Of the trials that follow: requests a second, and the time measured. */
  set(change: Pick<TrialSpec, "rate" | "seconds">): void {
    this.spec = { ...this.spec, ...change };
  }

  /** One trial. What befalls the target is told in it; throws where the load itself fails. */
  async trial(): Promise<Trial> {
    const { load } = this.bed;
    const notStarted = await this.firstAnswer();
    const warmup = notStarted === null ? await this.warmUp() : { seconds: 0, steady: false };
    load.board.send(false);
    await this.drained();
    const measured = await this.measure(notStarted === null ? this.spec.seconds * 1000 : 0);
    return this.tell(measured, warmup, notStarted);
  }

  /** Whether the user wants to stop. */
  get aborted(): boolean {
    return this.hooks.abort?.aborted === true;
  }

  /** CPU time that the target took so far in a process of its own, nanoseconds. */
  get apartNs(): number {
    const { target } = this.bed;
    return target.apart ? (target.cpuNs() ?? 0) : 0;
  }

  async close(): Promise<void> {
    try {
      await this.bed.close();
    } finally {
      await this.meter.stop();
    }
  }

  /** Waits for `ms` milliseconds. False when the user wants to stop. Throws when the load has ended. */
  private async pause(ms: number): Promise<boolean> {
    const { abort } = this.hooks;
    if (abort?.aborted) return false;
    let wake: () => void = () => {};
    const waited = new Promise<null>((resolve) => {
      const timer = setTimeout(() => resolve(null), ms);
      wake = () => {
        clearTimeout(timer);
        resolve(null);
      };
      abort?.addEventListener("abort", wake, { once: true });
    });
    const { load, target } = this.bed;
    const failed = await Promise.race([waited, load.ended, target.failed]);
    abort?.removeEventListener("abort", wake);
    if (failed !== null) throw failed;
    return abort?.aborted !== true;
  }

  /** Why there is none, or null. */
  private async firstAnswer(): Promise<string | null> {
    const { load } = this.bed;
    const { patienceMs } = this.spec;
    const deadline = performance.now() + patienceMs;
    load.board.send(true, this.spec.rate);
    for (;;) {
      const { received, wrong, late } = load.board.count();
      if (received > 0 || (await this.delivered()) > 0) return null;
      if (performance.now() > deadline) {
        if (wrong > 0) return `${this.spec.target} answers with other content than it was sent`;
        if (late > 0) return `${this.spec.target} answers later than ${this.spec.timeoutMs} ms: raise --timeout`;
        return `no answer from ${this.spec.target} within ${patienceMs / 1000} s`;
      }
      if (!(await this.pause(LOOK_MS))) return "interrupted before the first answer";
    }
  }

  /** What the target itself says it has, of workloads that expect no answer; else 0. */
  private async delivered(): Promise<number> {
    if (this.spec.workload === "tcp-stream") return this.bed.load.board.count().bytes;
    return this.spec.workload === "udp-rx" ? (await this.bed.target.counts()).requests : 0;
  }

  private async warmUp(): Promise<Trial["warmup"]> {
    const limit = (this.warm ? this.spec.rewarmSeconds : this.spec.warmupSeconds) * 1000;
    const start = performance.now();
    const { load } = this.bed;
    const stretches: Stretch[] = [];
    let before = load.board.snapshot();
    this.warm = true;
    for (;;) {
      const elapsed = performance.now() - start;
      if (isSteady(stretches)) return { seconds: elapsed / 1000, steady: true };
      if (elapsed >= limit || !(await this.pause(Math.min(WARMUP_MS, limit - elapsed))))
        return { seconds: elapsed / 1000, steady: false };
      const after = load.board.snapshot();
      const stretch = stretchOf(before, after);
      stretches.push(stretch);
      this.hooks.progress?.("warming up", stretch.rate, stretch.p50);
      before = after;
    }
  }

  /** Waits until every request is settled, for as long as one may take. */
  private async drained(): Promise<void> {
    const { board } = this.bed.load;
    const deadline = performance.now() + this.spec.timeoutMs * 1.5 + 100;
    for (let last = -1; performance.now() < deadline; ) {
      const { sent, received, wrong, lost } = board.count();
      const settled = received + wrong + lost >= sent || this.spec.workload === "udp-rx";
      if (sent === last && settled) return;
      last = sent;
      await Bun.sleep(LOOK_MS);
    }
  }

  private async measure(ms: number): Promise<Measured> {
    const { load, target } = this.bed;
    const { intervalMs } = this.spec;
    const mark = this.meter.mark();
    const counts = await target.counts();
    const startedAt = performance.timeOrigin + performance.now();
    const cpu = target.cpuNs();
    const lag = load.board.lag.counts.slice();
    const snapshots = [load.board.snapshot()];
    if (ms > 0) load.board.send(true, this.spec.rate);
    const start = snapshots[0].at;
    let goesOn = ms > 0;
    while (goesOn) {
      const left = start + ms - performance.now();
      if (left <= 0) break;
      goesOn = await this.pause(Math.min(intervalMs, left));
      const now = load.board.snapshot();
      this.tellProgress(snapshots[snapshots.length - 1], now);
      snapshots.push(now);
    }
    const cpuAfter = target.cpuNs();
    load.board.send(false);
    await this.drained();
    return {
      snapshots,
      settled: load.board.snapshot(),
      lag: toHistogram(load.board.lag.counts, lag),
      startedAt,
      counts: subtract(await target.counts(), counts),
      serverNs: cpu === null || cpuAfter === null ? null : cpuAfter - cpu,
      hiccups: this.meter.since(mark, startedAt),
      interrupted: ms > 0 && !goesOn,
    };
  }

  private tellProgress(before: Snapshot, after: Snapshot): void {
    if (this.hooks.progress === undefined) return;
    const { rate, p50 } = stretchOf(before, after);
    this.hooks.progress("measuring", rate, p50);
  }

  private tell(measured: Measured, warmup: Trial["warmup"], notStarted: string | null): Trial {
    const { spec } = this;
    const { snapshots, settled, counts, serverNs } = measured;
    const first = snapshots[0];
    const last = snapshots[snapshots.length - 1];
    const seconds = (last.at - first.at) / 1000;
    const all = difference(first, settled);
    const flow = flowOf(spec, all, counts);
    const per = (ns: number): number => (flow.received === 0 ? 0 : ns / flow.received);
    return {
      target: spec.target,
      workload: spec.workload,
      parameters: parametersOf(spec),
      startedAt: new Date(measured.startedAt).toISOString(),
      seconds,
      warmup,
      requestedRate: spec.rate === 0 ? null : spec.rate,
      achievedRate: seconds === 0 ? 0 : flow.received / seconds,
      ...flow,
      latency: all.latency,
      lag: measured.lag,
      series: snapshots.slice(1).map((snapshot, i) => intervalOf(first, snapshots[i], snapshot)),
      hiccups: measured.hiccups,
      valid: verdict(spec, flow, seconds, notStarted, measured.interrupted),
      cpu: {
        serverNs: serverNs === null || flow.received === 0 ? null : per(serverNs),
        generatorNs: per(last.cpuNs - first.cpuNs),
      },
    };
  }
}

interface Measured {
  /** At the start, and at the end of each stretch. */
  readonly snapshots: Snapshot[];
  /** When everything was settled. */
  readonly settled: Snapshot;
  readonly lag: Trial["lag"];
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly counts: TargetCounts;
  readonly serverNs: number | null;
  readonly hiccups: Trial["hiccups"];
  readonly interrupted: boolean;
}

type Flow = Pick<
  Trial,
  "sent" | "received" | "lost" | "duplicated" | "wrong" | "late" | "skipped" | "behind" | "bytes"
>;

/** What was sent and what arrived: as the load saw it, or, one way, as both ends did. */
function flowOf({ workload, size }: TrialSpec, { counters }: Difference, target: TargetCounts): Flow {
  const { sent, received, lost, duplicated, wrong, late, skipped, behind, bytes } = counters satisfies Counters;
  const flow = { sent, received, lost, duplicated, wrong, late, skipped, behind, bytes };
  if (workload === "udp-rx")
    return { ...flow, received: target.requests, lost: Math.max(0, sent - target.requests), bytes: target.bytes };
  if (workload === "tcp-stream") {
    // What a service of others has taken is known only as far as its kernel's buffers have.
    const arrived = target.bytes || bytes;
    const pieces = Math.floor(arrived / size);
    return { ...flow, sent: pieces, received: pieces, bytes: arrived };
  }
  if (workload === "udp-tx") return { ...flow, sent: target.requests, lost: Math.max(0, target.requests - received) };
  return flow;
}

function verdict(
  { connections, rate, target, window, workload }: TrialSpec,
  { sent, received, wrong, duplicated, skipped, behind }: Flow,
  seconds: number,
  notStarted: string | null,
  interrupted: boolean,
): Trial["valid"] {
  if (notStarted !== null) return { reason: notStarted };
  if (interrupted) return { reason: `interrupted after ${seconds.toFixed(1)} s` };
  if (received === 0) return { reason: `no right answer from ${target} while it was measured` };
  if (wrong > 0) return { reason: `${wrong} answers of ${target} are not what it was sent` };
  if (duplicated > received * SPOILT_SHARE) return { reason: `${target} answered ${duplicated} requests twice` };
  if (rate === 0 || workload === "udp-tx") return true;
  const due = sent + skipped + behind;
  const share = (part: number): string => `${((part / due) * 100).toFixed(1)} %`;
  if (behind > due * BEHIND_SHARE)
    return {
      reason: `the generator could not keep its schedule: it was too late for ${share(behind)} of the requests: lower --rate, or keep other programs off its CPU`,
    };
  if (skipped > due * SPOILT_SHARE) {
    const full =
      WAYS[workload].protocol === "tcp" ? `all ${connections} connections were busy` : `${window} were unanswered`;
    const more = WAYS[workload].protocol === "tcp" ? "--connections" : "--window";
    return { reason: `${share(skipped)} of the requests were not sent, as ${full}: raise ${more}, or lower --rate` };
  }
  if (due < rate * seconds * (1 - SPOILT_SHARE))
    return {
      reason: `the generator could not keep its schedule: it made ${Math.round(sent / seconds)} requests a second`,
    };
  return true;
}

/** A stretch of the warm-up or the measurement, cheaply: it is looked at while the load runs. */
interface Stretch {
  readonly rate: number;
  readonly p50: number;
  /** Share of the requests due that the load was too late for. */
  readonly behind: number;
}

function stretchOf(before: Snapshot, after: Snapshot): Stretch {
  const delta = (name: keyof Counters): number => after.counters[name] - before.counters[name];
  const due = delta("sent") + delta("skipped") + delta("behind");
  return {
    rate: (delta("received") * 1000) / (after.at - before.at),
    p50: quantilesOf(after.latency, before.latency).p50,
    behind: due === 0 ? 0 : delta("behind") / due,
  };
}

function intervalOf(start: Snapshot, before: Snapshot, after: Snapshot): Interval {
  const { p50, p99, max } = quantilesOf(after.latency, before.latency);
  const count = after.counters.received - before.counters.received;
  return { t: (after.at - start.at) / 1000, count, p50, p99, max };
}

/** Whether the last stretches differ little, and the load keeps its schedule. */
function isSteady(stretches: readonly Stretch[]): boolean {
  if (stretches.length < STEADY_STRETCHES) return false;
  const last = stretches.slice(-STEADY_STRETCHES);
  const near = (values: number[]): boolean => {
    const median = values.toSorted((a, b) => a - b)[values.length >> 1];
    return values.every((value) => Math.abs(value - median) <= median * STEADY_SHARE);
  };
  if (last.some(({ behind }) => behind > BEHIND_SHARE)) return false;
  return near(last.map(({ rate }) => rate)) && near(last.map(({ p50 }) => p50));
}

const subtract = (a: TargetCounts, b: TargetCounts): TargetCounts => ({
  requests: a.requests - b.requests,
  bytes: a.bytes - b.bytes,
});

function parametersOf(spec: TrialSpec): Parameters {
  const { wire, generator, size, flows, connections, queues, window, timeoutMs, spin } = spec;
  return { wire, generator, size, flows, connections, queues, window, timeoutMs, spin, interface: spec.interface };
}

/** Opens a bench, makes one trial and closes it. */
export async function runTrial(spec: TrialSpec, hooks: TrialHooks = {}): Promise<Trial> {
  const bench = await Bench.open(spec, hooks);
  try {
    return await bench.trial();
  } finally {
    await bench.close();
  }
}
