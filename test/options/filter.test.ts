/** Socket filters on datagrams: what they see, drop and cut, as on a kernel socket; and wherever a datagram is delivered. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Assembler, r0, r1, r6, r7, sys } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import { Random } from "../../queues/random.ts";
import { type SockFilter, sockFprog } from "../../sockets/bpf/classic.ts";
import { SKB } from "../../sockets/bpf/extended/context.ts";
import { bpfOf } from "../../sockets/bpf/objects.ts";
import {
  SO_ATTACH_BPF,
  SO_ATTACH_FILTER,
  SO_DETACH_FILTER,
  SO_MEMINFO,
  SO_RXQ_OVFL,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
} from "../../sockets/options.ts";
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { validProgram } from "../bpf/programs.ts";
import { IFINDEX, Rig } from "../sockets/rig.ts";
import { udpFrame } from "../support/frames.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";

setDefaultTimeout(60_000);

const ret = (k: number): SockFilter => ({ code: 6, jt: 0, jf: 0, k });
const RET_A: SockFilter = { code: 0x16, jt: 0, jf: 0, k: 0 };
const load = (k: number, code = 0x20): SockFilter => ({ code, jt: 0, jf: 0, k: k >>> 0 });
const MEMINFO_DROPS = 8;

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")("as on a kernel socket", () => {
  /** For the oracle, and for kernel sockets under the engine: without an XDP program. Same names, addresses and ports. */
  let plain: VethPair;
  let hosts: VethPair;
  const engines: Engine[] = [];
  const PORT = 7000;
  const FROM = 4001;

  beforeAll(async () => {
    plain = makeHosts();
    hosts = makeHosts();
    engines.push(await Engine.start({ interface: hosts.b.name, netns: hosts.b.ns.path }));
    engines.push(await Engine.start({ provider: "kernel", netns: plain.b.ns.path }));
  });
  afterAll(async () => {
    for (const engine of engines) await engine.close();
    hosts?.close();
    plain?.close();
  });

  interface Receiver {
    attach(program: readonly SockFilter[]): void;
    /** Sends payloads and tells what comes of each: the length received, or that it was dropped. */
    play(payloads: readonly Uint8Array[]): Promise<string[]>;
    close(): void;
  }

  class Kernel implements Receiver {
    private readonly receiver: KernelUdp;
    private readonly sender: KernelUdp;
    private readonly at: string;

    constructor(family: 4 | 6) {
      const [at, from] = [plain.b, plain.a].map((host) => (family === 4 ? host.ipv4Text : host.ipv6Text));
      this.at = at;
      this.receiver = new KernelUdp(plain.b.ns, { address: at, port: PORT });
      this.sender = new KernelUdp(plain.a.ns, { address: from, port: FROM });
    }

    attach(program: readonly SockFilter[]): void {
      expect(sys.setsockopt(this.receiver.fd, SOL_SOCKET, SO_ATTACH_FILTER, sockFprog(program))).toBe(0);
    }

    private get drops(): number {
      const words = new Uint32Array(9);
      sys.getsockopt(this.receiver.fd, SOL_SOCKET, SO_MEMINFO, words);
      return words[MEMINFO_DROPS];
    }

    async play(payloads: readonly Uint8Array[]): Promise<string[]> {
      const told: string[] = [];
      for (const payload of payloads) {
        const before = this.drops;
        this.sender.send(payload, this.at, PORT);
        let got: string | null = null;
        await until("a datagram or a drop", () => {
          const received = this.receiver.take();
          if (received !== null) got = `${received.payload.length}`;
          else if (this.drops > before) got = "dropped";
          return got !== null;
        });
        told.push(got as unknown as string);
      }
      return told;
    }

    close(): void {
      this.receiver.close();
      this.sender.close();
    }
  }

  class OfEngine implements Receiver {
    private readonly socket: UdpSocket;
    private readonly sender: KernelUdp;
    private readonly at: string;

    constructor(engine: Engine, family: 4 | 6) {
      const pair = engine === engines[0] ? hosts : plain;
      const [at, from] = [pair.b, pair.a].map((host) => (family === 4 ? host.ipv4Text : host.ipv6Text));
      this.at = at;
      this.socket = engine.udp({ address: at, port: PORT });
      this.sender = new KernelUdp(pair.a.ns, { address: from, port: FROM });
    }

    attach(program: readonly SockFilter[]): void {
      this.socket.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, sockFprog(program));
    }

    async play(payloads: readonly Uint8Array[]): Promise<string[]> {
      const told: string[] = [];
      const datagram = this.socket.newDatagram();
      for (const payload of payloads) {
        const before = this.socket.drops;
        this.sender.send(payload, this.at, PORT);
        let got: string | null = null;
        await until("a datagram or a drop", () => {
          if (this.socket.receiveInto(datagram) >= 0) got = `${datagram.length}`;
          else if (this.socket.drops > before) got = "dropped";
          return got !== null;
        });
        told.push(got as unknown as string);
      }
      datagram.release();
      return told;
    }

    close(): void {
      this.socket.close();
      this.sender.close();
    }
  }

  /** What each program makes of payloads, on a kernel socket, and then on both of the engine's. */
  async function compare(family: 4 | 6, programs: readonly SockFilter[][], payloads: readonly Uint8Array[]) {
    const run = async (receiver: Receiver): Promise<string[]> => {
      const lines: string[] = [];
      for (const program of programs) {
        receiver.attach(program);
        lines.push((await receiver.play(payloads)).join(" "));
      }
      receiver.close();
      return lines;
    };
    const expected = await run(new Kernel(family));
    for (const engine of engines) {
      const got = await run(new OfEngine(engine, family));
      const wrong = programs.flatMap((program, i) =>
        got[i] === expected[i] ? [] : [{ program, kernel: expected[i], engine: got[i] }],
      );
      expect([engine.info.provider, wrong]).toEqual([engine.info.provider, []]);
    }
    return expected;
  }

  const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 7);
  const FAMILIES = [4, 6] as const;

  test.each(FAMILIES)(
    "IPv%i: nothing kept is a drop, less than the header keeps the header, more than all keeps all",
    async (family) => {
      const kept = [0, 1, 7, 8, 9, 27, 28, 29, 65535, 0x7fffffff, 0x80000000, 0xffffffff];
      const told = await compare(
        family,
        kept.map((k) => [ret(k)]),
        [bytes(20), bytes(0), bytes(1)],
      );
      expect(told[0]).toBe("dropped dropped dropped");
      expect(told[1]).toBe("0 0 0");
      expect(told[4]).toBe("1 0 1");
      expect(told.at(-1)).toBe("20 0 1");
    },
  );

  test.each(FAMILIES)("IPv%i: headers, and what the kernel knows of the datagram", async (family) => {
    // Not of the queue, which veth does not record, nor the hash, the CPU, a random number.
    const ancillary = [0, 4, 8, 20, 28, 44, 48, 52, 60].map((what) => load(-0x1000 + what));
    const network = [0, 6, 8, 9, 12, 19, 20, 24, 27, 28, 39, 40].map((at) => load(-0x100000 + at, 0x30));
    const link = [12, 13, 14, 34, 41, 54, 61, 62].map((at) => load(-0x200000 + at, 0x30));
    const inside = [0, 2, 4, 8, 24, 25, 26].map((at) => load(at));
    const lengths = [{ code: 0x80, jt: 0, jf: 0, k: 0 }];
    const programs = [...ancillary, ...network, ...link, ...inside, ...lengths].flatMap((one) =>
      // The low bits, eight at a time, as the length that is kept behind the header.
      [0, 8].map((shift) => [one, load(shift, 0x74), load(0xff, 0x54), load(8, 0x04), RET_A]),
    );
    await compare(family, programs, [bytes(280)]);
  });

  test.each(FAMILIES)("IPv%i: random programs", async (family) => {
    const random = new Random(family);
    // MAC addresses, identifications and header checksums differ.
    const isApart = ({ code, k }: SockFilter): boolean =>
      (code & 7) < 2 && (k | 0) >>> 0 >= 0xffdfffff && (k | 0) < -0x100000 + 12;
    const programs: SockFilter[][] = [];
    while (programs.length < 150) {
      const program = validProgram(
        random,
        1 + random.below(30),
        [0, 4, 12, 16, 20, 28, 40, 44, 48, 52, 60].map((what) => 0xfffff000 + what),
      );
      if (!program.some(isApart)) programs.push(program);
    }
    const told = await compare(family, programs, [bytes(5), bytes(60)]);
    // Dropped, cut and whole ones.
    expect(told.filter((line) => line.includes("dropped")).length).toBeGreaterThan(10);
    expect(new Set(told).size).toBeGreaterThan(10);
  });
});

/** A socket somewhere in a rig, and what its application sees. */
interface Place {
  readonly rig: Rig;
  readonly socket: UdpSocket;
  /** lcore on which frames arrive. */
  readonly at: number;
  received(): number[];
}

const handled = (rig: Rig, socket: UdpSocket, at = 0): Place => {
  const lengths: number[] = [];
  socket.onDatagram = (datagram) => void lengths.push(datagram.length);
  return { rig, socket, at, received: () => lengths.splice(0) };
};

const queued = (rig: Rig, socket: UdpSocket): Place => ({
  rig,
  socket,
  at: 0,
  received() {
    const lengths: number[] = [];
    const datagram = socket.newDatagram();
    while (socket.receiveInto(datagram) >= 0) lengths.push(datagram.length);
    datagram.release();
    return lengths;
  },
});

const open = (rig: Rig, on: "thread" | 0 | 1 = "thread"): UdpSocket =>
  UdpSocket.open(on === "thread" ? rig.threads[0] : rig.lcores[on].stack, { port: 9000 });

const LOCAL = Int32Array.of(0, 0, 0xffff, 0xc6120001 | 0);
const REMOTE = Int32Array.of(0, 0, 0xffff, 0xc6120002 | 0);

const PLACES: [string, () => Place][] = [
  ["a thread's handler", () => ((rig) => handled(rig, open(rig)))(new Rig())],
  ["a thread's queue", () => ((rig) => queued(rig, open(rig)))(new Rig())],
  ["an lcore's handler", () => ((rig) => handled(rig, open(rig, 0)))(new Rig())],
  ["an lcore's queue", () => ((rig) => queued(rig, open(rig, 0)))(new Rig())],
  ["another lcore's handler", () => ((rig) => handled(rig, open(rig, 1), 0))(new Rig({ lcores: 2 }))],
  ["a flow's handler on an lcore", () => ((rig) => handled(rig, open(rig, 0).flowOf(LOCAL, REMOTE, 40000)))(new Rig())],
  ["a flow's queue", () => ((rig) => queued(rig, open(rig).flowOf(LOCAL, REMOTE, 40000)))(new Rig())],
];

describe.each(PLACES)("in %s", (_, make) => {
  const frame = (length: number): Uint8Array => udpFrame({ payload: new Uint8Array(length).fill(length) });

  test("cut, dropped and counted; taken off, all passes; no frame is lost", () => {
    const { rig, socket, at, received } = make();
    const feed = (...lengths: number[]): number[] => {
      rig.turn(lengths.map(frame), at);
      rig.settle();
      return received();
    };
    expect(feed(10, 20)).toEqual([10, 20]);
    // Drops what begins with an odd byte, keeps 13 of the others.
    const odd = [load(8, 0x30), { code: 0x45, jt: 0, jf: 1, k: 1 }, ret(0), ret(8 + 13)];
    socket.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, sockFprog(odd));
    socket.setsockopt(SOL_SOCKET, SO_RXQ_OVFL, 1);
    expect(feed(10, 11, 12, 13, 14, 15, 16)).toEqual([10, 12, 13, 13]);
    expect(socket.drops).toBe(3);
    expect(rig.counter("UdpInErrors", at)).toBe(3);
    expect(rig.unaccounted(at)).toBe(0);
    const program = bpfOf(rig.threads[0]).load({
      type: "socket_filter",
      instructions: new Assembler()
        .mov(r6, r1)
        .load32(r7, r6, SKB.len)
        .load32(r0, r6, SKB.ifindex)
        .add(r0, 8 + 4 - IFINDEX)
        .jgt(r7, 8 + 50, "out")
        .mov(r0, 0)
        .label("out")
        .exit()
        .assemble(),
    });
    socket.setsockopt(SOL_SOCKET, SO_ATTACH_BPF, program.handle);
    program.close();
    expect(feed(50, 51, 52)).toEqual([4, 4]);
    expect(socket.drops).toBe(4);
    socket.setsockopt(SOL_SOCKET, SO_DETACH_FILTER, 0);
    expect(feed(11, 50)).toEqual([11, 50]);
    expect(socket.drops).toBe(4);
    socket.close();
    rig.settle();
    expect(rig.missing(at)).toBe(0);
  });
});

test("a datagram that is cut is charged whole", () => {
  const rig = new Rig();
  const socket = open(rig);
  socket.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, sockFprog([ret(9)]));
  rig.turn([udpFrame({ payload: new Uint8Array(1000) })]);
  rig.settle();
  const words = new Uint32Array(socket.getsockoptBytes(SOL_SOCKET, SO_MEMINFO, 36).buffer);
  expect(words[0]).toBe(1008 + 768);
  rig.turn([udpFrame({ port: 1 })]);
  socket.close();
  rig.settle();
  expect(rig.missing()).toBe(0);
});

test("UDP_GRO: datagrams are filtered one by one, and those that were cut coalesce", () => {
  const rig = new Rig();
  const socket = open(rig);
  socket.setsockopt(SOL_UDP, UDP_GRO, 1);
  socket.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, sockFprog([ret(8 + 6)]));
  const seen: [number, number][] = [];
  socket.onDatagram = (datagram) => void seen.push([datagram.length, datagram.segment]);
  rig.turn(Array.from({ length: 5 }, (_, i) => udpFrame({ payload: new Uint8Array(20).fill(i) })));
  rig.settle();
  expect(seen).toEqual([[30, 6]]);
  expect(rig.missing()).toBe(0);
});

test("what another thread attaches holds for the frames of a turn that began before", () => {
  const rig = new Rig();
  const socket = open(rig);
  rig.turn([]);
  // The lcore has looked at the change log; then the call; then the frame arrives, in the same turn.
  rig.lcores[0].stack.control();
  socket.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, sockFprog([ret(0)]));
  rig.input([udpFrame({})]);
  expect(socket.drops).toBe(1);
  socket.setsockopt(SOL_SOCKET, SO_DETACH_FILTER, 0);
  rig.input([udpFrame({})]);
  expect(socket.drops).toBe(1);
  socket.close();
  rig.settle();
});
