/** Snapshots as tables and as Prometheus series: what is lost stands out with its meaning. */
import { describe, expect, test } from "bun:test";
import { counterTables } from "../../../engine/cli/counter-tables.ts";
import { exposition } from "../../../engine/cli/prometheus.ts";
import type { StatsSnapshot, ThreadStats } from "../../../engine/stats.ts";
import { COUNTERS, type CounterName } from "../../../sockets/counters.ts";

function thread(name: string, cpu: number, runNs: number, counts: Partial<Record<CounterName, number>>): ThreadStats {
  const zero = Object.fromEntries(COUNTERS.map(([counter]) => [counter, 0])) as Record<CounterName, number>;
  return { name, cpu, times: cpu < 0 ? null : { runNs, waitNs: 0 }, counters: { ...zero, ...counts } };
}

function snapshot(time: number, threads: ThreadStats[], redirected: number, rxRingFull: number): StatsSnapshot {
  const xsk = { rxDropped: 0, rxInvalidDescs: 0, txInvalidDescs: 0, rxFillRingEmptyDescs: 0, txRingEmptyDescs: 9 };
  return {
    pid: 1,
    time,
    info: {
      provider: "engine",
      interface: "eth0",
      ifindex: 2,
      attach: "native",
      zeroCopy: true,
      queues: [[0], [1]],
      cpus: [2, 3],
      reason: "",
    },
    threads,
    steering: { redirected, passNotIp: 0 },
    sockets: [{ lcore: 0, queue: 0, rxRingFull, ...xsk }],
  };
}

const before = snapshot(
  1000,
  [
    thread("lcore 0", 2, 0, { RxFrames: 1000, UdpNoPorts: 5 }),
    thread("lcore 1", 3, 0, {}),
    thread("thread 0", -1, 0, {}),
  ],
  1000,
  0,
);
const after = snapshot(
  3000,
  [
    thread("lcore 0", 2, 1e9, { RxFrames: 5000, UdpNoPorts: 25, UdpInCsumErrors: 4, UdpOutTooBig: 2 }),
    thread("lcore 1", 3, 5e8, { RxFrames: 2_000_000 }),
    thread("thread 0", -1, 0, { Wakeups: 3 }),
  ],
  3000,
  7,
);

describe("tables", () => {
  const lines = (text: string): string[] => text.split("\n").map((line) => line.replace(/ +/g, " "));

  test("rates of two seconds, an lcore a line", () => {
    const text = lines(counterTables(after, before));
    expect(text).toContain("lcore 0 (CPU 2) 2.00 k 0 0 12.0 0 50 %");
    expect(text).toContain("lcore 1 (CPU 3) 1.00 M 0 0 0 0 25 %");
    expect(text.some((line) => line.startsWith("thread 0"))).toBe(false);
    expect(text).toContain("UdpNoPorts 25 10.0 dropped: no socket on the port");
    expect(text).toContain("rxRingFull 7 dropped: the lcore did not keep up");
    expect(text).toContain("redirected 3,000 1.00 k to the engine");
    expect(text.some((line) => line.startsWith("passNotIp"))).toBe(false);
  });

  test("totals alone", () => {
    const text = lines(counterTables(after));
    expect(text).toContain("lcore 0 (CPU 2) 5,000 0 0 29 0");
    expect(text).toContain("UdpInCsumErrors 4 dropped: UDP checksum wrong");
  });

  test("TCP has a table, with the threads that have had segments", () => {
    const counts = { TcpInSegs: 3000, TcpOutSegs: 4000, TcpRetransSegs: 10 };
    const threads = [thread("lcore 0", 2, 1e9, counts), thread("lcore 1", 3, 5e8, {})];
    const later = snapshot(3000, threads, 3000, 0);
    const text = lines(counterTables(later, before));
    expect(text).toContain("TCP segments in/s out/s sent again/s");
    expect(text).toContain("lcore 0 1.50 k 2.00 k 5.00");
    expect(text).not.toContain("lcore 1 0 0 0");
    expect(lines(counterTables(later))).toContain("lcore 0 3,000 4,000 10");
    expect(counterTables(after)).not.toContain("TCP ");
  });

  test("no line is wider than 100 columns where there is no terminal", () => {
    const all = Object.fromEntries(COUNTERS.map(([name]) => [name, 123_456_789]));
    const text = counterTables(snapshot(1, [thread("lcore 0", 2, 0, all)], 1, 1));
    expect(Math.max(...text.split("\n").map((line) => line.length))).toBeLessThanOrEqual(100);
    for (const [name] of COUNTERS) expect(text).toContain(name);
  });
});

test("Prometheus series are lower case, counters end in _total, and every counter has its help", async () => {
  const text = await exposition(after);
  expect(text).toContain('lcore_udp_in_csum_errors_total{pid="1",thread="lcore 0"} 4\n');
  expect(text).toContain('lcore_cpu_seconds_total{pid="1",thread="lcore 1"} 0.5\n');
  expect(text).toContain('lcore_xdp_frames_total{pid="1",verdict="redirected"} 3000\n');
  expect(text).toContain('lcore_xsk_rx_ring_full_total{pid="1",queue="0"} 7\n');
  expect(text).toContain('lcore_info{pid="1",provider="engine",interface="eth0",mode="native",zero_copy="true"} 1\n');
  for (const [, help] of COUNTERS) expect(text).toContain(` ${help}\n`);
});
