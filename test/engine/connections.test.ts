/** Connections one by one: what is told of them, filters, and that whoever serves the answer is not held up. */
import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectionText } from "../../engine/cli/connections.ts";
import {
  type ConnectionLine,
  type ConnectionsEnd,
  connectionLines,
  parseConnectionsQuery,
} from "../../engine/connections.ts";
import { Engine } from "../../engine/engine.ts";
import { createMemoryWire } from "../../queues/memory.ts";
import { recordsBytes, Tcp } from "../../sockets/tcp/core.ts";
import { tcpInfo } from "../../sockets/tcp/info.ts";
import { cameRound, tallyCopied, tallyRound } from "../../sockets/tcp/tally.ts";
import * as tcb from "../../sockets/tcp/tcb.ts";
import { until } from "../support/kernel-udp.ts";
import { TestSink } from "../tcp/segments.ts";

const { TCB_WORDS } = tcb;
const PORT = 7000;

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const all = (text: string) =>
  text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as ConnectionLine & ConnectionsEnd);
const query = (text = ""): ReturnType<typeof parseConnectionsQuery> => parseConnectionsQuery(new URLSearchParams(text));

/** Records of an lcore, connections with the given states and ports of the peer. */
function records(states: readonly number[]): Int32Array {
  const w = new Int32Array(new SharedArrayBuffer(recordsBytes(states.length)));
  w[w.length - TCB_WORDS + tcb.SCRATCH_USED] = states.length;
  for (const [id, state] of states.entries()) {
    const c = id * TCB_WORDS;
    w[c + tcb.STATE] = state;
    w[c + tcb.PORTS] = (PORT << 16) | (id + 1);
    w[c + tcb.LOCAL + 2] = 0xffff;
    w[c + tcb.REMOTE + 2] = 0xffff;
    w[c + tcb.OWNER] = 1;
  }
  return w;
}

async function listed(w: readonly Int32Array[], text = ""): Promise<(ConnectionLine & ConnectionsEnd)[]> {
  return all(await new Response(connectionLines(w, (thread) => `lcore ${thread}`, query(text))).text());
}

describe("filters", () => {
  const states = [tcb.ESTABLISHED, tcb.FREE, tcb.LISTEN, tcb.TIME_WAIT, tcb.CLOSED, tcb.CLOSE_WAIT];
  const lists: [string, string[]][] = [
    ["", ["ESTAB", "CLOSE-WAIT"]],
    ["state=all", ["ESTAB", "LISTEN", "TIME-WAIT", "UNCONN", "CLOSE-WAIT"]],
    ["state=listening,time-wait", ["LISTEN", "TIME-WAIT"]],
    ["state=all&dport=3", ["LISTEN"]],
    ["sport=7001", []],
    ["sport=7000&limit=1", ["ESTAB"]],
  ];
  test.each(lists)("%p", async (text, expected) => {
    const lines = await listed([records(states), records([])], text);
    expect(lines.slice(0, -1).map(({ state }) => state)).toEqual(expected as never);
    expect(lines.at(-1) as ConnectionsEnd).toEqual({ told: expected.length, more: text.includes("limit") });
  });

  test.each(["state=open", "sport=65536", "limit=-1", "dport=http"])("%p is refused", (text) => {
    expect(() => query(text)).toThrow(RangeError);
  });
});

test("a hundred thousand of them: the thread that tells them has other turns in between", async () => {
  let turns = 0;
  const count = (): void => {
    turns++;
    timer = setImmediate(count);
  };
  let timer = setImmediate(count);
  const lines = await listed([records(new Array(100_000).fill(tcb.SYN_SENT))], "state=established");
  clearImmediate(timer);
  expect(lines).toHaveLength(1);
  expect(turns).toBeGreaterThan(100_000 / 4096 - 2);
});

test("bytes and times are counted beyond 32 bits", () => {
  const t = new Tcp(
    { connections: 1, bufferBytes: 1 << 20, pressureBytes: 1 << 20 },
    new TestSink(),
    new Int32Array(4),
    1,
    0,
  );
  const { w } = t;
  const c = 0;
  for (const field of [tcb.ISS, tcb.IRS]) w[c + field] = 0x7fff_fff0;
  for (const field of [tcb.SND_UNA, tcb.SND_NXT, tcb.ROUND_UNA]) w[c + field] = w[c + tcb.ISS];
  for (const field of [tcb.COPIED, tcb.RCV_NXT, tcb.SPACE_SEQ]) w[c + field] = w[c + tcb.IRS];
  w[c + tcb.STATE] = tcb.ESTABLISHED;
  w[c + tcb.PACKETS_OUT] = 1;
  const step = 900_000_000;
  for (let round = 1; round <= 20; round++) {
    t.begin(round * 600e6);
    w[c + tcb.SND_UNA] = w[c + tcb.SND_NXT] = (w[c + tcb.SND_UNA] + step) | 0;
    w[c + tcb.COPIED] = w[c + tcb.RCV_NXT] = (w[c + tcb.COPIED] + step) | 0;
    const before = tcpInfo(w, c, t.now);
    tallyRound(t, c);
    tallyCopied(w, c);
    w[c + tcb.SPACE_SEQ] = w[c + tcb.COPIED];
    for (const info of [before, tcpInfo(w, c, t.now)]) {
      expect([info.bytesAcked, info.bytesReceived, info.bytesSent]).toEqual([
        round * step,
        round * step - 1,
        round * step - 1,
      ]);
      expect(info.busyTime).toBe(round * 600e6);
    }
  }
  expect([cameRound(5, 3, 0), cameRound(3, 5, 0), cameRound(-5, -9, -7)]).toEqual([false, true, true]);
});

describe("of an engine", () => {
  const mac = (n: number): Uint8Array => Uint8Array.of(2, 0, 0, 0, 0, n);
  const module = (name: string): URL => new URL(`../stream/modules/${name}.ts`, import.meta.url);

  test("what an lcore's module and a thread have, over the socket that serves statistics", async () => {
    const wire = createMemoryWire();
    const link = (side: 0 | 1) => ({
      wire,
      side,
      mac: mac(side + 1),
      addresses: [`198.18.0.${side + 1}/24`],
      neighbours: [{ address: `198.18.0.${2 - side}`, mac: mac(2 - side) }],
    });
    const directory = mkdtempSync(join(tmpdir(), "lcore-test-"));
    closers.push(() => rmSync(directory, { recursive: true }));
    const engines: Engine[] = [];
    for (const side of [0, 1] as const) {
      const what = side === 0 ? { module: module("tcp-echo"), data: { port: PORT } } : {};
      const engine = await Engine.start({ memory: link(side), poll: "interrupt", ...what });
      closers.push(() => engine.close());
      engines.push(engine);
    }
    const paths = engines.map((engine, i) => engine.serveStats(join(directory, `${i}.sock`)).path);
    const list = async (side: number, text = ""): Promise<ConnectionLine[]> =>
      all(await (await fetch(`http://lcore/tcp?${text}`, { unix: paths[side] })).text()).slice(0, -1);
    let back = 0;
    const socket = engines[1].connect(
      { address: "198.18.0.1", port: PORT },
      {
        open: (opened) => void opened.write(new Uint8Array(5000)),
        readable: (opened) => {
          back += opened.read(new Uint8Array(8192));
        },
      },
    );
    await until("the echo", () => back === 5000);
    let [mine] = await list(1);
    // The lcore hears a moment later of what its thread has read.
    while (mine.recv_q > 0) [mine] = await list(1);
    const [theirs] = await list(0);
    expect(mine).toMatchObject({ state: "ESTAB", recv_q: 0, peer: { address: "198.18.0.1", port: PORT }, lcore: 0 });
    expect([mine.owner, theirs.owner]).toEqual(["thread 0", "lcore 0"]);
    expect(theirs.local).toEqual(mine.peer);
    expect(theirs.peer).toEqual(mine.local);
    expect(mine.info).toMatchObject({ congestion: "cubic", bytes_sent: 5000, bytes_received: 5000, retrans_total: 0 });
    expect(theirs.info).toMatchObject({ data_segs_in: mine.info?.data_segs_out, snd_wnd: mine.info?.rcv_wnd });
    expect(connectionText(mine)).toMatch(
      /^ESTAB {6}0 {6}0 {6}198\.18\.0\.2:\d+ {2}198\.18\.0\.1:7000 {2}users:\(\("thread 0",pid=\d+\)\) lcore:0\n\t ts sack cubic wscale:\d+,\d+ rto:\d.* rtt:[\d.]+\/[\d.]+ .*mss:1448 pmtu:1500 .*cwnd:\d+ bytes_sent:5000 .* send \d+(\.\d+)?[KMG]bps /,
    );
    const listener = { state: "LISTEN", recv_q: 0, send_q: 4096, owner: "lcore 0", info: null };
    expect(await list(0, "state=listening")).toMatchObject([listener, listener]);
    expect((await fetch("http://lcore/tcp?state=open", { unix: paths[0] })).status).toBe(400);
    socket.close();
    let left: ConnectionLine[] = [];
    do {
      await Bun.sleep(1);
      left = [...(await list(0)), ...(await list(1))];
    } while (left.length > 0);
    expect(await list(1, "state=time-wait")).toMatchObject([{ state: "TIME-WAIT", owner: null, info: null }]);
  });
});
