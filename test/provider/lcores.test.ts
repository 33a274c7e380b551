/** Modules on lcores, and how sockets share a port: the same scenarios on both providers. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { EngineOptions, PollPolicy } from "../../engine/config.ts";
import { getAffinity, setAffinity } from "../../engine/host/affinity.ts";
import { ORDER } from "../engine/modules/order.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";
import { Bed, ends, missingFor, module, PROVIDERS } from "./bed.ts";

setDefaultTimeout(60_000);

const CPUS = getAffinity(0);
const PORT = 9000;

describe.each(PROVIDERS)("provider %s", (provider) => {
  const missing = missingFor(provider);
  const beds: Bed[] = [];
  const start = async (options: Partial<EngineOptions>, queues = 1): Promise<Bed> => {
    const bed = await Bed.start(provider, options, queues);
    beds.push(bed);
    return bed;
  };
  afterEach(async () => {
    for (const bed of beds.splice(0)) await bed.close();
    expect(getAffinity(0)).toEqual(CPUS);
  });

  describe.skipIf(missing !== "")("", () => {
    test.each(["busy", "adaptive", "interrupt"] as PollPolicy[])(
      "poll %s: a module echoes, asleep or not",
      async (poll) => {
        const bed = await start({ poll, spinUs: 20, module: module("echo"), data: { port: PORT } });
        for (const family of [4, 6] as const) {
          const { client, server } = ends(bed.hosts, family);
          const peer = bed.peer(client);
          for (let i = 0; i < 30; i++) {
            expect((await peer.ask(`${i}`, server, PORT)).text).toBe(`${i}`);
            if (i % 8 === 0) await Bun.sleep(3);
          }
        }
        await until("the counters", () => {
          const { Preempted, Sleeps, UdpInDatagrams, UdpInViaKernel } = bed.engine.counters(0);
          const isAlone = poll === "busy" && Preempted === 0;
          return UdpInDatagrams + UdpInViaKernel >= 59 && (isAlone ? Sleeps === 0 : poll === "busy" || Sleeps > 0);
        });
      },
    );

    test("one in flight, after pauses about as long as it spins: each comes back, awake or asleep", async () => {
      const bed = await start({ spinUs: 100, module: module("echo"), data: { port: PORT } });
      const { client, server } = ends(bed.hosts, 4);
      const peer = bed.peer(client);
      let late = 0;
      for (let i = 0; i < 200; i++) {
        for (const until = performance.now() + i / 1000; performance.now() < until; );
        const sent = performance.now();
        expect((await peer.ask(`${i}`, server, PORT)).text).toBe(`${i}`);
        if (performance.now() - sent > 400) late++;
      }
      // A wake-up that is lost costs the rest of a sleep of half a second; somebody else's turn may, now and then.
      expect(late).toBeLessThan(20);
      await until("the counters", () => {
        const { Sleeps, UdpInDatagrams, UdpInViaKernel } = bed.engine.counters(0);
        return UdpInDatagrams + UdpInViaKernel === 200 && Sleeps > 0;
      });
    });

    test("what a module sends one by one, and then in segments, arrives in this order", async () => {
      const bed = await start({ module: module("order"), data: { port: PORT } });
      const { client, server } = ends(bed.hosts, 4);
      const peer = bed.peer(client);
      // The first datagram to somebody leaves by itself; those of the second round are gathered.
      for (let round = 0; round < 2; round++) {
        peer.send("x", server, PORT);
        const texts: string[] = [];
        for (let i = 0; i < ORDER.length; i++) texts.push((await peer.receive()).text);
        expect(texts).toEqual(ORDER);
      }
    });

    test("what a module throws in a handler stops the engine and is told", async () => {
      const bed = await start({ module: module("throws"), data: { where: "handler", port: PORT } });
      const ended = bed.engine.closed.then(
        () => "",
        (error: Error) => error.message,
      );
      const { client, server } = ends(bed.hosts, 4);
      bed.peer(client).send("x", server, PORT);
      expect(await ended).toBe("lcore 0: in the handler");
    });
  });

  describe.skipIf(missing !== "" || CPUS.length < 2)("two lcores", () => {
    const cpus = CPUS.slice(0, 2);
    /** Each from a port of its own, answered before the next. */
    async function flood(bed: Bed, senders: number): Promise<void> {
      const { client, server } = ends(bed.hosts, 4);
      for (let i = 0; i < senders; i++) {
        const peer = new KernelUdp(bed.hosts.a.ns, { address: client });
        expect((await peer.ask(`${i}`, server, PORT)).text).toBe(`${i}`);
        peer.close();
      }
    }
    const shares = (bed: Bed): number[] => [0, 1].map((lcore) => bed.engine.counters(lcore).UdpInDatagrams);

    test("share a port: the hash deals the flows out", async () => {
      const bed = await start({ cpus, module: module("echo"), data: { port: PORT, reusePort: true } }, 2);
      await flood(bed, 120);
      await until("the counters", () => bed.engine.counters().UdpInDatagrams === 120);
      // Of 120 flows fewer than 30 go to one of two with a chance below 10^-7.
      if (provider === "kernel") for (const share of shares(bed)) expect(share).toBeGreaterThan(29);
    });

    test("and a thread of the application is a member like any other", async () => {
      const bed = await start({ cpus, module: module("echo"), data: { port: PORT, reusePort: true } }, 2);
      const socket = bed.engine.udp({ address: "::", port: PORT, reusePort: true });
      let here = 0;
      socket.onDatagram = (datagram) => {
        here++;
        datagram.reply();
      };
      await flood(bed, 120);
      expect(here).toBeGreaterThan(10);
      expect(here).toBeLessThan(90);
    });

    // The engine's own way is that of the queue, and its tests are with the queues.
    if (provider === "engine") return;
    test("SO_INCOMING_CPU: the member on the CPU of arrival has them all", async () => {
      const data = { port: PORT, reusePort: true, incomingCpu: true };
      const bed = await start({ cpus, isolate: false, module: module("echo"), data }, 2);
      const before = getAffinity(0);
      try {
        // On veth a datagram arrives on the CPU that sends it.
        for (const [lcore, cpu] of cpus.entries()) {
          setAffinity(0, [cpu]);
          const counted = shares(bed)[lcore];
          await flood(bed, 40);
          await until("all of them", () => shares(bed)[lcore] === counted + 40);
        }
      } finally {
        setAffinity(0, before);
      }
    });
  });
});
