/** Results as tables, and the goals they are held against. */
import Table from "cli-table3";
import type { ConnectionMemory } from "./connection-memory.ts";
import { type DnsRow, ENGINE, KERNEL } from "./dns.ts";
import { DROPINS } from "./dropin.ts";
import type { EchoRow } from "./echo.ts";
import type { Environment } from "./environment.ts";
import type { GcResult } from "./gc.ts";
import {
  GROUP_BY_CLASSIC,
  GROUP_BY_EXTENDED,
  GROUP_BY_HASH,
  type Part,
  RECEIVE_1K,
  RECEIVE_1M,
  TCP_1K,
  TCP_1M,
  TCP_ONE,
  TCP_RRA_1K,
  TCP_RRA_1M,
} from "./parts.ts";
import { ON_LCORE, ON_MAIN } from "./provider.ts";
import { type Rounds, ratio, type Summary } from "./ratio.ts";
import type { RttRow } from "./rtt.ts";
import type { StartResult } from "./start.ts";

/** A requirement and what was measured. */
export interface Goal {
  readonly what: string;
  readonly goal: string;
  readonly measured: Summary;
  readonly met: boolean;
}

const round = (value: number, digits: number): string => value.toFixed(digits);
export const spread = ({ median, min, max }: Summary, digits = 2): string =>
  `${round(median, digits)} (${round(min, digits)}..${round(max, digits)})`;

export function table(head: string[], rows: string[][]): string {
  const right = head.map((_, i) => (i === 0 ? ("left" as const) : ("right" as const)));
  const out = new Table({ head, colAligns: right, style: { head: [], border: [] } });
  out.push(...rows);
  return out.toString();
}

export function environmentText(env: Environment): string {
  return [
    `${env.date}  ${env.command}`,
    `Bun ${env.bun}, Node ${env.node === "" ? "none" : env.node}, Linux ${env.kernel}, ${env.cpus} × ${env.cpu}`,
    `${round(env.seconds, 0)} s, load ${env.load} at the start, steal ${round(env.steal * 100, 2)} %`,
  ].join("\n");
}

export const partsText = (parts: readonly Part[]): string =>
  table(
    ["ns a packet", "median", "least", "p99", "runs"],
    parts.map(({ name, ns, runs }) => [name, round(ns.median, 1), round(ns.min, 1), round(ns.max, 1), String(runs)]),
  );

export const ringText = (rows: readonly { name: string; ns: Rounds }[]): string =>
  table(
    ["ring, thread to thread", "ns a slot"],
    rows.map(({ name, ns }) => [name, spread(ns.summary())]),
  );

/** What ratios are taken against: the lcore's row in a mode. */
function ours<T extends { peer: string; mode: string }>(rows: readonly T[], mode: string): T | undefined {
  return rows.find((row) => row.peer === "lcore" && row.mode === mode);
}

export function echoText(rows: readonly EchoRow[]): string {
  return table(
    [
      "UDP echo",
      "mode",
      "million/s",
      "ns of CPU",
      "lost",
      "generator idle",
      "disturbed",
      "lcore skb : this",
      "lcore native : this",
    ],
    rows.map((row) => [
      row.title,
      row.mode,
      millions(row.perSecond),
      round(row.cpuNs.summary().median, 0),
      String(row.lost),
      `${round(row.generatorIdle.summary().median * 100, 0)} %`,
      `${round(row.waited.summary().median * 100, 0)} %`,
      ...["skb", "native"].map((mode) => {
        const lcore = ours(rows, mode);
        const comparable = row.mode === "" || row.mode === mode;
        return lcore && comparable ? spread(ratio(lcore.perSecond, row.perSecond)) : "";
      }),
    ]),
  );
}

const millions = (rounds: Rounds): string => {
  const { median, min, max } = rounds.summary();
  return spread({ median: median / 1e6, min: min / 1e6, max: max / 1e6 });
};

/** Peers in one table, whoever they are. */
export const peersText = (rows: readonly EchoRow[]): string =>
  table(
    ["UDP echo", "mode", "million/s", "ns of CPU", "lost", "generator idle"],
    rows.map((row) => [
      row.title,
      row.mode,
      millions(row.perSecond),
      round(row.cpuNs.summary().median, 0),
      String(row.lost),
      `${round(row.generatorIdle.summary().median * 100, 0)} %`,
    ]),
  );

export const dnsText = (rows: readonly DnsRow[]): string =>
  table(
    ["name server of npm", "load", "thousand queries/s", "wrong", "lost"],
    rows.map(({ server, load, perSecond, wrong, lost }) => {
      const { median, min, max } = perSecond.summary();
      return [
        server,
        load,
        spread({ median: median / 1e3, min: min / 1e3, max: max / 1e3 }, 1),
        String(wrong),
        String(lost),
      ];
    }),
  );

export const rttText = (rows: readonly RttRow[]): string =>
  table(
    ["round trip, one in flight, us", "mode", "p50", "p99", "p99.9", "greatest", "lost"],
    rows.map((row) => [
      row.title,
      row.mode,
      spread(row.p50.summary(), 1),
      spread(row.p99.summary(), 1),
      round(row.p999.summary().median, 0),
      round(row.max.summary().max, 0),
      String(row.lost),
    ]),
  );

export const gcText = (result: GcResult): string =>
  table(
    [`garbage collections in ${result.seconds} s`, "lcore", "other threads", "echoes/s"],
    [["lcore echo at full rate", String(result.lcore), String(result.others), round(result.run.perSecond, 0)]],
  );

export const startText = (result: StartResult): string =>
  table(
    ["start and idle", ""],
    [
      ["Engine.start to first echo, ms", spread(result.firstEchoMs.summary(), 0)],
      ["of it, Engine.start itself, ms", spread(result.startMs.summary(), 0)],
      ["before it: process and modules, ms", spread(result.processMs.summary(), 0)],
      ['idle CPU with poll "interrupt", %', spread(result.idlePercent.summary())],
    ],
  );

export const memoryText = ({ pages, tables }: ConnectionMemory): string =>
  table(
    ["an idle TCP connection, of 1,000,000", "bytes"],
    [
      ["its record and its part of the tables", tables.toFixed(0)],
      ["pages of the process, the core alone", pages.core.toFixed(0)],
      ["… of an lcore, with the application's TcpSocket", pages.lcore.toFixed(0)],
    ],
  );

/** Goals for the parts. */
export function partsGoals(parts: readonly Part[]): Goal[] {
  const few = parts.find(({ name }) => name === RECEIVE_1K);
  const many = parts.find(({ name }) => name === RECEIVE_1M);
  if (few === undefined || many === undefined) return [];
  const growth = many.ns.median / few.ns.median;
  return [
    atMost("in memory, 1,000 flows, to the callback, ns a packet", few.ns, 60),
    atMost("1,000,000 flows against 1,000", { median: growth, min: growth, max: growth }, 2.5),
    ...tcpGoals(parts),
    ...selectionGoals(parts),
  ];
}

/** TCP's receive path, and what many connections cost it and an exchange. */
function tcpGoals(parts: readonly Part[]): Goal[] {
  const of = (wanted: string): Part | undefined => parts.find(({ name }) => name === wanted);
  const one = of(TCP_ONE);
  if (one === undefined) return [];
  const growth = (text: string, few?: Part, many?: Part): Goal[] => {
    if (few === undefined || many === undefined) return [];
    const ratio = many.ns.median / few.ns.median;
    return [atMost(text, { median: ratio, min: ratio, max: ratio }, 2.5)];
  };
  return [
    atMost("TCP in order to the application, ns a segment", one.ns, 120),
    ...growth("TCP in order, 1,000,000 connections against 1,000", of(TCP_1K), of(TCP_1M)),
    ...growth("TCP exchanges, 1,000,000 connections against 1,000", of(TCP_RRA_1K), of(TCP_RRA_1M)),
  ];
}

/** What a program that chooses in a group costs more than the hash. */
function selectionGoals(parts: readonly Part[]): Goal[] {
  const hash = parts.find(({ name }) => name === GROUP_BY_HASH);
  if (hash === undefined) return [];
  return [GROUP_BY_CLASSIC, GROUP_BY_EXTENDED].flatMap((by) => {
    const part = parts.find(({ name }) => name === by);
    if (part === undefined) return [];
    const median = part.ns.median - hash.ns.median;
    return [atMost(`a selection ${by.slice(2)}, ns more than by hash`, { median, min: median, max: median }, 50)];
  });
}

/** Goals for the echo: the least ratio to each peer, in each mode. */
const ECHO_GOALS: readonly (readonly [peer: string, goal: number])[] = [
  ["l2fwd", 0.95],
  ["xdpsock", 0.95],
  ["bun", 4],
  ["node", 7],
  ["c-batch", 2],
];

export function echoGoals(rows: readonly EchoRow[]): Goal[] {
  return ["skb", "native"].flatMap((mode) =>
    ECHO_GOALS.flatMap(([peer, goal]) => {
      const lcore = ours(rows, mode);
      const other = rows.find((row) => row.peer === peer && (row.mode === mode || row.mode === ""));
      if (lcore === undefined || other === undefined) return [];
      return [atLeast(`echo, ${mode}: against ${other.title}`, ratio(lcore.perSecond, other.perSecond), goal)];
    }),
  );
}

/** What a drop-in is to reach against the original of the same runtime. */
const DROPIN_GOAL = 2.5;
const DNS_GOAL = 1.5;

const PROVIDER_GOAL = 1.5;

export function dropinGoals(rows: readonly EchoRow[]): Goal[] {
  return rows.flatMap((dropin) => {
    const originals = DROPINS.find(([name]) => name === dropin.peer)?.[1] ?? [];
    return rows
      .filter(({ peer }) => originals.includes(peer))
      .map((original) =>
        atLeast(
          `${dropin.title}, ${dropin.mode}: against ${original.title}`,
          ratio(dropin.perSecond, original.perSecond),
          DROPIN_GOAL,
        ),
      );
  });
}

/** Against Bun's: 1.5 times in batches, and no slower with one in flight. */
export function providerGoals(echo: readonly EchoRow[], rtt: readonly RttRow[]): Goal[] {
  return [ON_LCORE, ON_MAIN].flatMap((name) => {
    const [ours, theirs] = [name, "bun"].map((peer) => echo.find((row) => row.peer === peer));
    const [oursOne, theirsOne] = [name, "bun"].map((peer) => rtt.find((row) => row.peer === peer));
    if (ours === undefined || theirs === undefined || oursOne === undefined || theirsOne === undefined) return [];
    const { title } = ours;
    return [
      atLeast(`${title}: against ${theirs.title}`, ratio(ours.perSecond, theirs.perSecond), PROVIDER_GOAL),
      atMost(`${title}, one in flight, p50: against ${theirs.title}`, ratio(oursOne.p50, theirsOne.p50), 1),
      atMost(`${title}, one in flight, p99: against ${theirs.title}`, ratio(oursOne.p99, theirsOne.p99), 1),
    ];
  });
}

export function dnsGoals(rows: readonly DnsRow[]): Goal[] {
  return rows.flatMap((row) => {
    const kernel = rows.find(({ load, server }) => load === row.load && server === KERNEL);
    if (row.server !== ENGINE || kernel === undefined) return [];
    return [
      atLeast(
        `name server, ${row.load}: ${ENGINE} against ${KERNEL}`,
        ratio(row.perSecond, kernel.perSecond),
        DNS_GOAL,
      ),
      atMost(`name server, ${row.load}: wrong answers`, { median: row.wrong, min: row.wrong, max: row.wrong }, 0),
    ];
  });
}

export function rttGoals(rows: readonly RttRow[]): Goal[] {
  const goals = [
    ["c-block", 0.5],
    ["c-spin", 1],
  ] as const;
  return ["skb", "native"].flatMap((mode) =>
    goals.flatMap(([peer, goal]) => {
      const lcore = ours(rows, mode);
      const other = rows.find((row) => row.peer === peer);
      if (lcore === undefined || other === undefined) return [];
      return [
        atMost(`round trip p50, ${mode}: against ${other.title}`, ratio(lcore.p50, other.p50), goal),
        atMost(`round trip p99, ${mode}: against ${other.title}`, ratio(lcore.p99, other.p99), goal),
      ];
    }),
  );
}

export function gcGoals({ lcore, seconds }: GcResult): Goal[] {
  return [atMost(`collections in the lcore, ${seconds} s`, { median: lcore, min: lcore, max: lcore }, 0)];
}

export function startGoals(result: StartResult): Goal[] {
  return [
    atMost("Engine.start to first echo, ms", result.firstEchoMs.summary(), 300),
    atMost('idle CPU with poll "interrupt", %', result.idlePercent.summary(), 2),
  ];
}

export function memoryGoals({ pages }: ConnectionMemory): Goal[] {
  const { lcore } = pages;
  return [atMost("an idle TCP connection, bytes", { median: lcore, min: lcore, max: lcore }, 1024)];
}

/** Held against the median. */
export function atMost(what: string, measured: Summary, goal: number): Goal {
  return { what, goal: `<= ${goal}`, measured, met: measured.median <= goal };
}

export function atLeast(what: string, measured: Summary, goal: number): Goal {
  return { what, goal: `>= ${goal}`, measured, met: measured.median >= goal };
}

export const goalsText = (goals: readonly Goal[]): string =>
  table(
    ["goal", "", "measured", "met"],
    goals.map(({ what, goal, measured, met }) => [what, goal, spread(measured), met ? "yes" : "NO"]),
  );
