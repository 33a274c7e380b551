/** Captures that tcpdump and dumpcap make of a link, replayed: every format they write, both byte orders. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Engine } from "../../engine/engine.ts";
import { getAffinity } from "../../engine/host/affinity.ts";
import { openCapture } from "../../queues/pcap/reader.ts";
import type { EchoData } from "../engine/modules/echo.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";
import { all, type Packet } from "./read.ts";

setDefaultTimeout(60_000);

/** Replays at full speed until one was quicker than `below`, milliseconds: a loaded machine holds up some of them. */
async function quickest(first: number, below: number, again: () => Promise<{ ms: number }>): Promise<number> {
  let least = first;
  for (let i = 0; i < 20 && least >= below; i++) least = Math.min(least, (await again()).ms);
  return least;
}

const ECHO = new URL("../engine/modules/echo.ts", import.meta.url);
const TOOLS = ["tcpdump", "dumpcap"];
const missing = TOOLS.filter((tool) => Bun.which(tool) === null);
if (missing.length > 0) console.warn(`skipped tests: ${missing.join(", ")} not installed`);

const QUESTIONS = 8;
/** Between two questions, milliseconds. */
const GAP_MS = 20;

/** Words of a pcap file the other way round: header and packet headers, not the packets. */
function swapped(file: Uint8Array): Uint8Array {
  const out = Uint8Array.from(file);
  const view = new DataView(out.buffer);
  const swap32 = (at: number): void => view.setUint32(at, view.getUint32(at, true), false);
  const swap16 = (at: number): void => view.setUint16(at, view.getUint16(at, true), false);
  for (let at = 24; at < file.length; ) {
    const length = view.getUint32(at + 8, true);
    for (let word = 0; word < 16; word += 4) swap32(at + word);
    at += 16 + length;
  }
  for (const at of [0, 8, 12, 16, 20]) swap32(at);
  for (const at of [4, 6]) swap16(at);
  return out;
}

describe.skipIf(requires("netns", "veth") !== "" || missing.length > 0)("a capture of a link", () => {
  const directory = mkdtempSync(join(tmpdir(), "lcore-real-"));
  const path = (name: string): string => join(directory, name);
  let hosts: VethPair;
  const files = new Map<string, string>();

  beforeAll(async () => {
    hosts = makeHosts();
    const { a, b } = hosts;
    const tcpdump = ["tcpdump", "-Z", "root", "--immediate-mode", "-U", "-i", "veth0"];
    const commands: Record<string, string[]> = {
      "pcap, microseconds": [...tcpdump, "-w", path("micro.pcap"), "udp port 9000"],
      "pcap, nanoseconds": [...tcpdump, "--nano", "-w", path("nano.pcap"), "udp port 9000"],
      pcapng: ["dumpcap", "-q", "-i", "veth0", "-f", "udp port 9000", "-w", path("dumpcap.pcapng")],
    };
    const running = Object.values(commands).map((command) =>
      b.ns.run(() => Bun.spawn(command, { stdin: "ignore", stdout: "ignore", stderr: "pipe" })),
    );
    // Each says so when it listens.
    for (const child of running) await child.stderr.getReader().read();
    const server = new KernelUdp(b.ns, { port: 9000 });
    const client = new KernelUdp(a.ns);
    for (const name in commands) files.set(name, commands[name].at(name === "pcapng" ? -1 : -2) as string);
    const told = (file: string): number => {
      try {
        return all(openCapture(file)).length;
      } catch {
        return 0;
      }
    };
    // dumpcap opens its file with the first packets and may miss what comes before it listens.
    await Bun.sleep(200);
    for (let i = 0; i < QUESTIONS; i++) {
      client.send(`question ${i}`, b.ipv4Text, 9000);
      await Bun.sleep(GAP_MS);
    }
    await until("every packet in every file", () => [...files.values()].every((file) => told(file) >= QUESTIONS));
    for (const child of running) child.kill("SIGINT");
    await Promise.all(running.map((child) => child.exited));
    server.close();
    client.close();
    for (const [name, file] of [...files]) {
      if (!name.startsWith("pcap,")) continue;
      await Bun.write(`${file}.swapped`, swapped(readFileSync(file)));
      files.set(`${name}, big-endian`, `${file}.swapped`);
    }
  });
  afterAll(() => {
    hosts?.close();
    rmSync(directory, { recursive: true });
  });

  for (const name of [
    "pcap, microseconds",
    "pcap, nanoseconds",
    "pcap, microseconds, big-endian",
    "pcap, nanoseconds, big-endian",
    "pcapng",
  ]) {
    test(`${name}: is replayed and answered, at recorded speed and at full speed`, async () => {
      const file = files.get(name) as string;
      const packets = all(openCapture(file));
      expect(packets.map(text)).toEqual(Array.from({ length: QUESTIONS }, (_, i) => `question ${i}`));
      const recordedMs = (Number(packets.at(-1)?.time) - Number(packets[0].time)) * 1000;
      expect(recordedMs).toBeGreaterThan((QUESTIONS - 1) * GAP_MS - 1);
      for (const speed of ["recorded", "full"] as const) {
        const out = path(`${speed}.pcapng`);
        const { ms, answers } = await replay(file, speed, out);
        expect(answers.map(text).toSorted()).toEqual(packets.map(text).toSorted());
        if (speed === "recorded") expect(ms).toBeGreaterThanOrEqual(recordedMs - 1);
        else expect(await quickest(ms, recordedMs, () => replay(file, speed, out))).toBeLessThan(recordedMs);
      }
    });
  }

  test("the clock of nanoseconds is kept to the last digit", () => {
    const [nano, micro] = ["pcap, nanoseconds", "pcap, microseconds"].map((name) =>
      all(openCapture(files.get(name) as string)),
    );
    // The kernel stamps a packet once for all who listen.
    expect(nano.map(({ time }) => `${time.slice(0, -3)}000`)).toEqual(micro.map(({ time }) => time));
    expect(nano.some(({ time }) => !time.endsWith("000"))).toBe(true);
    const swappedTimes = all(openCapture(files.get("pcap, nanoseconds, big-endian") as string)).map(({ time }) => time);
    expect(swappedTimes).toEqual(nano.map(({ time }) => time));
  });

  async function replay(file: string, speed: "recorded" | "full", write: string) {
    const data: EchoData = { port: 9000 };
    const engine = await Engine.start({
      ...{ cpus: getAffinity(0).slice(-1), frames: 1024, module: ECHO, data },
      pcap: { file, addresses: [hosts.b.ipv4Text], speed, write },
    });
    try {
      const before = performance.now();
      await engine.replay?.run();
      const ms = performance.now() - before;
      await until("every answer", () => engine.replay?.counts.txFrames === QUESTIONS);
      await engine.close();
      return { ms, answers: all(openCapture(write)) };
    } finally {
      await engine.close();
    }
  }
});

/** The text of a question or an answer. */
const text = ({ hex }: Packet): string => new TextDecoder().decode(Uint8Array.fromHex(hex.slice(84)));
