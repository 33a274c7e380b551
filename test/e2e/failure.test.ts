/** What stands in the way, what goes wrong half-way, and what is left afterwards: nothing. */
import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { attachedXdp, Umem, Xsk } from "af-xdp-bindings";
import type { EngineOptions } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";
import { getAffinity } from "../../engine/host/affinity.ts";
import { Steering } from "../../engine/steering/program.ts";
import { makeHosts, requires } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";

setDefaultTimeout(60_000);

const missing = requires("veth", "af_xdp", "bpf");
const CPUS = getAffinity(0);
const PORT = 9000;
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SERVE = fileURLToPath(new URL("./serve.ts", import.meta.url));
const module = (name: string): URL => new URL(`../engine/modules/${name}.ts`, import.meta.url);

describe.skipIf(missing !== "")("", () => {
  const pair = missing === "" ? makeHosts() : null;
  const { a, b } = pair ?? ({} as NonNullable<typeof pair>);
  afterAll(() => pair?.close());
  const cleanUp: (() => void | Promise<void>)[] = [];
  afterEach(async () => {
    for (const each of cleanUp.splice(0).toReversed()) await each();
    // This thread gets back the CPUs that it was kept off.
    expect(getAffinity(0)).toEqual(CPUS);
  });

  const start = async (options: Partial<EngineOptions> = {}): Promise<Engine> => {
    const engine = await Engine.start({ interface: b.name, netns: b.ns.path, ...options });
    cleanUp.push(() => engine.close());
    return engine;
  };
  const kernel = (host: "a" | "b", address: string, port = 0): KernelUdp => {
    const socket = new KernelUdp(host === "a" ? a.ns : b.ns, { address, port });
    cleanUp.push(() => socket.close());
    return socket;
  };
  const attached = (): number => b.ns.run(() => attachedXdp(b.ifindex).length);

  /** The kernel alone serves the port now, at the first try. */
  async function kernelServes(port = PORT): Promise<void> {
    expect(attached()).toBe(0);
    for (const [any, server, client] of [
      ["0.0.0.0", b.ipv4Text, a.ipv4Text],
      ["::", b.ipv6Text, a.ipv6Text],
    ]) {
      const [local, peer] = [new KernelUdp(b.ns, { address: any, port }), new KernelUdp(a.ns, { address: client })];
      peer.send("to the kernel", server, port);
      expect((await local.receive()).text).toBe("to the kernel");
      local.close();
      peer.close();
    }
  }

  async function engineServes(): Promise<void> {
    const engine = await start();
    const socket = engine.udp({ address: "::", port: PORT });
    socket.onDatagram = (d) => void d.reply();
    const peer = kernel("a", a.ipv4Text);
    expect((await peer.ask("to the engine", b.ipv4Text, PORT)).text).toBe("to the engine");
    await engine.close();
  }

  test("another XDP program is attached: who and what to do; the program stays", async () => {
    const other = Steering.load({ mac: b.mac, queues: 1, name: "somebody" });
    const link = b.ns.run(() => other.attach(b.ifindex, "skb"));
    const data = { where: "nowhere", port: PORT };
    const refusal = start({ module: module("throws"), data });
    await expect(refusal).rejects.toMatchObject({ code: "EBUSY" });
    await expect(refusal).rejects.toThrow('"somebody" is attached in skb mode: stop its owner');
    expect(attached()).toBe(1);
    link.close();
    other.close();
    // What the module had bound by then is free again.
    await kernelServes();
    await engineServes();
  });

  test("a queue is held: named, and free afterwards", async () => {
    const umem = new Umem({ chunks: 64 });
    const xsk = b.ns.run(() => {
      const opened = new Xsk(umem, { ifindex: b.ifindex, queue: 0, rxSize: 64, txSize: 64 });
      opened.bind();
      return opened;
    });
    await expect(start()).rejects.toMatchObject({ code: "EBUSY" });
    xsk.close();
    umem.close();
    await kernelServes();
    await engineServes();
  });

  test("an engine of another process: refused; killed with SIGKILL, kernel and engine serve at once", async () => {
    const child = b.ns.run(() =>
      Bun.spawn([process.execPath, SERVE, b.name, "", `${PORT}`], { stdout: "pipe", cwd: ROOT }),
    );
    cleanUp.push(() => child.kill("SIGKILL"));
    const reader = child.stdout.getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toContain("ready");
    const peer = kernel("a", a.ipv6Text);
    expect((await peer.ask("hello", b.ipv6Text, PORT)).text).toBe("hello");
    await expect(start()).rejects.toMatchObject({ code: "EBUSY" });
    expect((await peer.ask("still there", b.ipv6Text, PORT)).text).toBe("still there");
    // In the middle of traffic.
    for (let i = 0; i < 100; i++) peer.send("x", b.ipv6Text, PORT);
    child.kill("SIGKILL");
    await child.exited;
    while (peer.take() !== null);
    await kernelServes();
    await engineServes();
  });

  test.each(["setup", "handler", "turn"])("a module throws in %s: everything is put back", async (where) => {
    const options = { module: module("throws"), data: { where, port: PORT } };
    if (where === "setup") {
      await expect(start(options)).rejects.toThrow("in setup");
    } else {
      const engine = await start(options);
      const socket = engine.udp({ port: PORT + 1 });
      const ended = engine.closed.then(
        () => "",
        (error: Error) => error.message,
      );
      kernel("a", a.ipv4Text).send("x", b.ipv4Text, PORT);
      await expect(socket.receive()).rejects.toThrow("EBADF");
      expect(await ended).toBe(`lcore 0: in the ${where}`);
    }
    await kernelServes();
    await kernelServes(PORT + 1);
    await engineServes();
  });

  test("close: ports and descriptors are free when it resolves, whoever held them", async () => {
    const cycle = async (): Promise<number> => {
      const engine = await start({ module: module("echo"), data: { port: PORT } });
      engine.udp({ address: b.ipv6Text, port: PORT + 1 });
      const peer = kernel("a", a.ipv4Text);
      await peer.ask("x", b.ipv4Text, PORT);
      await engine.close();
      await kernelServes();
      await kernelServes(PORT + 1);
      for (const each of cleanUp.splice(0)) await each();
      return readdirSync("/proc/self/fd").length;
    };
    await cycle();
    let before = 0;
    for (let i = 0; i < 3; i++) before = Math.max(before, await cycle());
    for (let i = 0; i < 4; i++) await cycle();
    await until("descriptors", () => readdirSync("/proc/self/fd").length <= before);
  });

  test("failed starts leave no descriptor behind", async () => {
    const other = Steering.load({ mac: b.mac, queues: 1 });
    const link = b.ns.run(() => other.attach(b.ifindex, "skb"));
    const attempt = async (options: Partial<EngineOptions>): Promise<number> => {
      await expect(start({ module: module("echo"), data: { port: PORT }, ...options })).rejects.toThrow();
      return readdirSync("/proc/self/fd").length;
    };
    const failing: Partial<EngineOptions>[] = [
      {},
      { interface: "absent0" },
      { queues: [7] },
      { module: module("none") },
    ];
    for (const options of failing) await attempt(options);
    let before = 0;
    for (const options of failing) before = Math.max(before, await attempt(options));
    for (let i = 0; i < 2; i++) for (const options of failing) await attempt(options);
    await until("descriptors", () => readdirSync("/proc/self/fd").length <= before);
    link.close();
    other.close();
  });

  test("no such interface, no Ethernet, no zero copy: said in words", async () => {
    await expect(start({ interface: "absent0" })).rejects.toThrow(/absent0.*ENODEV|ENODEV.*absent0/);
    await expect(start({ interface: "lo", provider: "engine" })).rejects.toThrow(
      "interface lo: not an Ethernet interface",
    );
    await expect(start({ mode: "zerocopy" })).rejects.toThrow(/EOPNOTSUPP|EINVAL/);
    await kernelServes();
  });

  test.skipIf(Bun.which("setpriv") === null)("no privilege: what is missing and how to get it", () => {
    for (const [capability, wanted] of [
      ["net_raw", "CAP_NET_RAW"],
      ["sys_admin,-bpf", "CAP_BPF"],
      ["all", "CAP_NET_ADMIN"],
    ]) {
      const drop = ["--bounding-set", `-${capability}`, "--inh-caps", `-${capability}`];
      const child = b.ns.run(() =>
        Bun.spawnSync(["setpriv", ...drop, process.execPath, SERVE, b.name, "", `${PORT}`], {
          cwd: ROOT,
          timeout: 30_000,
        }),
      );
      const error = JSON.parse(child.stdout.toString());
      expect(error.code).toBe("EPERM");
      expect(error.hint).toContain(wanted);
    }
    expect(attached()).toBe(0);
  });
});
