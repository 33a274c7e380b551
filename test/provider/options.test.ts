/** Every option of an engine on kernel sockets: it works, or it is refused by name. */
import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { ERRNO, type SysError } from "af-xdp-bindings";
import type { EngineOptions } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";
import { getAffinity } from "../../engine/host/affinity.ts";
import { createMemoryWire } from "../../queues/memory.ts";
import type { Datagram } from "../../sockets/datagram.ts";
import { makeHosts, requires } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";
import { module } from "./bed.ts";

setDefaultTimeout(30_000);

const missing = requires("netns", "veth");
const CPUS = getAffinity(0);
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const PORT = 9000;
const MODULE = { module: module("echo"), data: { port: PORT } };

/** Options that are refused: the smallest set that has it, and what is said of it. */
const REFUSED = {
  interface: [{ interface: "lo" }, "kernel sockets take none"],
  addresses: [{ addresses: ["198.18.0.9/24"] }, "kernel sockets take none"],
  gateways: [{ addresses: ["198.18.0.9/24"], gateways: ["198.18.0.8"] }, "kernel sockets take none"],
  dad: [{ dad: false }, "kernel sockets take none"],
  memory: [{ memory: { wire: createMemoryWire(), side: 0, mac: MAC, addresses: [] } }, "kernel sockets take none"],
  pcap: [{ pcap: { file: "absent.pcap", addresses: [] } }, "kernel sockets take none"],
  queues: [{ queues: [0] }, "kernel sockets take none"],
  mode: [{ mode: "skb" }, "kernel sockets take none"],
  frameSize: [{ frameSize: 2048 }, "kernel sockets take none"],
  ringSlots: [{ ringSlots: 1024 }, "is of rings"],
  bpfBytes: [{ bpfBytes: 65536 }, "the kernel's"],
  tcp: [{ tcp: {} }, "kernel sockets have the kernel's"],
  // Of lcores, which a module makes.
  cpus: [{ cpus: CPUS.slice(0, 1) }, "without a 'module'"],
  poll: [{ poll: "adaptive" }, "without a 'module'"],
  isolate: [{ isolate: true }, "without a 'module'"],
  data: [{ data: 0 }, "without a 'module'"],
} as const satisfies Partial<Record<keyof EngineOptions, readonly [Partial<EngineOptions>, string]>>;

/** Options that work; those of lcores with a module. What each does is tested here, or where it says. */
const WORKS = {
  provider: "start.test.ts",
  onNotice: "start.test.ts",
  netns: "here, in every test",
  module: "lcores.test.ts",
  data: "lcores.test.ts",
  cpus: "lcores.test.ts",
  poll: "lcores.test.ts, busy.test.ts",
  spinUs: "here, lcores.test.ts",
  isolate: "here",
  sockets: "here",
  threads: "here",
  frames: "here",
};

/** An option that is in neither list does not compile. */
type Decided = keyof typeof REFUSED | keyof typeof WORKS;
const undecided: Exclude<keyof EngineOptions, Decided> extends never ? [] : never = [];

test("every option is decided on", () => expect(undecided).toEqual([]));

test.each(Object.entries(REFUSED))("%s is refused, by name and with what to do", async (name, [options, why]) => {
  const error = await Engine.start({ provider: "kernel", ...(options as EngineOptions) }).catch((e: Error) => e);
  expect(error).toBeInstanceOf(RangeError);
  // Of several, the one that stands first is named.
  expect((error as Error).message).toMatch(name === "gateways" ? /^addresses: / : new RegExp(`^${name}: `));
  expect((error as Error).message).toContain(why);
  expect((error as Error).message).toEndWith('. Leave it out, or choose provider "engine"');
});

test("what leaves the choice to the engine is no wish: mode auto, queues all", async () => {
  const engine = await Engine.start({ provider: "kernel", mode: "auto", queues: "all" });
  expect(engine.info).toMatchObject({ provider: "kernel", interface: null, cpus: [] });
  await engine.close();
});

test("dad without own addresses is refused on either provider", async () => {
  const error = await Engine.start({ netns: "/run/netns/absent", dad: false }).catch((e: Error) => e);
  expect((error as Error).message).toBe("dad: only with addresses of the engine's own");
});

test("what is no provider, and more frames than there may be", async () => {
  const said = async (options: EngineOptions): Promise<string> =>
    await Engine.start({ netns: "/run/netns/absent", ...options }).then(
      () => "",
      (error: Error) => error.message,
    );
  expect(await said({ provider: "any" as "kernel" })).toContain("provider any: one of auto, engine, kernel");
  expect(await said({ provider: "kernel", frames: 16384 })).toContain("at most 8192 a thread");
});

describe.skipIf(missing !== "")("works:", () => {
  const pair = missing === "" ? makeHosts() : null;
  const { a, b } = pair ?? ({} as NonNullable<typeof pair>);
  afterAll(() => pair?.close());
  const cleanUp: (() => unknown)[] = [];
  afterEach(async () => {
    for (const each of cleanUp.splice(0).toReversed()) await each();
  });
  async function start(options: Partial<EngineOptions>): Promise<Engine> {
    const engine = await Engine.start({ provider: "kernel", netns: b.ns.path, ...options });
    cleanUp.push(() => engine.close());
    return engine;
  }
  const codeOf = (action: () => unknown): string => {
    try {
      action();
      return "";
    } catch (error) {
      return (error as SysError).code ?? (error as Error).message;
    }
  };

  test("sockets: the most that are open at once", async () => {
    const engine = await start({ sockets: 2 });
    const first = engine.udp();
    engine.udp();
    expect(codeOf(() => engine.udp())).toBe("ENFILE");
    first.close();
    expect(codeOf(() => engine.udp())).toBe("");
  });

  test("threads: the most that join", async () => {
    const engine = await start({ threads: 1 });
    expect(codeOf(() => Engine.attach(engine.descriptor()))).toContain("at most 1 threads");
  });

  test.each([1024, 2048])("frames %i: as many datagrams may be held, and the others wait", async (frames) => {
    const engine = await start({ frames });
    const socket = engine.udp({ receiveBuffer: 1 << 22 });
    const peer = new KernelUdp(a.ns, { address: a.ipv4Text });
    cleanUp.push(() => peer.close());
    const held: Datagram[] = [];
    socket.onDatagram = (datagram) => void held.push(datagram.hold());
    const sent = frames + 100;
    for (let i = 0; i < sent; i++) {
      expect(peer.send("x", b.ipv4Text, socket.port)).toBe(1);
      if (i % 50 === 49) await Promise.resolve();
    }
    // Those of the messages of a call are with the call.
    await until("all there are", () => engine.counters().PoolEmpty > 0);
    expect(held.length).toBeGreaterThan(frames - 130);
    expect(held.length).toBeLessThanOrEqual(frames);
    expect(socket.reserve()).toBeNull();
    expect(socket.send("x", peer.port, a.ipv4Text)).toBe(-ERRNO.EAGAIN);
    while (held.length < sent) {
      for (const datagram of held) datagram.release();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(socket.drops).toBe(0);
  });

  test.each([0, 1_000_000])(
    "spinUs %i: whether a thread looks on between two datagrams, or is woken",
    async (spinUs) => {
      const engine = await start({ spinUs });
      const socket = engine.udp();
      socket.onDatagram = (datagram) => void datagram.reply();
      const peer = new KernelUdp(a.ns, { address: a.ipv4Text });
      cleanUp.push(() => peer.close());
      let timers = 0;
      const timer = setInterval(() => timers++, 5);
      for (let i = 0; i < 100; i++) {
        await Bun.sleep(5);
        await peer.ask(`${i}`, b.ipv4Text, socket.port);
      }
      clearInterval(timer);
      // Nothing else of the event loop waits for the socket.
      expect(timers).toBeGreaterThan(50);
      // The control thread has counted, once a second: an uneventful second shows that this is all.
      await Bun.sleep(2100);
      const { Wakeups } = engine.counters();
      if (spinUs === 0) expect(Wakeups).toBeGreaterThan(50);
      else expect(Wakeups).toBeLessThan(20);
    },
  );

  test.skipIf(CPUS.length < 2).each([true, false])(
    "isolate %p: whether others leave the lcore's CPU",
    async (isolate) => {
      const cpu = CPUS.at(-1) as number;
      const engine = await start({ ...MODULE, isolate, cpus: [cpu] });
      const crowd = readdirSync("/proc/self/task").filter((tid) => getAffinity(Number(tid)).includes(cpu));
      if (isolate) expect(crowd.length).toBe(1);
      else expect(crowd.length).toBeGreaterThan(1);
      await engine.close();
      expect(getAffinity(0)).toEqual(CPUS);
    },
  );
});
