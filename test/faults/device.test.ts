/** What others do to the interface while an engine serves it: queues, carrier, namespace, XDP programs, the port. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Assembler, attachedXdp, attachXdp, type Link, loadXdp, type Program, r0, XDP_PASS } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import { NetNs } from "../../engine/host/netns.ts";
import { type Host, requires } from "../support/hosts.ts";
import { KernelUdp } from "../support/kernel-udp.ts";
import { detach, held } from "./bpf-objects.ts";
import { inViaQueue, ip, PORT, run, scene, until } from "./serving.ts";

setDefaultTimeout(60_000);

/** Questions from as many ports: some fall on each queue. */
const FLOWS = 12;

/** Detaches what this process has attached, and attaches `program`; the engine may have been quicker. */
function replace(host: Host, program: Program): Link {
  for (let i = 0; ; i++) {
    for (const object of held()) if (object.startsWith("link ")) detach(object);
    try {
      return host.ns.run(() => attachXdp(program, host.ifindex, "skb"));
    } catch (error) {
      if (i === 3) throw error;
    }
  }
}

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")("", () => {
  const { cleanUp, hosts, serve, answered, silent } = scene();

  // In native mode, where veth hands a frame to the queue of the number that its sender chose.
  test("queues are added and taken away: what comes on them goes through the kernel, and all is answered", async () => {
    const { a, b } = hosts(2);
    for (const { ethtool, name } of [a, b]) ethtool.setChannels(name, { rx: 1, tx: 1 });
    const notices: string[] = [];
    const onNotice = (text: string): void => void notices.push(text);
    const engine = await Engine.start({ interface: b.name, netns: b.ns.path, mode: "native", onNotice });
    cleanUp.push(() => engine.close());
    engine.udp({ port: PORT }).onDatagram = (d) => void d.reply();
    // As long as the control thread takes to know what there was.
    await Bun.sleep(1500);
    for (let i = 0; i < FLOWS; i++) await answered(a, b.ipv4Text, `one queue ${i}`);
    expect(engine.steeringCounters()?.passNoSocket).toBe(0);
    for (const { ethtool, name } of [b, a]) ethtool.setChannels(name, { rx: 2, tx: 2 });
    const seen = programSaw(engine);
    for (let i = 0; i < FLOWS; i++) await answered(a, b.ipv4Text, `two queues ${i}`);
    const { UdpInViaKernel } = engine.counters();
    expect(UdpInViaKernel).toBeGreaterThan(0);
    // veth runs no program on a queue that was added after the program: no counter of it can tell.
    expect(programSaw(engine) - seen).toBeLessThan(FLOWS);
    expect(engine.steeringCounters()?.passNoSocket).toBe(0);
    await until("the notice", () => notices.length > 0);
    expect(notices).toEqual([expect.stringContaining("has 2 receive queues now, of which lcores drive 1")]);
    for (const { ethtool, name } of [a, b]) ethtool.setChannels(name, { rx: 1, tx: 1 });
    const frames = inViaQueue(engine);
    for (let i = 0; i < FLOWS; i++) await answered(a, b.ipv4Text, `one again ${i}`);
    expect(inViaQueue(engine)).toBeGreaterThanOrEqual(frames + FLOWS);
  });

  test("a queue that the engine serves cannot be taken away: the kernel refuses, and it serves on", async () => {
    const { a, b, engine } = await serve(2);
    for (const channels of [{ rx: 1 }, { rx: 1, tx: 1 }]) {
      expect(() => b.ethtool.setChannels(b.name, channels)).toThrow("EINVAL");
    }
    expect(b.ethtool.channels(b.name)).toMatchObject({ rx: 2, tx: 2 });
    const frames = inViaQueue(engine);
    for (let i = 0; i < FLOWS; i++) await answered(a, b.ipv4Text, `flow ${i}`);
    expect(inViaQueue(engine)).toBeGreaterThanOrEqual(frames + FLOWS);
    // Nor does a closed engine leave the queue taken.
    await engine.close();
    await until("the queue is free", () => {
      try {
        b.ethtool.setChannels(b.name, { rx: 1, tx: 1 });
        return true;
      } catch {
        return false;
      }
    });
  });

  test("the peer's carrier flaps", async () => {
    const { a, b, engine } = await serve();
    await answered(a, b.ipv4Text, "before");
    for (let i = 0; i < 5; i++) {
      ip(a, "link", "set", a.name, "down");
      ip(a, "link", "set", a.name, "up");
    }
    await answered(a, b.ipv4Text, "after");
    const frames = inViaQueue(engine);
    await answered(a, b.ipv4Text, "by the queue");
    expect(inViaQueue(engine)).toBeGreaterThan(frames);
  });

  test("the interface is moved to another namespace: the engine ends and names it", async () => {
    const { a, b, engine } = await serve();
    await answered(a, b.ipv4Text, "before");
    const elsewhere = NetNs.create();
    cleanUp.push(() => elsewhere.close());
    ip(b, "link", "set", b.name, "netns", `/proc/${process.pid}/fd/${elsewhere.fd}`);
    await expect(engine.closed).rejects.toMatchObject({ code: "ENODEV" });
    await expect(engine.closed).rejects.toThrow(`interface ${b.name}`);
    // The host as it was: the queue and the hook are free for the next engine there.
    expect(elsewhere.run(() => attachedXdp(b.ifindex))).toEqual([]);
  });

  test("the peer is deleted: the engine ends and names the interface", async () => {
    const { a, b, engine } = await serve();
    await answered(a, b.ipv4Text, "before");
    ip(a, "link", "del", a.name);
    await expect(engine.closed).rejects.toMatchObject({ code: "ENODEV" });
    await expect(engine.closed).rejects.toThrow(`interface ${b.name}`);
  });

  test("all addresses go and come back", async () => {
    const { a, b, engine } = await serve();
    await answered(a, b.ipv4Text, "before");
    ip(b, "addr", "del", `${b.ipv4Text}/24`, "dev", b.name);
    await silent(a, b.ipv4Text);
    ip(b, "addr", "add", `${b.ipv4Text}/24`, "dev", b.name);
    await answered(a, b.ipv4Text, "after");
    const frames = inViaQueue(engine);
    await answered(a, b.ipv4Text, "by the queue");
    expect(inViaQueue(engine)).toBeGreaterThan(frames);
  });

  test("the MTU grows beyond what a frame holds: longer ones are lost and counted, others served", async () => {
    const { a, b, engine } = await serve();
    for (const host of [a, b]) ip(host, "link", "set", host.name, "mtu", "4000");
    const peer = new KernelUdp(a.ns, {});
    cleanUp.push(() => peer.close());
    await until("the loss", async () => {
      peer.send("x".repeat(3000), b.ipv4Text, PORT);
      await Bun.sleep(5);
      return engine.counters().IpInLong > 0;
    });
    expect(peer.take()).toBeNull();
    await answered(a, b.ipv4Text, "a short one");
    for (const host of [a, b]) ip(host, "link", "set", host.name, "mtu", "1500");
    await answered(a, b.ipv4Text, "after");
  });

  test.each(["skb", "native"] as const)("another XDP program is refused while %s mode serves", async (mode) => {
    const { a, b, engine } = await serve(1, { mode });
    using other = loadXdp(new Assembler().mov(r0, XDP_PASS).exit(), { name: "other" });
    const attach = (how: "skb" | "native") => () => b.ns.run(() => attachXdp(other, b.ifindex, how)).close();
    expect(attach(mode)).toThrow("EBUSY");
    expect(attach(mode === "skb" ? "native" : "skb")).toThrow(/EBUSY|EEXIST/);
    for (const hook of ["xdp", "xdpgeneric", "xdpdrv"]) {
      try {
        ip(b, "link", "set", b.name, hook, "off");
      } catch {
        // Refused, or nothing there to take off.
      }
    }
    const frames = inViaQueue(engine);
    await answered(a, b.ipv4Text, "served");
    expect(inViaQueue(engine)).toBeGreaterThan(frames);
  });

  test.each(["skb", "native"] as const)("root detaches the program: it is put back, mode %s", async (mode) => {
    const notices: string[] = [];
    const { a, b, engine } = await serve(1, { mode, onNotice: (text) => notices.push(text) });
    await answered(a, b.ipv4Text, "before");
    const others = held();
    for (const object of held()) if (object.startsWith("link ")) detach(object);
    expect(b.ns.run(() => attachedXdp(b.ifindex))).toEqual([]);
    await until("the program", () => b.ns.run(() => attachedXdp(b.ifindex)).some((found) => found.mode === mode));
    await until("the notice", () => notices.length > 0);
    expect(notices).toEqual([`the engine's XDP program was taken off ${b.name}, and was put back`]);
    const frames = inViaQueue(engine);
    await answered(a, b.ipv4Text, "after");
    expect(inViaQueue(engine)).toBeGreaterThan(frames);
    // One link in the place of another: nothing more is held, and nothing stays.
    expect(held().size).toBe(others.size);
    await engine.close();
    expect(b.ns.run(() => attachedXdp(b.ifindex))).toEqual([]);
  });

  test("addresses of its own: the program is put back, and the engine is there again", async () => {
    const { a, b } = hosts();
    const notices: string[] = [];
    const own = { addresses: ["198.18.0.200/24"], dad: false };
    const onNotice = (text: string): void => void notices.push(text);
    const engine = await Engine.start({ interface: b.name, netns: b.ns.path, ...own, onNotice });
    cleanUp.push(() => engine.close());
    engine.udp({ port: PORT }).onDatagram = (d) => void d.reply();
    await answered(a, "198.18.0.200", "before");
    for (const object of held()) if (object.startsWith("link ")) detach(object);
    await until("the notice", () => notices.length > 0);
    expect(notices).toEqual([`the engine's XDP program was taken off ${b.name}, and was put back`]);
    await answered(a, "198.18.0.200", "after");
  });

  test("root puts another program in its place: the engine serves through the kernel until that has gone", async () => {
    const notices: string[] = [];
    const { a, b, engine } = await serve(1, { onNotice: (text) => notices.push(text) });
    await answered(a, b.ipv4Text, "before");
    using other = loadXdp(new Assembler().mov(r0, XDP_PASS).exit(), { name: "other" });
    using link = replace(b, other);
    await until("the notice", () => notices.length > 0);
    const { UdpInViaKernel } = engine.counters();
    await answered(a, b.ipv4Text, "through the kernel");
    expect(engine.counters().UdpInViaKernel).toBeGreaterThan(UdpInViaKernel);
    // Two looks later it is still there, and nothing more was said.
    await Bun.sleep(2100);
    expect(notices).toEqual([
      expect.stringMatching(/was taken off veth0, program \d+ "other" is attached in skb mode/),
    ]);
    link.close();
    await until("the program", () => notices.length > 1);
    expect(notices[1]).toBe(`the engine's XDP program was taken off ${b.name}, and was put back`);
    const frames = inViaQueue(engine);
    await answered(a, b.ipv4Text, "after");
    expect(inViaQueue(engine)).toBeGreaterThan(frames);
  });

  test("other programs cannot have a served port, nor the engine theirs", async () => {
    const { a, b, engine, socket } = await serve();
    expect(() => new KernelUdp(b.ns, { port: PORT })).toThrow("EADDRINUSE");
    expect(() => new KernelUdp(b.ns, { port: PORT, reusePort: true })).toThrow("EADDRINUSE");
    const theirs = new KernelUdp(b.ns, { port: PORT + 1 });
    expect(() => engine.udp({ port: PORT + 1 })).toThrow(/bind\(.*EADDRINUSE/);
    await answered(a, b.ipv4Text, "served on");
    theirs.close();
    engine.udp({ port: PORT + 1 }).close();
    socket.close();
    const next = new KernelUdp(b.ns, { port: PORT });
    cleanUp.push(() => next.close());
    const peer = new KernelUdp(a.ns, {});
    cleanUp.push(() => peer.close());
    peer.send("to the kernel", b.ipv4Text, PORT);
    expect((await next.receive()).text).toBe("to the kernel");
  });

  test.each(["skb", "native"] as const)(
    "ethtool, ip and sysctl find the host as it was before, mode %s",
    async (mode) => {
      const { a, b } = hosts(2);
      const before = state(b);
      const engine = await Engine.start({ interface: b.name, netns: b.ns.path, mode, poll: "busy" });
      cleanUp.push(() => engine.close());
      engine.udp({ port: PORT }).onDatagram = (d) => void d.reply();
      await answered(a, b.ipv4Text, "served");
      await engine.close();
      expect(state(b)).toBe(before);
    },
  );
});

/** Frames to the served port that the program has seen. */
function programSaw(engine: Engine): number {
  const { redirected = 0, passNoSocket = 0 } = engine.steeringCounters() ?? {};
  return redirected + passNoSocket;
}

/** All that ethtool, ip and sysctl show of a host, but counters and neighbours. */
function state(host: Host): string {
  const { name } = host;
  const asked = ["-k", "-l", "-g", "-x", "-n", "-c"].map((option) => {
    const { stdout, stderr } = host.ns.run(() => Bun.spawnSync(["ethtool", option, name], { stderr: "pipe" }));
    return `${option}\n${stdout}${stderr}`;
  });
  const sysctls = run(host, "sysctl", "-a", "--pattern", "^net\\.").replaceAll(
    /^.*(nf_conntrack_count|random).*\n/gm,
    "",
  );
  return [...asked, ip(host, "-d", "address"), ip(host, "route"), ip(host, "-6", "route"), sysctls].join("\n");
}
