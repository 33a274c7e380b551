/** Bulk from an lcore to the kernel's TCP in packets of many segments, which its own kernel cuts, or leaves to the veth. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Engine } from "../../engine/engine.ts";
import type { Host } from "../../engine/host/hosts.ts";
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

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "" || Bun.which("python3") === null)("over veth", () => {
  test.each(["ipv4Text", "ipv6Text"] as const)("%s, offloads off: the kernel cuts", async (family) => {
    const { hosts, engine } = await serving("off");
    const before = received(hosts.a);
    expect(await fetched(hosts, hosts.b[family])).toBe(HASH);
    const full = Math.floor(BYTES / FULL[family]);
    expect(received(hosts.a) - before).toBeGreaterThanOrEqual(full);
    await until("the counts", () => engine.counters().TcpOutSegs >= full);
    const { TcpGsoPackets, TcpGsoRefused, TxFrames } = engine.counters();
    expect(TxFrames).toBeGreaterThanOrEqual(full);
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
