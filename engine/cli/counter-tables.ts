/** A statistics snapshot as tables: what each lcore does, what was lost and why, what the XDP program decided. */
import { COUNTERS, type CounterName } from "../../sockets/counters.ts";
import type { StatsSnapshot, ThreadStats } from "../stats.ts";
import { colour, short, table, whole } from "./output.ts";

/** Counters of what was lost, as their texts say. */
const LOSSES = COUNTERS.filter(([, text]) => /^(dropped|not sent:)/.test(text));

/** What the verdicts of the XDP program mean, in a few words. */
const VERDICTS: Record<string, string> = {
  redirected: "to the engine",
  passNotIp: "to the kernel: ARP and others",
  passNotHost: "to the kernel: not to this host's address, or multicast",
  passFragment: "to the kernel: fragments",
  passProtocol: "to the kernel: neither UDP nor TCP",
  passNoMatch: "to the kernel: no socket of the engine at the port",
  passMalformed: "to the kernel: malformed",
  passNoSocket: "to the kernel: queue without an lcore",
};

const XSK_LOSSES = {
  rxDropped: "dropped: longer than a frame",
  rxInvalidDescs: "refused by the kernel",
  txInvalidDescs: "refused by the kernel",
  rxRingFull: "dropped: the lcore did not keep up",
  rxFillRingEmptyDescs: "the lcore gave no free frames",
} as const;

/** The difference of two snapshots a second, or totals where there is no earlier one. */
class Rates {
  private readonly last: StatsSnapshot;
  private readonly before: StatsSnapshot | null;
  readonly seconds: number;

  constructor(last: StatsSnapshot, before: StatsSnapshot | null) {
    this.last = last;
    this.before = before;
    this.seconds = before === null ? 0 : (last.time - before.time) / 1000;
  }

  of(thread: ThreadStats, name: CounterName): number {
    return this.rate(thread.counters[name], this.earlier(thread)?.counters[name]);
  }

  lost(thread: ThreadStats): number {
    return LOSSES.reduce((sum, [name]) => sum + this.of(thread, name), 0);
  }

  /** Share of a CPU that a thread used, 0 to 1; -1 where it is not known. */
  cpu(thread: ThreadStats): number {
    const earlier = this.earlier(thread);
    if (thread.times === null || !earlier?.times) return -1;
    return (thread.times.runNs - earlier.times.runNs) / 1e9 / this.seconds;
  }

  total(name: CounterName): string[] {
    const sum = (stats: StatsSnapshot): number => stats.threads.reduce((all, { counters }) => all + counters[name], 0);
    return this.pair(sum(this.last), this.before === null ? 0 : sum(this.before));
  }

  /** The count, and where there is an earlier one the rate. */
  pair(count: number, earlier: number): string[] {
    return this.before === null ? [whole(count)] : [whole(count), short((count - earlier) / this.seconds)];
  }

  private rate(count: number, earlier = 0): number {
    return this.before === null ? count : (count - earlier) / this.seconds;
  }

  private earlier(thread: ThreadStats): ThreadStats | undefined {
    return this.before?.threads.find(({ name }) => name === thread.name);
  }
}

/** Tables of one snapshot, or of the rates between two. Ends with a newline. */
export function counterTables(last: StatsSnapshot, before: StatsSnapshot | null = null): string {
  const rates = new Rates(last, before);
  const parts = [
    threadTable(last, rates),
    tcpTable(last, rates),
    lossTable(last, rates),
    verdictTable(last, before, rates),
  ];
  return `${parts.filter((part) => part !== "").join("\n")}\n`;
}

function threadTable(last: StatsSnapshot, rates: Rates): string {
  const isRate = rates.seconds > 0;
  const unit = isRate ? "/s" : "";
  const format = isRate ? short : whole;
  const names = ["rx", "tx", "delivered", "lost", "sleeps"];
  const busy = ({ cpu, counters }: ThreadStats): boolean =>
    cpu >= 0 ||
    ["UdpInDatagrams", "UdpInViaKernel", "UdpOutDatagrams", "UdpOutViaKernel"].some(
      (name) => counters[name as CounterName] > 0,
    );
  const rows = last.threads.filter(busy).map((thread) => {
    const lost = rates.lost(thread);
    const cells = [
      thread.cpu < 0 ? thread.name : `${thread.name} (CPU ${thread.cpu})`,
      format(rates.of(thread, "RxFrames")),
      format(rates.of(thread, "TxFrames")),
      format(rates.of(thread, "UdpInDatagrams")),
      lost > 0 ? colour.red(format(lost)) : format(lost),
      format(rates.of(thread, "Sleeps")),
    ];
    return isRate ? [...cells, percent(rates.cpu(thread))] : cells;
  });
  const head = ["thread", ...names.map((name) => name + unit), ...(isRate ? ["CPU"] : [])];
  return table(
    head.map((text, i) => ({ head: text, align: i === 0 ? "left" : "right" })),
    rows,
  );
}

/** Segments of the threads that have had some. */
function tcpTable(last: StatsSnapshot, rates: Rates): string {
  const isRate = rates.seconds > 0;
  const format = isRate ? short : whole;
  const columns = [
    ["segments in", "TcpInSegs"],
    ["out", "TcpOutSegs"],
    ["sent again", "TcpRetransSegs"],
  ] as const;
  const rows = last.threads
    .filter(({ counters }) => counters.TcpInSegs + counters.TcpOutSegs > 0)
    .map((thread) => [thread.name, ...columns.map(([, name]) => format(rates.of(thread, name)))]);
  if (rows.length === 0) return "";
  const names = columns.map(([name]) => (isRate ? `${name}/s` : name));
  return table([{ head: "TCP", align: "left" }, ...names.map((head) => ({ head, align: "right" as const }))], rows);
}

const percent = (share: number): string => (share < 0 ? "-" : `${Math.round(share * 100)} %`);

/** What was lost, and other counters that tell of something out of the ordinary: those above zero, with their texts. */
function lossTable(last: StatsSnapshot, rates: Rates): string {
  const losses = new Set<string>(LOSSES.map(([name]) => name));
  const rows: string[][] = [];
  for (const [name, text] of COUNTERS) {
    if (!last.threads.some(({ counters }) => counters[name] > 0)) continue;
    const cells = [name, ...rates.total(name), text];
    rows.push(losses.has(name) ? cells.map((cell) => colour.red(cell)) : cells);
  }
  for (const [name, text] of Object.entries(XSK_LOSSES)) {
    const count = last.sockets.reduce((sum, socket) => sum + socket[name as keyof typeof XSK_LOSSES], 0);
    if (count === 0) continue;
    rows.push([name, whole(count), ...(rates.seconds > 0 ? [""] : []), text].map((cell) => colour.red(cell)));
  }
  return rows.length === 0 ? "" : table(countHead("counter", rates), rows);
}

function verdictTable(last: StatsSnapshot, before: StatsSnapshot | null, rates: Rates): string {
  if (last.steering === null) return "";
  const rows = Object.entries(last.steering)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => [name, ...rates.pair(count, before?.steering?.[name] ?? 0), VERDICTS[name] ?? ""]);
  return rows.length === 0 ? "" : table(countHead("XDP program", rates), rows);
}

function countHead(first: string, rates: Rates): { head: string; align: "left" | "right"; fill?: boolean }[] {
  return [
    { head: first, align: "left" },
    { head: "total", align: "right" },
    ...(rates.seconds > 0 ? [{ head: "/s", align: "right" as const }] : []),
    { head: "meaning", align: "left", fill: true },
  ];
}
