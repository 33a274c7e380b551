/** The pcap driver by hand: when frames come, whose they are, what becomes of those that do not fit, what is written. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BURST_MAX, Burst } from "../../queues/driver.ts";
import { INBOUND, OUTBOUND } from "../../queues/pcap/format.ts";
import { openCapture } from "../../queues/pcap/reader.ts";
import { type ReplayCount, ReplayState } from "../../queues/pcap/replay.ts";
import { FileSink, PcapngWriter } from "../../queues/pcap/writer.ts";
import { createReplayFile, PcapPort, type PcapPortOptions } from "../../queues/pcap-port.ts";
import { FramePool } from "../../queues/pool.ts";
import { RSS_KEY_SYMMETRIC, rssHash, rssQueue, Toeplitz } from "../../queues/rss.ts";
import { MAC_A, MAC_B, udpFrame } from "../support/frames.ts";
import { all, timeOf } from "./read.ts";

const directory = mkdtempSync(join(tmpdir(), "lcore-replay-"));
afterAll(() => rmSync(directory, { recursive: true }));
const path = (name: string): string => join(directory, name);

const toeplitz = new Toeplitz(RSS_KEY_SYMMETRIC);
const hash = (bytes: Uint8Array, at: number, length: number): number => rssHash(toeplitz, bytes, at, length);
const FRAMES = 256;
const FRAME_SIZE = 2048;
const START = 1_700_000_000;
let files = 0;

interface Recorded {
  frame: Uint8Array;
  ms: number;
  direction?: 0 | 1 | 2;
  original?: number;
}

function write(records: readonly Recorded[]): string {
  const name = path(`load-${files++}.pcapng`);
  const sink = new FileSink(name);
  const writer = new PcapngWriter(sink);
  writer.interface();
  for (const { frame, ms, direction = INBOUND, original = frame.length } of records) {
    const ns = Math.round(ms * 1e6);
    writer.packet(0, frame, 0, frame.length, START + Math.floor(ns / 1e9), ns % 1e9, original, direction);
  }
  writer.flush();
  sink.close();
  return name;
}

const numbered = (i: number, ms = 0): Recorded => ({ frame: udpFrame({ payload: `${i}`, sourcePort: 1000 + i }), ms });

/** A port and the clock of its lcore. */
class Rig {
  readonly pool: FramePool;
  readonly memory: Uint8Array;
  readonly port: PcapPort;
  readonly received: string[] = [];
  private readonly state: ReplayState;
  private readonly burst = new Burst();

  constructor(
    file: string,
    options: Partial<PcapPortOptions> = {},
    { state = ReplayState.create(1), frames = FRAMES }: { state?: ReplayState; frames?: number } = {},
  ) {
    this.state = state;
    this.pool = new FramePool(frames, FRAME_SIZE);
    this.memory = new Uint8Array(new SharedArrayBuffer(frames * FRAME_SIZE));
    this.port = new PcapPort(this.pool, this.memory, {
      ...{ file, state: state.buffer, queue: 0, ifindex: 1, mac: MAC_A, speed: 1, loops: 1, hash, write: null },
      ...options,
    });
  }

  /** One burst at a time of the loop's clock; frames go back at once, unless they are kept. */
  burstAt(ms: number, keep = false): number {
    const count = this.port.rxBurst(this.burst, ms);
    for (let i = 0; i < count; i++) {
      const at = this.burst.offset[i];
      this.received.push(this.memory.slice(at, at + this.burst.length[i]).toHex());
      if (!keep) this.pool.give(at);
    }
    return count;
  }

  /** Bursts until the end. */
  drain(ms = 0): void {
    for (let i = 0; i < 1000 && this.count("ended") === 0; i++) this.burstAt(ms);
  }

  begin(): void {
    this.state.begin();
  }

  count(name: ReplayCount): number {
    return this.state.counts()[name];
  }

  get notes(): string[] {
    return this.state.notes();
  }

  /** Sends a frame from the pool. */
  send(frame: Uint8Array): boolean {
    const at = this.pool.take();
    this.memory.set(frame, at + 86);
    const pushed = this.port.txPush(at + 86, frame.length);
    if (!pushed) this.pool.give(at);
    return pushed;
  }
}

const FULL = Number.POSITIVE_INFINITY;
const hexOf = (records: readonly Recorded[]): string[] => records.map(({ frame }) => frame.toHex());

describe("when frames come", () => {
  test("not before the replay begins; at full speed in bursts, in order", () => {
    const records = Array.from({ length: 300 }, (_, i) => numbered(i, i * 1000));
    const rig = new Rig(write(records), { speed: FULL });
    expect(rig.burstAt(0)).toBe(0);
    rig.begin();
    expect(rig.burstAt(0)).toBe(BURST_MAX);
    rig.drain();
    expect(rig.received).toEqual(hexOf(records));
    expect([rig.count("frames"), rig.count("passes"), rig.pool.available]).toEqual([300, 1, FRAMES]);
    rig.port.close();
  });

  test("at recorded speed, and at a multiple of it", () => {
    for (const speed of [1, 4, 0.5]) {
      const records = [0, 100, 100, 200, 150, 1000].map((seconds, i) => numbered(i, seconds * 1000));
      const rig = new Rig(write(records), { speed });
      rig.begin();
      // The loop's clock is any; what counts is the time since begin(), of which little has passed.
      const start = 5_000_000;
      const counts = [0, 90, 190, 900, 1100].map((seconds) => rig.burstAt(start + (seconds * 1000) / speed));
      // A frame that is older than the one before it comes with that.
      expect(counts).toEqual([1, 0, 2, 2, 1]);
      expect(rig.received).toEqual(hexOf(records));
      rig.port.close();
    }
  });

  test("several times over, each pass where the one before ended", () => {
    const records = [numbered(0, 0), numbered(1, 100_000)];
    const rig = new Rig(write(records), { loops: 3 });
    rig.begin();
    const counts = [0, 90, 110, 150, 210, 250, 310, 350].map((seconds) => rig.burstAt(seconds * 1000));
    expect(counts).toEqual([1, 0, 2, 0, 2, 0, 1, 0]);
    expect(rig.received).toEqual([...hexOf(records), ...hexOf(records), ...hexOf(records)]);
    expect([rig.count("passes"), rig.count("ended")]).toEqual([3, 1]);
    rig.port.close();
  });

  test("without end", () => {
    const rig = new Rig(write([numbered(0), numbered(1)]), { loops: FULL, speed: FULL });
    rig.begin();
    for (let i = 0; i < 100; i++) rig.burstAt(0);
    expect(rig.count("frames")).toBeGreaterThan(3000);
    expect(rig.count("ended")).toBe(0);
    rig.port.close();
  });

  test("a file without packets ends, however often it is to be replayed", () => {
    const rig = new Rig(write([]), { loops: FULL });
    rig.begin();
    rig.drain();
    expect([rig.count("ended"), rig.count("frames")]).toEqual([1, 0]);
    rig.port.close();
  });
});

describe("without a free frame", () => {
  const records = Array.from({ length: 40 }, (_, i) => numbered(i));

  test("full speed waits", () => {
    const rig = new Rig(write(records), { speed: FULL }, { frames: 16 });
    rig.begin();
    expect(rig.burstAt(0, true)).toBe(16);
    expect([rig.burstAt(0), rig.count("noFrame"), rig.pool.available]).toEqual([0, 0, 0]);
    for (let i = 0; i < 16; i++) rig.pool.give(i * FRAME_SIZE);
    rig.drain();
    expect(rig.received).toEqual(hexOf(records));
    rig.port.close();
  });

  test("a wire at recorded speed does not", () => {
    const rig = new Rig(write(records), {}, { frames: 16 });
    rig.begin();
    expect(rig.burstAt(1, true)).toBe(16);
    expect([rig.count("noFrame"), rig.count("frames"), rig.count("bytes") > 0]).toEqual([24, 16, true]);
    rig.port.close();
  });
});

describe("frames that are left out", () => {
  test("sent by the host itself, cut, too long: each under its name", () => {
    const long = udpFrame({ payload: new Uint8Array(1800) });
    const own = Uint8Array.from([...MAC_B, ...MAC_A, ...udpFrame().subarray(12)]);
    const fits = udpFrame({ payload: new Uint8Array(2048 - 256 - 42) });
    const records: Recorded[] = [
      { ...numbered(0), direction: OUTBOUND },
      { frame: own, ms: 0, direction: 0 },
      { ...numbered(1), original: 1500 },
      { frame: long, ms: 0 },
      { frame: fits, ms: 0 },
      { ...numbered(2), direction: 0 },
      { frame: new Uint8Array(5), ms: 0 },
    ];
    const rig = new Rig(write(records), { speed: FULL });
    rig.begin();
    rig.drain();
    expect(rig.received).toEqual(hexOf(records.slice(4)));
    expect([rig.count("sent"), rig.count("cut"), rig.count("oversize"), rig.count("frames")]).toEqual([2, 1, 1, 3]);
    rig.port.close();
  });
});

test("queues: each frame comes to the one that a NIC would choose, and to no other", () => {
  const records = Array.from({ length: 200 }, (_, i) => numbered(i, i / 10));
  const file = write(records);
  const state = ReplayState.create(3);
  const rigs = [0, 1, 2].map((queue) => new Rig(file, { queue, speed: FULL }, { state }));
  state.begin();
  for (const rig of rigs) for (let i = 0; i < 20; i++) rig.burstAt(0);
  rigs.forEach((rig, queue) => {
    const mine = records.filter(({ frame }) => rssQueue(hash(frame, 0, frame.length), 3) === queue);
    expect(mine.length).toBeGreaterThan(20);
    expect(rig.received).toEqual(hexOf(mine));
    rig.port.close();
  });
  expect(state.counts()).toMatchObject({ frames: 200, passes: 1, ended: 1 });
});

describe("what is sent", () => {
  test("goes back to the pool once flushed, and is refused when the ring is full", () => {
    const rig = new Rig(write([]), {}, { frames: 1024 });
    for (let i = 0; i < 512; i++) expect(rig.send(udpFrame())).toBe(true);
    expect(rig.send(udpFrame())).toBe(false);
    expect([rig.port.txComplete(), rig.pool.available]).toEqual([0, 512]);
    rig.port.txFlush();
    expect([rig.port.unsent, rig.port.txComplete(), rig.pool.available]).toEqual([false, 512, 1024]);
    expect([rig.count("txFrames"), rig.count("txBytes")]).toEqual([512, 512 * udpFrame().length]);
    rig.port.close();
  });

  test("is written with the replay's time, by all queues to one file", () => {
    const file = write([numbered(0, 0), numbered(1, 1500.25)]);
    const out = path("answers.pcapng");
    createReplayFile(out, file, 2);
    const state = ReplayState.create(2);
    const rigs = [0, 1].map((queue) => new Rig(file, { queue, write: out, speed: 1 }, { state }));
    state.begin();
    const answers: string[] = [];
    const before = performance.now();
    for (const [i, rig] of rigs.entries()) {
      rig.burstAt(0);
      for (const payload of ["a", "bc", "def"]) {
        const frame = udpFrame({ payload: payload + i });
        rig.burstAt(2000);
        expect(rig.send(frame)).toBe(true);
        answers.push(frame.toHex());
      }
      rig.port.txFlush();
    }
    const passed = performance.now() - before;
    for (const rig of rigs) rig.port.close();
    const packets = all(openCapture(out));
    expect(packets.map(({ hex, interface: id, direction }) => [hex, id, direction])).toEqual(
      answers.map((hex, i) => [hex, i < 3 ? 0 : 1, OUTBOUND]),
    );
    // Two seconds of the loop's clock after the first record, and what begin() was before the first burst.
    for (const { time } of packets) {
      const late = Number(time) - (START + 2);
      expect(late >= -1e-6 && late < passed / 1000 + 0.1).toBe(true);
    }
  });

  test("at full speed has the time of what came last", () => {
    const file = write([numbered(0, 0), numbered(1, 1500.25)]);
    const out = path("full.pcapng");
    createReplayFile(out, file, 1);
    const rig = new Rig(file, { speed: FULL, write: out });
    rig.begin();
    rig.drain();
    for (let i = 0; i < 400; i++) {
      expect(rig.send(udpFrame({ payload: new Uint8Array(1400) }))).toBe(true);
      rig.port.txFlush();
      rig.port.txComplete();
    }
    rig.port.close();
    const packets = all(openCapture(out));
    expect(packets).toHaveLength(400);
    expect(new Set(packets.map(({ time }) => time))).toEqual(new Set([timeOf(START + 1, 500_250_000)]));
  });

  test("where the file takes no more, it is counted", () => {
    const rig = new Rig(write([]), { write: "/dev/full" });
    for (let i = 0; i < 300; i++) {
      rig.send(udpFrame({ payload: new Uint8Array(1400) }));
      rig.port.txFlush();
      rig.port.txComplete();
    }
    rig.port.close();
    expect(rig.notes.join()).toContain("ENOSPC");
    expect(rig.count("txUnwritten")).toBeGreaterThan(100);
    expect([rig.count("txFrames"), rig.pool.available]).toEqual([300, FRAMES]);
  });
});

describe("files with something wrong", () => {
  async function broken(change: (bytes: Uint8Array) => Uint8Array): Promise<Rig> {
    const file = write([numbered(0), numbered(1), numbered(2)]);
    await Bun.write(file, change(await Bun.file(file).bytes()));
    const rig = new Rig(file, { speed: FULL });
    rig.begin();
    rig.drain();
    rig.port.close();
    return rig;
  }

  test("cut short: what is whole is replayed, the rest is told", async () => {
    const rig = await broken((bytes) => bytes.subarray(0, bytes.length - 9));
    expect([rig.count("frames"), rig.count("ended")]).toEqual([2, 1]);
    expect(rig.notes).toEqual([expect.stringMatching(/^ends within a block at byte \d+: 79 bytes are left over$/)]);
  });

  test("damaged: it ends there, and says so", async () => {
    const rig = await broken((bytes) => bytes.fill(0xff, bytes.length - 60));
    expect([rig.count("frames"), rig.count("ended")]).toEqual([2, 1]);
    expect(rig.notes[0]).toContain("ends with the length 4294967295");
  });

  test("neither leaves a file open", () => {
    const before = readdirSync("/proc/self/fd").length;
    expect(() => new Rig(path("missing"))).toThrow("ENOENT");
    expect(() => new Rig(write([]), { write: path("no/such.pcapng") })).toThrow("ENOENT");
    expect(readdirSync("/proc/self/fd").length).toBe(before);
  });
});
