/** An engine on a captured load: what it receives and answers, who it takes itself for, how it ends. */
import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EngineOptions } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";
import { getAffinity } from "../../engine/host/affinity.ts";
import type { ReplayLink } from "../../engine/replay.ts";
import { openCapture } from "../../queues/pcap/reader.ts";
import { FileSink, PcapWriter } from "../../queues/pcap/writer.ts";
import type { EchoData } from "../engine/modules/echo.ts";
import { MAC_A, MAC_B, parseUdpFrame, udpFrame } from "../support/frames.ts";
import { until } from "../support/kernel-udp.ts";
import { all } from "./read.ts";

setDefaultTimeout(60_000);

const CPUS = getAffinity(0);
const ECHO = new URL("../engine/modules/echo.ts", import.meta.url);
const directory = mkdtempSync(join(tmpdir(), "lcore-replay-"));
const engines: Engine[] = [];
afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.close();
});
afterAll(() => rmSync(directory, { recursive: true }));
const path = (name: string): string => join(directory, name);

function write(name: string, frames: readonly Uint8Array[]): string {
  const sink = new FileSink(path(name));
  const writer = new PcapWriter(sink);
  frames.forEach((frame, i) => {
    writer.packet(frame, 0, frame.length, 1_700_000_000, i * 1_000_000);
  });
  writer.flush();
  sink.close();
  return path(name);
}

const V6 = { source: "2001:db8::2", destination: "2001:db8::1" };
const questions = Array.from({ length: 100 }, (_, i) =>
  udpFrame({ payload: `question ${i}`, sourcePort: 2000 + i, ...(i % 3 === 0 ? V6 : {}) }),
);
const load = write("load.pcap", questions);

async function start(pcap: Partial<ReplayLink>, options: Partial<EngineOptions> = {}): Promise<Engine> {
  const engine = await Engine.start({
    cpus: CPUS.slice(-1),
    frames: 1024,
    pcap: { file: load, addresses: ["198.18.0.1", "2001:db8::1"], speed: "full", ...pcap },
    ...options,
  });
  engines.push(engine);
  return engine;
}

describe("a captured load", () => {
  const answers = (file: string): string[] =>
    all(openCapture(file)).map(({ hex }) => {
      const { payload, source, destination, port, sourcePort, macs } = parseUdpFrame(Uint8Array.fromHex(hex));
      return `${source} ${sourcePort} > ${destination} ${port} ${macs} ${new TextDecoder().decode(payload)}`;
    });
  const expected = questions.map((frame, i) => {
    const { source, destination, sourcePort, port } = parseUdpFrame(frame);
    return `${destination} ${port} > ${source} ${sourcePort} ${MAC_B.toHex()}${MAC_A.toHex()} question ${i}`;
  });

  test("is answered by a module, and the answers are in a file, on each number of lcores", async () => {
    for (const cpus of [CPUS.slice(0, 1), CPUS.slice(0, 2)]) {
      const out = path(`answers-${cpus.length}.pcapng`);
      const data: EchoData = { port: 9000, reusePort: true };
      const engine = await start({ write: out }, { cpus, module: ECHO, data });
      expect(engine.info).toMatchObject({ attach: "pcap", interface: null, reason: `a replay of ${load}` });
      const counts = await engine.replay?.run();
      expect(counts).toMatchObject({ frames: 100, sent: 0, noFrame: 0, passes: 1, ended: 1 });
      await until("every answer", () => engine.replay?.counts.txFrames === 100);
      await engine.close();
      expect(answers(out).toSorted()).toEqual(expected.toSorted());
      expect(engine.replay?.notes).toEqual([]);
    }
  });

  test("does not begin before it is told to, and goes to sockets of this thread", async () => {
    const engine = await start({ speed: "recorded", loop: 2 });
    const socket = engine.udp({ address: "::", port: 9000 });
    const texts: string[] = [];
    socket.onDatagram = (datagram) => {
      texts.push(datagram.text());
      datagram.reply();
    };
    await Bun.sleep(20);
    expect(engine.replay?.counts.frames).toBe(0);
    const before = performance.now();
    const counts = await engine.replay?.run();
    // A hundred frames a millisecond apart, twice.
    expect(performance.now() - before).toBeGreaterThan(190);
    expect(counts).toMatchObject({ frames: 200, passes: 2 });
    await until("every datagram", () => texts.length === 200);
    expect(texts.toSorted()).toEqual([...texts.slice(0, 100), ...texts.slice(0, 100)].toSorted());
    await until("every answer", () => engine.replay?.counts.txFrames === 200);
  });

  test("named neighbours have their own MAC addresses", async () => {
    const out = path("neighbours.pcapng");
    const mac = Uint8Array.of(2, 0, 0, 0, 0, 0x99);
    const data: EchoData = { port: 9000 };
    const link = { write: out, neighbours: [{ address: "198.18.0.2", mac }] };
    const engine = await start(link, { module: ECHO, data });
    await engine.replay?.run();
    await until("every answer", () => engine.replay?.counts.txFrames === 100);
    await engine.close();
    const macs = new Set(all(openCapture(out)).map(({ hex }) => hex.slice(0, 12)));
    expect(macs).toEqual(new Set([mac.toHex(), MAC_B.toHex()]));
  });
});

describe("refused", () => {
  test.each<[string, Partial<ReplayLink>, string]>([
    [
      "a host that was not there",
      { addresses: ["198.18.0.77"] },
      "no frame to 198.18.0.77: it has some for 2001:db8::1, 198.18.0.1",
    ],
    ["no addresses", { addresses: [] }, "name the addresses"],
    ["a speed of 0", { speed: 0 }, "speed 0"],
    ["a half loop", { loop: 1.5 }, "loop 1.5"],
    ["no queues", { queues: 0 }, "0 queues"],
    ["to write over the load", { write: load }, "overwrite"],
    ["a MAC address of 5 bytes", { mac: new Uint8Array(5) }, "6 bytes, not 5"],
    ["a file that is not there", { file: path("missing") }, "ENOENT"],
  ])("%s", async (_, link, words) => {
    await expect(start(link)).rejects.toThrow(words);
  });

  test("a file that is no capture, and one of no packets", async () => {
    await Bun.write(path("text"), "hello");
    await expect(start({ file: path("text") })).rejects.toThrow(`${path("text")}: begins with 68656c6c`);
    await expect(start({ file: write("empty.pcap", []) })).rejects.toThrow("it has no IP packets");
  });

  test("two ways at once", async () => {
    const pcap: ReplayLink = { file: load, addresses: ["198.18.0.1"] };
    await expect(Engine.start({ pcap, interface: "lo" })).rejects.toThrow("one of 'interface', 'memory' and 'pcap'");
    await expect(Engine.start({ pcap, addresses: ["198.18.0.1/24"] })).rejects.toThrow("are in 'pcap'");
  });
});

test("an engine that stops ends the wait for its replay", async () => {
  const engine = await start({ speed: "recorded", loop: Number.POSITIVE_INFINITY });
  const run = engine.replay?.run();
  await until("frames", () => (engine.replay?.counts.frames ?? 0) > 0);
  await Promise.all([engine.close(), expect(run).rejects.toThrow("stopped before the replay had ended")]);
});
