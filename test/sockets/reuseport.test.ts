/** Programs of reuseport groups: whom they choose, as the kernel's groups do; and how the hash spreads. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Assembler, Program, r0, r1, r2, r3, r4, r6, r10, SysError, sys } from "af-xdp-bindings";
import { Random } from "../../queues/random.ts";
import { attachGroupClassic, attachGroupHandle, detachGroupProgram } from "../../sockets/bpf/attach.ts";
import { decodeClassic, encodeClassic, sockFprog } from "../../sockets/bpf/classic.ts";
import { REUSEPORT_MD } from "../../sockets/bpf/extended/context.ts";
import { BpfObjects, bpfOf } from "../../sockets/bpf/objects.ts";
import { NO_CHOICE } from "../../sockets/bpf/programs.ts";
import { addressWords } from "../../sockets/fib.ts";
import { Lookup, NOBODY } from "../../sockets/lookup.ts";
import {
  SO_ATTACH_REUSEPORT_CBPF,
  SO_ATTACH_REUSEPORT_EBPF,
  SO_DETACH_REUSEPORT_BPF,
  SO_INCOMING_CPU,
  SOL_SOCKET,
} from "../../sockets/options.ts";
import { PORTS_MAX } from "../../sockets/shared.ts";
import {
  AF_INET,
  CONNECTED,
  F_REUSEPORT,
  F_V6ONLY,
  FLAGS,
  GROUP,
  IPPROTO_UDP,
  LOCAL,
  LOCAL_PORT,
  REMOTE,
  REMOTE_PORT,
  SocketTable,
  STATE,
} from "../../sockets/table.ts";
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { ip } from "../../sockets/wire/address.ts";
import { udpFrame } from "../support/frames.ts";
import { requires } from "../support/hosts.ts";
import { GroupScenario, type Pair, tell } from "./group-scenario.ts";
import { familyOf, KernelHost, LO, wish } from "./kernel-sockets.ts";
import { Rig } from "./rig.ts";

setDefaultTimeout(600_000);

const PORT = 7000;
const SOURCE_PORTS = [4001, 4002];
const OPTMEM = 131072;
const ETH = 14;

/** A table and one lcore's look-up over it. */
class World {
  readonly table = SocketTable.create(256, 1);
  readonly bpf = new BpfObjects(this.table);
  readonly lookup = new Lookup(this.table, 99, 0, new Int32Array(PORTS_MAX * 2));

  bind(address: string, only6 = false): number {
    const { table } = this;
    const id = table.create(familyOf(address), IPPROTO_UDP, 2, 1 << 16, 1 << 16);
    const result = table.mutex.hold(() => {
      this.setWords(id, LOCAL, addressWords(ip(address)));
      table.set(id, LOCAL_PORT, PORT);
      table.set(id, FLAGS, F_REUSEPORT | (only6 ? F_V6ONLY : 0));
      return table.bindLocked(id);
    });
    expect(result).toBe(0);
    return id;
  }

  /** Connects; `local` is the address the kernel has now. Port 0 dissolves. */
  connect(id: number, local: Int32Array, address: string, port: number): void {
    const { table } = this;
    table.mutex.hold(() => {
      const wasAny = table.isAny(id);
      this.setWords(id, LOCAL, local);
      this.setWords(id, REMOTE, addressWords(ip(address)));
      table.set(id, REMOTE_PORT, port);
      if (wasAny !== table.isAny(id)) table.rehashLocked(id);
      table.connectLocked(id);
    });
  }

  close(id: number): void {
    this.table.mutex.hold(() => this.table.closeLocked(id));
  }

  /** The socket for a datagram, and whether the hash of its group chose it. */
  find(source: string, sourcePort: number, destination: string, payload: Uint8Array): { id: number; byHash: boolean } {
    const { lookup } = this;
    if (lookup.isStale()) lookup.sync();
    const bytes = udpFrame({ source, destination, sourcePort, port: PORT, payload });
    const from = ip(source);
    const local = addressWords(ip(destination))[3];
    const remote = addressWords(from)[3];
    const found =
      from.length === 4
        ? lookup.udp4(local, PORT, remote, sourcePort, 0, LO)
        : lookup.udp6(bytes, ETH, PORT, sourcePort, 0, LO);
    if (found >= NOBODY) return { id: found, byHash: found >= 0 && this.table.get(found, GROUP) >= 0 };
    const { programs } = lookup;
    Object.assign(programs.arrival, { frame: 0, ip: ETH, udp: ETH + (from.length === 4 ? 20 : 40), ifindex: LO });
    let verdict = 0;
    const { select, index } = programs;
    programs.select = (...args) => {
      verdict = select.apply(programs, args);
      return verdict;
    };
    programs.index = (...args) => {
      verdict = index.apply(programs, args);
      return verdict;
    };
    const id = lookup.choose(found, bytes, 0);
    Object.assign(programs, { select, index });
    return { id, byHash: verdict === NO_CHOICE && programs.chosen < 0 };
  }

  private setWords(id: number, field: number, words: Int32Array): void {
    for (let i = 0; i < 4; i++) this.table.set(id, field + i, words[i]);
  }
}

/** A program, as it is attached to a kernel socket and to the table's. */
interface Selector {
  readonly text: string;
  kernel(fd: number): number;
  table(world: World, id: number): number;
}

const classic = (text: string, program: string): Selector => ({
  text,
  kernel: (fd) => sys.setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, sockFprog(program)),
  table: (world, id) => attachGroupClassic(world.table, id, encodeClassic(decodeClassic(program)), OPTMEM),
});

function extended(
  text: string,
  type: "socket_filter" | "sk_reuseport",
  make: (map: { fd: number } | null) => Uint8Array,
  maps: [kernel: { fd: number }, table: { fd: number }] | null = null,
): Selector {
  const name = type === "sk_reuseport" ? "BPF_PROG_TYPE_SK_REUSEPORT" : "BPF_PROG_TYPE_SOCKET_FILTER";
  return {
    text,
    kernel(fd) {
      const program = Program.load(make(maps?.[0] ?? null), { type: name });
      const result = sys.setsockoptInt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, program.fd);
      program.close();
      return result;
    },
    table(world, id) {
      const program = world.bpf.load({ type, instructions: make(maps?.[1] ?? null) });
      const result = attachGroupHandle(world.table, id, program.handle, OPTMEM);
      program.close();
      return result;
    },
  };
}

/** The first byte of the payload is the index. */
const byPayload = (): Uint8Array =>
  new Assembler()
    .mov(r2, 0)
    .store64(r10, -8, r2)
    .mov(r3, r10)
    .add(r3, -8)
    .mov(r4, 1)
    .call("skb_load_bytes")
    .load64(r0, r10, -8)
    .exit()
    .assemble();

/** The first byte of the payload is the index in a map of sockets; what helper and program return, `verdict` plus. */
const byMap = (map: { fd: number } | null, verdict: number): Uint8Array =>
  new Assembler()
    .mov(r6, r1)
    .load64(r2, r6, REUSEPORT_MD.data)
    .load64(r3, r6, REUSEPORT_MD.data_end)
    .mov(r0, verdict)
    .mov(r4, r2)
    .add(r4, 9)
    .jgt(r4, r3, "out")
    .load8(r4, r2, 8)
    .store32(r10, -8, r4)
    .mov(r1, r6)
    .mapFd(r2, map as { fd: number })
    .mov(r3, r10)
    .add(r3, -8)
    .mov(r4, 0)
    .call("sk_select_reuseport")
    .mov(r0, verdict)
    .label("out")
    .exit()
    .assemble();

const SCENARIOS = Number(process.env.LCORE_REUSEPORT_SCENARIOS ?? 40);
const SEED = Number(process.env.LCORE_REUSEPORT_SEED ?? 11);

const missing = requires("netns", "bpf");
const MAP_SIZE = 5;

describe.skipIf(missing !== "")("as the kernel's groups", () => {
  const LOCALS = ["198.18.0.1", "198.18.0.10", "2001:db8::1", "2001:db8::10"];
  const BINDABLE = ["0.0.0.0", "198.18.0.1", "::", "2001:db8::1"];
  const host = missing === "" ? new KernelHost(LOCALS) : null;
  const kernel = host as KernelHost;
  afterAll(() => host?.close());

  interface UdpPair extends Pair {
    readonly address: string;
  }

  class Scenario extends GroupScenario<UdpPair> {
    readonly world: World;
    /** Datagrams of which the kernel said the same. */
    same = 0;
    private readonly senders: { address: string; port: number; fd: number }[];

    constructor(random: Random) {
      const world = new World();
      super(random, world, MAP_SIZE);
      this.world = world;
      this.senders = ["198.18.0.10", "2001:db8::10"].flatMap((address) =>
        SOURCE_PORTS.map((port) => ({ address, port, fd: kernel.bind(wish(address), port) })),
      );
    }

    bind(): void {
      const address = this.pick(BINDABLE);
      // Few addresses, so that groups have several members.
      const only6 = address.includes(":");
      const fd = kernel.bind(wish(address, { reusePort: true, only6 }), PORT);
      expect(fd).toBeGreaterThan(0);
      this.pairs.push({ id: this.world.bind(address, only6), fd, address });
      this.history.push(`bind ${address}`);
    }

    /** One random change, told by both sides alike. */
    step(): void {
      const { pairs, random, world } = this;
      const kind = random.below(12);
      if (pairs.length === 0 || (kind < 3 && pairs.length < 7)) {
        this.bind();
        return;
      }
      const at = random.below(pairs.length);
      const pair = pairs[at];
      const { id, fd } = pair;
      if (kind < 6) {
        const program = this.pick(this.selectors());
        this.agree(`${program.text} at ${at}`, program.kernel(fd), program.table(world, id));
      } else if (kind === 6) {
        const result = sys.setsockoptInt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0);
        this.agree(`detach at ${at}`, result, detachGroupProgram(world.table, id));
      } else if (kind === 7) {
        world.close(id);
        sys.close(fd);
        pairs.splice(at, 1);
        this.history.push(`close ${at}`);
      } else if (kind === 8) {
        this.connect(pair, at);
      } else {
        this.place(at);
      }
    }

    private connect({ id, fd, address }: UdpPair, at: number): void {
      const { world } = this;
      const family = familyOf(address);
      if (world.table.get(id, STATE) === CONNECTED) {
        // Of an IPv6 socket the kernel still scores the peer's address then (sk_v6_daddr).
        if (family !== AF_INET) return;
        sys.connect(fd, new Uint8Array(16));
        // What it has received while it was connected has left its CPU there, which scores.
        sys.setsockoptInt(fd, SOL_SOCKET, SO_INCOMING_CPU, -1);
        world.connect(id, kernel.localWords(fd), address, 0);
        this.history.push(`disconnect ${at}`);
        return;
      }
      const remote = address.includes(":") ? "2001:db8::10" : "198.18.0.10";
      const port = this.pick(SOURCE_PORTS);
      expect(kernel.connect(fd, family, remote, port)).toBe(0);
      world.connect(id, kernel.localWords(fd), remote, port);
      this.history.push(`connect ${at} ${port}`);
    }

    /** Puts a socket into the maps, or takes what is there out. */
    private place(at: number): void {
      const { random } = this;
      const index = random.below(MAP_SIZE + 1);
      const key = new Uint8Array(Uint32Array.of(index).buffer);
      if (random.below(4) === 0 && index < MAP_SIZE) {
        const told = tell(() => this.kernelMap.delete(key) || fail("ENOENT"));
        this.agree(
          `empty ${index}`,
          told,
          tell(() => this.map.setSocket(index, -1)),
        );
        return;
      }
      this.putIntoMap(index, at);
    }

    private selectors(): Selector[] {
      const maps: [{ fd: number }, { fd: number }] = [this.kernelMap, this.map];
      return [
        classic("payload", "2,48 0 0 0,22 0 0 0"),
        classic("index 1", "1,6 0 0 1"),
        classic("length", "2,128 0 0 0,22 0 0 0"),
        classic("beyond", "1,6 0 0 4294967295"),
        extended("ebpf payload", "socket_filter", byPayload),
        extended("map", "sk_reuseport", (map) => byMap(map, 1), maps),
        extended("map", "sk_reuseport", (map) => byMap(map, 1), maps),
        extended("map, dropped", "sk_reuseport", (map) => byMap(map, 0), maps),
        extended("drop", "sk_reuseport", () => new Assembler().mov(r0, 0).exit().assemble()),
        extended("pass", "sk_reuseport", () => new Assembler().mov(r0, 1).exit().assemble()),
        extended("neither", "sk_reuseport", () => new Assembler().mov(r0, 2).exit().assemble()),
      ];
    }

    /** Sends from every sender to every address, and compares who gets it. */
    compare(): void {
      const { pairs, world } = this;
      const first = this.pick([0, 1, 2, 3, 200]);
      const payload = Uint8Array.of(first, 7);
      for (const { address, port, fd } of this.senders) {
        for (const destination of LOCALS) {
          if (familyOf(destination) !== familyOf(address)) continue;
          kernel.send(fd, destination, PORT, payload);
          const got = pairs.findIndex((pair) => kernel.take(pair.fd));
          const { id, byHash } = world.find(address, port, destination, payload);
          const mine = pairs.findIndex((pair) => pair.id === id);
          const isSame = byHash ? this.sameGroup(got, mine) : got === mine;
          if (isSame) this.same++;
          else
            this.fault(
              `${address} ${port} > ${destination} ${first}: kernel ${got}, here ${mine}${byHash ? " by hash" : ""}`,
            );
          if (isSame && !byHash) this.decided++;
        }
      }
    }

    close(): void {
      for (const { fd } of [...this.pairs, ...this.senders]) sys.close(fd);
      this.kernelMap.close();
    }
  }

  test(`random groups, programs, maps, connections: ${SCENARIOS} scenarios of 25 changes`, () => {
    const random = new Random(SEED);
    const wrong: string[] = [];
    let same = 0;
    let decided = 0;
    for (let i = 0; i < SCENARIOS && wrong.length < 5; i++) {
      const scenario = new Scenario(random);
      for (let n = 0; n < 3; n++) scenario.bind();
      for (let n = 0; n < 25 && scenario.wrong.length === 0; n++) {
        scenario.step();
        scenario.compare();
      }
      wrong.push(...scenario.wrong);
      same += scenario.same;
      decided += scenario.decided;
      scenario.close();
    }
    expect(wrong).toEqual([]);
    expect(decided).toBeGreaterThan(same / 5);
  });
});

test("the hash spreads 100,000 flows evenly", () => {
  for (const members of [2, 3, 16, 64]) {
    const world = new World();
    const ids = Array.from({ length: members }, () => world.bind("0.0.0.0"));
    const counts = new Map(ids.map((id) => [id, 0]));
    world.lookup.sync();
    const flows = 100_000;
    for (let i = 0; i < flows; i++) {
      const id = world.lookup.udp4(0xc6120001 | 0, PORT, (0xc6130000 + (i >> 4)) | 0, 1024 + (i & 15) * 64, 0, LO);
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    expect(counts.size).toBe(members);
    const expected = flows / members;
    // Chi-squared with members - 1 degrees of freedom: mean members - 1, five standard deviations above it.
    const chi = [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    expect(chi).toBeLessThan(members - 1 + 5 * Math.sqrt(2 * members));
  }
});

describe("members on two lcores and two threads", () => {
  const open = (rig: Rig): UdpSocket[] =>
    [rig.lcores[0].stack, rig.threads[0], rig.lcores[1].stack, rig.threads[1]].map((endpoint) =>
      UdpSocket.open(endpoint, { port: 9000, reusePort: true }),
    );
  const take = (sockets: readonly UdpSocket[]): number => {
    const got: number[] = [];
    sockets.forEach((socket, i) => {
      const datagram = socket.newDatagram();
      if (socket.receiveInto(datagram) >= 0) got.push(i);
      datagram.release();
    });
    expect(got.length).toBe(1);
    return got[0];
  };
  const feed = (rig: Rig, lcore: number, ...payload: number[]): void => {
    rig.turn([udpFrame({ payload: Uint8Array.from(payload) })], lcore);
    rig.settle();
  };

  test("the program of any member chooses for each lcore, in the order of bind; the last moves into the hole", () => {
    const rig = new Rig({ lcores: 2, threads: 2 });
    const sockets = open(rig);
    sockets[1].setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, sockFprog("2,48 0 0 0,22 0 0 0"));
    const chosen = (): number[] =>
      [0, 1].flatMap((lcore) =>
        [0, 1, 2, 3].map((index) => {
          feed(rig, lcore, index);
          return take(sockets);
        }),
      );
    expect(chosen()).toEqual([0, 1, 2, 3, 0, 1, 2, 3]);
    sockets.push(UdpSocket.open(rig.threads[0], { port: 9000, reusePort: true }));
    sockets[1].close();
    sockets.splice(1, 1);
    // 0: lcore 0; 1: the newcomer, the last; 2: lcore 1; 3: thread 1.
    expect(chosen()).toEqual([0, 3, 1, 2, 0, 3, 1, 2]);
    sockets[2].setsockopt(SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0);
    const hashed = chosen();
    expect(new Set(hashed).size).toBe(1);
    for (const socket of sockets) socket.close();
    rig.settle();
    expect([rig.missing(0), rig.missing(1)]).toEqual([0, 0]);
  });

  test("an IPv6 address has one group, as an IPv4 one", () => {
    for (const address of ["198.18.0.1", "2001:db8::1"]) {
      const rig = new Rig();
      const sockets = [0, 1, 2].map(() => UdpSocket.open(rig.threads[0], { address, port: 9000, reusePort: true }));
      expect(new Set(sockets.map(({ id }) => rig.table.get(id, GROUP))).size).toBe(1);
    }
  });

  test("the program, then SO_INCOMING_CPU, then the hash", () => {
    const rig = new Rig({ lcores: 2, threads: 2 });
    const sockets = open(rig);
    // CPUs of the rig's lcores are their numbers.
    sockets[3].incomingCpu = 1;
    feed(rig, 1, 0);
    expect(take(sockets)).toBe(3);
    sockets[0].setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, sockFprog("2,48 0 0 0,22 0 0 0"));
    feed(rig, 1, 2);
    expect(take(sockets)).toBe(2);
    feed(rig, 1, 77);
    expect(take(sockets)).toBe(3);
  });

  test("a map of sockets that a thread fills and closes; a program that drops", () => {
    const rig = new Rig({ lcores: 2, threads: 2 });
    const sockets = open(rig);
    const bpf = bpfOf(rig.threads[1]);
    const map = bpf.createMap({ type: "reuseport_sockarray", valueSize: 8, maxEntries: MAP_SIZE });
    const program = bpf.load({ type: "sk_reuseport", instructions: byMap(map, 1) });
    sockets[0].setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, program.handle);
    program.close();
    map.setSocket(4, sockets[1].id);
    map.setSocket(0, sockets[2].id);
    for (const [lcore, index, socket] of [
      [0, 4, 1],
      [1, 4, 1],
      [1, 0, 2],
    ]) {
      feed(rig, lcore, index);
      expect(take(sockets)).toBe(socket);
    }
    bpf.closeMap(map);
    feed(rig, 0, 4);
    expect(take(sockets)).toBe(1);
    sockets[1].close();
    sockets.splice(1, 1);
    feed(rig, 0, 4);
    take(sockets);
    const drop = bpf.load({ type: "sk_reuseport", instructions: new Assembler().mov(r0, 0).exit().assemble() });
    sockets[0].setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, drop.handle);
    feed(rig, 0, 0);
    expect(rig.counter("UdpNoPorts")).toBe(1);
    expect(rig.unaccounted()).toBe(0);
    for (const socket of sockets) socket.close();
    rig.settle();
    expect([rig.missing(0), rig.missing(1)]).toEqual([0, 0]);
  });
});

function fail(code: string): never {
  throw new SysError(code === "ENOENT" ? 2 : 22, "map", "");
}
