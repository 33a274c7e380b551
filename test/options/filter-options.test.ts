/** SO_ATTACH_FILTER and its kin as calls: the same steps on a kernel socket and on the engine's, with the same answers. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Assembler, createMap, errnoName, Program, r0, SysError, sys } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import type { NetNs } from "../../engine/host/netns.ts";
import { Random } from "../../queues/random.ts";
import { decodeClassic, encodeClassic, type SockFilter, sockFprog } from "../../sockets/bpf/classic.ts";
import { type BpfObjects, bpfOf } from "../../sockets/bpf/objects.ts";
import {
  SO_ATTACH_BPF,
  SO_ATTACH_FILTER,
  SO_ATTACH_REUSEPORT_CBPF,
  SO_ATTACH_REUSEPORT_EBPF,
  SO_DETACH_FILTER,
  SO_DETACH_REUSEPORT_BPF,
  SO_LOCK_FILTER,
  SO_MEMINFO,
  SO_REUSEPORT,
  SOL_SOCKET,
} from "../../sockets/options.ts";
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { validProgram } from "../bpf/programs.ts";
import { fprog } from "../calls/filter-programs.ts";
import { Rig } from "../sockets/rig.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp } from "../support/kernel-udp.ts";
import { int } from "./parties.ts";

setDefaultTimeout(60_000);

const OPTMEM = 6;
const PROGRAM_TYPES = ["socket_filter", "sk_reuseport", "sched_cls"] as const;
type Type = (typeof PROGRAM_TYPES)[number];

/** One socket, and how programs come to it. */
interface Party {
  /** 0, or an errno's name. */
  set(name: number, value: Uint8Array): string;
  getInt(name: number): string;
  /** SO_GET_FILTER with room for so many instructions: instructions told, and their bytes. */
  filter(room: number): string;
  optmem(): number;
  /** The value that names a program that returns 1, and one that names a map. */
  load(type: Type): number;
  map(): number;
  close(): void;
}

const RETURN_ONE = new Assembler().mov(r0, 1).exit().assemble();
const KERNEL_TYPES = {
  socket_filter: "BPF_PROG_TYPE_SOCKET_FILTER",
  sk_reuseport: "BPF_PROG_TYPE_SK_REUSEPORT",
  sched_cls: "BPF_PROG_TYPE_SCHED_CLS",
} as const;

class KernelParty implements Party {
  private readonly udp: KernelUdp;
  private readonly programs: { close(): void }[] = [];

  constructor(ns: NetNs, reusePort: boolean) {
    this.udp = new KernelUdp(ns, { reusePort });
  }

  set(name: number, value: Uint8Array): string {
    const memory = value.length === 0 ? new Uint8Array(1) : value;
    const result = sys.sys6(sys.SYS.setsockopt, this.udp.fd, SOL_SOCKET, name, sys.addressOf(memory), value.length, 0);
    return result < 0 ? errnoName(-result) : "0";
  }

  getInt(name: number): string {
    const out = new Int32Array(1);
    const result = sys.getsockopt(this.udp.fd, SOL_SOCKET, name, out);
    return result < 0 ? errnoName(-result) : String(out[0]);
  }

  filter(room: number): string {
    const out = new Uint8Array(Math.max(room, 1) * 8);
    const length = Uint32Array.of(room);
    const at = sys.addressOf(length);
    const { fd } = this.udp;
    const result = sys.sys6(sys.SYS.getsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, sys.addressOf(out), at, 0);
    if (result < 0) return errnoName(-result);
    return room === 0 ? String(length[0]) : `${length[0]} ${out.subarray(0, length[0] * 8).toHex()}`;
  }

  optmem(): number {
    const out = new Uint32Array(9);
    sys.getsockopt(this.udp.fd, SOL_SOCKET, SO_MEMINFO, out);
    return out[OPTMEM];
  }

  load(type: Type): number {
    const program = Program.load(RETURN_ONE, { type: KERNEL_TYPES[type] });
    this.programs.push(program);
    return program.fd;
  }

  map(): number {
    const map = createMap({ type: "BPF_MAP_TYPE_ARRAY", keySize: 4, valueSize: 4, maxEntries: 1 });
    this.programs.push(map);
    return map.fd;
  }

  close(): void {
    for (const one of this.programs) one.close();
    this.udp.close();
  }
}

class EngineParty implements Party {
  private readonly socket: UdpSocket;
  private readonly bpf: BpfObjects;
  private readonly programs: { close(): void }[] = [];

  constructor(socket: UdpSocket, bpf: BpfObjects) {
    this.socket = socket;
    this.bpf = bpf;
  }

  set(name: number, value: Uint8Array): string {
    return told(() => {
      this.socket.setsockopt(SOL_SOCKET, name, value);
      return "0";
    });
  }

  getInt(name: number): string {
    return told(() => String(this.socket.getsockopt(SOL_SOCKET, name)));
  }

  filter(room: number): string {
    return told(() => {
      if (room === 0) return String(this.socket.getsockopt(SOL_SOCKET, SO_ATTACH_FILTER));
      const code = this.socket.getsockoptBytes(SOL_SOCKET, SO_ATTACH_FILTER, room);
      return `${code.length / 8} ${code.toHex()}`;
    });
  }

  optmem(): number {
    return new Uint32Array(this.socket.getsockoptBytes(SOL_SOCKET, SO_MEMINFO, 36).buffer)[OPTMEM];
  }

  load(type: Type): number {
    const program = this.bpf.load({ type, instructions: RETURN_ONE });
    this.programs.push(program);
    return program.handle;
  }

  map(): number {
    const map = this.bpf.createMap({ type: "array", valueSize: 4, maxEntries: 1 });
    this.programs.push({ close: () => this.bpf.closeMap(map) });
    return map.fd;
  }

  close(): void {
    for (const one of this.programs) one.close();
    this.socket.close();
  }
}

function told(call: () => string): string {
  try {
    return call();
  } catch (error) {
    if (error instanceof SysError) return error.code;
    throw error;
  }
}

const same = (length: number): SockFilter[] => Array.from({ length }, () => ({ code: 6, jt: 0, jf: 0, k: 1 }));
/** Loads, of which the kernel makes 15 instructions each. */
const loads = (length: number): SockFilter[] => [
  ...Array.from({ length: length - 1 }, () => ({ code: 0x28, jt: 0, jf: 0, k: 2 })),
  ...same(1),
];
/** As long as may be. Values point into it: it is reachable as long as classicSteps() is, and stays where it is. */
const longest = sockFprog(same(4096));

/** Values for an option that takes a struct sock_fprog, what follows from each told in a line. */
function classicSteps(party: Party, name: number): string[] {
  const at = new DataView(longest.buffer).getBigUint64(8, true);
  const values: [string, Uint8Array][] = [
    ["whole", sockFprog(same(4))],
    ["none", fprog(0, at)],
    ["null", fprog(1, 0n)],
    ["4096", longest],
    ["4097", fprog(4097, at)],
    ["page zero", fprog(1, 8n)],
    ["not canonical", fprog(1, 2n ** 63n)],
    ["kernel", fprog(1, 0xffff_8000_0000_0000n)],
    ["unknown code", sockFprog([[0xff, 0, 0, 0]])],
    ["no return", sockFprog([[0x28, 0, 0, 0]])],
    ["jump too far", sockFprog([[0x05, 0, 0, 9], ...[[6, 0, 0, 0]]])],
    ["division by 0", sockFprog([...[[0x34, 0, 0, 0]], [6, 0, 0, 0]])],
    ["M[] not stored", sockFprog([[0x60, 0, 0, 3], ...[[6, 0, 0, 0]]])],
    ["large", sockFprog(loads(900))],
    ["too large", sockFprog(loads(1200))],
    ["far jump", sockFprog([{ code: 0x05, jt: 0, jf: 0, k: 4000 }, ...loads(4090)])],
    ...[0, 1, 3, 4, 8, 15, 17, 24].map((n): [string, Uint8Array] => [`${n} bytes`, new Uint8Array(n).fill(1)]),
  ];
  return values.map(([label, value]) => `${label}: ${party.set(name, value)} ${party.optmem()}`);
}

function handleSteps(party: Party, name: number): string[] {
  const programs = PROGRAM_TYPES.map((type) => party.load(type));
  const values = [...programs, party.map(), -1, 999_999, 0];
  return [
    ...values.map((value, i) => `value ${i}: ${party.set(name, int(value))} ${party.filter(9)}`),
    ...[0, 1, 3, 5, 8].map((n) => `${n} bytes: ${party.set(name, new Uint8Array(n))}`),
  ];
}

const OPTIONS: [string, (party: Party) => string[]][] = [
  [
    "SO_ATTACH_FILTER",
    (party) => [
      party.filter(0),
      party.filter(4),
      ...classicSteps(party, SO_ATTACH_FILTER),
      party.set(SO_ATTACH_FILTER, sockFprog(same(3))),
      ...[0, 1, 2, 3, 4, 100].map((room) => party.filter(room)),
      // The one before is charged until the new one is there.
      party.set(SO_ATTACH_FILTER, sockFprog(loads(700))),
      party.set(SO_ATTACH_FILTER, sockFprog(loads(700))),
      party.set(SO_ATTACH_FILTER, sockFprog(same(3))),
      ...[0, 1, 3, 4, 8].map(
        (n) => `detach ${n}: ${party.set(SO_DETACH_FILTER, new Uint8Array(n))} ${party.filter(0)}`,
      ),
      party.set(SO_ATTACH_FILTER, sockFprog(loads(700))),
      party.getInt(SO_DETACH_FILTER),
    ],
  ],
  [
    "SO_LOCK_FILTER",
    (party) => [
      party.getInt(SO_LOCK_FILTER),
      party.set(SO_LOCK_FILTER, int(0)),
      party.set(SO_ATTACH_FILTER, sockFprog(same(2))),
      party.set(SO_LOCK_FILTER, new Uint8Array(3)),
      party.set(SO_LOCK_FILTER, int(7)),
      party.getInt(SO_LOCK_FILTER),
      party.set(SO_LOCK_FILTER, int(-1)),
      party.set(SO_LOCK_FILTER, int(0)),
      ...classicSteps(party, SO_ATTACH_FILTER),
      ...classicSteps(party, SO_ATTACH_REUSEPORT_CBPF),
      ...handleSteps(party, SO_ATTACH_BPF),
      ...handleSteps(party, SO_ATTACH_REUSEPORT_EBPF),
      party.set(SO_DETACH_FILTER, int(0)),
      party.set(SO_DETACH_REUSEPORT_BPF, int(0)),
      party.filter(9),
    ],
  ],
  [
    "SO_ATTACH_BPF",
    (party) => [
      ...handleSteps(party, SO_ATTACH_BPF),
      party.set(SO_ATTACH_BPF, int(party.load("socket_filter"))),
      party.filter(0),
      party.getInt(SO_ATTACH_BPF),
      party.set(SO_ATTACH_FILTER, sockFprog(same(2))),
      party.filter(2),
      party.set(SO_DETACH_FILTER, int(0)),
      party.set(SO_DETACH_FILTER, int(0)),
    ],
  ],
  [
    "SO_ATTACH_REUSEPORT_CBPF",
    (party) => [
      ...classicSteps(party, SO_ATTACH_REUSEPORT_CBPF),
      ...[0, 3, 4, 8].map((n) => party.set(SO_DETACH_REUSEPORT_BPF, new Uint8Array(n))),
      party.getInt(SO_ATTACH_REUSEPORT_CBPF),
    ],
  ],
  [
    "SO_ATTACH_REUSEPORT_EBPF",
    (party) => [
      ...handleSteps(party, SO_ATTACH_REUSEPORT_EBPF),
      ...[0, 1].map(() => party.set(SO_DETACH_REUSEPORT_BPF, int(0))),
      party.getInt(SO_ATTACH_REUSEPORT_EBPF),
      party.getInt(SO_DETACH_REUSEPORT_BPF),
    ],
  ],
  [
    "SO_REUSEPORT set or taken off when it is bound",
    (party) =>
      [0, 1].flatMap((on) => [
        party.set(SO_REUSEPORT, int(on)),
        party.set(SO_ATTACH_REUSEPORT_CBPF, sockFprog(same(1))),
        party.set(SO_DETACH_REUSEPORT_BPF, int(0)),
        party.set(SO_DETACH_REUSEPORT_BPF, int(0)),
      ]),
  ],
];

const missing = requires("veth", "af_xdp", "bpf");

describe.skipIf(missing !== "")("as on a kernel socket", () => {
  let hosts: VethPair;
  const engines: Engine[] = [];
  const rig = new Rig({ lcores: 2 });

  beforeAll(async () => {
    hosts = makeHosts();
    engines.push(await Engine.start({ interface: hosts.b.name, netns: hosts.b.ns.path }));
    engines.push(await Engine.start({ provider: "kernel", netns: hosts.a.ns.path }));
  });
  afterAll(async () => {
    for (const engine of engines) await engine.close();
    hosts?.close();
  });

  /** One in the rig, one beside a kernel, one on kernel sockets, where maps are not made here. */
  const parties = (reusePort: boolean): [string, Party][] => [
    ["alone", new EngineParty(UdpSocket.open(rig.threads[0], { reusePort }), bpfOf(rig.threads[0]))],
    ["beside a kernel", new EngineParty(engines[0].udp({ reusePort }), engines[0].bpf)],
    ["on kernel sockets", new EngineParty(engines[1].udp({ reusePort }), kernelMaps(engines[1].bpf))],
  ];

  function kernelMaps(bpf: BpfObjects): BpfObjects {
    const map = createMap({ type: "BPF_MAP_TYPE_ARRAY", keySize: 4, valueSize: 4, maxEntries: 1 });
    return Object.assign(Object.create(bpf) as BpfObjects, { createMap: () => map, closeMap: () => map.close() });
  }

  describe.each([true, false])("reusePort: %p", (reusePort) => {
    test.each(OPTIONS)("%s", (_, steps) => {
      const kernel = new KernelParty(hosts.b.ns, reusePort);
      const expected = steps(kernel);
      kernel.close();
      for (const [label, party] of parties(reusePort)) {
        const got = steps(party);
        party.close();
        expect([label, ...got]).toEqual([label, ...expected]);
      }
    });
  });

  test("of a kernel socket's filter no more is read than there is room for", () => {
    const udp = new KernelUdp(hosts.b.ns);
    expect(sys.setsockopt(udp.fd, SOL_SOCKET, SO_ATTACH_FILTER, sockFprog(same(40)))).toBe(0);
    const memory = new Uint8Array(new ArrayBuffer(1024)).fill(0xaa);
    const room = new Uint8Array(memory.buffer, 0, 40 * 8 - 1);
    expect(errnoName(-sys.getsockopt(udp.fd, SOL_SOCKET, SO_ATTACH_FILTER, room))).toBe("EINVAL");
    expect(memory.every((byte) => byte === 0xaa)).toBeTrue();
    const enough = new Uint8Array(memory.buffer, 0, 40 * 8);
    expect(sys.getsockopt(udp.fd, SOL_SOCKET, SO_ATTACH_FILTER, enough)).toBe(40);
    expect(enough.toHex()).toBe(encodeClassic(same(40)).toHex());
    expect(sys.getsockopt(udp.fd, SOL_SOCKET, SO_ATTACH_FILTER, new Uint8Array(0))).toBe(40);
    udp.close();
  });

  test("what random programs are charged of optmem_max", () => {
    const random = new Random(3);
    const kernel = new KernelParty(hosts.b.ns, false);
    const [[, engine], ...others] = parties(false);
    for (const [, party] of others) party.close();
    for (let i = 0; i < 400; i++) {
      const value = sockFprog(validProgram(random, 1 + random.below(40)));
      expect([i, engine.set(SO_ATTACH_FILTER, value), engine.optmem()]).toEqual([
        i,
        kernel.set(SO_ATTACH_FILTER, value),
        kernel.optmem(),
      ]);
    }
    kernel.close();
    engine.close();
  });

  test("a flow has the filter and the lock of its socket; on kernel sockets it shares both", () => {
    const local = Int32Array.of(0, 0, 0xffff, 0xc6120001 | 0);
    const remote = Int32Array.of(0, 0, 0xffff, 0xc6120002 | 0);
    const sockets = [
      { socket: UdpSocket.open(rig.threads[0], {}), kernel: false },
      { socket: engines[1].udp({}), kernel: true },
    ];
    for (const { socket, kernel } of sockets) {
      socket.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, sockFprog(same(2)));
      socket.setsockopt(SOL_SOCKET, SO_LOCK_FILTER, 1);
      const flow = socket.flowOf(local, remote, 77);
      expect(flow.getsockopt(SOL_SOCKET, SO_ATTACH_FILTER)).toBe(2);
      expect(flow.getsockopt(SOL_SOCKET, SO_LOCK_FILTER)).toBe(1);
      const change = told(() => {
        flow.setsockopt(SOL_SOCKET, SO_DETACH_FILTER, 0);
        return "0";
      });
      expect(change).toBe(kernel ? "EOPNOTSUPP" : "EPERM");
      socket.close();
    }
  });
});

describe("the store", () => {
  const { threads } = new Rig();
  const [thread] = threads;
  const bpf = bpfOf(thread);

  test("sockets keep a closed program; its place is used again when nobody does", () => {
    const socket = UdpSocket.open(thread, {});
    const program = bpf.load({ type: "socket_filter", instructions: RETURN_ONE });
    socket.setsockopt(SOL_SOCKET, SO_ATTACH_BPF, program.handle);
    program.close();
    program.close();
    expect(() => socket.setsockopt(SOL_SOCKET, SO_ATTACH_BPF, program.handle)).toThrow("EBADF");
    expect(socket.getsockoptBytes(SOL_SOCKET, SO_MEMINFO, 36)[OPTMEM * 4]).toBeGreaterThan(0);
    const again = bpf.load({ type: "socket_filter", instructions: RETURN_ONE });
    expect(again.handle & 511).not.toBe(program.handle & 511);
    socket.close();
    again.close();
  });

  test("ten thousand programs and maps one after another leave it empty; too many at once: ENOMEM", () => {
    const socket = UdpSocket.open(thread, {});
    for (let i = 0; i < 10_000; i++) {
      const map = bpf.createMap({ type: "array", valueSize: 64, maxEntries: 100 });
      const program = bpf.load({ type: "socket_filter", instructions: RETURN_ONE });
      socket.setsockopt(SOL_SOCKET, SO_ATTACH_BPF, program.handle);
      program.close();
      bpf.closeMap(map);
    }
    socket.close();
    const held: { close(): void }[] = [];
    expect(() => {
      for (;;) held.push(bpf.load({ type: "socket_filter", instructions: RETURN_ONE }));
    }).toThrow("bpfBytes");
    expect(held.length).toBeGreaterThan(400);
    for (const one of held) one.close();
    expect(() => bpf.createMap({ type: "array", valueSize: 1 << 20, maxEntries: 2 })).toThrow("ENOMEM");
    bpf.closeMap(bpf.createMap({ type: "array", valueSize: 1 << 19, maxEntries: 1 }));
  });

  test("errors say what is wrong", () => {
    const socket = UdpSocket.open(thread, {});
    const attach = (name: number, value: number | Uint8Array) => () => socket.setsockopt(SOL_SOCKET, name, value);
    expect(attach(SO_ATTACH_FILTER, sockFprog([[0x28, 0, 0, 0]]))).toThrow("must return");
    expect(attach(SO_ATTACH_REUSEPORT_CBPF, sockFprog(decodeClassic("1,6 0 0 0")))).toThrow("no reuseport group");
    expect(() => bpf.load({ type: "socket_filter", instructions: new Assembler().exit().assemble() })).toThrow(
      "instruction 0: r0 is not set",
    );
    socket.close();
  });
});
