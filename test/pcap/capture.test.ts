/** Captures of a running engine by its socket: what they have, what they cost others, how they end. No privilege. */
import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CaptureRequest } from "../../engine/capture.ts";
import type { EngineOptions } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";
import { getAffinity } from "../../engine/host/affinity.ts";
import { FileSink, PcapWriter } from "../../queues/pcap/writer.ts";
import type { EchoData } from "../engine/modules/echo.ts";
import { udpFrame } from "../support/frames.ts";
import { until } from "../support/kernel-udp.ts";
import { type Packet, read, tshark, withoutTshark } from "./read.ts";

setDefaultTimeout(60_000);

const CPUS = getAffinity(0);
const ECHO = new URL("../engine/modules/echo.ts", import.meta.url);
const directory = mkdtempSync(join(tmpdir(), "lcore-capture-"));
afterAll(() => rmSync(directory, { recursive: true }));
const engines: Engine[] = [];
afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.close();
});

const PORTS = 40;
const questions = Array.from({ length: 200 }, (_, i) =>
  udpFrame({ payload: `question ${i}`, sourcePort: 2000 + (i % PORTS) }),
);
const answerTo = (frame: Uint8Array): string => {
  const text = new TextDecoder().decode(frame.subarray(42));
  const port = (frame[34] << 8) | frame[35];
  const answer = udpFrame({ source: "198.18.0.1", destination: "198.18.0.2", sourcePort: 9000, port, payload: text });
  return answer.subarray(14).toHex();
};
const load = ((): string => {
  const path = join(directory, "load.pcap");
  const sink = new FileSink(path);
  const writer = new PcapWriter(sink);
  for (const [i, frame] of questions.entries()) writer.packet(frame, 0, frame.length, 1, i * 1000);
  writer.flush();
  sink.close();
  return path;
})();

/** An engine that answers the load, and its socket. */
async function start(options: Partial<EngineOptions> = {}, loop = 1): Promise<{ engine: Engine; path: string }> {
  const data: EchoData = { port: 9000, reusePort: true };
  const engine = await Engine.start({
    ...{ cpus: CPUS.slice(-1), frames: 1024, module: ECHO, data },
    pcap: { file: load, addresses: ["198.18.0.1"], speed: "full", loop, queues: 2 },
    ...options,
  });
  engines.push(engine);
  const path = join(directory, `${crypto.randomUUID().slice(0, 8)}.sock`);
  engine.serveStats(path);
  return { engine, path };
}

const replayed = async (engine: Engine, answers = questions.length): Promise<void> => {
  await engine.replay?.run();
  await until("every answer", () => (engine.replay?.counts.txFrames ?? 0) >= answers);
};

/** A capture that is being read. */
class Reading {
  readonly done: Promise<void>;
  private readonly path: string;
  private readonly id: string;
  private readonly parts: Uint8Array[] = [];

  constructor(path: string, response: Response) {
    this.path = path;
    this.id = response.headers.get("X-Capture") as string;
    this.done = (async () => {
      for await (const part of response.body as ReadableStream<Uint8Array>) this.parts.push(part);
    })();
  }

  static async start(path: string, request: CaptureRequest = {}): Promise<Reading> {
    const response = await ask(path, request);
    if (!response.ok) throw new Error(await response.text());
    return new Reading(path, response);
  }

  async stop(): Promise<Uint8Array> {
    const response = await fetch(`http://x/capture/${this.id}`, { unix: this.path, method: "DELETE" });
    expect(response.status).toBe(204);
    await this.done;
    return this.file;
  }

  get file(): Uint8Array {
    return Buffer.concat(this.parts);
  }
}

function ask(path: string, request: unknown, signal?: AbortSignal): Promise<Response> {
  return fetch("http://x/capture", { unix: path, method: "POST", body: JSON.stringify(request), signal });
}

function packetsOf(file: Uint8Array): Packet[] {
  const { packets, rest, format } = read(file);
  expect([rest, format]).toEqual(["", "pcapng"]);
  return packets;
}

const RX = 1;
const TX = 2;
const of = (packets: readonly Packet[], direction: number): Packet[] =>
  packets.filter((packet) => packet.direction === direction);
/** Without the MAC addresses, which an answer gets from the routes. */
const network = (packets: readonly Packet[]): string[] => packets.map(({ hex }) => hex.slice(28)).toSorted();

describe("a capture has", () => {
  test("every frame in and out, stamped now, in the order of each queue", async () => {
    const before = Date.now() / 1000;
    const { engine, path } = await start();
    const reading = await Reading.start(path);
    await replayed(engine);
    const packets = packetsOf(await reading.stop());
    expect(network(of(packets, RX))).toEqual(questions.map((frame) => frame.subarray(14).toHex()).toSorted());
    expect(network(of(packets, TX))).toEqual(questions.map(answerTo).toSorted());
    expect(new Set(packets.map(({ interface: id }) => id))).toEqual(new Set([0, 1]));
    const times = packets.map(({ time }) => Number(time));
    expect(times.every((time) => time >= before - 0.001 && time <= Date.now() / 1000 + 0.001)).toBe(true);
    for (const id of [0, 1]) {
      const own = packets.filter((packet) => packet.interface === id).map(({ time }) => Number(time));
      expect(own).toEqual(own.toSorted((a, b) => a - b));
    }
    // Each answer leaves after its question came.
    for (const answer of of(packets, TX)) {
      const question = of(packets, RX).find(({ hex }) => hex.slice(84) === answer.hex.slice(84)) as Packet;
      expect(Number(answer.time)).toBeGreaterThanOrEqual(Number(question.time));
    }
  });

  test.skipIf(CPUS.length < 2)("an interface for each queue of each lcore, or of one", async () => {
    const { engine, path } = await start({ cpus: CPUS.slice(0, 2) });
    const both = await Reading.start(path);
    const one = await Reading.start(path, { lcore: 1 });
    await replayed(engine);
    const all = packetsOf(await both.stop());
    const part = packetsOf(await one.stop());
    expect(all).toHaveLength(2 * questions.length);
    // The second interface of the one is the only of the other.
    const second = all.filter(({ interface: id }) => id === 1);
    expect(second.length).toBeGreaterThan(20);
    expect(part.map(({ hex }) => hex)).toEqual(second.map(({ hex }) => hex));
    expect(new Set(part.map(({ interface: id }) => id))).toEqual(new Set([0]));
  });

  test("what was asked for: a filter, a direction, a length", async () => {
    const { engine, path } = await start();
    // ldh [34]; jeq 2007 → keep 50 bytes.
    const filter = [
      [0x28, 0, 0, 34],
      [0x15, 0, 1, 2007],
      [6, 0, 0, 50],
      [6, 0, 0, 0],
    ];
    const requests: CaptureRequest[] = [
      { filter, filterText: "udp src port 2007" },
      { tx: false, snapLength: 20 },
      { rx: false },
      { filter, rx: false },
    ];
    const readings: Reading[] = [];
    for (const request of requests) readings.push(await Reading.start(path, request));
    await replayed(engine);
    const [filtered, received, sent, none] = await Promise.all(
      readings.map(async (reading) => packetsOf(await reading.stop())),
    );
    const expected = questions.filter((frame) => ((frame[34] << 8) | frame[35]) === 2007);
    expect(filtered.map(({ hex }) => hex)).toEqual(expected.map((frame) => frame.subarray(0, 50).toHex()));
    expect(filtered.map(({ original }) => original)).toEqual(expected.map(({ length }) => length));
    expect(received).toHaveLength(questions.length);
    expect(received.every(({ hex, direction }) => hex.length === 40 && direction === RX)).toBe(true);
    expect(sent).toHaveLength(questions.length);
    expect(sent.every(({ direction }) => direction === TX)).toBe(true);
    expect(none).toEqual([]);
  });

  test("nothing of what was before it or after it, also from an lcore that sleeps", async () => {
    const { engine, path } = await start({ poll: "interrupt" });
    await replayed(engine);
    const reading = await Reading.start(path);
    expect(packetsOf(await reading.stop())).toEqual([]);
    const again = await Reading.start(path);
    const socket = engine.udp({ port: 9100 });
    await until("a datagram sent", () => socket.send("later", 77, "198.18.0.2") > 0);
    await until("sent by the lcore", () => engine.replay?.counts.txFrames === questions.length + 1);
    const packets = packetsOf(await again.stop());
    expect(packets.map(({ direction, hex }) => [direction, hex.slice(-10)])).toEqual([
      [TX, Buffer.from("later").toHex()],
    ]);
  });
});

describe.skipIf(withoutTshark !== "")("to tshark", () => {
  test("a capture is whole, with names, filter, statistics and comments", async () => {
    const { engine, path } = await start();
    const reading = await Reading.start(path, { filterText: "all of it", snapLength: 1000 });
    await replayed(engine);
    const file = join(directory, "whole.pcapng");
    await Bun.write(file, await reading.stop());
    const names = ["frame.interface_name", "frame.interface_description", "frame.packet_flags_direction", "udp.port"];
    const rows = tshark(file, names);
    expect(rows).toHaveLength(2 * questions.length);
    const [cpu] = engine.info.cpus;
    for (const [name, description, direction, ports] of rows) {
      const queue = name.at(-1);
      expect([name, description]).toEqual([`pcap:${queue}`, `lcore 0 on CPU ${cpu}, queue ${queue}`]);
      expect(ports.split(",")[direction === "0x00000001" ? 1 : 0]).toBe("9000");
    }
    const info = Bun.spawnSync(["capinfos", file]).stdout.toString();
    for (const words of [
      "Capture application: lcore ",
      `Capture comment:     process ${process.pid}, pcap: a replay of ${load}`,
      "Number of interfaces in file: 2",
      "Filter string = all of it",
      "Capture length = 1000",
      "Time precision = nanoseconds (9)",
      "Comment = Stamps are CLOCK_REALTIME",
      "Number of stat entries = 1",
    ]) {
      expect(info).toContain(words);
    }
  });
});

/** Values of the statistics blocks at a file's end: received, dropped and accepted by the filter, comment. */
function statistics(file: Uint8Array): { received: number; dropped: number; accepted: number; comment: string }[] {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const found = [];
  for (let at = 0; at < file.length; at += view.getUint32(at + 4, true)) {
    if (view.getUint32(at, true) !== 5) continue;
    const values = new Map<number, number>();
    let comment = "";
    for (let o = at + 20; view.getUint16(o, true) !== 0; o += 4 + ((view.getUint16(o + 2, true) + 3) & ~3)) {
      const [code, size] = [view.getUint16(o, true), view.getUint16(o + 2, true)];
      if (code === 1) comment = new TextDecoder().decode(file.subarray(o + 4, o + 4 + size));
      else if (size === 8) values.set(code, Number(view.getBigUint64(o + 4, true)));
    }
    const [received, dropped, accepted] = [4, 5, 6].map((code) => values.get(code) as number);
    found.push({ received, dropped, accepted, comment });
  }
  return found;
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

describe("a reader that is too slow", () => {
  test("loses frames, which are counted; the engine loses none", async () => {
    const loop = 200;
    const { engine, path } = await start({}, loop);
    const response = await ask(path, { ringBytes: 16384 });
    // Nobody reads while the load comes.
    await replayed(engine, loop * questions.length);
    expect(engine.replay?.counts).toMatchObject({ frames: loop * questions.length, noFrame: 0 });
    const id = response.headers.get("X-Capture");
    await fetch(`http://x/capture/${id}`, { unix: path, method: "DELETE" });
    const file = new Uint8Array(await response.arrayBuffer());
    const packets = packetsOf(file);
    const counts = statistics(file);
    const [received, accepted, dropped] = [
      sum(counts.map((each) => each.received)),
      sum(counts.map((each) => each.accepted)),
      sum(counts.map((each) => each.dropped)),
    ];
    expect(received).toBe(2 * loop * questions.length);
    expect(accepted).toBe(received);
    expect(packets.length).toBe(accepted - dropped);
    expect(dropped).toBeGreaterThan(received / 2);
    expect(packets.length).toBeGreaterThan(100);
  });
});

describe("a capture ends", () => {
  test("with the engine, which says so", async () => {
    const { engine, path } = await start();
    const reading = await Reading.start(path);
    await replayed(engine);
    await engine.close();
    await reading.done;
    expect(packetsOf(reading.file)).toHaveLength(2 * questions.length);
    expect(statistics(reading.file).map(({ comment }) => comment)).toEqual(Array(2).fill("the engine has ended"));
  });

  test("with its reader, and gives its place to the next", async () => {
    const { engine, path } = await start();
    const leave = new AbortController();
    // Held up to leave.abort(): a response that is collected gives its place up.
    const responses = await Promise.all(Array.from({ length: 4 }, () => ask(path, {}, leave.signal)));
    expect(responses.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    const refused = await ask(path, {});
    expect(refused.status).toBe(409);
    expect(await refused.text()).toBe("4 captures run already: stop one\n");
    expect(responses.some(({ bodyUsed }) => bodyUsed)).toBe(false);
    leave.abort();
    let reading: Reading | null = null;
    for (const deadline = performance.now() + 30_000; reading === null; await Bun.sleep(1)) {
      expect(performance.now()).toBeLessThan(deadline);
      const response = await ask(path, {});
      if (response.ok) reading = new Reading(path, response);
      else expect([response.status, await response.text()]).toEqual([409, "4 captures run already: stop one\n"]);
    }
    await replayed(engine);
    expect(packetsOf(await reading.stop()).length).toBe(2 * questions.length);
  });

  test("once", async () => {
    const { path } = await start();
    const reading = await Reading.start(path);
    await reading.stop();
    const again = await fetch("http://x/capture/1", { unix: path, method: "DELETE" });
    expect([again.status, await again.text()]).toEqual([404, "no capture 1\n"]);
  });
});

describe("a request is refused", () => {
  test("the fifth of five whose bodies come together", async () => {
    const { path } = await start();
    const bodies: ReadableStreamDefaultController<Uint8Array>[] = [];
    const asked = Array.from({ length: 5 }, () => {
      const body = new ReadableStream<Uint8Array>({ start: (controller) => void bodies.push(controller) });
      return fetch("http://x/capture", { unix: path, method: "POST", body });
    });
    // Each head is with the engine by then.
    for (const body of bodies) body.enqueue(Buffer.from("{"));
    await Bun.sleep(100);
    for (const body of bodies) {
      body.enqueue(Buffer.from("}"));
      body.close();
    }
    const responses = await Promise.all(asked);
    expect(responses.map(({ status }) => status).toSorted()).toEqual([200, 200, 200, 200, 409]);
  });

  test.each<[string, unknown, string]>([
    ["a filter that does not end", { filter: [[0x28, 0, 0, 12]] }, "the last one must return"],
    ["a filter that is none", { filter: [[1, 2]] }, '"1,2" is not "code jt jf k"'],
    ["a filter of text", { filter: "udp" }, '"udp" is no instruction'],
    ["an lcore that is not there", { lcore: 1 }, "lcore 1: a whole number from 0 to 0"],
    ["a length of nothing", { snapLength: 0 }, "snaplen 0"],
    ["a ring of another size", { ringBytes: 20000 }, "a power of two"],
    ["neither direction", { rx: false, tx: false }, "nothing would be captured"],
    ["no object", null, ""],
  ])("%s", async (_, request, words) => {
    const { path } = await start();
    const response = await ask(path, request);
    expect(response.status).toBe(400);
    expect(await response.text()).toContain(words);
  });

  test("an engine on sockets of the kernel", async () => {
    const engine = await Engine.start({ provider: "kernel" });
    engines.push(engine);
    const path = join(directory, "kernel.sock");
    engine.serveStats(path);
    const response = await ask(path, {});
    expect([response.status, await response.text()]).toEqual([
      409,
      "it serves on sockets of the kernel: tcpdump sees its packets\n",
    ]);
  });

  test("another path, another method", async () => {
    const { path } = await start();
    const status = async (method: string, url: string): Promise<number> =>
      (await fetch(`http://x${url}`, { unix: path, method })).status;
    expect(await status("GET", "/capture")).toBe(405);
    expect(await status("POST", "/capture/1")).toBe(405);
    expect(await status("DELETE", "/capture/none")).toBe(404);
    expect(await status("GET", "/captures")).toBe(404);
    expect(await status("GET", "/stats")).toBe(200);
  });
});
