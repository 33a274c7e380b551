/** UDP_GRO: what is received as one, on a kernel socket and on the engine's. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ERRNO, sys } from "af-xdp-bindings";
import { createMemoryWire, type Side } from "lcore";
import { Engine } from "../../engine/engine.ts";
import { getAffinity } from "../../engine/host/affinity.ts";
import type { Datagram } from "../../sockets/datagram.ts";
import { MessageHeader } from "../../sockets/msghdr.ts";
import { SOL_UDP, UDP_GRO, UDP_SEGMENT } from "../../sockets/options.ts";
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { Rig } from "../sockets/rig.ts";
import { type UdpFrame, udpFrame } from "../support/frames.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";

setDefaultTimeout(60_000);

const V6: UdpFrame = { source: "2001:db8::2", destination: "2001:db8::1" };
const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];
/** [segment, bytes] */
const CASES: [number, number][] = [
  [100, 1000],
  [100, 1050],
  [1, 5],
  [100, 6400],
  [1000, 63_500],
  [1400, 2800],
  [700, 701],
];
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 7 + length);

interface Told {
  length: number;
  segment: number;
  payload: Uint8Array;
}

const missing = requires("veth", "af_xdp", "bpf");

describe.skipIf(missing !== "").each(FAMILIES)("IPv%i, as the kernel's", (family: Family) => {
  let whole: VethPair;
  let hosts: VethPair;
  let engine: Engine;
  beforeAll(async () => {
    // With offloads, veth passes what UDP_SEGMENT sent as it is, and the receiver finds it put together.
    whole = makeHosts({ offloads: "on" });
    hosts = makeHosts();
    engine = await Engine.start({ interface: hosts.b.name, netns: hosts.b.ns.path });
  });
  afterAll(async () => {
    await engine?.close();
    hosts?.close();
    whole?.close();
  });
  const addressOf = (pair: VethPair, end: "a" | "b"): string =>
    family === 4 ? pair[end].ipv4Text : pair[end].ipv6Text;

  function sendFrom(pair: VethPair, segment: number, length: number, port: number): void {
    const sender = new KernelUdp(pair.a.ns, { address: addressOf(pair, "a") });
    expect(sys.setsockoptInt(sender.fd, SOL_UDP, UDP_SEGMENT, segment)).toBe(0);
    expect(sender.send(pattern(length), addressOf(pair, "b"), port)).toBe(length);
    sender.close();
  }

  async function byKernel(segment: number, length: number): Promise<Told[]> {
    const receiver = new KernelUdp(whole.b.ns, { address: addressOf(whole, "b") });
    expect(sys.setsockoptInt(receiver.fd, SOL_UDP, UDP_GRO, 1)).toBe(0);
    const header = new MessageHeader();
    const memory = new Uint8Array(65_536);
    const told: Told[] = [];
    sendFrom(whole, segment, length, receiver.port);
    await until("the payload", () => {
      const size = header.receive(receiver.fd, sys.addressOf(memory), memory.length, 0x40);
      if (size >= 0) {
        let size1 = 0;
        for (let at = header.firstControl(); at >= 0; at = header.nextControl(at))
          if (header.controlLevel(at) === SOL_UDP && header.controlType(at) === UDP_GRO) size1 = header.controlInt(at);
        told.push({ length: size, segment: size1, payload: memory.slice(0, size) });
      }
      return told.reduce((sum, each) => sum + each.length, 0) === length;
    });
    receiver.close();
    return told;
  }

  test("received by call, once all is there", async () => {
    for (const [segment, length] of CASES) {
      const socket = engine.udp({ address: addressOf(hosts, "b") });
      socket.setsockopt(SOL_UDP, UDP_GRO, 1);
      const before = engine.counters().HandedOver;
      sendFrom(hosts, segment, length, socket.port);
      await until("the frames", () => engine.counters().HandedOver - before === Math.ceil(length / segment));
      const datagram = socket.newDatagram();
      const told: Told[] = [];
      while (socket.receiveInto(datagram) >= 0)
        told.push({ length: datagram.length, segment: datagram.segment, payload: datagram.copy() });
      expect(told).toEqual(await byKernel(segment, length));
      expect([socket.drops, datagram.sourceAddress]).toEqual([0, addressOf(hosts, "a")]);
      datagram.release();
      socket.close();
    }
  });

  test("through kernel sockets, by call and by handler, sent in segments", async () => {
    const [from, to] = await Promise.all(
      (["a", "b"] as const).map((end) => Engine.start({ provider: "kernel", netns: whole[end].ns.path })),
    );
    const sender = from.udp({ address: addressOf(whole, "a") });
    for (const way of ["call", "handler"] as const) {
      for (const [segment, length] of CASES) {
        const socket = to.udp({ address: addressOf(whole, "b") });
        socket.setsockopt(SOL_UDP, UDP_GRO, 1);
        const told: Told[] = [];
        const tell = (d: Datagram): unknown => told.push({ length: d.length, segment: d.segment, payload: d.copy() });
        if (way === "handler") socket.onDatagram = (d) => void tell(d);
        expect(sender.sendSegments(pattern(length), segment, socket.port, addressOf(whole, "b"))).toBe(length);
        const datagram = socket.newDatagram();
        await until("the payload", () => {
          while (way === "call" && socket.receiveInto(datagram) >= 0) tell(datagram);
          return told.reduce((sum, each) => sum + each.length, 0) === length;
        });
        datagram.release();
        expect(told).toEqual(await byKernel(segment, length));
        socket.close();
      }
    }
    // Too many, and above the MTU: the kernel's word.
    const errors = [1, 1500].map((segment) => sender.sendSegments(pattern(3000), segment, 9, addressOf(whole, "b")));
    expect(errors).toEqual([-ERRNO.EINVAL, -ERRNO.EMSGSIZE]);
    for (const engine of [from, to]) await engine.close();
  });
});

describe.each(["thread", "lcore"] as const)("%s", (where) => {
  const open = (): { rig: Rig; socket: UdpSocket } => {
    const rig = new Rig();
    const endpoint = where === "thread" ? rig.threads[0] : rig.lcores[0].stack;
    const socket = UdpSocket.open(endpoint, { address: "::", port: 9000 });
    socket.setsockopt(SOL_UDP, UDP_GRO, 1);
    return { rig, socket };
  };
  const tell = (d: Datagram): string =>
    `${d.length}/${d.segment} ${d.sourceAddress}:${d.sourcePort} ${d.text()[0] ?? ""}`;

  /** Frames of payloads that repeat a letter so many times. */
  const frames = (parts: readonly string[], more: UdpFrame = {}): Uint8Array[] =>
    parts.map((part) => udpFrame({ payload: part, ...more }));

  test.each(["handler", "call"] as const)("by %s: what belongs together, and what ends it", (way) => {
    const { rig, socket } = open();
    const got: string[] = [];
    if (way === "handler") socket.onDatagram = (d) => got.push(tell(d));
    const same = ["aa", "bb", "cc"];
    rig.turn([
      ...frames(same),
      // Another flow, another size, a shorter one that ends it, an empty one, another TTL, TOS, family; no checksum.
      ...frames(["dd"], { sourcePort: 40_001 }),
      ...frames(["eeee", "ffff", "g"]),
      ...frames(["h", "", "i"]),
      ...frames(["jj"], { ttl: 63 }),
      ...frames(["kk", "ll"], { tos: 4 }),
      ...frames(["mm", "nn"], V6),
      ...frames(["oo", "pp"], { checksum: "none" }),
      ...frames(["qq", "rrr"]),
    ]);
    const datagram = socket.newDatagram();
    if (where === "thread") rig.threads[0].poll();
    while (way === "call" && socket.receiveInto(datagram) >= 0) got.push(tell(datagram));
    datagram.release();
    expect(got).toEqual([
      "6/2 198.18.0.2:40000 a",
      "2/0 198.18.0.2:40001 d",
      "9/4 198.18.0.2:40000 e",
      "1/0 198.18.0.2:40000 h",
      "0/0 198.18.0.2:40000 ",
      "1/0 198.18.0.2:40000 i",
      "2/0 198.18.0.2:40000 j",
      "4/2 198.18.0.2:40000 k",
      "4/2 2001:db8::2:40000 m",
      "2/0 198.18.0.2:40000 o",
      "2/0 198.18.0.2:40000 p",
      "2/0 198.18.0.2:40000 q",
      "3/0 198.18.0.2:40000 r",
    ]);
    rig.settle();
    expect([rig.missing(), rig.unaccounted(), socket.drops]).toEqual([0, 0, 0]);
  });

  test("at most 64 at a time; a held one keeps what it has; an answer takes a send", () => {
    const { rig, socket } = open();
    const held: Datagram[] = [];
    const replies: number[] = [];
    socket.onDatagram = (d) => {
      replies.push(d.reply());
      held.push(d.hold());
    };
    for (const letter of ["a", "b"]) {
      rig.turn(Array.from({ length: 64 }, () => udpFrame({ payload: letter.repeat(10) })));
      rig.turn([]);
    }
    rig.settle();
    expect(held.map((d) => [d.length, d.segment, d.text()[0]])).toEqual([
      [640, 10, "a"],
      [640, 10, "b"],
    ]);
    expect(replies).toEqual([-ERRNO.EOPNOTSUPP, -ERRNO.EOPNOTSUPP]);
    expect(held[0].destinationPort).toBe(9000);
    for (const d of held) d.release();
    rig.settle();
    expect([rig.missing(), rig.unaccounted()]).toEqual([0, 0]);
  });

  test("one that stays alone can be answered in place, and switched off all come alone", () => {
    const { rig, socket } = open();
    const got: string[] = [];
    socket.onDatagram = (d) => {
      got.push(tell(d));
      d.reply();
    };
    let sent = rig.turn(frames(["aa"]));
    sent.push(...rig.settle());
    expect([got.splice(0), sent.length]).toEqual([["2/0 198.18.0.2:40000 a"], 1]);
    socket.setsockopt(SOL_UDP, UDP_GRO, 0);
    sent = rig.turn(frames(["aa", "bb"]));
    sent.push(...rig.settle());
    expect([got.map((text) => text[0]), sent.length]).toEqual([["2", "2"], 2]);
    expect(rig.missing()).toBe(0);
  });

  test("a handler that throws or closes the socket loses no frame", () => {
    const { rig, socket } = open();
    let calls = 0;
    socket.onDatagram = () => {
      calls++;
      if (calls === 2) socket.close();
      if (where === "thread" && calls === 1) throw new Error("from the handler");
    };
    const parts = [...frames(["aa", "bb"]), ...frames(["cc"], { sourcePort: 1 }), ...frames(["dd"], { sourcePort: 2 })];
    rig.turn(parts);
    if (where === "thread") expect(() => rig.threads[0].poll()).toThrow("from the handler");
    rig.settle();
    expect(calls).toBe(2);
    expect(rig.missing()).toBe(0);
  });
});

describe("between two engines on a wire in memory", () => {
  const MACS = [Uint8Array.of(2, 0, 0, 0, 0, 1), Uint8Array.of(2, 0, 0, 0, 0, 2)];
  const ADDRESSES = [
    ["198.18.0.1", "2001:db8::1"],
    ["198.18.0.2", "2001:db8::2"],
  ];
  test.each(FAMILIES)("IPv%i: sent in segments, received in fewer pieces", async (family) => {
    const wire = createMemoryWire();
    const start = (side: Side): Promise<Engine> => {
      const other = 1 - side;
      return Engine.start({
        memory: {
          wire,
          side,
          mac: MACS[side],
          addresses: ADDRESSES[side].map((address) => `${address}/${address.includes(":") ? 64 : 24}`),
          neighbours: ADDRESSES[other].map((address) => ({ address, mac: MACS[other] })),
        },
        cpus: [getAffinity(0)[0]],
        isolate: false,
      });
    };
    const engines = [await start(0), await start(1)];
    const to = engines[1].udp({ address: "::", port: 2000 });
    to.setsockopt(SOL_UDP, UDP_GRO, 1);
    const parts: { segment: number; bytes: Uint8Array }[] = [];
    let bytes = 0;
    to.onDatagram = (d) => {
      parts.push({ segment: d.segment, bytes: d.copy() });
      bytes += d.length;
    };
    const from = engines[0].udp({ address: "::" });
    const payload = pattern(60_000);
    expect(from.sendSegments(payload, 1000, 2000, ADDRESSES[1][family === 4 ? 0 : 1])).toBe(60_000);
    await until("the payload", () => bytes === 60_000);
    expect(Buffer.concat(parts.map((part) => part.bytes))).toEqual(Buffer.from(payload));
    expect(parts.length).toBeLessThan(60);
    for (const part of parts) expect([0, 1000]).toContain(part.segment);
    for (const engine of engines) await engine.close();
  });
});
