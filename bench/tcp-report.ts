/** The TCP benchmark as a table, and the goals that it is held against. */

import { type Rounds, ratio, type Summary } from "./ratio.ts";
import { atLeast, atMost, type Goal, spread, table } from "./report.ts";
import { CRR, IN, MANY, MANY_KERNEL, ONE, OPEN, OUT, type TcpRow, WITH_RPS } from "./tcp.ts";
import { WRK, WRK_NODE } from "./tcp-http.ts";

/** Bulk is told in gigabits a second, everything else in thousands of exchanges. */
const isBulk = (row: TcpRow): boolean => row.what.startsWith("bulk");
const scaled = ({ median, min, max }: Summary, by: number): Summary => ({
  median: median * by,
  min: min * by,
  max: max * by,
});

export const tcpText = (rows: readonly TcpRow[]): string =>
  table(
    [
      "TCP",
      "server",
      "thousand/s, Gbit/s",
      "ns of CPU, server",
      "own",
      "both",
      "p50, us",
      "p99, us",
      "disturbed",
      "failed",
    ],
    rows.map((row) => [
      row.what,
      row.server,
      spread(scaled(row.perSecond.summary(), isBulk(row) ? 8e-9 : 1e-3), isBulk(row) ? 2 : 1),
      row.serverNs.summary().median.toFixed(0),
      row.ownNs.summary().median.toFixed(0),
      row.bothNs.summary().median.toFixed(0),
      timed(row.p50),
      timed(row.p99),
      `${(row.waited.summary().median * 100).toFixed(0)} %`,
      String(row.failed),
    ]),
  );

const timed = (rounds: Rounds): string => (rounds.summary().max === 0 ? "" : spread(rounds.summary(), 1));

type Figure = "perSecond" | "serverNs" | "ownNs" | "p50" | "p99";

/** What, of which of the lcore's servers against whom, which figure, and the goal: at least, or at most. */
const GOALS: readonly (readonly [what: string, ours: string, theirs: string, Figure, number])[] = [
  [ONE, "lcore, busy", "Bun.listen", "p50", 0.6],
  [ONE, "lcore, busy", "Bun.listen", "p99", 0.6],
  [ONE, "lcore, adaptive", "Bun.listen", "p50", 0.6],
  [ONE, "lcore, adaptive", "Bun.listen", "p99", 0.6],
  [MANY, "lcore, busy", "Bun.listen", "perSecond", 2],
  [MANY_KERNEL, "lcore, interrupt", "Bun.listen", "serverNs", 0.5],
  [MANY_KERNEL, "lcore, interrupt", "Bun.listen", "ownNs", 0.5],
  [MANY_KERNEL + WITH_RPS, "lcore, interrupt", "Bun.listen", "ownNs", 0.5],
  [CRR, "lcore, busy", "Bun.listen", "perSecond", 2],
  [OPEN, "lcore, busy", "Bun.listen", "perSecond", 2],
  [OUT, "lcore, busy", "C, epoll", "perSecond", 0.8],
  [IN, "lcore, busy", "C, epoll", "perSecond", 0.8],
  [WRK, "lcore http, busy", "Bun.serve", "perSecond", 1.2],
  [WRK_NODE, "lcore/http", "node:http, in Bun", "perSecond", 1.2],
];

const NAMES: Record<Figure, string> = {
  perSecond: "a second",
  serverNs: "CPU of the server",
  ownNs: "CPU of the server, each end's receiving its own",
  p50: "p50",
  p99: "p99",
};

export function tcpGoals(rows: readonly TcpRow[]): Goal[] {
  return GOALS.flatMap(([what, ours, theirs, figure, goal]) => {
    const [mine, other] = [ours, theirs].map((name) => rows.find((row) => row.what === what && row.server === name));
    if (mine === undefined || other === undefined) return [];
    const text = `${what}: ${ours} against ${theirs}, ${NAMES[figure]}`;
    return [(figure === "perSecond" ? atLeast : atMost)(text, ratio(mine[figure], other[figure]), goal)];
  });
}
