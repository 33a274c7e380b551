/**
 * Hostile input on live flows: whatever arrives, a counter says what became of it, nothing is thrown, every frame comes
 * back, and the flows beside it go on. Frames are fed straight into the stack.
 */
import { describe, expect, test } from "bun:test";
import { BURST_MAX, Burst } from "../../queues/driver.ts";
import { Random } from "../../queues/random.ts";
import { C } from "../../sockets/counters.ts";
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { onesSum, type UdpFrame, udpFrame } from "../support/frames.ts";
import { Rig } from "./rig.ts";

const SEED = 0x5eed;
const MUTATIONS = 1_000_000;
/** What the stack may allocate over all mutations: the warming-up of the JIT, not a byte a frame. */
const GROWTH_MAX_BYTES = 48 * 2 ** 20;

const V6: UdpFrame = { source: "2001:db8::2", destination: "2001:db8::1" };
const LONG = "x".repeat(600);

/** Every shape of frame that sockets take, to sockets of every kind. */
const CORPUS = [
  udpFrame(),
  udpFrame({ payload: LONG, checksum: "none" }),
  udpFrame({ port: 9001, tags: [[0x8100, 7]] }),
  udpFrame({
    port: 9002,
    tags: [
      [0x88a8, 7],
      [0x8100, 8],
    ],
    padding: 3,
  }),
  udpFrame({ port: 9001, options: [7, 7, 4, 0, 0, 0, 0, 0] }),
  udpFrame({ port: 9003, options: new Array<number>(40).fill(1), payload: "" }),
  udpFrame({ port: 9000, sourcePort: 5000, checksum: "partial" }),
  udpFrame({ ...V6 }),
  udpFrame({ ...V6, port: 9001, payload: LONG }),
  udpFrame({ ...V6, port: 9002, tags: [[0x8100, 7]], checksum: "partial" }),
  udpFrame({ ...V6, port: 9003, padding: 9 }),
  udpFrame({ port: 9004 }),
  udpFrame({ ...V6, port: 9004 }),
];

/** Sockets of every kind: with a handler, echoing, queued, connected, flows, on a thread, in a group. */
function populate(rig: Rig): { answers: () => number } {
  const { stack } = rig.lcores[0];
  let answers = 0;
  const echo = UdpSocket.open(stack, { address: "::", port: 9000 });
  echo.onDatagram = (d) => {
    if (d.reply() >= 0) answers++;
  };
  const flows: UdpSocket[] = [];
  const server = UdpSocket.open(stack, { address: "::", port: 9001 });
  server.onDatagram = (d) => {
    if (d.sourcePort === 0 || flows.length >= 64) return;
    const flow = server.flow(d);
    flow.onDatagram = (next) => void next.reply(next.length >> 1);
    flows.push(flow);
  };
  UdpSocket.open(stack, { address: "::", port: 9002, receiveBuffer: 16384 });
  const reader = UdpSocket.open(rig.threads[0], { address: "::", port: 9003 });
  reader.onDatagram = (d) => void d.reply();
  for (const endpoint of [stack, rig.threads[0], stack]) {
    const member = UdpSocket.open(endpoint, { address: "198.18.0.1", port: 9004, reusePort: true });
    member.onDatagram = () => {};
  }
  UdpSocket.open(stack, { address: "2001:db8::1", port: 9004 }).connect(40000, "2001:db8::2");
  return { answers: () => answers };
}

/** Changes one frame at `at` of `memory` in place: bits, bytes, halfwords, ranges, its length. Returns the new length. */
function mutate(random: Random, memory: Uint8Array, at: number, length: number): number {
  let size = length;
  for (let changes = 1 + random.below(3); changes > 0; changes--) {
    // Headers are what decides: three of four changes hit the first 80 bytes.
    const where = at + random.below(random.below(4) === 0 ? length : Math.min(length, 80));
    switch (random.below(6)) {
      case 0:
        memory[where] ^= 1 << random.below(8);
        break;
      case 1:
        memory[where] = random.below(256);
        break;
      case 2:
        memory[where] = random.below(2) * 255;
        memory[where + 1] = random.below(2) * 255;
        break;
      case 3:
        size = random.below(length + 1);
        break;
      case 4:
        memory.copyWithin(where, at + random.below(length), at + length);
        break;
      default:
        size = Math.min(length + random.below(64), 1600);
    }
  }
  return size;
}

/** Makes the checksums of an untagged IPv4 frame right again, so that the change gets past them. */
function repair(memory: Uint8Array, at: number, length: number): void {
  const ip = at + 14;
  const header = (memory[ip] & 15) * 4;
  if (memory[at + 12] !== 8 || memory[at + 13] !== 0 || header < 20 || length < 14 + header + 8) return;
  memory.fill(0, ip + 10, ip + 12);
  const sum = ~onesSum(memory, ip, ip + header);
  memory[ip + 10] = sum >> 8;
  memory[ip + 11] = sum;
  memory.fill(0, ip + header + 6, ip + header + 8);
}

describe("hostile frames", () => {
  test("every truncation of every frame", () => {
    const rig = new Rig();
    rig.lcores[0].ports[0].partialChecksums = true;
    populate(rig);
    for (const frame of CORPUS) {
      for (let length = 0; length <= frame.length; length++) {
        rig.turn([frame.subarray(0, length)]);
        if (length % 64 === 0) rig.settle();
      }
    }
    rig.settle();
    expect(rig.unaccounted()).toBe(0);
    // Those in full, and padded ones without their padding, are the only ones delivered.
    const whole = CORPUS.length + 3 + 9;
    expect(rig.counter("UdpInDatagrams") + rig.counter("UdpRcvbufErrors")).toBe(whole);
  });

  test("every value of every byte of the headers", () => {
    const rig = new Rig();
    rig.lcores[0].ports[0].partialChecksums = true;
    populate(rig);
    for (const frame of CORPUS) {
      for (let at = 12; at < Math.min(frame.length, 94); at++) {
        const burst: Uint8Array[] = [];
        for (let value = 0; value < 256; value++) {
          const copy = frame.slice();
          copy[at] = value;
          burst.push(copy);
        }
        rig.turn(burst);
      }
      rig.settle();
    }
    expect(rig.unaccounted()).toBe(0);
    expect(rig.counter("UdpInCsumErrors")).toBeGreaterThan(10_000);
  });

  test(`${MUTATIONS} random mutations: all accounted for, other flows intact, memory bounded`, () => {
    const rig = new Rig({ frames: 2048 });
    const { stack, pool, ports } = rig.lcores[0];
    ports[0].partialChecksums = true;
    ports[0].keep = false;
    const { answers } = populate(rig);
    let control = 0;
    UdpSocket.open(stack, { address: "198.18.0.10", port: 7 }).onDatagram = (d) => {
      if (d.text() === "control" && d.reply() === 7) control++;
    };
    const probe = udpFrame({ destination: "198.18.0.10", port: 7, payload: "control" });
    const random = new Random(SEED);
    const burst = new Burst();
    const { bytes } = rig.shared.memories[0];
    let fed = 0;
    let rounds = 0;
    let before = 0;
    const round = (): void => {
      stack.control();
      const count = BURST_MAX;
      for (let i = 0; i < count; i++) {
        const at = pool.take() + 256;
        const frame = i === 17 ? probe : CORPUS[random.below(CORPUS.length)];
        bytes.set(frame, at);
        burst.offset[i] = at;
        burst.length[i] = i === 17 ? frame.length : mutate(random, bytes, at, frame.length);
        if (i !== 17 && i % 2 === 0) repair(bytes, at, burst.length[i]);
      }
      burst.count = count;
      fed += count - 1;
      rounds++;
      stack.input(0, burst);
      stack.poll();
      stack.flush();
      for (const port of ports) port.txComplete();
      rig.threads[0].poll();
    };
    while (fed < MUTATIONS / 10) round();
    Bun.gc(true);
    before = process.memoryUsage.rss();
    while (fed < MUTATIONS) round();
    rig.settle();
    Bun.gc(true);
    expect(process.memoryUsage.rss() - before).toBeLessThan(GROWTH_MAX_BYTES);
    rig.fed[0] = fed + rounds;
    expect(control).toBe(rounds);
    expect(answers()).toBeGreaterThan(1000);
    expect(rig.unaccounted()).toBe(0);
    // Sockets with a queue keep what is in it; all else is back.
    const waiting = [...stack.sockets.values()].reduce((sum, socket) => sum + socket.queue.length, 0);
    expect(rig.missing()).toBe(waiting);
    for (const endpoint of [stack, rig.threads[0]]) for (const socket of [...endpoint.sockets.values()]) socket.close();
    rig.settle();
    expect(rig.missing()).toBe(0);
    expect(rig.table.open).toBe(0);
  }, 60_000);

  test("a datagram from port 0 is not taken for an entry of a bound address", () => {
    const rig = new Rig();
    const { stack } = rig.lcores[0];
    const got: number[] = [];
    for (const address of ["198.18.0.1", "2001:db8::1"]) {
      for (let i = 0; i < 2; i++) {
        const member = UdpSocket.open(stack, { address, port: 9000, reusePort: true });
        member.onDatagram = (d) => got.push(d.family);
      }
      const peer = address === "198.18.0.1" ? "198.18.0.2" : "2001:db8::2";
      UdpSocket.open(stack, { address, port: 9000, reusePort: true }).connect(53, peer);
    }
    rig.turn([udpFrame({ sourcePort: 0 }), udpFrame({ source: "0.0.0.0", sourcePort: 0 })]);
    rig.turn([udpFrame({ ...V6, sourcePort: 0 }), udpFrame({ ...V6, source: "::", sourcePort: 0 })]);
    expect(rig.counters()).toEqual({ RxFrames: 4, UdpInDatagrams: 3, IpInAddrErrors: 1 });
    expect(got).toEqual([4, 6, 6]);
    expect(rig.unaccounted()).toBe(0);
  });
});

describe("hostile messages", () => {
  test("an answer to what was sent from port 0 goes nowhere, and a flow of it is refused", () => {
    const rig = new Rig();
    const server = UdpSocket.open(rig.lcores[0].stack, { port: 9000 });
    server.onDatagram = (d) => {
      expect(() => server.flow(d)).toThrow("EINVAL");
    };
    rig.turn([udpFrame({ sourcePort: 0 })]);
    expect(rig.table.open).toBe(1);
    expect(rig.counter("UdpInDatagrams")).toBe(1);
  });

  test("messages of an unknown kind are counted and ignored, by lcores and threads", () => {
    const rig = new Rig();
    const { mesh } = rig.shared;
    const ring = mesh.producer(1, 0);
    const at = ring.claim();
    ring.words[at] = 99;
    ring.publish();
    rig.turn();
    expect(rig.counter("BadMessages")).toBe(1);
    const back = mesh.producer(0, 1);
    back.words[back.claim()] = 99;
    back.publish();
    rig.threads[0].poll();
    expect(rig.threads[0].counters[C.BadMessages]).toBe(1);
  });
});
