/** SO_MARK and SO_PRIORITY: routes by mark, tags by priority, and who may set them, as on a kernel socket. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { errnoName, SysError, sys } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import { IP_TOS, IPPROTO_IP, SO_MARK, SO_PRIORITY, SOL_SOCKET } from "../../sockets/options.ts";
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { Rig } from "../sockets/rig.ts";
import { type Host, makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";
import { EngineParty, int, KernelParty } from "./parties.ts";

setDefaultTimeout(60_000);

const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];
const MARK = 7;
const missing = requires("veth", "af_xdp", "bpf");

/** Runs a command in a host's namespace. Returns what it printed. */
function run(host: Host, line: string): string {
  const { exitCode, stderr, stdout } = Bun.spawnSync(["nsenter", `--net=${host.ns.path}`, ...line.split(" ")]);
  expect([line, exitCode, stderr.toString()]).toEqual([line, 0, ""]);
  return stdout.toString();
}

const told = (result: number): string => (result < 0 ? errnoName(-result) : `${result}`);

describe.skipIf(missing !== "").each(FAMILIES)("SO_MARK, IPv%i", (family: Family) => {
  let hosts: VethPair;
  let engine: Engine;
  let receiver: KernelUdp;
  const addressOf = (host: Host): string => (family === 4 ? host.ipv4Text : host.ipv6Text);

  beforeAll(async () => {
    hosts = makeHosts();
    // What is marked has no way there.
    run(hosts.b, `ip -${family} rule add fwmark ${MARK} lookup 100`);
    run(hosts.b, `ip -${family} route add unreachable default table 100`);
    engine = await Engine.start({ interface: hosts.b.name, netns: hosts.b.ns.path });
    receiver = new KernelUdp(hosts.a.ns, { address: addressOf(hosts.a) });
  });
  afterAll(async () => {
    receiver?.close();
    await engine?.close();
    hosts?.close();
  });

  test("a rule for the mark holds for a marked socket, and for no other", async () => {
    const kernel = new KernelUdp(hosts.b.ns, { address: addressOf(hosts.b) });
    const socket = engine.udp({ address: addressOf(hosts.b) });
    const sends: [set: (mark: number) => void, send: () => number][] = [
      [
        (mark) => expect(sys.setsockoptInt(kernel.fd, SOL_SOCKET, SO_MARK, mark)).toBe(0),
        () => kernel.send("x", addressOf(hosts.a), receiver.port),
      ],
      [
        (mark) => socket.setsockopt(SOL_SOCKET, SO_MARK, mark),
        () => socket.send("x", receiver.port, addressOf(hosts.a)),
      ],
    ];
    const said = sends.map(([set, send]) =>
      [0, MARK, MARK + 1, 0].map((mark) => {
        set(mark);
        return told(send());
      }),
    );
    expect(said[1]).toEqual(said[0]);
    expect(said[0]).toEqual(["1", "EHOSTUNREACH", "1", "1"]);
    for (let i = 0; i < 6; i++) await receiver.receive();
    // Unmarked it is fast again, as soon as the neighbour is known.
    await until("the fast path", () => {
      const { UdpOutViaKernel } = engine.counters();
      socket.send("y", receiver.port, addressOf(hosts.a));
      return engine.counters().UdpOutViaKernel === UdpOutViaKernel;
    });
    const isLast = ({ text }: { text: string }): boolean => text === "last";
    socket.send("last", receiver.port, addressOf(hosts.a));
    while (!isLast(await receiver.receive()));
    // An answer in place obeys the mark as well.
    socket.setsockopt(SOL_SOCKET, SO_MARK, MARK);
    socket.onDatagram = (datagram) => void datagram.reply();
    const errors = engine.counters().UdpOutErrors;
    receiver.send("question", addressOf(hosts.b), socket.port);
    await until("the refusal", () => engine.counters().UdpOutErrors === errors + 1);
    expect(receiver.take()).toBeNull();
    socket.close();
    kernel.close();
  });

  test("a flow has its parent's, and none of its own", async () => {
    const socket = engine.udp({ address: addressOf(hosts.b) });
    receiver.send("hello", addressOf(hosts.b), socket.port);
    const datagram = await socket.receive();
    socket.setsockopt(SOL_SOCKET, SO_MARK, MARK);
    const flow = socket.flow(datagram);
    datagram.release();
    expect(told(flow.send("x"))).toBe("EHOSTUNREACH");
    expect(() => flow.setsockopt(SOL_SOCKET, SO_MARK, 0)).toThrow(SysError);
    socket.close();
  });
});

/** Given to packets one after the other. 0x10_003 is a class of a queueing discipline, 1:3. */
const PRIORITIES = [1, 2, 6, 7, 0x10_003];

describe.skipIf(missing !== "" || Bun.which("nft") === null).each(FAMILIES)("SO_PRIORITY, IPv%i", (family: Family) => {
  let hosts: VethPair;
  let engine: Engine;
  const addressOf = (host: Host): string => (family === 4 ? host.ipv4Text : host.ipv6Text);
  beforeAll(async () => {
    hosts = makeHosts();
    const rules = PRIORITIES.map((priority) => `add rule inet t out udp dport != 0 meta priority ${priority} counter;`);
    const table = `add table inet t; add chain inet t out { type filter hook postrouting priority 0; }; ${rules.join(" ")}`;
    const { exitCode } = Bun.spawnSync(["nsenter", `--net=${hosts.b.ns.path}`, "nft", table]);
    expect(exitCode).toBe(0);
    engine = await Engine.start({ interface: hosts.b.name, netns: hosts.b.ns.path });
  });
  afterAll(async () => {
    await engine?.close();
    hosts?.close();
  });

  /** Packets of each of PRIORITIES that the kernel has sent. */
  const counts = (): number[] =>
    [...run(hosts.b, "nft list table inet t").matchAll(/counter packets (\d+)/g)].map(([, packets]) => Number(packets));

  test("goes with what the kernel then sends, and 0 leaves by the fast path", async () => {
    const receiver = new KernelUdp(hosts.a.ns, { address: addressOf(hosts.a) });
    const kernel = new KernelUdp(hosts.b.ns, { address: addressOf(hosts.b) });
    const socket = engine.udp({ address: addressOf(hosts.b) });
    async function counted(send: () => number): Promise<number[]> {
      const before = counts();
      expect(send()).toBe(1);
      await receiver.receive();
      return counts().map((count, i) => count - before[i]);
    }
    const byKernel = (): number => kernel.send("k", addressOf(hosts.a), receiver.port);
    const byEngine = (): number => socket.send("e", receiver.port, addressOf(hosts.a));
    for (const [i, priority] of PRIORITIES.entries()) {
      expect(sys.setsockoptInt(kernel.fd, SOL_SOCKET, SO_PRIORITY, priority)).toBe(0);
      socket.setsockopt(SOL_SOCKET, SO_PRIORITY, priority);
      const expected = await counted(byKernel);
      expect(expected).toEqual(PRIORITIES.map((_, k) => (k === i ? 1 : 0)));
      expect([priority, ...(await counted(byEngine))]).toEqual([priority, ...expected]);
      expect(engine.counters().UdpOutViaKernel).toBe(i + 1);
    }
    socket.setsockopt(SOL_SOCKET, SO_PRIORITY, 0);
    await until("the fast path", () => {
      const { UdpOutViaKernel } = engine.counters();
      byEngine();
      return engine.counters().UdpOutViaKernel === UdpOutViaKernel;
    });
    for (const each of [receiver, kernel, socket]) each.close();
  });
});

describe.skipIf(requires("netns") !== "" || Bun.which("setpriv") === null)("who may set them", () => {
  const script = fileURLToPath(new URL("./modules/unprivileged.ts", import.meta.url));
  test.each([
    ["with neither capability", "-net_admin,-net_raw"],
    ["without CAP_NET_ADMIN", "-net_admin"],
    ["without CAP_NET_RAW", "-net_raw"],
  ])("%s: as the kernel says", (_, drop) => {
    const command = ["setpriv", "--bounding-set", drop, "--inh-caps", drop, process.execPath, script];
    const { stdout, stderr, exitCode } = Bun.spawnSync(command);
    if (exitCode !== 0) throw new Error(stderr.toString());
    const [kernel, engine] = JSON.parse(stdout.toString());
    expect(engine).toEqual(kernel);
    if (drop === "-net_admin,-net_raw") expect(kernel).toContain(`${SO_PRIORITY} 7: EPERM 06000000`);
  });
});

describe.skipIf(requires("netns") !== "")("IP_TOS", () => {
  test("chooses the priority, with and without a kernel", async () => {
    const hosts = makeHosts();
    const kernel = new KernelParty(hosts.b.ns, 4);
    const engine = new EngineParty(UdpSocket.open(new Rig().threads[0], { address: "0.0.0.0" }));
    const play = (party: EngineParty | KernelParty): string[] =>
      Array.from({ length: 256 }, (_, tos) => {
        party.set(IPPROTO_IP, IP_TOS, int(tos));
        return `${tos}: ${party.get(SOL_SOCKET, SO_PRIORITY, 4)}`;
      });
    expect(play(engine)).toEqual(play(kernel));
    kernel.close();
    hosts.close();
  });
});
