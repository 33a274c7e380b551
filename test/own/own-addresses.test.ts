/** Engines with addresses of their own: against each other with no kernel at all, and on an interface against the kernel. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Engine } from "../../engine/engine.ts";
import { createMemoryWire, type MemoryWire, type Side } from "../../queues/memory.ts";
import { type Host, requires } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";
import { ask, CleanUp, echo, OWN4, OWN6, PORT, payload, runOn, startOnVeth, startOnWire } from "./support.ts";

setDefaultTimeout(60_000);

const cleanUp = new CleanUp();
afterEach(() => cleanUp.run());

describe("two engines on a wire in memory", () => {
  const start = (wire: MemoryWire, side: Side): Promise<Engine> => startOnWire(wire, side, cleanUp);

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
    const memory = { wire, side: 0 as Side, mac: Uint8Array.of(2, 0, 0, 0, 0, 1), addresses: ["198.18.0.1"] };
    await expect(Engine.start({ memory })).rejects.toThrow("needs a prefix length");
    await expect(Engine.start({ memory: { ...memory, neighbours: [] }, gateways: ["198.18.0.9"] })).rejects.toThrow(
      "gateways: only with addresses",
    );
  });
});

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")(
  "on an interface of its own, beside the kernel as a peer",
  () => {
    const start = (): ReturnType<typeof startOnVeth> => startOnVeth(cleanUp);

    const ping = (host: Host, ...words: string[]): string => {
      const { exitCode, text } = runOn(host, "ping", "-n", "-c1", "-W2", ...words);
      return exitCode === 0 ? "" : text;
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
      for (const length of [10, 1400, 1473, 5000, 60_000]) {
        // A socket each: an answer that comes late is for nobody.
        const peer = new KernelUdp(a.ns, { address: address.includes(":") ? "::" : "0.0.0.0" });
        cleanUp.add(() => peer.close());
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
      }
    });

    test("we ask, the kernel answers; its port unreachable reaches our socket", async () => {
      const { a, engine } = await start();
      const server = new KernelUdp(a.ns, { address: a.ipv4Text, port: PORT });
      cleanUp.add(() => server.close());
      const client = engine.udp();
      client.send("question", PORT, a.ipv4Text);
      await until("the question", () => server.take() !== null);
    });

    test("a port that nobody has: the kernel's socket hears of it", async () => {
      const { a } = await start();
      await reachable(a, OWN4);
      const peer = new KernelUdp(a.ns, {});
      cleanUp.add(() => peer.close());
      peer.connect(OWN4, PORT);
      // ECONNREFUSED comes with a later call.
      await until("port unreachable", () => peer.send("anybody?", OWN4, PORT) === -111);
    });
  },
);
