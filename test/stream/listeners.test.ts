/** Which listener gets a SYN: against the kernel's own choice, with groups and their programs. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Assembler, check, ERRNO, Program, r0, r1, r2, r3, r4, r5, r6, r10, sys } from "af-xdp-bindings";
import { getAffinity, setAffinity } from "../../engine/host/affinity.ts";
import { Random } from "../../queues/random.ts";
import { attachGroupClassic, attachGroupHandle } from "../../sockets/bpf/attach.ts";
import { decodeClassic, encodeClassic, sockFprog } from "../../sockets/bpf/classic.ts";
import { REUSEPORT_MD } from "../../sockets/bpf/extended/context.ts";
import { BpfObjects } from "../../sockets/bpf/objects.ts";
import { NO_CHOICE } from "../../sockets/bpf/programs.ts";
import { addressWords } from "../../sockets/fib.ts";
import { Lookup, NOBODY } from "../../sockets/lookup.ts";
import {
  SO_ATTACH_REUSEPORT_CBPF,
  SO_ATTACH_REUSEPORT_EBPF,
  SO_INCOMING_CPU,
  SO_LINGER,
  SOL_SOCKET,
} from "../../sockets/options.ts";
import { PORTS_MAX } from "../../sockets/shared.ts";
import { sockaddrOf } from "../../sockets/sockaddr.ts";
import { loadStream, STREAM_WORDS, SW_BACKLOG, storeStream } from "../../sockets/stream/stream-words.ts";
import {
  DEVICE,
  F_LISTEN,
  F_REUSEADDR,
  F_REUSEPORT,
  F_V6ONLY,
  FLAGS,
  GROUP,
  INCOMING_CPU,
  INCOMING_NAPI,
  IPPROTO_TCP,
  LOCAL,
  LOCAL_PORT,
  SocketTable,
} from "../../sockets/table.ts";
import { F_KEEPALIVE, F_PASSIVE, KEEP_IDLE_MS, SND_BUF, FLAGS as TCB_FLAGS, TCB_WORDS } from "../../sockets/tcp/tcb.ts";
import { ip } from "../../sockets/wire/address.ts";
import { TCP_SYN } from "../../sockets/wire/tcp.ts";
import { GroupScenario, type Pair } from "../sockets/group-scenario.ts";
import { describeWish, familyOf, KernelHost, LO, SOCK_STREAM, type Wish, wish } from "../sockets/kernel-sockets.ts";
import { requires } from "../support/hosts.ts";
import { buildFrame } from "../tcp/segments.ts";

setDefaultTimeout(120_000);

const PORT = 7000;
const SOURCE_PORT = 4001;
const OPTMEM = 131072;
const ETH = 14;
const OTHER = 9;

/** A table and one lcore's look-up over it: ports 0 and 1 on CPUs 0 and 5, with NAPI IDs 500 and 501. */
class World {
  readonly table = SocketTable.create(64, 1);
  readonly bpf = new BpfObjects(this.table);
  readonly lookup: Lookup;

  constructor(cpu = 0, napi = 500) {
    const portInfo = new Int32Array(PORTS_MAX * 2);
    portInfo.set([cpu, napi, 5, 501]);
    this.lookup = new Lookup(this.table, 99, 0, portInfo);
  }

  bind(wanted: Wish, cpu = -1, napi = 0): number {
    const { table } = this;
    const id = table.create(wanted.family, IPPROTO_TCP, 1, 0, 0);
    const result = table.mutex.hold(() => {
      const words = addressWords(ip(wanted.address));
      for (let i = 0; i < 4; i++) table.set(id, LOCAL + i, words[i]);
      table.set(id, LOCAL_PORT, PORT);
      table.set(id, DEVICE, wanted.device);
      const isOnly6 = wanted.only6 || (words[2] !== 0xffff && !table.isAny(id));
      const flags = (wanted.reuseAddress ? F_REUSEADDR : 0) | (wanted.reusePort ? F_REUSEPORT : 0);
      table.set(id, FLAGS, flags | (isOnly6 ? F_V6ONLY : 0));
      table.set(id, INCOMING_CPU, cpu);
      table.set(id, INCOMING_NAPI, napi);
      return table.bindLocked(id);
    });
    if (result < 0) this.close(id);
    return result < 0 ? result : id;
  }

  listen(id: number): number {
    return this.table.mutex.hold(() => this.table.listenLocked(id));
  }

  unlisten(id: number): void {
    this.table.mutex.hold(() => this.table.unlistenLocked(id));
  }

  close(id: number): void {
    this.table.mutex.hold(() => this.table.closeLocked(id));
  }

  /** A listener, as many as are wished for. */
  serve(wanted: Wish, cpu = -1, napi = 0): number {
    const id = this.bind(wanted, cpu, napi);
    expect(id).toBeGreaterThanOrEqual(0);
    expect(this.listen(id)).toBe(0);
    return id;
  }

  /** Whom a SYN is for, and whether the hash of a group has chosen. */
  find(source: string, destination: string, port = 0, sourcePort = SOURCE_PORT, ifindex = LO) {
    const { lookup } = this;
    if (lookup.isStale()) lookup.sync();
    const ends = { source: ip(source), destination: ip(destination) };
    const v6 = ends.source.length === 16;
    const { views, length, tcp } = buildFrame(
      {
        ...{ v6, sourcePort, destinationPort: PORT, seq: 1, ack: 0, flags: TCP_SYN, window: 1000, urgent: 0, tos: 0 },
        options: { mss: 1460, sackOk: true, ts: [1, 0], wscale: 7 },
        payload: new Uint8Array(0),
      },
      ends,
    );
    const w = new Int32Array(16);
    w.set(addressWords(ends.destination), 3);
    w.set(addressWords(ends.source), 9);
    const { programs } = lookup;
    let verdict: number | null = null;
    const { select, index } = programs;
    programs.select = (...args) => {
      verdict = select.apply(programs, args);
      return verdict;
    };
    programs.index = (...args) => {
      verdict = index.apply(programs, args);
      return verdict;
    };
    const segment = ETH + length - tcp;
    const ports = (PORT << 16) | sourcePort;
    const id = lookup.listener(w, 3, 9, ports, v6, port, ifindex, views.bytes, 0, ETH, tcp, segment);
    Object.assign(programs, { select, index });
    const isAlone = id < 0 || this.table.get(id, GROUP) < 0;
    return { id, byHash: verdict === null ? !isAlone : verdict === NO_CHOICE && programs.chosen < 0 };
  }
}

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

/** A program of type sk_reuseport. */
const chooser = (
  text: string,
  make: (map: { fd: number }) => Uint8Array,
  [kernelMap, map]: [{ fd: number }, { fd: number }],
): Selector => ({
  text,
  kernel(fd) {
    const program = Program.load(make(kernelMap), { type: "BPF_PROG_TYPE_SK_REUSEPORT" });
    const result = sys.setsockoptInt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, program.fd);
    program.close();
    return result;
  },
  table(world, id) {
    const program = world.bpf.load({ type: "sk_reuseport", instructions: make(map) });
    const result = attachGroupHandle(world.table, id, program.handle, OPTMEM);
    program.close();
    return result;
  },
});

/** Index in the map of sockets: of a SYN with 40 bytes of header and protocol 6 the low bits of its port, else nobody. */
const byHeader = (map: { fd: number }): Uint8Array =>
  new Assembler()
    .mov(r6, r1)
    .load64(r2, r6, REUSEPORT_MD.data)
    .load64(r3, r6, REUSEPORT_MD.data_end)
    .mov(r0, 0)
    .load32(r5, r6, REUSEPORT_MD.ip_protocol)
    .jne(r5, IPPROTO_TCP, "out")
    .load32(r5, r6, REUSEPORT_MD.len)
    .jne(r5, 40, "out")
    .mov(r4, r2)
    .add(r4, 40)
    .jgt(r4, r3, "out")
    .load8(r4, r2, 3)
    .and(r4, 3)
    .store32(r10, -8, r4)
    .mov(r1, r6)
    .mapFd(r2, map)
    .mov(r3, r10)
    .add(r3, -8)
    .mov(r4, 0)
    .call("sk_select_reuseport")
    .mov(r0, 1)
    .label("out")
    .exit()
    .assemble();

const verdictOf = (verdict: number) => (): Uint8Array => new Assembler().mov(r0, verdict).exit().assemble();

const missing = requires("netns", "bpf");
const SCENARIOS = Number(process.env.LCORE_LISTENER_SCENARIOS ?? 60);
const SEED = Number(process.env.LCORE_LISTENER_SEED ?? 5);
const MAP_SIZE = 4;
const F_SETFL = 4;
const O_NONBLOCK = 0x800;
const POLLIN = 1;
const SOCK_STREAM_CLOEXEC = 0x80001;
const TIMEOUT_S = 5;

describe.skipIf(missing !== "")("as the kernel chooses", () => {
  const LOCALS = ["198.18.0.1", "198.18.0.10", "2001:db8::1", "2001:db8::10"];
  const BINDABLE = ["0.0.0.0", "198.18.0.1", "198.18.0.10", "::", "2001:db8::1", "::ffff:198.18.0.1", "::ffff:0.0.0.0"];
  const host = missing === "" ? new KernelHost(LOCALS) : null;
  const kernel = host as KernelHost;
  const before = getAffinity(0);
  const [cpu] = before;
  // The kernel receives over lo where it sends.
  beforeAll(() => setAffinity(0, [cpu]));
  afterAll(() => {
    setAffinity(0, before);
    host?.close();
  });

  class Scenario extends GroupScenario<Pair> {
    readonly world: World;
    /** Connections that the kernel has given to a listener. */
    found = 0;
    private readonly selectors: Selector[];

    constructor(random: Random) {
      const world = new World(cpu, 0);
      super(random, world, MAP_SIZE);
      this.world = world;
      const maps: [{ fd: number }, { fd: number }] = [this.kernelMap, this.map];
      this.selectors = [
        classic("index 1", "1,6 0 0 1"),
        classic("length", "2,128 0 0 0,22 0 0 0"),
        classic("beyond", "1,6 0 0 4294967295"),
        // SKF_NET_OFF + 15: a byte of the source address. SKF_AD_OFF + SKF_AD_PAY_OFFSET.
        classic("source", "3,48 0 0 4293918735,84 0 0 1,22 0 0 0"),
        classic("payload's offset", "2,32 0 0 4294963252,22 0 0 0"),
        chooser("map", byHeader, maps),
        chooser("map", byHeader, maps),
        chooser("drop", verdictOf(0), maps),
        chooser("pass", verdictOf(1), maps),
      ];
    }

    bind(): void {
      const { random, world } = this;
      const address = this.pick(BINDABLE);
      const only6 = address === "::" && random.below(2) === 0;
      const device = random.below(4) === 0 ? LO : 0;
      const wanted = wish(address, { reuseAddress: true, reusePort: random.below(4) > 0, only6, device });
      const fd = kernel.bind(wanted, PORT, SOCK_STREAM);
      const asked = random.below(4) === 0 ? cpu : -1;
      const id = world.bind(wanted, asked);
      this.agree(`bind ${describeWish(wanted)} cpu ${asked}`, fd, id);
      if (fd < 0) return;
      sys.setsockoptInt(fd, SOL_SOCKET, SO_INCOMING_CPU, asked);
      sys.sys3(sys.SYS.fcntl, fd, F_SETFL, O_NONBLOCK);
      this.pairs.push({ id, fd });
      if (random.below(4) > 0) this.listen(this.pairs.length - 1);
    }

    private listen(at: number): void {
      const { id, fd } = this.pairs[at];
      this.agree(`listen ${at}`, sys.sys3(sys.SYS.listen, fd, 16, 0), this.world.listen(id));
    }

    step(): void {
      const { pairs, random, world } = this;
      const kind = random.below(12);
      if (pairs.length === 0 || (kind < 3 && pairs.length < 8)) {
        this.bind();
        return;
      }
      const at = random.below(pairs.length);
      const { id, fd } = pairs[at];
      if (kind < 5) this.listen(at);
      else if (kind < 8) {
        const selector = this.pick(this.selectors);
        this.agree(`${selector.text} at ${at}`, selector.kernel(fd), selector.table(world, id));
      } else if (kind === 8) {
        if ((world.table.get(id, FLAGS) & F_LISTEN) !== 0) sys.sys3(sys.SYS.shutdown, fd, 0, 0);
        world.unlisten(id);
        this.history.push(`shutdown ${at}`);
      } else if (kind === 9) {
        world.close(id);
        sys.close(fd);
        pairs.splice(at, 1);
        this.history.push(`close ${at}`);
      } else this.putIntoMap(random.below(MAP_SIZE), at);
    }

    compare(): void {
      for (const source of LOCALS) {
        for (const destination of LOCALS) {
          if (familyOf(source) !== familyOf(destination)) continue;
          const port = this.random.below(4);
          const got = this.connect(source, destination, SOURCE_PORT + port);
          const { id, byHash } = this.world.find(source, destination, 0, SOURCE_PORT + port);
          const mine = this.pairs.findIndex((pair) => pair.id === id);
          const isSame = byHash ? this.sameGroup(got, mine) : got === mine;
          if (!isSame) this.fault(`${source} > ${destination}: kernel ${got}, here ${mine}${byHash ? " by hash" : ""}`);
          if (got >= 0) this.found++;
          if (got >= 0 && !byHash) this.decided++;
        }
      }
    }

    /** Connects to the kernel's listeners: the number of the one that it has come to, -1: refused. */
    private connect(source: string, destination: string, port: number): number {
      const fd = kernel.bind(wish(source, { reuseAddress: true }), port, SOCK_STREAM);
      check(fd, "bind");
      sys.setsockopt(fd, SOL_SOCKET, SO_LINGER, new Uint8Array(Int32Array.of(1, 0).buffer));
      const result = sys.connect(fd, sockaddrOf(ip(destination), PORT));
      if (result < 0) {
        expect(result).toBe(-ERRNO.ECONNREFUSED);
        sys.close(fd);
        return -1;
      }
      const listening = this.pairs.filter(({ id }) => (this.world.table.get(id, FLAGS) & F_LISTEN) !== 0);
      const pollfds = Int32Array.from(listening.flatMap((pair) => [pair.fd, POLLIN]));
      const timeout = BigInt64Array.of(BigInt(TIMEOUT_S), 0n);
      expect(sys.ppoll(sys.addressOf(pollfds), listening.length, sys.addressOf(timeout))).toBe(1);
      const got = listening.findIndex((_, i) => pollfds[2 * i + 1] !== POLLIN);
      const child = check(
        sys.sys6(sys.SYS.accept4, listening[got].fd, 0, 0, SOCK_STREAM_CLOEXEC & ~1, 0, 0),
        "accept4",
      );
      sys.close(fd);
      sys.close(child);
      return this.pairs.indexOf(listening[got]);
    }

    close(): void {
      for (const { fd } of this.pairs) sys.close(fd);
      this.kernelMap.close();
    }
  }

  test(`random listeners, groups, programs, maps: ${SCENARIOS} scenarios of 20 changes`, () => {
    const random = new Random(SEED);
    const wrong: string[] = [];
    let found = 0;
    let decided = 0;
    for (let i = 0; i < SCENARIOS && wrong.length < 5; i++) {
      const scenario = new Scenario(random);
      for (let n = 0; n < 20 && scenario.wrong.length === 0; n++) {
        scenario.step();
        scenario.compare();
      }
      wrong.push(...scenario.wrong);
      found += scenario.found;
      decided += scenario.decided;
      scenario.close();
    }
    expect(wrong).toEqual([]);
    expect(decided).toBeGreaterThan(found / 5);
  });
});

describe("an lcore's view", () => {
  const shared = (address = "0.0.0.0"): Wish => wish(address, { reusePort: true });

  test("the NAPI ID, then the CPU, then the hash", () => {
    const world = new World();
    const ids = [-1, -1, -1, -1].map(() => world.serve(shared()));
    const chosen = new Set(
      Array.from({ length: 100 }, (_, i) => world.find("198.18.0.2", "198.18.0.1", 0, 1000 + i).id),
    );
    expect(chosen).toEqual(new Set(ids));
    const byCpu = world.serve(shared(), 5);
    expect(world.find("198.18.0.2", "198.18.0.1", 1).id).toBe(byCpu);
    const byNapi = world.serve(shared(), -1, 501);
    expect(world.find("198.18.0.2", "198.18.0.1", 1).id).toBe(byNapi);
    world.unlisten(byNapi);
    expect(world.find("198.18.0.2", "198.18.0.1", 1).id).toBe(byCpu);
  });

  // As the kernel does in the scenarios above, where a choice by hash would pass as well: a SYN has no payload.
  test.each([
    ["its length", "2,128 0 0 0,22 0 0 0"],
    ["its payload's offset", "2,32 0 0 4294963252,22 0 0 0"],
  ])("a classic program that asks for %s of a SYN names the first member", (_, program) => {
    const world = new World();
    const ids = [0, 0, 0, 0].map(() => world.serve(shared()));
    expect(attachGroupClassic(world.table, ids[2], encodeClassic(decodeClassic(program)), OPTMEM)).toBe(0);
    const chosen = Array.from({ length: 40 }, (_, i) => world.find("198.18.0.2", "198.18.0.1", 0, 1000 + i).id);
    expect(new Set(chosen)).toEqual(new Set([ids[0]]));
  });

  test("a device is preferred, and asked for", () => {
    const world = new World();
    const bound = world.serve(wish("198.18.0.1", { device: LO, reuseAddress: true }));
    const other = world.serve(wish("198.18.0.1", { device: OTHER, reuseAddress: true }));
    expect(world.find("198.18.0.2", "198.18.0.1", 0, SOURCE_PORT, LO).id).toBe(bound);
    expect(world.find("198.18.0.2", "198.18.0.1", 0, SOURCE_PORT, OTHER).id).toBe(other);
    expect(world.find("198.18.0.2", "198.18.0.1", 0, SOURCE_PORT, 77).id).toBe(NOBODY);
  });

  test("tells of listeners as the log does, each one once more when its words have changed", () => {
    const world = new World();
    const { lookup, table } = world;
    const early = world.serve(wish("198.18.0.1"));
    expect(lookup.hasTcp).toBe(false);
    lookup.sync();
    expect(lookup.hasTcp).toBe(true);
    const heard: string[] = [];
    lookup.onListener = (id, listens) => heard.push(`${listens ? "+" : "-"}${id}`);
    const take = (): string => {
      lookup.sync();
      return heard.splice(0).join(" ");
    };
    expect(take()).toBe(`+${early}`);
    expect(lookup.listeners.generation(early)).toBeGreaterThan(0);
    const bound = world.bind(wish("198.18.0.10"));
    expect(take()).toBe("");
    world.listen(bound);
    world.listen(early);
    expect(take()).toBe(`+${bound} +${early}`);
    world.unlisten(bound);
    expect(take()).toBe(`-${bound}`);
    // Closed, and its id another's, between two looks.
    world.close(early);
    const udp = table.create(2, 17, 1, 0, 0);
    expect(udp).toBe(early);
    expect(take()).toBe(`-${early}`);
    world.close(udp);
    world.close(bound);
    const [first] = [world.serve(wish("198.18.0.1"))];
    take();
    world.close(first);
    expect(world.serve(wish("198.18.0.10"))).toBe(first);
    expect(take()).toStartWith(`-${first} +${first}`);
    expect(world.find("198.18.0.2", "198.18.0.1").id).toBe(NOBODY);
    expect(world.find("198.18.0.2", "198.18.0.10").id).toBe(first);
    // Too far behind for the log.
    world.close(first);
    for (let i = 0; i < 3000; i++) world.close(world.serve(wish("198.18.0.1")));
    expect(take()).toBe(`-${first}`);
    for (const local of ["198.18.0.1", "198.18.0.10"]) expect(world.find("198.18.0.2", local).id).toBe(NOBODY);
  });

  test("words of the plane: all of a record, none before they are stored", () => {
    const { table } = new World();
    const [a, b] = [0, 0].map(() => table.create(2, IPPROTO_TCP, 1, 0, 0));
    const w = new Int32Array(2 * TCB_WORDS).fill(7);
    w[TCB_FLAGS] = F_KEEPALIVE | F_PASSIVE;
    storeStream(table.stream, a, w, 0);
    const to = new Int32Array(TCB_WORDS).fill(1);
    to[TCB_FLAGS] = 0;
    loadStream(table.stream, a, to, 0);
    expect([to[KEEP_IDLE_MS], to[SND_BUF], to[TCB_FLAGS]]).toEqual([7, 7, F_KEEPALIVE]);
    to.fill(1);
    loadStream(table.stream, b, to, 0);
    expect([to[KEEP_IDLE_MS], to[SND_BUF], to[TCB_FLAGS]]).toEqual([1, 1, 1]);
    storeStream(table.stream, b, w, 0);
    loadStream(table.stream, b, to, 0);
    expect(to[SND_BUF]).toBe(7);
    to.fill(1);
    expect(table.stream[b * STREAM_WORDS + SW_BACKLOG]).toBe(0);
    // Nothing of it is the next socket's with the id.
    table.mutex.hold(() => table.closeLocked(b));
    expect(table.create(2, IPPROTO_TCP, 1, 0, 0)).toBe(b);
    loadStream(table.stream, b, to, 0);
    expect(to[SND_BUF]).toBe(1);
    to.fill(1);
    loadStream(table.stream, b, to, 0);
    expect(to[SND_BUF]).toBe(1);
  });
});
