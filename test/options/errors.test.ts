/** Network errors: the same story by a socket of the kernel and by one of the engine on the same host. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Engine } from "../../engine/engine.ts";
import { ipRun } from "../engine/host/iproute2.ts";
import { icmp4, icmp6, ip4, ip6, udp } from "../host/messages.ts";
import { PacketSocket } from "../host/packet-socket.ts";
import { framed } from "../host/packets.ts";
import { type Host, makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp } from "../support/kernel-udp.ts";
import { type Caller, CLOSED, EngineCaller, heardOf, KernelCaller, wantErrors } from "./errors.ts";

setDefaultTimeout(60_000);

const FAMILIES = [4, 6] as const;
const missing = requires("veth", "af_xdp", "bpf");
/** What an ICMP message needs to arrive at the host's kernel, with room for a busy machine. */
const SETTLE_MS = 60;
/** An address of the network where nobody is, and how long the kernel asks for it: one question, with the wait set below. */
const NOBODY = { 4: "198.18.0.77", 6: "2001:db8::77" };
const ASK_MS = 100;

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function sysctl(host: Host, ...settings: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(["nsenter", `--net=${host.ns.path}`, "sysctl", "-qw", ...settings]);
  expect([exitCode, stderr.toString()]).toEqual([0, ""]);
}

describe.skipIf(missing !== "").each(FAMILIES)("errors, IPv%i", (family) => {
  let hosts: VethPair;
  let engine: Engine;
  let wire: PacketSocket;
  const addressOf = (host: Host): string => (family === 4 ? host.ipv4Text : host.ipv6Text);
  const peer = (): { address: string; port: number } => ({ address: addressOf(hosts.a), port: CLOSED });

  beforeAll(async () => {
    hosts = makeHosts();
    // Every datagram gets its answer, and who does not answer is given up soon.
    for (const host of [hosts.a, hosts.b]) sysctl(host, "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0");
    const neighbours = `net.ipv${family}.neigh.${hosts.b.name}`;
    sysctl(hosts.b, `${neighbours}.retrans_time_ms=${ASK_MS}`, `${neighbours}.mcast_solicit=1`);
    engine = await Engine.start({ interface: hosts.b.name, netns: hosts.b.ns.path });
    wire = new PacketSocket(hosts.a.ns, hosts.a.ifindex);
  });
  afterAll(async () => {
    wire?.close();
    await engine?.close();
    hosts?.close();
  });

  /** Datagrams that settle() itself has sent by the kernel. */
  let aside = 0;
  async function settle(): Promise<void> {
    await Bun.sleep(SETTLE_MS);
    const before = engine.counters().UdpOutViaKernel;
    await heardOf(engine, family, addressOf(hosts.a));
    aside += engine.counters().UdpOutViaKernel - before;
  }

  const callers = (): Caller[] => [
    new KernelCaller(hosts.b.ns, family),
    new EngineCaller(engine.udp({ address: family === 4 ? "0.0.0.0" : "::" })),
  ];

  /** Tells the story by both kinds of socket. Returns what was said. */
  async function compare(story: (caller: Caller) => Promise<string[]>): Promise<string[]> {
    const told: string[][] = [];
    for (const caller of callers()) {
      told.push(await story(caller));
      caller.close();
    }
    expect(told[1]).toEqual(told[0]);
    return told[0];
  }

  /** compare() while the engine's socket has to send by the kernel, and when it sends by itself. */
  async function compareBothWays(story: (caller: Caller) => Promise<string[]>): Promise<string[]> {
    const told: string[][] = [];
    const viaKernel: number[] = [];
    async function tell(): Promise<void> {
      await settle();
      const before = engine.counters().UdpOutViaKernel - aside;
      told.push(await compare(story));
      viaKernel.push(engine.counters().UdpOutViaKernel - aside - before);
    }
    // As long as there is a rule for more than the destination, the kernel is to follow it.
    const rule = (change: "add" | "del"): string =>
      ipRun(hosts.b.ns, `-${family}`, "rule", change, "sport", "1", "lookup", "main");
    rule("add");
    try {
      await tell();
    } finally {
      rule("del");
    }
    await tell();
    expect(told[1]).toEqual(told[0]);
    expect(viaKernel[0]).toBeGreaterThan(viaKernel[1]);
    return told[1];
  }

  test("a connected socket's next call fails, once: send, receive, SO_ERROR", async () => {
    const told = await compareBothWays(async (caller) => {
      caller.connect(addressOf(hosts.a), CLOSED);
      const said: string[] = [];
      for (const call of [() => caller.send(bytes("y")), () => caller.receive(), () => caller.soError()]) {
        said.push(caller.send(bytes("x")));
        await settle();
        said.push(call(), caller.receive(), caller.soError(), caller.readError());
      }
      return said;
    });
    const after = ["EAGAIN", "0", "EAGAIN"];
    const each = (call: string): string[] => ["1", call, ...after];
    expect(told).toEqual([...each("ECONNREFUSED"), ...each("ECONNREFUSED"), ...each("ECONNREFUSED")]);
  });

  test("two refusals before a call are one error", async () => {
    await compare(async (caller) => {
      caller.connect(addressOf(hosts.a), CLOSED);
      const said = [caller.send(bytes("x"))];
      await settle();
      said.push(caller.receive(), caller.send(bytes("y")));
      await settle();
      return [...said, caller.soError(), caller.soError(), caller.send(bytes("z"))];
    });
  });

  test("a socket that is not connected hears nothing", async () => {
    const told = await compareBothWays(async (caller) => {
      const said = [caller.send(bytes("x"), peer())];
      await settle();
      said.push(caller.send(bytes("y"), peer()), caller.receive(), caller.soError(), caller.readError());
      await settle();
      return [...said, caller.receive(), caller.soError()];
    });
    expect(told).toEqual(["1", "1", "EAGAIN", "0", "EAGAIN", "EAGAIN", "0"]);
  });

  test("unless it asks for errors: then each is in the queue, as the kernel tells it", async () => {
    const told = await compareBothWays(async (caller) => {
      wantErrors(caller, family);
      const said = [caller.send(bytes("what"), peer())];
      await settle();
      said.push(caller.send(bytes("y"), peer()), caller.send(bytes("then"), peer()));
      await settle();
      said.push(caller.readError(), caller.soError(), caller.readError(), caller.readError(), caller.soError());
      return said;
    });
    expect(told.filter((line) => line.startsWith("ECONNREFUSED origin"))).toHaveLength(2);
    expect(told.slice(0, 3)).toEqual(["4", "ECONNREFUSED", "4"]);
  });

  test("the pending error follows the queue", async () => {
    await compare(async (caller) => {
      wantErrors(caller, family);
      caller.connect(addressOf(hosts.a), CLOSED);
      const said = [caller.send(bytes("one"))];
      await settle();
      said.push(caller.readError(), caller.receive(), caller.send(bytes("two")));
      await settle();
      said.push(caller.soError(), caller.send(bytes("three")));
      await settle();
      // The second of two entries is pending when the first has been read.
      said.push(caller.readError(), caller.receive(), caller.receive(), caller.readError(), caller.receive());
      // Switched off, what is queued is gone.
      said.push(caller.send(bytes("four")));
      await settle();
      wantErrors(caller, family, 0);
      return [...said, caller.readError(), caller.soError()];
    });
  });

  test("the excerpt is of the payload, however long it is", async () => {
    const told = await compareBothWays(async (caller) => {
      wantErrors(caller, family);
      const said: string[] = [];
      for (const length of [0, 1, 500, 1400, 4000]) {
        said.push(caller.send(new Uint8Array(length).fill(7), peer()));
        await settle();
        said.push(caller.readError(), caller.readError());
      }
      return said;
    });
    expect(told.filter((line) => line.startsWith("ECONNREFUSED origin"))).toHaveLength(5);
  });

  test("a neighbour that does not answer: EHOSTUNREACH to who asks for errors", async () => {
    const told = await compare(async (caller) => {
      wantErrors(caller, family);
      const said = [caller.send(bytes("hello"), { address: NOBODY[family], port: CLOSED })];
      await Bun.sleep(10 * ASK_MS);
      said.push(caller.soError(), caller.readError(), caller.readError(), caller.soError());
      return said;
    });
    expect(told.slice(0, 2)).toEqual(["5", "EHOSTUNREACH"]);
  });

  test("and to who is connected", async () => {
    await compare(async (caller) => {
      caller.connect(NOBODY[family], CLOSED);
      const said = [caller.send(bytes("hello"))];
      await Bun.sleep(10 * ASK_MS);
      return [...said, caller.soError(), caller.receive()];
    });
  });

  /** Has the peer's wire say that a datagram met a closed port, which quotes these addresses and ports. */
  function forge(from: string, fromPort: number, to: string, port: number): void {
    const datagram = udp(fromPort, port, bytes("quoted"));
    const [source, destination] = [addressOf(hosts.a), addressOf(hosts.b)];
    const quoted =
      family === 4
        ? ip4({ source: from, destination: to, protocol: 17, payload: datagram })
        : ip6({ source: from, destination: to, protocol: 17, payload: datagram });
    const packet =
      family === 4
        ? ip4({ source, destination, protocol: 1, payload: icmp4(3, 3, 0, quoted) })
        : icmp6(source, destination, [1, 4, 0], quoted);
    wire.send(framed(hosts.b.mac, hosts.a.mac, packet));
  }

  test("what quotes another socket's datagram is not heard; the right quotation is", async () => {
    const open = new KernelUdp(hosts.a.ns, { address: addressOf(hosts.a) });
    const told = await compare(async (caller) => {
      wantErrors(caller, family);
      const [own, there] = [addressOf(hosts.b), addressOf(hosts.a)];
      caller.connect(there, open.port);
      forge(own, caller.port, there, open.port + 1);
      forge(own, caller.port ^ 1, there, open.port);
      forge(own, caller.port, NOBODY[family], open.port);
      forge(NOBODY[family], caller.port, there, open.port);
      await settle();
      const said = [caller.send(bytes("x")), caller.receive(), caller.soError(), caller.readError()];
      forge(own, caller.port, there, open.port);
      await settle();
      const entry = caller.readError().replace(`${open.port}`, "open");
      return [...said, entry, caller.readError(), caller.soError()];
    });
    open.close();
    expect(told.slice(0, 4)).toEqual(["1", "EAGAIN", "0", "EAGAIN"]);
    expect(told[4]).toStartWith("ECONNREFUSED origin");
  });

  test("a second socket is not disturbed", async () => {
    const open = new KernelUdp(hosts.a.ns, { address: addressOf(hosts.a) });
    const others = callers();
    for (const [i, caller] of callers().entries()) {
      wantErrors(caller, family);
      caller.connect(addressOf(hosts.a), CLOSED);
      others[i].connect(addressOf(hosts.a), open.port);
      expect([caller.send(bytes("x")), others[i].send(bytes("y"))]).toEqual(["1", "1"]);
      const received = await open.receive();
      expect(received.text).toBe("y");
      open.send("answer", received.address, received.port);
      await settle();
      expect([i, caller.soError()]).toEqual([i, "ECONNREFUSED"]);
      expect([i, others[i].soError(), others[i].readError()]).toEqual([i, "0", "EAGAIN"]);
      expect([i, others[i].receive(), others[i].send(bytes("z"))]).toEqual([i, "6", "1"]);
      await open.receive();
      caller.close();
      others[i].close();
    }
    open.close();
  });
});
