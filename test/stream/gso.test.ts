/** Bulk from an lcore to the kernel's TCP in packets of many segments, which its own kernel cuts, or leaves to the veth. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ERRNO } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import type { Host } from "../../engine/host/hosts.ts";
import { Segmenter, VIRTIO_NET_HDR_GSO_NONE } from "../../queues/segmenter.ts";
import { C, newCounters } from "../../sockets/counters.ts";
import { FrameGso } from "../../sockets/stream/gso-sink.ts";
import type { SinkParts } from "../../sockets/stream/tcp-sink.ts";
import { GSO_FULL, GSO_REFUSED, GSO_SENT } from "../../sockets/tcp/core.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { read } from "../pcap/read.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { until } from "../support/kernel-udp.ts";
import { streamByte } from "../tcp/segments.ts";
import type { SourceData } from "./modules/tcp-source.ts";

setDefaultTimeout(60_000);

const PORT = 7300;
const BYTES = 8_000_000;
/** Payload of a full segment with timestamps, MTU 1500: IPv4, IPv6. */
const FULL = { ipv4Text: 1448, ipv6Text: 1428 };
const HASH = createHash("sha256")
  .update(Uint8Array.from({ length: BYTES }, (_, place) => streamByte(place)))
  .digest("hex");

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function serving(offloads: "on" | "off"): Promise<{ hosts: VethPair; engine: Engine }> {
  const hosts = makeHosts();
  closers.push(() => hosts.close());
  const on = offloads === "on";
  for (const { ethtool, name } of [hosts.a, hosts.b])
    ethtool.setOffloads(name, { txChecksum: on, scatterGather: on, tso: on, gso: on });
  const data: SourceData = { port: PORT, bytes: BYTES };
  const module = new URL("./modules/tcp-source.ts", import.meta.url);
  const { name, ns } = hosts.b;
  const engine = await Engine.start({ interface: name, netns: ns.path, mode: "skb", module, data });
  closers.push(() => engine.close());
  return { hosts, engine };
}

/** Reads a connection to its end: the hash of what came. */
async function fetched(hosts: VethPair, address: string): Promise<string> {
  const script = `
import hashlib, socket
s = socket.create_connection(("${address}", ${PORT}), 10)
h = hashlib.sha256()
while True:
    part = s.recv(1 << 18)
    if not part: break
    h.update(part)
print(h.hexdigest())
`;
  const child = hosts.a.ns.run(() => Bun.spawn(["python3", "-c", script], { stdout: "pipe", stderr: "inherit" }));
  return (await child.stdout.text()).trim();
}

/** Packets that an interface has received. */
function received({ name, ns }: Host): number {
  const text = ns.run(() => readFileSync("/proc/thread-self/net/dev", "utf8"));
  const line = text.split("\n").find((row) => row.trim().startsWith(`${name}:`)) as string;
  return Number(line.split(":")[1].trim().split(/\s+/)[1]);
}

/** A sink whose kernel answers sendmsg(2) with `result`, and what it has counted. */
function answering(result: number) {
  const counters = newCounters();
  const sent: number[] = [];
  const segmenter = { isBroken: false, begin() {}, add: () => true, send: () => result };
  const parts = {
    counters,
    views: new FrameViews(new Uint8Array(4096)),
    ports: [{ segmenter, txFlush() {}, unsent: false }],
    out: {
      destinations: { resolve: () => 0, port: [0], mtu: [1500] },
      writeLink() {},
      sentElsewhere: (segments: number) => void sent.push(segments),
    },
  };
  const gso = new FrameGso(parts as unknown as SinkParts, 0);
  const words = new Int32Array(8);
  const send = (size = 1448): number => {
    expect(gso.room(words, 0, false, 0)).toBeGreaterThan(60_000);
    gso.begin(false, 32);
    return gso.send(32, 10 * size, size, words, 0, false, 0, 0);
  };
  return { counters, send, sent };
}

describe("what the kernel answers", () => {
  const { EAGAIN, EMSGSIZE, ENOBUFS, ENOMEM } = ERRNO;

  test("ENOBUFS tells of the last segment alone: all counts as sent, and what the peer lacks as lost", () => {
    const { counters, send, sent } = answering(-ENOBUFS);
    expect(send()).toBe(GSO_SENT);
    expect([sent, counters[C.TcpGsoDrops], counters[C.TcpGsoRefused]]).toEqual([[10], 1, 0]);
  });

  test.each([
    [0, GSO_SENT, [10]],
    [-EAGAIN, GSO_FULL, []],
    [-ENOMEM, GSO_FULL, []],
    [-EMSGSIZE, GSO_REFUSED, []],
  ])("%d", (result, told, counted) => {
    const { counters, send, sent } = answering(result);
    expect(send()).toBe(told);
    expect(sent).toEqual(counted);
    expect(counters[C.TcpGsoRefused]).toBe(told === GSO_REFUSED ? 1 : 0);
  });

  test("segments beyond the MTU are refused before the kernel would send them", () => {
    const { send, sent } = answering(0);
    expect(send(1449)).toBe(GSO_REFUSED);
    expect(sent).toEqual([]);
  });
});

test.skipIf(requires("veth") !== "")(
  "a packet beyond the MTU, and an interface that is down, do not end the way",
  () => {
    const hosts = makeHosts();
    closers.push(() => hosts.close());
    const { ifindex, ns } = hosts.b;
    const memory = new Uint8Array(new SharedArrayBuffer(4096));
    const segmenter = ns.run(() => Segmenter.open(ifindex, memory)) as Segmenter;
    const send = (length: number): number => {
      segmenter.begin();
      segmenter.add(0, length);
      return segmenter.send(VIRTIO_NET_HDR_GSO_NONE, 54, 0, 34, 16);
    };
    expect([send(1514), send(2000), segmenter.isBroken]).toEqual([0, -ERRNO.EMSGSIZE, false]);
    ns.run(() => Bun.spawnSync(["ip", "link", "set", hosts.b.name, "down"]));
    expect([send(1514), segmenter.isBroken]).toEqual([-ERRNO.ENETDOWN, false]);
    segmenter.close();
  },
);

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "" || Bun.which("python3") === null)("over veth", () => {
  test.each(["ipv4Text", "ipv6Text"] as const)("%s, offloads off: the kernel cuts", async (family) => {
    const { hosts, engine } = await serving("off");
    const before = received(hosts.a);
    expect(await fetched(hosts, hosts.b[family])).toBe(HASH);
    const full = Math.floor(BYTES / FULL[family]);
    expect(received(hosts.a) - before).toBeGreaterThanOrEqual(full);
    await until("segments counted", () => engine.counters().TcpOutSegs >= full);
    // Frames are counted when they are handed over, which may be a moment later.
    await until("frames counted", () => engine.counters().TxFrames >= full);
    const { TcpGsoPackets, TcpGsoRefused } = engine.counters();
    expect(TcpGsoPackets).toBeGreaterThan(0);
    expect(TcpGsoPackets).toBeLessThan(full / 2);
    expect(TcpGsoRefused).toBe(0);
  });

  test.each(["ipv4Text", "ipv6Text"] as const)("%s, offloads on: they come whole", async (family) => {
    const { hosts, engine } = await serving("on");
    const before = received(hosts.a);
    expect(await fetched(hosts, hosts.b[family])).toBe(HASH);
    expect(received(hosts.a) - before).toBeLessThan(BYTES / FULL[family] / 2);
    expect(engine.counters().TcpGsoRefused).toBe(0);
  });

  test("a capture sees every segment: they leave one by one while it runs", async () => {
    const { hosts, engine } = await serving("off");
    const directory = mkdtempSync(join(tmpdir(), "lcore-gso-"));
    closers.push(() => rmSync(directory, { recursive: true }));
    const unix = join(directory, "stats.sock");
    engine.serveStats(unix);
    const response = await fetch("http://x/capture", {
      unix,
      method: "POST",
      body: JSON.stringify({ snapLength: 96 }),
    });
    const file = response.bytes();
    expect(await fetched(hosts, hosts.b.ipv4Text)).toBe(HASH);
    const id = response.headers.get("X-Capture");
    await fetch(`http://x/capture/${id}`, { unix, method: "DELETE" });
    const sent = read(await file).packets.filter(({ direction }) => direction === 2);
    expect(Math.max(...sent.map(({ original }) => original))).toBe(1514);
    expect(engine.counters().TcpGsoPackets).toBe(0);
    // Without it they do not.
    expect(await fetched(hosts, hosts.b.ipv4Text)).toBe(HASH);
    await until("packets", () => engine.counters().TcpGsoPackets > 0);
  });
});
