import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { measureConnectionMemory } from "../../bench/connection-memory.ts";
import { ENGINE, KERNEL, measureDns } from "../../bench/dns.ts";
import { dropinPeers } from "../../bench/dropin.ts";
import { measureEcho } from "../../bench/echo.ts";
import { GcLog } from "../../bench/gc.ts";
import { FRAMES, InMemory, shuffled } from "../../bench/in-memory.ts";
import { parseBench, SELECTIONS } from "../../bench/options.ts";
import { MARK_BEGIN, MARK_END } from "../../bench/peers/echo-module.ts";
import { allPeers, CompiledPeers } from "../../bench/peers.ts";
import { Rounds, ratio, summarize } from "../../bench/ratio.ts";
import { measureHandOver, RingPass } from "../../bench/ring.ts";
import { CRR, MANY, MANY_KERNEL, measureTcp, OUT, WITH_RPS } from "../../bench/tcp.ts";
import { tcpGoals, tcpText } from "../../bench/tcp-report.ts";
import { costs } from "../../bench/tcp-run.ts";
import { requires } from "../support/hosts.ts";

setDefaultTimeout(60_000);

const rounds = (...values: number[]): Rounds => {
  const result = new Rounds();
  for (const value of values) result.add(value);
  return result;
};

describe("figures", () => {
  test("a summary is the median and the extremes", () => {
    expect(summarize([5, 1, 3])).toEqual({ median: 3, min: 1, max: 5 });
    expect(summarize([4, 1, 3, 2])).toEqual({ median: 2.5, min: 1, max: 4 });
    expect(summarize([]).median).toBeNaN();
  });

  test("a ratio pairs rounds, so that a slow round of both does not count", () => {
    expect(ratio(rounds(10, 1, 12), rounds(5, 0.5, 4))).toEqual({ median: 2, min: 2, max: 3 });
    expect(() => ratio(rounds(1, 2), rounds(1))).toThrow("2 rounds against 1");
  });
});

test("an idle TCP connection: its tables are in memory, and not much else", async () => {
  const { pages, tables } = await measureConnectionMemory(50_000);
  // A record of 704 bytes, four timers of 12, and at 3/16 to 3/8 of the slots 43 to 86 of the flow table.
  expect(tables).toBeGreaterThan(704 + 48 + 43);
  expect(tables).toBeLessThan(1024);
  for (const each of [pages.core, pages.lcore]) expect(each / tables).toBeGreaterThan(0.8);
});

describe("command line", () => {
  test("defaults measure everything, in both modes", () => {
    const options = parseBench([]);
    expect(options.selections).toEqual(SELECTIONS);
    expect(options.modes).toEqual(["skb", "native"]);
    expect(options.gcSeconds).toBe(60);
    expect(options.peers).toBeNull();
  });

  test("selections and values", () => {
    const options = parseBench([
      "rtt",
      "echo",
      "--seconds",
      "0.5",
      "--rounds",
      "3",
      "--mode",
      "skb",
      "--peers",
      "lcore,bun",
    ]);
    expect(options.selections).toEqual(["echo", "rtt"]);
    expect(options).toMatchObject({ seconds: 0.5, rounds: 3, modes: ["skb"], peers: ["lcore", "bun"] });
  });

  test.each([[["nonsense"]], [["--rounds", "0"]], [["--rounds", "1.5"]], [["--size", "59"]], [["--mode", "fast"]]])(
    "%p is refused",
    (argv) => {
      const { write } = process.stderr;
      process.stderr.write = () => true;
      try {
        expect(() => parseBench(argv)).toThrow();
      } finally {
        process.stderr.write = write;
      }
    },
  );
});

describe("GC log", () => {
  const start = (heap: string): string => `[GC<${heap}>: START M 880kb => FullCollection, a=0kb`;

  test("collections are told apart by heap and counted between begin and end", () => {
    const log = new GcLog();
    for (const line of [start("0xa"), MARK_BEGIN, start("0xb"), MARK_END, start("0xb")]) log.line(line);
    log.begin();
    for (const line of [start("0xb"), "GC END!", start("0xa"), start("0xa")]) log.line(line);
    log.end();
    log.line(start("0xb"));
    expect(log.totals()).toEqual({ marked: 1, others: 2 });
  });

  test("a log without the marked collection proves nothing", () => {
    expect(() => new GcLog().totals()).toThrow("no collection between the marks");
  });
});

describe("in memory", () => {
  test("every prepared frame is delivered, and answered where the handler replies", () => {
    for (const reply of [false, true]) {
      const path = new InMemory(100, reply);
      for (let i = 0; i < 2; i++) {
        path.prepare();
        path.run();
        path.verify(reply);
        expect(path.delivered).toBe(FRAMES);
      }
      expect(() => path.verify(!reply)).toThrow("were delivered");
    }
  });

  test("a shuffle is a permutation", () => {
    expect([...shuffled(1000)].toSorted((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    expect([...shuffled(1000)]).not.toEqual(Array.from({ length: 1000 }, (_, i) => i));
  });

  test("the ring's passes hold, on one thread and between two", async () => {
    new RingPass().run();
    const result = await measureHandOver(16, 20_000, 2);
    expect(result.values).toHaveLength(2);
    for (const ns of result.values) expect(ns).toBeGreaterThan(0);
  });
});

describe("what a run of TCP costs", () => {
  const result = { done: 10, failed: 0, bad: 0, bytes: 0, elapsedMs: 1, p50: 0, p99: 0, p999: 0, max: 0 };
  const before = {
    threads: [
      { runNs: 100, waitNs: 10 },
      { runNs: 200, waitNs: 20 },
    ],
    cpus: [
      { softirqNs: 1000, busyNs: 5000 },
      { softirqNs: 2000, busyNs: 6000 },
    ],
  };
  const after = {
    threads: [
      { runNs: 1100, waitNs: 1_000_010 },
      { runNs: 2200, waitNs: 2_000_020 },
    ],
    // 300 on the server's CPU, which are the load's receiving, and 500 on the load's.
    cpus: [
      { softirqNs: 1300, busyNs: 6400 },
      { softirqNs: 2500, busyNs: 7000 },
    ],
  };

  test("what either end receives is its own, whoever's CPU it came on", () => {
    expect(costs(result, before, after)).toEqual({
      ...result,
      ...{ serverNs: 1000, loadNs: 2000, ownNs: 1000 - 300 + 500, waitedMs: 3 },
    });
  });

  test("with RPS all that the server's CPU did is the server's", () => {
    expect(costs(result, before, after, true).ownNs).toBe(1400);
  });

  test("a load that knows what it took is believed", () => {
    expect(costs({ ...result, loadNs: 77 }, before, after).loadNs).toBe(77);
  });
});

describe.skipIf(requires("netns", "veth", "af_xdp", "bpf") !== "" || navigator.hardwareConcurrency < 2)("echo", () => {
  test("a round against the lcore and a kernel socket", async () => {
    const compiled = new CompiledPeers();
    try {
      const peers = allPeers(compiled, "").filter(({ name }) => name === "lcore" || name === "bun");
      const load = { rounds: 1, measureMs: 100, warmupMs: 50, window: 64, size: 60, flows: 8 };
      const rows = await measureEcho(peers, { ...load, modes: ["skb"] }, () => {});
      expect(rows.map(({ peer, mode }) => [peer, mode])).toEqual([
        ["lcore", "skb"],
        ["bun", ""],
      ]);
      for (const { perSecond } of rows) expect(perSecond.summary().median).toBeGreaterThan(1000);
    } finally {
      compiled.close();
    }
  });

  test("a round of the drop-ins against the originals", async () => {
    const load = { rounds: 1, measureMs: 100, warmupMs: 50, window: 64, size: 60, flows: 8 };
    const rows = await measureEcho(
      dropinPeers().filter(({ missing }) => missing === ""),
      { ...load, modes: ["skb"] },
      () => {},
    );
    expect(rows.map(({ peer }) => peer)).toEqual(
      expect.arrayContaining(["dropin-bun", "bun", "dropin-dgram", "dgram-bun"]),
    );
    for (const { perSecond } of rows) expect(perSecond.summary().median).toBeGreaterThan(1000);
  }, 30_000);

  test("a round of the name server on either, every answer checked", async () => {
    const rows = await measureDns({ rounds: 1, warmupMs: 50, measureMs: 100, window: 32 }, () => {});
    expect(rows.filter(({ load }) => load === "checked").map(({ server }) => server)).toEqual([ENGINE, KERNEL]);
    for (const { perSecond, wrong } of rows) {
      expect(perSecond.summary().median).toBeGreaterThan(1000);
      expect(wrong).toBe(0);
    }
  }, 30_000);

  test.skipIf(Bun.which("cc") === null)(
    "a round of TCP: exchanges, connections and bulk against the kernel's",
    async () => {
      const compiled = new CompiledPeers();
      try {
        const times = { rounds: 1, warmupMs: 300, measureMs: 300, mode: "skb" as const };
        for (const what of [MANY, CRR, OUT, MANY_KERNEL + WITH_RPS]) {
          const rows = (await measureTcp(compiled, times, () => {}, what)).filter((row) => row.what === what);
          const ours = what.endsWith(WITH_RPS) ? "lcore, interrupt" : "lcore, busy";
          expect(rows.map(({ server }) => server)).toContain(ours);
          for (const { perSecond, serverNs, ownNs, failed } of rows) {
            expect(perSecond.summary().median).toBeGreaterThan(100);
            expect(serverNs.summary().median).toBeGreaterThan(0);
            expect(Number.isFinite(ownNs.summary().median)).toBe(true);
            expect(failed).toBe(0);
          }
          expect(tcpGoals(rows)).toHaveLength(1);
          expect(tcpText(rows)).toContain(what);
        }
      } finally {
        compiled.close();
      }
    },
    60_000,
  );

  test("a peer that is missing says why", () => {
    const compiled = new CompiledPeers();
    try {
      const missing = (path: string): string =>
        allPeers(compiled, path).find(({ name }) => name === "xdpsock")?.missing ?? "";
      expect(missing("")).toContain("--xdpsock");
      expect(missing("/nonexistent/xdpsock")).toContain("not there");
    } finally {
      compiled.close();
    }
  });
});
