/** The engine on one end of a veth pair, the kernel's own stack on the other. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import { getAffinity } from "../../engine/host/affinity.ts";
import { waitUntilLocal } from "../../engine/host/hosts.ts";
import { SO_BROADCAST, SOL_SOCKET } from "../../sockets/options.ts";
import type { UdpSocket } from "../../sockets/udp-socket.ts";
import { ip } from "../../sockets/wire/address.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";

// A machine whose CPUs others use as well may take long over what is done in milliseconds.
setDefaultTimeout(60_000);

const missing = requires("veth", "af_xdp", "bpf");
const LAST_CPU = getAffinity(0).at(-1) as number;

/** Hosts with an engine on b, and kernel sockets that are closed with them. */
class Bed {
  readonly hosts: VethPair;
  readonly engine: Engine;
  private readonly sockets: KernelUdp[] = [];

  private constructor(hosts: VethPair, engine: Engine) {
    this.hosts = hosts;
    this.engine = engine;
  }

  /** @param prepare what is to be done to the hosts before the engine sees them */
  static async start(offloads: "on" | "off" = "off", prepare = async (_hosts: VethPair) => {}): Promise<Bed> {
    const hosts = makeHosts({ offloads });
    try {
      await prepare(hosts);
      return new Bed(hosts, await Engine.start({ interface: hosts.b.name, netns: hosts.b.ns.path }));
    } catch (error) {
      hosts.close();
      throw error;
    }
  }

  /** A kernel socket on host a, or on b beside the engine. */
  kernel(address: string, port = 0, host: "a" | "b" = "a"): KernelUdp {
    const socket = new KernelUdp(this.hosts[host].ns, { address, port });
    this.sockets.push(socket);
    return socket;
  }

  async close(): Promise<void> {
    await this.engine.close();
    for (const socket of this.sockets) socket.close();
    this.hosts.close();
  }
}

/** Addresses of both hosts in one family. */
const ends = ({ a, b }: VethPair, family: 4 | 6) =>
  family === 4 ? { client: a.ipv4Text, server: b.ipv4Text } : { client: a.ipv6Text, server: b.ipv6Text };
const wildcard = (family: 4 | 6): string => (family === 4 ? "0.0.0.0" : "::");
const echo = (socket: UdpSocket): UdpSocket => {
  socket.onDatagram = (d) => void d.reply();
  return socket;
};
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 31 + length);

describe.skipIf(missing !== "").each(["off", "on"] as const)("offloads %s", (offloads) => {
  const started = missing === "" ? Bed.start(offloads) : null;
  afterAll(async () => await (await started)?.close());

  test.each([4, 6] as const)("IPv%i: every size comes back as it went", async (family) => {
    const { engine, hosts, kernel } = await bed();
    const { client, server } = ends(hosts, family);
    const socket = echo(engine.udp({ address: wildcard(family) }));
    const peer = kernel(client);
    const headers = family === 4 ? 28 : 48;
    const before = engine.counters();
    // Up to the MTU through the engine, beyond it in fragments through the kernel.
    for (const length of [0, 1, 2, 63, 64, 65, 511, 1024, 1500 - headers, 1501 - headers, 3000, 9000, 60_000]) {
      const { payload, address, port } = await peer.ask(pattern(length), server, socket.port);
      expect(payload).toEqual(pattern(length));
      expect([address, port]).toEqual([server, socket.port]);
    }
    await until("counters", () => engine.counters().UdpInViaKernel - before.UdpInViaKernel === 4);
    const after = engine.counters();
    expect(after.UdpPartialChecksums - before.UdpPartialChecksums).toBe(offloads === "on" ? 9 : 0);
    expect(after.UdpInCsumErrors).toBe(0);
    expect(socket.incomingNapiId).toBe(0);
    socket.close();
  });

  test.each([4, 6] as const)("IPv%i: SO_INCOMING_CPU is the lcore's", async (family) => {
    const { engine, hosts, kernel } = await bed();
    const { client, server } = ends(hosts, family);
    const socket = echo(engine.udp({ address: wildcard(family) }));
    expect(socket.incomingCpu).toBe(-1);
    await kernel(client).ask("x", server, socket.port);
    expect(socket.incomingCpu).toBe(LAST_CPU);
    socket.close();
  });

  test("a thousand datagrams in bursts, none lost, none twice", async () => {
    const { engine, hosts, kernel } = await bed();
    const { client, server } = ends(hosts, 4);
    const socket = echo(engine.udp({ port: 9000 }));
    const peer = kernel(client);
    const seen = new Set<string>();
    for (let burst = 0; burst < 50; burst++) {
      for (let i = 0; i < 20; i++) expect(peer.send(`${burst} ${i}`, server, 9000)).toBeGreaterThan(0);
      for (let i = 0; i < 20; i++) seen.add((await peer.receive()).text);
    }
    expect(seen.size).toBe(1000);
    expect(peer.take()).toBeNull();
    socket.close();
  });

  async function bed() {
    const running = await (started as Promise<Bed>);
    return { engine: running.engine, hosts: running.hosts, kernel: running.kernel.bind(running) };
  }
});

describe.skipIf(missing !== "")("beside the kernel", () => {
  const started = missing === "" ? Bed.start() : null;
  afterAll(async () => await (await started)?.close());
  const bed = (): Promise<Bed> => started as Promise<Bed>;

  test.each([4, 6] as const)(
    "IPv%i: the first datagram to a neighbour nobody knows arrives, so do the next",
    async (family) => {
      const pair = await Bed.start();
      try {
        const { client, server } = ends(pair.hosts, family);
        const peer = pair.kernel(client, 5000);
        const socket = pair.engine.udp({ address: wildcard(family), port: 5001 });
        expect(socket.send("first", 5000, client)).toBe(5);
        expect(await peer.receive()).toMatchObject({ text: "first", address: server, port: 5001 });
        const fast = (): number => pair.engine.counters().UdpOutDatagrams;
        for (let i = 0; fast() === 0; i++) {
          expect(socket.send(`next ${i}`, 5000, client)).toBeGreaterThan(0);
          expect(await peer.receive()).toMatchObject({ text: `next ${i}`, address: server, port: 5001 });
          expect(i).toBeLessThan(1000);
        }
        expect(pair.engine.counters().UdpOutViaKernel).toBeGreaterThan(0);
      } finally {
        await pair.close();
      }
    },
  );

  test.each([4, 6] as const)(
    "IPv%i: an answer through the kernel leaves from the address that was asked, not the one the route would choose",
    async (family) => {
      const second = family === 4 ? "198.18.0.77" : "2001:db8::77";
      const pair = await Bed.start("off", async ({ a, b }) => {
        b.rtnl.addAddress(b.ifindex, ip(second), family === 4 ? 24 : 64);
        waitUntilLocal(b.rtnl, [ip(second)]);
        // The client asks nobody for b's MAC address, for b would learn the client's from the question.
        a.rtnl.setNeighbour(a.ifindex, ip(second), b.mac);
      });
      try {
        const { client } = ends(pair.hosts, family);
        const socket = echo(pair.engine.udp({ address: wildcard(family) }));
        // b does not know the client's, so this first answer cannot take the fast path.
        const reply = await pair.kernel(client).ask("who?", second, socket.port);
        expect(reply).toMatchObject({ text: "who?", address: second, port: socket.port });
        await until("counters", () => pair.engine.counters().UdpOutViaKernel > 0);
      } finally {
        await pair.close();
      }
    },
  );

  test.each([4, 6] as const)(
    "IPv%i: to loopback, to the own address, and what was sent just before a close",
    async (family) => {
      const here = await bed();
      const { engine, hosts } = here;
      const { client, server } = ends(hosts, family);
      const loopback = family === 4 ? "127.0.0.1" : "::1";
      for (const address of [loopback, server]) {
        const local = here.kernel(address, 0, "b");
        const socket = echo(engine.udp({ address: wildcard(family) }));
        expect(socket.send("to myself", local.port, address)).toBe(9);
        const { text, port } = await local.receive();
        expect([text, port]).toEqual(["to myself", socket.port]);
        // The other way: over loopback to the engine's socket.
        expect((await local.ask("and back", address, socket.port)).text).toBe("and back");
        socket.close();
      }
      const peer = here.kernel(client);
      for (let i = 0; i < 20; i++) {
        const socket = engine.udp({ address: wildcard(family) });
        expect(socket.send(`last ${i}`, peer.port, client)).toBeGreaterThan(0);
        socket.close();
        expect((await peer.receive()).text).toBe(`last ${i}`);
      }
    },
  );

  test.each([4, 6] as const)(
    "IPv%i: too large for anything is refused, too large for a frame is sent",
    async (family) => {
      const { engine, hosts } = await bed();
      const { client } = ends(hosts, family);
      const peer = (await bed()).kernel(client);
      const socket = engine.udp({ address: wildcard(family) });
      expect(socket.send(new Uint8Array(70_000), peer.port, client)).toBe(-ERRNO.EMSGSIZE);
      expect(socket.send(pattern(50_000), peer.port, client)).toBe(50_000);
      expect((await peer.receive()).payload).toEqual(pattern(50_000));
      socket.close();
    },
  );

  test.each([4, 6] as const)("IPv%i: connected, the peer alone is heard; dissolved, everybody is", async (family) => {
    const { engine, hosts } = await bed();
    const { client, server } = ends(hosts, family);
    const here = await bed();
    const [peer, other] = [here.kernel(client), here.kernel(client)];
    const socket = engine.udp({ address: wildcard(family) });
    const { port } = socket;
    socket.connect(peer.port, client);
    expect(socket.address).toMatchObject({ address: server, port });
    expect(socket.remoteAddress).toMatchObject({ address: client, port: peer.port });
    other.send("not for it", server, port);
    peer.send("for it", server, port);
    const datagram = await socket.receive();
    expect(datagram.text()).toBe("for it");
    datagram.release();
    expect(socket.send("question")).toBe(8);
    expect((await peer.receive()).text).toBe("question");
    socket.disconnect();
    // The port was the kernel's choice; it stays.
    expect(socket.address).toMatchObject({ address: wildcard(family), port });
    other.send("now", server, port);
    const next = await socket.receive();
    expect(next.text()).toBe("now");
    next.release();
    socket.close();
    here.kernel(wildcard(family), port, "b");
  });

  test("flows: each sender has a socket of its own", async () => {
    const here = await bed();
    const { client, server } = ends(here.hosts, 4);
    const parent = here.engine.udp({ port: 0 });
    const names = new Map<number, string>();
    parent.onDatagram = (d) => {
      const flow = parent.flow(d);
      names.set(d.sourcePort, d.text());
      flow.onDatagram = (next) => {
        flow.send(`${names.get(next.sourcePort)} said ${next.text()}`);
      };
      d.reply();
    };
    const peers = ["ann", "bob"].map((name) => ({ name, socket: here.kernel(client) }));
    for (const { name, socket } of peers) await socket.ask(name, server, parent.port);
    for (const { name, socket } of peers.toReversed()) {
      expect((await socket.ask("hello", server, parent.port)).text).toBe(`${name} said hello`);
    }
    parent.close();
  });

  test("broadcast comes through the kernel", async () => {
    const here = await bed();
    const socket = here.engine.udp({ port: 6000 });
    const before = here.engine.counters().UdpInViaKernel;
    const peer = here.kernel(here.hosts.a.ipv4Text);
    expect(peer.send("everybody", "198.18.0.255", 6000)).toBe(9);
    const datagram = await socket.receive();
    expect([datagram.text(), datagram.sourcePort]).toEqual(["everybody", peer.port]);
    datagram.release();
    await until("the counter", () => here.engine.counters().UdpInViaKernel === before + 1);
    socket.close();
  });

  test("a broadcast, when others have broadcast before: not without SO_BROADCAST, and this host hears it too", async () => {
    const everybody = "198.18.0.255";
    // From then on the kernel has a neighbour entry for the address, MAC ff:ff:ff:ff:ff:ff.
    const pair = await Bed.start("off", async ({ b }) => {
      const other = new KernelUdp(b.ns);
      other.send("anybody?", everybody, 9);
      other.close();
    });
    try {
      const listeners = (["a", "b"] as const).map((host) => pair.kernel("0.0.0.0", 6000, host));
      const socket = pair.engine.udp();
      expect(socket.send("all", 6000, everybody)).toBe(-ERRNO.EACCES);
      socket.setsockopt(SOL_SOCKET, SO_BROADCAST, 1);
      expect(socket.send("all", 6000, everybody)).toBe(3);
      for (const listener of listeners) expect((await listener.receive()).text).toBe("all");
    } finally {
      await pair.close();
    }
  });

  test("ports: taken both ways, free at once after a close, shared where both ask for it", async () => {
    const here = await bed();
    const { engine, hosts } = here;
    for (const [address, kernelAddress] of [
      ["0.0.0.0", "0.0.0.0"],
      ["::", "0.0.0.0"],
      [hosts.b.ipv6Text, "::"],
      [hosts.b.ipv4Text, hosts.b.ipv4Text],
    ]) {
      const socket = engine.udp({ address });
      const { port } = socket;
      expect(port).toBeGreaterThan(1023);
      expect(() => here.kernel(kernelAddress, port, "b")).toThrow("EADDRINUSE");
      socket.close();
      const kernel = new KernelUdp(hosts.b.ns, { address: kernelAddress, port });
      expect(() => engine.udp({ address, port })).toThrow(/EADDRINUSE.*ss -lunp/);
      kernel.close();
      engine.udp({ address, port }).close();
    }
    const shared = engine.udp({ port: 6001, reusePort: true });
    const kernel = new KernelUdp(hosts.b.ns, { port: 6001, reusePort: true });
    kernel.close();
    shared.close();
    expect(() => engine.udp({ address: "203.0.113.1" })).toThrow(/EADDRNOTAVAIL/);
    engine.udp({ port: 53 }).close();
  });

  test("an address the host gets or loses while the engine runs", async () => {
    const here = await bed();
    const { engine, hosts } = here;
    const extra = Uint8Array.of(198, 18, 0, 77);
    expect(() => engine.udp({ address: "198.18.0.77" })).toThrow("EADDRNOTAVAIL");
    hosts.b.rtnl.addAddress(hosts.b.ifindex, extra, 24);
    const bound = echo(engine.udp({ address: "198.18.0.77" }));
    const any = echo(engine.udp({}));
    const peer = here.kernel(hosts.a.ipv4Text);
    for (const { port } of [bound, any]) {
      // The engine hears of the address a moment later than the kernel.
      await until("an answer", () => {
        peer.send(`to ${port}`, "198.18.0.77", port);
        const answer = peer.take();
        return answer?.address === "198.18.0.77" && answer.port === port && answer.text === `to ${port}`;
      });
    }
    bound.close();
    any.close();
  });
});
