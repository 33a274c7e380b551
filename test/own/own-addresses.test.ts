/** Engines with addresses of their own: against each other with no kernel at all, and on an interface against the kernel. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { EngineOptions } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";
import { createMemoryWire, type MemoryWire, type Side } from "../../queues/memory.ts";
import type { UdpSocket } from "../../sockets/udp-socket.ts";
import { type Host, makeHosts, requires } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";

setDefaultTimeout(60_000);

const PORT = 9200;
const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const each of cleanUp.splice(0).toReversed()) await each();
});

/** Bytes that no two datagrams of different length share. */
function payload(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + length) & 0xff);
}

function echo(engine: Engine, address = "::"): UdpSocket {
  const socket = engine.udp({ address, port: PORT });
  // Answers larger than a frame are copied; the others go back in place.
  socket.onDatagram = (d) => {
    if (d.length > 1400) socket.send(d.copy(), d.sourcePort, d.sourceAddress);
    else d.reply();
  };
  return socket;
}

/** Asks until the answer comes: a datagram may be lost while an address is checked or a neighbour asked for. */
async function ask(socket: UdpSocket, bytes: Uint8Array, address: string): Promise<Uint8Array> {
  const answers: Uint8Array[] = [];
  socket.onDatagram = (d) => void answers.push(d.copy());
  for (let i = 0; answers.length === 0; i++) {
    if (i === 200) throw new Error(`no answer of ${bytes.length} bytes from ${address}`);
    socket.send(bytes, PORT, address);
    for (let k = 0; k < 50 && answers.length === 0; k++) await Bun.sleep(1);
  }
  return answers[0];
}

describe("two engines on a wire in memory", () => {
  const mac = (side: number): Uint8Array => Uint8Array.of(2, 0, 0, 0, 0, side + 1);
  async function start(wire: MemoryWire, side: Side, options: Partial<EngineOptions> = {}): Promise<Engine> {
    const addresses = [`198.18.0.${side + 1}/24`, `2001:db8::${side + 1}/64`];
    const engine = await Engine.start({ memory: { wire, side, mac: mac(side), addresses }, ...options });
    cleanUp.push(() => engine.close());
    return engine;
  }

  test.each([
    ["198.18.0.1", "0.0.0.0"],
    ["2001:db8::1", "::"],
  ])("find each other and talk: %s", async (server, any) => {
    const wire = createMemoryWire();
    const a = await start(wire, 0);
    const b = await start(wire, 1);
    echo(a, server);
    const client = b.udp({ address: any });
    for (const length of [0, 1, 100, 1400]) {
      expect(await ask(client, payload(length), server)).toEqual(payload(length));
    }
    // The neighbour is known now: nothing takes the long way any more.
    const before = b.counters().HostFrames;
    for (let i = 0; i < 20; i++) await ask(client, payload(64), server);
    expect(b.counters().HostFrames - before).toBeLessThan(10);
  });

  test.each(["198.18.0.1", "2001:db8::1"])("datagrams larger than a packet: %s", async (server) => {
    const wire = createMemoryWire();
    const a = await start(wire, 0);
    const b = await start(wire, 1);
    echo(a, server);
    const client = b.udp({ address: server.includes(":") ? "::" : "0.0.0.0" });
    for (const length of [1473, 3000, 9000, 65_000]) {
      expect(await ask(client, payload(length), server)).toEqual(payload(length));
    }
  });

  test("nobody at the address: the datagrams are counted, other destinations are served", async () => {
    const wire = createMemoryWire();
    const a = await start(wire, 0);
    const b = await start(wire, 1);
    echo(a);
    const client = b.udp();
    client.send("to nobody", PORT, "198.18.0.77");
    expect(await ask(client, payload(10), "198.18.0.1")).toEqual(payload(10));
    expect(client.send("off the network", PORT, "198.19.0.1")).toBeDefined();
  });

  test("options that make no sense are refused", async () => {
    const wire = createMemoryWire();
    const memory = { wire, side: 0 as Side, mac: mac(0), addresses: ["198.18.0.1"] };
    await expect(Engine.start({ memory })).rejects.toThrow("needs a prefix length");
    await expect(Engine.start({ memory: { ...memory, neighbours: [] }, gateways: ["198.18.0.9"] })).rejects.toThrow(
      "gateways: only with addresses",
    );
  });
});

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")(
  "on an interface of its own, beside the kernel as a peer",
  () => {
    const OWN4 = "198.18.0.200";
    const OWN6 = "2001:db8::200";

    async function start(): Promise<{ a: Host; b: Host; engine: Engine }> {
      const pair = makeHosts();
      cleanUp.push(() => pair.close());
      const { a, b } = pair;
      const engine = await Engine.start({
        interface: b.name,
        netns: b.ns.path,
        addresses: [`${OWN4}/24`, `${OWN6}/64`],
      });
      cleanUp.push(() => engine.close());
      return { a, b, engine };
    }

    const ping = (host: Host, ...words: string[]): string => {
      const { exitCode, stdout, stderr } = Bun.spawnSync([
        "nsenter",
        `--net=${host.ns.path}`,
        "ping",
        "-n",
        "-c1",
        "-W2",
        ...words,
      ]);
      return exitCode === 0 ? "" : `${stdout}${stderr}`;
    };

    async function reachable(host: Host, ...words: string[]): Promise<void> {
      let last = "";
      for (let i = 0; i < 10; i++) {
        last = ping(host, ...words);
        if (last === "") return;
      }
      throw new Error(last);
    }

    test("the kernel finds us by ARP and ND, and pings us, also with fragments", async () => {
      const { a } = await start();
      await reachable(a, OWN4);
      await reachable(a, OWN6);
      await reachable(a, "-s", "4000", OWN4);
      await reachable(a, "-s", "4000", OWN6);
    });

    test.each([OWN4, OWN6])("the kernel asks, we answer: %s", async (address) => {
      const { a, engine } = await start();
      echo(engine);
      const peer = new KernelUdp(a.ns, { address: address.includes(":") ? "::" : "0.0.0.0" });
      cleanUp.push(() => peer.close());
      for (const length of [10, 1400, 1473, 5000, 60_000]) {
        const sent = payload(length);
        let answer = peer.take();
        for (let i = 0; answer === null; i++) {
          if (i === 200) throw new Error(`no answer of ${length} bytes`);
          peer.send(sent, address, PORT);
          for (let k = 0; k < 50 && answer === null; k++) {
            await Bun.sleep(1);
            answer = peer.take();
          }
        }
        expect(answer.payload).toEqual(sent);
        expect(answer.address).toBe(address);
        while (peer.take() !== null);
      }
    });

    test("we ask, the kernel answers; its port unreachable reaches our socket", async () => {
      const { a, engine } = await start();
      const server = new KernelUdp(a.ns, { address: a.ipv4Text, port: PORT });
      cleanUp.push(() => server.close());
      const client = engine.udp();
      client.send("question", PORT, a.ipv4Text);
      await until("the question", () => server.take() !== null);
    });

    test("a port that nobody has: the kernel's socket hears of it", async () => {
      const { a } = await start();
      await reachable(a, OWN4);
      const peer = new KernelUdp(a.ns, {});
      cleanUp.push(() => peer.close());
      peer.connect(OWN4, PORT);
      // ECONNREFUSED comes with a later call.
      await until("port unreachable", () => peer.send("anybody?", OWN4, PORT) === -111);
    });
  },
);
