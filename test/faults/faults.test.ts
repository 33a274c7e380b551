/** What happens to the interface and the host while an engine serves: it goes on, or it ends and says why. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { Engine } from "../../engine/engine.ts";
import { requires } from "../support/hosts.ts";
import { KernelUdp } from "../support/kernel-udp.ts";
import { alive, held } from "./bpf-objects.ts";
import { inViaQueue, ip, PORT, RETRY_MS, scene, until } from "./serving.ts";

setDefaultTimeout(60_000);

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")("", () => {
  const { cleanUp, hosts, serve, answered, silent } = scene();

  test("the interface goes down and comes up again", async () => {
    const { a, b, engine } = await serve();
    await answered(a, b.ipv4Text, "before");
    ip(b, "link", "set", b.name, "down");
    await silent(a, b.ipv4Text);
    ip(b, "link", "set", b.name, "up");
    await answered(a, b.ipv4Text, "after");
    const frames = inViaQueue(engine);
    await answered(a, b.ipv4Text, "by the queue");
    expect(inViaQueue(engine)).toBeGreaterThan(frames);
  });

  test("the interface is deleted: the engine ends and names it", async () => {
    const { a, b, engine } = await serve();
    await answered(a, b.ipv4Text, "before");
    ip(b, "link", "del", b.name);
    await expect(engine.closed).rejects.toMatchObject({ code: "ENODEV" });
    await expect(engine.closed).rejects.toThrow(b.name);
    expect(() => engine.udp({ port: PORT + 1 })).toThrow("EBADF");
  });

  test("the interface is renamed", async () => {
    const { a, b, engine } = await serve();
    await answered(a, b.ipv4Text, "before");
    ip(b, "link", "set", b.name, "down");
    ip(b, "link", "set", b.name, "name", "renamed0");
    ip(b, "link", "set", "renamed0", "up");
    await answered(a, b.ipv4Text, "after");
    const frames = inViaQueue(engine);
    await answered(a, b.ipv4Text, "by the queue");
    expect(inViaQueue(engine)).toBeGreaterThan(frames);
  });

  test("the MTU shrinks and grows", async () => {
    const { a, b, engine, socket } = await serve();
    await answered(a, b.ipv4Text, "before");
    socket.onDatagram = (d) => {
      d.memory.fill(0x78, d.offset, d.offset + 1200);
      d.reply(1200);
    };
    const large = "x".repeat(1200);
    const peer = new KernelUdp(a.ns, {});
    cleanUp.push(() => peer.close());
    const asked = async (): Promise<boolean> => {
      peer.send("a long one", b.ipv4Text, PORT);
      await Bun.sleep(RETRY_MS);
      return peer.take()?.text === large;
    };
    await until("a whole packet", asked);
    ip(b, "link", "set", b.name, "mtu", "1000");
    await until("the MTU", async () => {
      await asked();
      return engine.counters().UdpOutTooBig > 0;
    });
    // Larger than the link's packets now: taken apart by the kernel.
    await until("fragments", asked);
    ip(b, "link", "set", b.name, "mtu", "1500");
    await until("a whole packet again", asked);
  });

  test("an address goes and comes, and a new one serves", async () => {
    const { a, b } = await serve();
    await answered(a, b.ipv4Text, "before");
    ip(b, "addr", "add", "198.19.255.9/32", "dev", b.name);
    ip(a, "route", "add", "198.19.255.9/32", "dev", a.name);
    await answered(a, "198.19.255.9", "new address");
    ip(b, "addr", "del", "198.19.255.9/32", "dev", b.name);
    await silent(a, "198.19.255.9");
    await answered(a, b.ipv4Text, "the first still");
  });

  test("the route back is removed and comes back", async () => {
    const { a, b } = await serve();
    ip(a, "addr", "add", "198.19.254.1/32", "dev", a.name);
    ip(b, "route", "add", "198.19.254.1/32", "dev", b.name);
    const peer = new KernelUdp(a.ns, { address: "198.19.254.1" });
    cleanUp.push(() => peer.close());
    const asked = (text: string) => async (): Promise<boolean> => {
      peer.send(text, b.ipv4Text, PORT);
      await Bun.sleep(RETRY_MS);
      return peer.take() !== null;
    };
    await until("an answer", asked("with route"));
    ip(b, "route", "del", "198.19.254.1/32", "dev", b.name);
    while (peer.take() !== null);
    await Bun.sleep(RETRY_MS);
    peer.send("without route", b.ipv4Text, PORT);
    await Bun.sleep(3 * RETRY_MS);
    expect(peer.take()).toBeNull();
    ip(b, "route", "add", "198.19.254.1/32", "dev", b.name);
    await until("an answer again", asked("route again"));
  });

  test("the neighbour entry is removed: the kernel resolves it anew", async () => {
    const { a, b } = await serve();
    await answered(a, b.ipv4Text, "before");
    ip(b, "neigh", "flush", "dev", b.name);
    await answered(a, b.ipv4Text, "after");
  });

  test("the peer's MAC address changes", async () => {
    const { a, b } = await serve();
    await answered(a, b.ipv4Text, "before");
    ip(a, "link", "set", a.name, "address", "02:00:00:00:aa:aa");
    await answered(a, b.ipv4Text, "after");
  });

  test("the own MAC address changes", async () => {
    const { a, b, engine } = await serve();
    await answered(a, b.ipv4Text, "before");
    ip(b, "link", "set", b.name, "address", "02:00:00:00:bb:bb");
    ip(a, "neigh", "flush", "dev", a.name);
    await answered(a, b.ipv4Text, "after");
    const frames = inViaQueue(engine);
    await answered(a, b.ipv4Text, "by the queue");
    expect(inViaQueue(engine)).toBeGreaterThan(frames);
  });

  test("what comes on a queue that no lcore drives still arrives", async () => {
    const { a, b } = hosts(2);
    const engine = await Engine.start({ interface: b.name, netns: b.ns.path, mode: "native", queues: [0] });
    cleanUp.push(() => engine.close());
    const socket = engine.udp({ port: PORT });
    socket.onDatagram = (d) => void d.reply();
    // Many source ports: some flows fall on the queue that nobody drives.
    for (let i = 0; i < 16; i++) await answered(a, b.ipv4Text, `flow ${i}`);
    expect(engine.steeringCounters()?.passNoSocket).toBeGreaterThan(0);
  });

  test("a thread keeps every frame it may have: the lcore serves on, and the thread recovers", async () => {
    const { a, b } = hosts();
    const module = new URL("../engine/modules/echo.ts", import.meta.url);
    const engine = await Engine.start({ interface: b.name, netns: b.ns.path, module, data: { port: PORT } });
    cleanUp.push(() => engine.close());
    const hoarder = engine.udp({ port: PORT + 1, receiveBuffer: 1 << 28 });
    const peer = new KernelUdp(a.ns, {});
    cleanUp.push(() => peer.close());
    // A reader that does not even look leaves its ring full before its frames are used up.
    await until("a bound", async () => {
      for (let i = 0; i < 200; i++) peer.send("hoard", b.ipv4Text, PORT + 1);
      await Bun.sleep(5);
      const { MeshFull, QuotaDrops } = engine.counters();
      return MeshFull + QuotaDrops > 0;
    });
    await answered(a, b.ipv4Text, "served all the same");
    hoarder.close();
    engine.udp({ port: PORT + 1 }).onDatagram = (d) => void d.reply();
    await until("the thread's next socket is served", async () => {
      peer.send("again", b.ipv4Text, PORT + 1);
      await Bun.sleep(RETRY_MS);
      return peer.take() !== null;
    });
  });

  test("an engine of the fewest frames has some left to send from", async () => {
    const { a, b } = hosts();
    const engine = await Engine.start({ interface: b.name, netns: b.ns.path, frames: 1024 });
    cleanUp.push(() => engine.close());
    expect(engine.udp().send("at once", 9, a.ipv4Text)).toBe(7);
    expect(engine.counters().PoolEmpty).toBe(0);
  });

  test("100 starts and stops leave no descriptor, thread, map, program, link or memory", async () => {
    const { a, b } = hosts();
    // What others of this process hold is theirs.
    const others = held();
    const made = new Set<string>();
    const cycle = async (): Promise<void> => {
      const engine = await Engine.start({ interface: b.name, netns: b.ns.path, frames: 1024, sockets: 64 });
      const socket = engine.udp({ port: PORT });
      socket.onDatagram = (d) => void d.reply();
      for (const object of held().difference(others)) made.add(object);
      await engine.close();
    };
    const fds = (): number => readdirSync("/proc/self/fd").length;
    const threads = (): number => readdirSync("/proc/self/task").length;
    const resident = (): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]);
    for (let i = 0; i < 20; i++) await cycle();
    Bun.gc(true);
    const before = { fds: fds(), threads: threads(), resident: resident() };
    for (let i = 0; i < 80; i++) await cycle();
    Bun.gc(true);
    await until("the threads' end", () => threads() <= before.threads);
    await until("the descriptors' end", () => fds() <= before.fds);
    // Six maps, the program and its link, each time others: all named by their ids, whoever might hold them still.
    const kinds = Object.groupBy(made, (object) => object.split(" ")[0]);
    expect([kinds.map?.length, kinds.prog?.length, kinds.link?.length]).toEqual([600, 100, 100]);
    await until("the end of maps, programs and links", () => alive(made).length === 0);
    // An engine of this size is some 20 MiB; eighty that stayed would be 1.6 GiB.
    expect(resident() - before.resident).toBeLessThan(200 * 1024);
    const engine = await Engine.start({ interface: b.name, netns: b.ns.path });
    cleanUp.push(() => engine.close());
    engine.udp({ port: PORT }).onDatagram = (d) => void d.reply();
    await answered(a, b.ipv4Text, "still serves");
  }, 240_000);
});
