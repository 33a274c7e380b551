/** What the README says that a socket does, on a thread of the application: the same scenarios on both providers. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ERRNO, type SysError } from "af-xdp-bindings";
import type { Datagram } from "../../sockets/datagram.ts";
import type { UdpSocket } from "../../sockets/udp-socket.ts";
import { until } from "../support/kernel-udp.ts";
import { Bed, ends, missingFor, PROVIDERS, pattern, wildcard } from "./bed.ts";

setDefaultTimeout(15_000);

const FAMILIES = [4, 6] as const;
const echo = (socket: UdpSocket): UdpSocket => {
  socket.onDatagram = (d) => void d.reply();
  return socket;
};

describe.each(PROVIDERS)("provider %s", (provider) => {
  const missing = missingFor(provider);
  describe.skipIf(missing !== "")("", () => {
    const started = missing === "" ? Bed.start(provider) : null;
    afterAll(async () => await (await started)?.close());
    const bed = (): Promise<Bed> => started as Promise<Bed>;

    test("says what it is", async () => {
      const { engine } = await bed();
      expect(engine.info.provider).toBe(provider);
      if (provider === "kernel") expect(engine.info).toMatchObject({ attach: "none", reason: "asked for" });
      else expect(engine.info.attach).toBe("skb");
    });

    test.each(FAMILIES)("IPv%i: every size comes back as it went, to who sent it", async (family) => {
      const here = await bed();
      const { client, server } = ends(here.hosts, family);
      const peer = here.peer(client);
      for (const address of [wildcard(family), server, "::"]) {
        const socket = echo(here.engine.udp({ address }));
        for (const length of [0, 1, 2, 63, 64, 65, 1024, 1452, 1472, 1473, 9000, 60_000]) {
          const { payload, address: from, port } = await peer.ask(pattern(length), server, socket.port);
          expect(payload).toEqual(pattern(length));
          expect([from, port]).toEqual([server, socket.port]);
        }
        socket.close();
      }
    });

    test("receives by handler, promise, loop, into an object, and in batches", async () => {
      const here = await bed();
      const { client, server } = ends(here.hosts, 4);
      const peer = here.peer(client);
      const socket = here.engine.udp();
      const { port } = socket;
      const seen: string[] = [];
      socket.onDatagram = (d) => void seen.push(`handler ${d.text()} ${d.sourceAddress} ${d.sourcePort === peer.port}`);
      peer.send("1", server, port);
      await until("the handler", () => seen.length === 1);
      socket.onDatagram = null;

      const pending = socket.receive();
      peer.send("2", server, port);
      const datagram = await pending;
      seen.push(`promise ${datagram.text()} ${datagram.destinationAddress}`);
      datagram.release();

      for (const text of ["3", "4"]) peer.send(text, server, port);
      for await (const each of socket) {
        seen.push(`loop ${each.text()}`);
        if (each.text() === "4") break;
      }

      const into = socket.newDatagram();
      expect(socket.receiveInto(into)).toBe(-ERRNO.EAGAIN);
      peer.send("five", server, port);
      await until("one", () => socket.receiveInto(into) === 4);
      seen.push(`into ${into.text()}`);
      into.release();

      for (let i = 0; i < 20; i++) peer.send(`${i}`, server, port);
      const batch = Array.from({ length: 8 }, () => socket.newDatagram());
      const got: string[] = [];
      await until("twenty", () => {
        const count = socket.receiveBatch(batch);
        for (let i = 0; i < count; i++) got.push(batch[i].text());
        return got.length === 20;
      });
      expect(socket.receiveBatch(batch)).toBe(-ERRNO.EAGAIN);
      expect(got).toEqual(Array.from({ length: 20 }, (_, i) => `${i}`));
      socket.close();
      expect(socket.receiveInto(into)).toBe(-ERRNO.EBADF);
      expect(seen).toEqual([`handler 1 ${client} true`, `promise 2 ${server}`, "loop 3", "loop 4", "into five"]);
    });

    test("held datagrams live until they are released or answered; the frame is given once", async () => {
      const here = await bed();
      const { client, server } = ends(here.hosts, 4);
      const peer = here.peer(client);
      const socket = here.engine.udp();
      const held: Datagram[] = [];
      socket.onDatagram = (d) => void held.push(d.hold());
      for (let i = 0; i < 100; i++) peer.send(`held ${i}`, server, socket.port);
      await until("all", () => held.length === 100);
      socket.onDatagram = (d) => void d.reply();
      expect((await peer.ask("meanwhile", server, socket.port)).text).toBe("meanwhile");
      for (const [i, d] of held.entries()) {
        expect(d.text()).toBe(`held ${i}`);
        expect(d.reply(4)).toBe(4);
        expect(d.reply()).toBe(-ERRNO.EINVAL);
        d.release();
      }
      // Sent at the end of this turn.
      for (let i = 0; i < 100; i++) expect((await peer.receive()).text).toBe("held");
      socket.close();
    });

    test.each(FAMILIES)("IPv%i: sends text, parts, batches, reserved frames and answers", async (family) => {
      const here = await bed();
      const { client, server } = ends(here.hosts, family);
      const peer = here.peer(client);
      const socket = here.engine.udp({ address: wildcard(family) });
      const from = { address: server, port: socket.port };
      expect(socket.send("text", peer.port, client)).toBe(4);
      expect(await peer.receive()).toMatchObject({ text: "text", ...from });

      const payloads = ["a", "bb", "", "dddd"].map((text) => new TextEncoder().encode(text));
      expect(socket.sendBatch(payloads, peer.port, client)).toBe(4);
      const texts: string[] = [];
      for (let i = 0; i < 4; i++) texts.push((await peer.receive()).text);
      expect(texts).toEqual(["a", "bb", "", "dddd"]);

      const frame = socket.reserve();
      if (frame === null) throw new Error("no frame");
      expect(frame.room).toBeGreaterThanOrEqual(1472);
      new TextEncoder().encodeInto("in place", frame.memory.subarray(frame.offset, frame.offset + 8));
      expect(frame.send(8, peer.port, client)).toBe(8);
      expect(frame.send(8, peer.port, client)).toBe(-ERRNO.EINVAL);
      expect((await peer.receive()).text).toBe("in place");
      socket.reserve()?.cancel();

      expect(socket.send("nowhere")).toBe(-ERRNO.EDESTADDRREQ);
      expect(socket.send("x", 70_000, client)).toBe(-ERRNO.EINVAL);
      socket.connect(peer.port, client);
      expect(socket.send("connected")).toBe(9);
      expect((await peer.receive()).text).toBe("connected");
      const whole = new TextEncoder().encode("xxpartxx");
      expect(socket.sendConnected(whole, 2, 4)).toBe(4);
      expect((await peer.receive()).text).toBe("part");
      socket.close();
      expect(socket.send("gone")).toBe(-ERRNO.EBADF);
    });

    test("a batch of many times what may be under way leaves whole", async () => {
      const here = await bed();
      const { client } = ends(here.hosts, 4);
      const peer = here.peer(client);
      const socket = here.engine.udp();
      const payloads = Array.from({ length: 3000 }, (_, i) => new TextEncoder().encode(`${i}`));
      expect(socket.sendBatch(payloads, peer.port, client)).toBe(3000);
      await socket.writable();
      for (let i = 0; i < 3000; i++) expect((await peer.receive()).text).toBe(`${i}`);
      socket.close();
      await expect(socket.writable()).rejects.toThrow("EBADF");
    });

    test.each(FAMILIES)("IPv%i: connected, the peer alone is heard; dissolved, everybody is", async (family) => {
      const here = await bed();
      const { client, server } = ends(here.hosts, family);
      const [peer, other] = [here.peer(client), here.peer(client)];
      const socket = here.engine.udp({ address: wildcard(family) });
      const { port } = socket;
      socket.connect(peer.port, client);
      expect(socket.address).toMatchObject({ address: server, port });
      expect(socket.remoteAddress).toMatchObject({ address: client, port: peer.port });
      other.send("not for it", server, port);
      peer.send("for it", server, port);
      const datagram = await socket.receive();
      expect(datagram.text()).toBe("for it");
      // The kernel notes it for connected sockets alone (__udp_queue_rcv_skb).
      expect(socket.incomingCpu).toBeGreaterThanOrEqual(0);
      expect(datagram.reply()).toBe(6);
      expect((await peer.receive()).text).toBe("for it");
      socket.disconnect();
      expect(socket.address).toMatchObject({ address: wildcard(family), port });
      other.send("now", server, port);
      const next = await socket.receive();
      expect(next.text()).toBe("now");
      next.release();
      socket.close();
    });

    test.each(FAMILIES)("IPv%i: flows: each sender has a socket of its own, until it is closed", async (family) => {
      const here = await bed();
      const { client, server } = ends(here.hosts, family);
      const parent = here.engine.udp({ address: wildcard(family) });
      const flows = new Map<string, UdpSocket>();
      parent.onDatagram = (d) => {
        const name = d.text();
        const flow = parent.flow(d);
        flows.set(name, flow);
        flow.onDatagram = (next) => void flow.send(`${name} said ${next.text()}`);
        d.reply();
      };
      const peers = ["ann", "bob"].map((name) => ({ name, socket: here.peer(client) }));
      for (const { name, socket } of peers) expect((await socket.ask(name, server, parent.port)).text).toBe(name);
      for (const { name, socket } of peers.toReversed()) {
        expect(await socket.ask("hello", server, parent.port)).toMatchObject({
          text: `${name} said hello`,
          address: server,
          port: parent.port,
        });
      }
      flows.get("ann")?.close();
      expect((await peers[0].socket.ask("again", server, parent.port)).text).toBe("again");
      expect((await peers[1].socket.ask("still", server, parent.port)).text).toBe("bob said still");
      parent.close();
    });

    test("a flow without a handler has a queue of its own", async () => {
      const here = await bed();
      const { client, server } = ends(here.hosts, 4);
      const peer = here.peer(client);
      const parent = here.engine.udp();
      peer.send("first", server, parent.port);
      const first = await parent.receive();
      const flow = parent.flow(first);
      first.release();
      peer.send("second", server, parent.port);
      const second = await flow.receive();
      expect(second.text()).toBe("second");
      second.release();
      expect(parent.receiveInto(parent.newDatagram())).toBe(-ERRNO.EAGAIN);
      parent.close();
      expect(flow.send("x")).toBe(-ERRNO.EBADF);
    });

    test.each(FAMILIES)("IPv%i: nobody listens there: a connected socket hears of it", async (family) => {
      const here = await bed();
      const { client } = ends(here.hosts, family);
      const socket = here.engine.udp({ address: wildcard(family) });
      const heard: number[] = [];
      socket.onError = (errno) => void heard.push(errno);
      socket.connect(9, client);
      expect(socket.send("x")).toBe(1);
      await until("the error", () => heard.length > 0);
      expect(heard).toEqual([ERRNO.ECONNREFUSED]);
      expect(socket.takeError()).toBe(ERRNO.ECONNREFUSED);
      expect(socket.takeError()).toBe(0);
      // Once more, for who waits.
      socket.onError = null;
      const waiting = socket.receive().catch((error: SysError) => error.code);
      expect(socket.send("x")).toBe(1);
      expect(await waiting).toBe("ECONNREFUSED");
      // And for who sends.
      expect(socket.send("x")).toBe(1);
      await Bun.sleep(20);
      await until("a refusal", () => socket.send("y") === -ERRNO.ECONNREFUSED);
      socket.close();
    });

    test.each(FAMILIES)("IPv%i: the error queue says who, where, and about what", async (family) => {
      const here = await bed();
      const { client } = ends(here.hosts, family);
      const socket = here.engine.udp({ address: wildcard(family) });
      socket.setsockopt(family === 4 ? 0 : 41, family === 4 ? 11 : 25, 1);
      const heard: number[] = [];
      socket.onError = (errno) => void heard.push(errno);
      expect(socket.send("about this", 9, client)).toBe(10);
      await until("the error", () => heard.length > 0);
      const entry = socket.receiveError();
      expect(entry && { ...entry, payload: new TextDecoder().decode(entry.payload) }).toEqual({
        errno: ERRNO.ECONNREFUSED,
        origin: family === 4 ? 2 : 3,
        type: family === 4 ? 3 : 1,
        code: family === 4 ? 3 : 4,
        info: 0,
        address: client,
        port: 9,
        offender: client,
        payload: "about this",
      });
      expect(socket.receiveError()).toBeNull();
      expect(socket.takeError()).toBe(0);
      socket.close();
    });

    test("options by number: what is set is told, what is wrong has the kernel's errno", async () => {
      const { engine } = await bed();
      const socket = engine.udp({ ttl: 9, tos: 0x10, receiveBuffer: 65536 });
      expect(socket.getsockopt(0, 2)).toBe(9);
      expect(socket.getsockopt(0, 1)).toBe(0x10);
      expect(socket.getsockopt(1, 8)).toBe(65536);
      // SO_BROADCAST, SO_RCVBUF, IP_TTL, IP_RECVTTL, SO_INCOMING_CPU, UDP_SEGMENT, SO_RXQ_OVFL.
      for (const [level, name, value, told] of [
        [1, 6, 1, 1],
        [1, 8, 40_000, 80_000],
        [0, 2, 33, 33],
        [0, 12, 1, 1],
        [1, 49, 0, 0],
        [17, 103, 500, 500],
        [1, 40, 1, 1],
      ]) {
        socket.setsockopt(level, name, value);
        expect(socket.getsockopt(level, name)).toBe(told);
      }
      const code = (action: () => unknown): string => {
        try {
          action();
          return "";
        } catch (error) {
          return (error as SysError).code;
        }
      };
      expect(code(() => socket.setsockopt(0, 2, 256))).toBe("EINVAL");
      expect(code(() => socket.setsockopt(1, 999, 1))).toBe("ENOPROTOOPT");
      expect(code(() => socket.setsockopt(1, 6, new Uint8Array(1)))).toBe("EINVAL");
      expect(code(() => socket.setsockopt(41, 16, 5))).toBe("ENOPROTOOPT");
      expect(code(() => engine.udp({ address: "203.0.113.1" }))).toBe("EADDRNOTAVAIL");
      expect(code(() => engine.udp({ port: socket.port }))).toBe("EADDRINUSE");
      socket.close();
      expect(code(() => socket.getsockopt(0, 2))).toBe("EBADF");
    });

    test.each(FAMILIES)("IPv%i: TTL, TOS, interface, CPU and time of arrival are told to who asks", async (family) => {
      const here = await bed();
      const { client, server } = ends(here.hosts, family);
      const peer = here.peer(client);
      const socket = here.engine.udp({ address: wildcard(family), timestamps: true });
      if (family === 4) {
        socket.setsockopt(0, 12, 1);
        socket.setsockopt(0, 13, 1);
      } else {
        socket.setsockopt(41, 51, 1);
        socket.setsockopt(41, 66, 1);
      }
      const before = Date.now();
      peer.send("x", server, socket.port);
      const datagram = await socket.receive();
      expect([datagram.ttl, datagram.tos]).toEqual([64, 0]);
      expect(datagram.interfaceIndex).toBe(here.hosts.b.ifindex);
      const at = datagram.seconds * 1000 + datagram.nanoseconds / 1e6;
      expect(at).toBeGreaterThan(before - 5);
      expect(at).toBeLessThan(Date.now() + 5);
      datagram.release();
      socket.close();
    });

    test("a bound address: the interface is told where it is asked for", async () => {
      const here = await bed();
      const { client, server } = ends(here.hosts, 4);
      const socket = here.engine.udp({ address: server });
      socket.setsockopt(0, 8, 1);
      const peer = here.peer(client);
      peer.send("x", server, socket.port);
      const datagram = await socket.receive();
      expect(datagram.interfaceIndex).toBe(here.hosts.b.ifindex);
      datagram.reply();
      expect((await peer.receive()).address).toBe(server);
      socket.close();
    });

    test.each(FAMILIES)("IPv%i: a group is heard while it is joined", async (family) => {
      const here = await bed();
      const { client, server } = ends(here.hosts, family);
      const group = family === 4 ? "239.1.2.3" : "ff05::1:3";
      const peer = here.peer(client);
      const port = 6100 + family;
      const socket = here.engine.udp({ address: wildcard(family), port });
      socket.joinGroup(group, here.hosts.b.name);
      expect(() => socket.joinGroup(group, here.hosts.b.name)).toThrow("EADDRINUSE");
      peer.send("joined", group, port);
      const datagram = await socket.receive();
      expect([datagram.text(), datagram.destinationAddress, datagram.sourceAddress]).toEqual(["joined", group, client]);
      datagram.reply();
      // No answer leaves from a group.
      expect(await peer.receive()).toMatchObject({ text: "joined", address: server, port });
      socket.leaveGroup(group, here.hosts.b.name);
      expect(() => socket.leaveGroup(group, here.hosts.b.name)).toThrow("EADDRNOTAVAIL");
      peer.send("left", group, port);
      peer.send("to it alone", server, port);
      const next = await socket.receive();
      expect(next.text()).toBe("to it alone");
      next.release();
      socket.close();
    });

    test("broadcast: heard, and sent by who may", async () => {
      const here = await bed();
      const { client } = ends(here.hosts, 4);
      const socket = here.engine.udp({ port: 6000 });
      const peer = here.peer(client);
      expect(peer.send("everybody", "198.18.0.255", 6000)).toBe(9);
      const datagram = await socket.receive();
      expect([datagram.text(), datagram.sourcePort]).toEqual(["everybody", peer.port]);
      datagram.reply();
      expect(await peer.receive()).toMatchObject({ text: "everybody", port: 6000 });
      expect(socket.send("x", 6000, "198.18.0.255")).toBe(-ERRNO.EACCES);
      socket.setsockopt(1, 6, 1);
      expect(socket.send("x", 6000, "198.18.0.255")).toBe(1);
      socket.close();
    });

    test("a slow reader loses its own and nobody else's, and is told how many", async () => {
      const here = await bed();
      const { client, server } = ends(here.hosts, 4);
      const peer = here.peer(client);
      const before = here.engine.counters().UdpRcvbufErrors;
      const slow = here.engine.udp({ receiveBuffer: 16_384 });
      let quick = 0;
      const other = here.engine.udp();
      other.onDatagram = () => void quick++;
      const sent = 600;
      for (let i = 0; i < sent; i++) {
        peer.send("slow", server, slow.port);
        peer.send("quick", server, other.port);
        if (i % 50 === 49) await until("the quick one", () => quick === i + 1);
      }
      const into = slow.newDatagram();
      let got = 0;
      while (slow.receiveInto(into) >= 0) got++;
      await until("the count", () => slow.drops + got === sent);
      expect(got).toBeGreaterThan(5);
      expect(got).toBeLessThan(sent / 2);
      expect(other.drops).toBe(0);
      // Lcores tell their counters now and then.
      await until("the counters", () => here.engine.counters().UdpRcvbufErrors - before >= slow.drops);
      expect(here.engine.counters().UdpRcvbufErrors - before).toBe(slow.drops);
      // It reads again: nothing is stuck.
      peer.send("and now", server, slow.port);
      const datagram = await slow.receive();
      expect(datagram.text()).toBe("and now");
      datagram.release();
      slow.close();
      other.close();
    });

    test("counters and statistics count what went through", async () => {
      const here = await bed();
      const { client, server } = ends(here.hosts, 4);
      const peer = here.peer(client);
      const socket = echo(here.engine.udp());
      // What the lcore has counted for the tests before is told when it sleeps.
      const { Turns } = here.engine.counters();
      if (provider === "engine") await until("an account", () => here.engine.counters().Turns > Turns);
      const before = here.engine.counters();
      for (let i = 0; i < 50; i++) await peer.ask("x", server, socket.port);
      const counted = (): number[] => {
        const now = here.engine.counters();
        const out = now.UdpOutDatagrams + now.UdpOutViaKernel - before.UdpOutDatagrams - before.UdpOutViaKernel;
        return [now.UdpInDatagrams - before.UdpInDatagrams, out];
      };
      await until("the counters", () => counted().join() === "50,50");
      const stats = here.engine.stats();
      expect(JSON.parse(JSON.stringify(stats))).toEqual(stats);
      socket.close();
    });

    test.each(["echo", "await"] as const)(
      "a worker that joins serves (%s); it leaves, the port is free",
      async (task) => {
        const here = await bed();
        const { client, server } = ends(here.hosts, 4);
        const peer = here.peer(client);
        const worker = here.attach({ task: task === "echo" ? "detach" : "await", port: 7300 });
        await worker.bound;
        expect(() => here.engine.udp({ address: "::", port: 7300 })).toThrow("EADDRINUSE");
        expect((await peer.ask("x", server, 7300)).text).toBe("x");
        if (task === "await") return;
        expect(await worker.ended).toMatchObject({ count: 1, code: "" });
        here.engine.udp({ address: "::", port: 7300 }).close();
      },
    );

    test("close: a waiting receive hears of it, and the port is free", async () => {
      const { engine } = await bed();
      const socket = engine.udp();
      const { port } = socket;
      const waiting = socket.receive().catch((error: SysError) => error.code);
      socket.close();
      expect(await waiting).toBe("EBADF");
      engine.udp({ port }).close();
    });
  });
});
