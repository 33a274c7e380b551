/** Application threads: datagrams to them, answers from them, and every way in which either side may go away. */
import { describe, expect, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { ERRNO, SysError } from "af-xdp-bindings";
import { C } from "../../sockets/counters.ts";
import type { Datagram } from "../../sockets/datagram.ts";
import { M_KIND, MSG_BYE } from "../../sockets/message.ts";
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { parseUdpFrame, udpFrame } from "../support/frames.ts";
import { Rig } from "./rig.ts";

const payloads = (frames: readonly Uint8Array[]): string[] =>
  frames.map((frame) => new TextDecoder().decode(parseUdpFrame(frame).payload));
const named = (prefix: string, count: number, port = 9000): Uint8Array[] =>
  Array.from({ length: count }, (_, i) => udpFrame({ payload: `${prefix}${i}`, port }));

describe("datagrams", () => {
  test.each([
    ["IPv4", "198.18.0.2", "198.18.0.1"],
    ["IPv6", "2001:db8::2", "2001:db8::1"],
  ])("%s: delivered, answered, given back, many times what the pool holds", (_, source, destination) => {
    const rig = new Rig({ frames: 1024 });
    const socket = UdpSocket.open(rig.threads[0], { address: "::", port: 9000 });
    let received = 0;
    socket.onDatagram = (d) => {
      received++;
      if (received % 3 === 0) d.reply();
      else if (received % 3 === 1) socket.send(d.copy(), d.sourcePort, d.sourceAddress);
    };
    let sent = 0;
    for (let round = 0; round < 100; round++) {
      rig.turn(Array.from({ length: 60 }, (_, i) => udpFrame({ source, destination, payload: `${round} ${i}` })));
      for (const frame of rig.settle()) {
        expect(parseUdpFrame(frame)).toMatchObject({ source: destination, destination: source, port: 40000 });
        sent++;
      }
    }
    expect(received).toBe(6000);
    expect(sent).toBe(4000);
    expect(rig.missing()).toBe(0);
    expect(rig.unaccounted()).toBe(0);
    expect(rig.counters()).toMatchObject({ HandedOver: 6000, UdpOutDatagrams: 4000 });
  });

  test("order is kept from a queue, and a handler set later gets what waits first", () => {
    const rig = new Rig();
    const socket = UdpSocket.open(rig.threads[0], { port: 9000 });
    rig.turn(named("a", 5));
    const batch = [socket.newDatagram(), socket.newDatagram()];
    expect(socket.receiveBatch(batch)).toBe(2);
    expect(batch.map((d) => d.text())).toEqual(["a0", "a1"]);
    const got: string[] = [];
    socket.onDatagram = (d) => got.push(d.text());
    rig.turn(named("b", 2));
    rig.settle();
    expect(got).toEqual(["a2", "a3", "a4", "b0", "b1"]);
    for (const d of batch) d.release();
    rig.settle();
    expect(rig.missing()).toBe(0);
  });

  test("a handler set inside another's handler does not disturb the datagram there", () => {
    const rig = new Rig();
    const [thread] = rig.threads;
    const waiting = UdpSocket.open(thread, { port: 9001 });
    rig.turn(named("w", 2, 9001));
    rig.settle();
    const first = UdpSocket.open(thread, { port: 9000 });
    const got: string[] = [];
    first.onDatagram = (d) => {
      waiting.onDatagram = (w) => got.push(w.text());
      got.push(d.text());
      expect(d.reply()).toBe(2);
    };
    rig.turn(named("f", 1));
    expect(payloads(rig.settle())).toEqual(["f0"]);
    expect(got).toEqual(["w0", "w1", "f0"]);
    expect(rig.missing()).toBe(0);
  });

  test("a send inside a handler that has to look for loans leaves the handler's datagram alone", () => {
    const rig = new Rig();
    const [thread] = rig.threads;
    const socket = UdpSocket.open(thread, { port: 9000 });
    const texts: string[] = [];
    let results: number[] = [];
    socket.onDatagram = (d) => {
      const before = d.text();
      results = Array.from({ length: 300 }, () => socket.send("x", 53, "198.18.0.2"));
      texts.push(before, d.text());
    };
    rig.turn(named("n", 2));
    rig.settle();
    expect(texts).toEqual(["n0", "n0", "n1", "n1"]);
    // As many as were lent; then there is no room now, and later there is again.
    expect(results.at(-1)).toBe(-ERRNO.EAGAIN);
    rig.settle();
    expect(socket.send("x", 53, "198.18.0.2")).toBe(1);
    rig.settle();
    expect(rig.missing()).toBe(0);
  });
});

describe("sends that look for loans behind datagrams", () => {
  /** A thread that has used up its loans, with datagrams before the next ones in its ring. */
  const behind = (count: number, handler: ((d: Datagram) => void) | null = null) => {
    const rig = new Rig();
    const socket = UdpSocket.open(rig.threads[0], { port: 9000 });
    socket.onDatagram = handler;
    const send = (): number => socket.send("x", 53, "198.18.0.2");
    while (send() >= 0);
    rig.turn(named("n", count));
    return { rig, socket, send };
  };

  test("call no handler; the datagrams come with the next look, in order", () => {
    const got: string[] = [];
    const { rig, send } = behind(5, (d) => got.push(d.text()));
    expect(send()).toBe(1);
    expect(got).toEqual([]);
    rig.turn(named("m", 3));
    expect(send()).toBe(1);
    expect(got).toEqual([]);
    expect(rig.threads[0].poll()).toBeGreaterThan(0);
    expect(got).toEqual(["n0", "n1", "n2", "n3", "n4", "m0", "m1", "m2"]);
    rig.settle();
    expect(rig.missing()).toBe(0);
  });

  test("inside a handler too find them, and what they passed over keeps its place", () => {
    const { rig, socket } = behind(40);
    const got: string[] = [];
    let sent = 0;
    socket.onDatagram = (d) => {
      const before = d.text();
      for (let i = 0; i < 20; i++) if (socket.send("y", 53, "198.18.0.2") > 0) sent++;
      expect(d.text()).toBe(before);
      got.push(before);
    };
    rig.settle();
    expect(got).toEqual(Array.from({ length: 40 }, (_, i) => `n${i}`));
    // The 128 that the lcore had replaced in the turn before, of the 256 it sent.
    expect(sent).toBeGreaterThan(100);
    expect(rig.missing()).toBe(0);
  });

  test("keep nothing from a reader who blocks, and a thread that leaves takes nothing along", () => {
    const { rig, socket, send } = behind(250);
    expect(send()).toBe(1);
    const datagram = socket.newDatagram();
    for (let i = 0; i < 250; i++) {
      const next = socket.receiveBlocking(0);
      expect(next?.text()).toBe(`n${i}`);
      next?.release();
    }
    expect(socket.receiveInto(datagram)).toBe(-ERRNO.EAGAIN);
    rig.settle();
    while (send() >= 0);
    rig.turn(named("m", 60));
    rig.turn(named("m", 60));
    expect(send()).toBe(1);
    rig.threads[0].flush();
    rig.turn();
    rig.threads[0].close();
    rig.settle();
    // What was lent to the thread is back too.
    expect(rig.missing()).toBe(-rig.lcores[0].pool.frames >> 3);
  });
});

describe("flows that live elsewhere", () => {
  test("what arrives on another lcore goes to the owner, and its frames go home", () => {
    const rig = new Rig({ lcores: 2, ports: 2 });
    const got: string[] = [];
    const socket = UdpSocket.open(rig.lcores[0].stack, { port: 9000 });
    socket.onDatagram = (d) => {
      got.push(d.text());
      if (got.length % 2 === 0) d.reply();
    };
    let sent = 0;
    for (let round = 0; round < 50; round++) {
      rig.turn(named("n", 50), 1, round % 2);
      sent += rig.settle().length;
    }
    expect(got.length).toBe(2500);
    expect(sent).toBe(1250);
    expect(rig.counter("HandedOver", 1)).toBe(2500);
    expect(rig.counter("HandedOver", 0)).toBe(0);
    // The answers leave on the lcore in whose memory the frames are.
    expect(rig.counter("TxFrames", 1)).toBe(1250);
    expect([rig.missing(0), rig.missing(1)]).toEqual([0, 0]);
    expect([rig.unaccounted(0), rig.unaccounted(1)]).toEqual([0, 0]);
    const queued = UdpSocket.open(rig.lcores[0].stack, { port: 9001 });
    rig.turn(named("q", 3, 9001), 1);
    rig.settle();
    expect(queued.queue.length).toBe(3);
    queued.close();
    rig.settle();
    expect(rig.missing(1)).toBe(0);
  });

  test("a reuseport group of lcores and threads: everyone gets a share, every datagram arrives once", () => {
    const rig = new Rig({ lcores: 2, threads: 2 });
    const endpoints = [rig.lcores[0].stack, rig.lcores[1].stack, ...rig.threads];
    const counts = endpoints.map(() => 0);
    const seen = new Set<string>();
    const sockets = endpoints.map((endpoint, i) => {
      const socket = UdpSocket.open(endpoint, { port: 9000, reusePort: true });
      socket.onDatagram = (d) => {
        counts[i]++;
        seen.add(`${d.sourcePort}`);
      };
      return socket;
    });
    for (let port = 1; port <= 4000; port += 40) {
      const frames = Array.from({ length: 40 }, (_, i) => udpFrame({ sourcePort: port + i }));
      rig.turn(frames, (port >> 6) & 1);
      rig.settle();
    }
    expect(seen.size).toBe(4000);
    expect(counts.reduce((a, b) => a + b)).toBe(4000);
    // A fair hash: 1000 each, standard deviation 27.
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(160);
    expect([rig.missing(0), rig.missing(1)]).toEqual([0, 0]);
    for (const socket of sockets) socket.close();
    expect(rig.table.open).toBe(0);
  });
});

describe("readers that do not read", () => {
  test("lose their own datagrams only, and are told how many", () => {
    const rig = new Rig();
    const idle = UdpSocket.open(rig.threads[0], { port: 9000, receiveBuffer: 8192 });
    const busy = UdpSocket.open(rig.threads[0], { port: 9001, receiveBuffer: 8192 });
    let served = 0;
    for (let round = 0; round < 100; round++) {
      rig.turn([...named("n", 5), ...named("m", 5, 9001)]);
      const datagram = busy.newDatagram();
      while (busy.receiveInto(datagram) >= 0) served++;
      datagram.release();
      rig.settle();
    }
    expect(served).toBe(500);
    expect(busy.drops).toBe(0);
    expect(idle.drops).toBe(500 - idle.queue.length);
    expect(idle.queue.length).toBeGreaterThan(5);
    expect(rig.counter("UdpRcvbufErrors")).toBe(idle.drops);
    idle.close();
    rig.settle();
    expect(rig.missing()).toBe(0);
  });

  test("many threads that hold whatever they get leave frames to the others and to the lcore", () => {
    const rig = new Rig({ threads: 5, frames: 4096 });
    const hoarders = rig.threads.slice(0, 4).map((thread, i) => {
      const socket = UdpSocket.open(thread, { port: 9000 + i, receiveBuffer: 1 << 30 });
      return socket;
    });
    const honest = UdpSocket.open(rig.threads[4], { port: 9100 });
    const local = UdpSocket.open(rig.lcores[0].stack, { port: 9101 });
    let served = 0;
    const serve = (d: Datagram): void => {
      if (d.reply() > 0) served++;
    };
    honest.onDatagram = serve;
    local.onDatagram = serve;
    for (let round = 0; round < 200; round++) {
      for (let i = 0; i < 4; i++) rig.turn(named("h", 10, 9000 + i));
      rig.turn([...named("a", 4, 9100), ...named("b", 4, 9101)]);
      rig.settle();
    }
    expect(served).toBe(1600);
    expect(honest.drops).toBe(0);
    for (const { drops } of hoarders) expect(drops).toBeGreaterThan(0);
    expect(rig.counter("QuotaDrops")).toBe(hoarders.reduce((sum, { drops }) => sum + drops, 0));
    for (const socket of hoarders) socket.close();
    rig.settle();
    expect(rig.missing()).toBe(0);
  });

  test("a full ring drops under its counter, and goes on when there is room", () => {
    const rig = new Rig({ ringSlots: 64, frames: 4096 });
    const socket = UdpSocket.open(rig.threads[0], { port: 9000 });
    for (let i = 0; i < 4; i++) rig.turn(named("n", 30));
    expect(rig.counter("MeshFull")).toBe(socket.drops);
    expect(socket.drops).toBe(120 - 64);
    rig.settle();
    rig.turn(named("m", 10));
    rig.settle();
    expect(socket.drops).toBe(120 - 64);
    expect(rig.unaccounted()).toBe(0);
    socket.close();
    rig.settle();
    expect(rig.missing()).toBe(0);
  });
});

describe("a socket that closes", () => {
  test("with datagrams in its queue, in the ring, and held: every frame comes back", () => {
    const rig = new Rig();
    const socket = UdpSocket.open(rig.threads[0], { port: 9000 });
    const held: Datagram[] = [];
    rig.turn(named("queued", 3));
    rig.settle();
    const datagram = socket.newDatagram();
    socket.receiveInto(datagram);
    held.push(datagram);
    rig.turn(named("in the ring", 4));
    socket.close();
    expect(socket.receiveInto(socket.newDatagram())).toBe(-ERRNO.EBADF);
    rig.turn(named("after", 2));
    rig.settle();
    expect(rig.threads[0].counters[C.StaleMessages]).toBe(4);
    expect(rig.counter("UdpNoPorts")).toBe(2);
    expect(rig.missing()).toBe(1);
    held[0].release();
    rig.settle();
    expect(rig.missing()).toBe(0);
  });

  test("its id, reused, inherits no datagram, no charge and no credit", () => {
    const rig = new Rig();
    const [thread] = rig.threads;
    const receiveBuffer = 8192;
    const first = UdpSocket.open(thread, { port: 9000, receiveBuffer });
    rig.turn(named("old", 8));
    rig.settle();
    const held = first.newDatagram();
    first.receiveInto(held);
    rig.turn(named("late", 2));
    first.close();
    // Looked up by the lcore's old tables, while the id has a new owner on another port.
    const second = UdpSocket.open(thread, { port: 9001, receiveBuffer });
    expect(second.id).toBe(first.id);
    rig.input(named("stale", 3));
    rig.settle();
    held.release();
    rig.settle();
    expect(second.queue.length).toBe(0);
    // A socket that was never anybody else's takes as many.
    const fresh = UdpSocket.open(thread, { port: 9002, receiveBuffer });
    rig.turn([...named("n", 20, 9001), ...named("n", 20, 9002)]);
    rig.settle();
    expect(second.queue.length).toBe(fresh.queue.length);
    expect(second.queue.length).toBeLessThan(20);
    second.close();
    fresh.close();
    rig.settle();
    expect(rig.missing()).toBe(0);
    expect(rig.unaccounted()).toBe(0);
  });

  test("sends what was sent before it", async () => {
    const rig = new Rig();
    const [thread] = rig.threads;
    // The lcore's turn comes while close() waits for it, as it does beside another thread.
    const original = thread.settle.bind(thread);
    let sent: string[] = [];
    thread.settle = () => {
      thread.flush();
      sent = payloads(rig.turn());
      original();
    };
    const socket = UdpSocket.open(thread, { port: 9000 });
    expect(socket.send("last words", 53, "198.18.0.2")).toBe(10);
    socket.close();
    expect(sent).toEqual(["last words"]);
    await Promise.resolve();
    rig.settle();
    expect(rig.missing()).toBe(0);
  });

  test("does not wait for ever for an lcore that does nothing", () => {
    const rig = new Rig();
    const socket = UdpSocket.open(rig.threads[0], { port: 9000 });
    socket.send("x", 53, "198.18.0.2");
    const start = performance.now();
    socket.close();
    expect(performance.now() - start).toBeLessThan(5000);
    expect(rig.settle()).toEqual([]);
    expect(rig.counter("StaleMessages")).toBe(1);
    expect(rig.missing()).toBe(0);
  });
});

describe("threads come and go", () => {
  test("many times, with datagrams on their way: no frame is lost for good", () => {
    const rig = new Rig({ threads: 2 });
    for (let i = 0; i < 50; i++) {
      const thread = rig.threads.pop();
      if (thread === undefined) throw new Error("no thread");
      const socket = UdpSocket.open(thread, { port: 9000 });
      rig.turn(named("n", 20));
      if (i % 2 === 0) socket.onDatagram = (d) => void d.reply();
      if (i % 3 === 0) thread.poll();
      rig.turn(named("m", 20));
      thread.close();
      thread.close();
      expect(rig.table.open).toBe(0);
      rig.turn(named("gone", 5));
      rig.joinThread();
    }
    rig.settle();
    expect(rig.missing()).toBe(0);
    const { stack } = rig.lcores[0];
    expect([...stack.holders.counts]).toEqual([0, 0, 0]);
  });

  test("one that dies: the lcore takes back what was lent to it, what it held and what lies in the rings, once", () => {
    const rig = new Rig({ threads: 1, frames: 512 });
    const { mesh } = rig.shared;
    // As often as there would be frames for three times over: 64 are lent to each, and some 60 handed over.
    for (let i = 0; i < 12; i++) {
      const thread = rig.threads.pop();
      if (thread === undefined) throw new Error("no thread");
      const socket = UdpSocket.open(thread, { port: 9000 });
      rig.turn(named("n", 40));
      const held = Array.from({ length: 10 }, () => socket.newDatagram());
      expect(socket.receiveBatch(held)).toBe(10);
      held[0].release();
      expect(held[1].reply()).toBe(2);
      socket.send("in a lent frame", 53, "198.18.0.2");
      if (i % 2 === 0) thread.flush();
      rig.turn(named("m", 20));
      // It does nothing any more; somebody else says that it has gone.
      rig.table.mutex.hold(() => rig.table.closeLocked(socket.id));
      mesh.beginLeaving(thread.thread, 1);
      const ring = mesh.producer(thread.thread, 0);
      for (const _ of ["once", "and again"]) ring.words[ring.claim() + M_KIND] = MSG_BYE;
      ring.publish();
      expect(mesh.isTaken(thread.thread)).toBe(true);
      rig.turn(named("gone", 5));
      expect(mesh.isTaken(thread.thread)).toBe(false);
      expect(rig.lcores[0].pool.available).toBe(512);
      rig.joinThread();
    }
    rig.settle();
    expect(rig.missing()).toBe(0);
    expect(rig.unaccounted()).toBe(0);
    const { stack } = rig.lcores[0];
    expect([...stack.holders.counts]).toEqual([0, 0]);
  });

  test("one that has left has no more to do with its frames, nor with the rings, which are another's", () => {
    const rig = new Rig();
    const [first] = rig.threads;
    const socket = UdpSocket.open(first, { port: 9000 });
    rig.turn(named("n", 3));
    const held = [socket.newDatagram(), socket.newDatagram()];
    expect(socket.receiveBatch(held)).toBe(2);
    first.close();
    // Sent after its last look.
    rig.turn();
    const second = rig.joinThread();
    expect(second.thread).toBe(first.thread);
    held[0].release();
    expect(held[1].reply()).toBe(-ERRNO.EBADF);
    first.flush();
    expect(first.poll()).toBe(0);
    rig.settle();
    expect(rig.missing()).toBe(0);
    expect(rig.counter("BadMessages")).toBe(0);
    const other = UdpSocket.open(second, { port: 9000 });
    rig.turn(named("m", 1));
    expect(other.receiveInto(held[0])).toBe(2);
    expect(held[0].text()).toBe("m0");
  });

  test("when the engine stops, waits end, sockets are closed, frames can be released, and nothing blocks", async () => {
    const rig = new Rig({ ringSlots: 64 });
    const [thread] = rig.threads;
    const socket = UdpSocket.open(thread, { port: 9000 });
    rig.turn(named("n", 60));
    rig.settle();
    const batch = Array.from({ length: 50 }, () => socket.newDatagram());
    expect(socket.receiveBatch(batch)).toBe(50);
    const other = UdpSocket.open(thread, { port: 9001 });
    const waiting = other.receive();
    const iterated = (async () => {
      for await (const _ of other) throw new Error("nothing was sent");
      return "ended";
    })();
    rig.shared.mesh.stop();
    // The lcore drains no more: far more messages than the ring holds are given back or answered.
    for (const [i, d] of batch.entries()) {
      if (i % 2 === 0) d.reply();
      else d.release();
    }
    for (let i = 0; i < 500; i++) socket.send("x", 53, "198.18.0.2");
    await expect(waiting).rejects.toThrow("EBADF");
    expect(await iterated).toBe("ended");
    expect(socket.send("x", 53, "198.18.0.2")).toBe(-ERRNO.EBADF);
    expect(() => other.receiveBlocking(1000)).toThrow(SysError);
    thread.close();
  });
});

describe("waiting", () => {
  /** Lets promises, immediates and the bell's wakeups run until `done`, at most `rounds` turns of the event loop. */
  const until = async (done: () => boolean, rounds = 2000): Promise<void> => {
    for (let i = 0; i < rounds && !done(); i++) await new Promise((resolve) => setImmediate(resolve));
    expect(done()).toBe(true);
  };

  test("receive, several at a time, in order; for await releases each", async () => {
    const rig = new Rig();
    const socket = UdpSocket.open(rig.threads[0], { port: 9000 });
    const both = Promise.all([socket.receive(), socket.receive()]);
    rig.turn(named("n", 2));
    const datagrams = await both;
    expect(datagrams.map((d) => d.text()).toSorted()).toEqual(["n0", "n1"]);
    for (const d of datagrams) d.release();
    const texts: string[] = [];
    const iterated = (async () => {
      for await (const d of socket) {
        texts.push(d.text());
        if (texts.length === 3) break;
      }
    })();
    rig.turn(named("m", 3));
    await iterated;
    expect(texts).toEqual(["m0", "m1", "m2"]);
    rig.settle();
    expect(rig.missing()).toBe(0);
    const closed = socket.receive();
    socket.close();
    await expect(closed).rejects.toThrow("EBADF");
  });

  test("a send that finds datagrams while it looks for loans wakes who waits for them", async () => {
    const rig = new Rig();
    const [thread] = rig.threads;
    const socket = UdpSocket.open(thread, { port: 9000 });
    while (socket.send("x", 53, "198.18.0.2") >= 0);
    let received = "";
    const waiting = socket.receive().then((d) => {
      received = d.text();
      d.release();
    });
    await until(() => true);
    rig.turn(named("n", 1));
    socket.send("x", 53, "198.18.0.2");
    await until(() => received === "n0");
    await waiting;
    rig.settle();
    expect(rig.missing()).toBe(0);
  });

  test("a blocking receive that times out leaves the event loop's own wait intact", async () => {
    const rig = new Rig();
    const [thread] = rig.threads;
    const handled = UdpSocket.open(thread, { port: 9000 });
    const got: string[] = [];
    handled.onDatagram = (d) => got.push(d.text());
    const blocking = UdpSocket.open(thread, { port: 9001 });
    // Until the pump sleeps on the bell.
    for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
    expect(blocking.receiveBlocking(2)).toBeNull();
    for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
    rig.turn(named("n", 1));
    await until(() => got.length === 1);
    expect(got).toEqual(["n0"]);
  });

  test("what a handler throws is an uncaught exception, and the next datagrams are handled all the same", async () => {
    // In a process of its own: bun:test takes every uncaught exception for a failure of the test.
    const script = fileURLToPath(new URL("./throwing-handler.ts", import.meta.url));
    const child = Bun.spawn([process.execPath, script], { stdout: "pipe", stderr: "inherit" });
    expect(await new Response(child.stdout).json()).toEqual({
      got: ["n0", "n1", "n2", "n3"],
      errors: ["the application's"],
      missing: 0,
    });
  });

  test("polled by hand, the exception is the caller's", () => {
    const rig = new Rig();
    const [thread] = rig.threads;
    const socket = UdpSocket.open(thread, { port: 9000 });
    socket.onDatagram = () => {
      throw new Error("again");
    };
    rig.turn(named("n", 1));
    expect(() => thread.poll()).toThrow("again");
    expect(thread.poll()).toBe(0);
  });

  test("a receive that blocks is refused nothing: null when the time is over, EBADF when closed", () => {
    const rig = new Rig();
    const socket = UdpSocket.open(rig.threads[0], { port: 9000 });
    rig.turn(named("n", 1));
    const datagram = socket.receiveBlocking(1000);
    expect(datagram?.text()).toBe("n0");
    datagram?.release();
    const start = performance.now();
    expect(socket.receiveBlocking(5)).toBeNull();
    expect(performance.now() - start).toBeGreaterThanOrEqual(4);
    socket.close();
    expect(() => socket.receiveBlocking(5)).toThrow("EBADF");
  });
});

describe("a TX ring without room", () => {
  const PEER = "198.18.0.2";

  test("what a thread sends and answers waits in its ring, in order; whoever goes on sending hears EAGAIN", () => {
    const rig = new Rig();
    const { ports, stack } = rig.lcores[0];
    const socket = UdpSocket.open(rig.threads[0], { port: 9000 });
    socket.onDatagram = (d) => void d.reply();
    ports[0].txRoom = 3;
    rig.turn(named("answer ", 5));
    const first = payloads(rig.settle());
    expect([first, stack.hold.isHeld]).toEqual([["answer 0", "answer 1", "answer 2"], true]);
    const more: string[] = [];
    let result = 0;
    for (let i = 0; result >= 0; i++) {
      result = socket.send(`datagram ${i}`, 53, PEER);
      if (result >= 0) more.push(`datagram ${i}`);
      rig.settle();
    }
    expect([result, more.length > 100, more.length < 1000]).toEqual([-ERRNO.EAGAIN, true, true]);
    ports[0].txRoom = 2;
    const second = payloads(rig.settle());
    ports[0].txRoom = Number.POSITIVE_INFINITY;
    expect([...second, ...payloads(rig.settle())]).toEqual(["answer 3", "answer 4", ...more]);
    expect([stack.hold.isHeld, rig.counter("UdpSndbufErrors"), rig.missing()]).toEqual([false, 0, 0]);
  });

  test("others' messages go on; a thread that leaves meanwhile is gone when there is room", () => {
    const rig = new Rig({ threads: 2 });
    const [first, second] = rig.threads;
    const { ports } = rig.lcores[0];
    const sender = UdpSocket.open(first, { port: 1000 });
    const reader = UdpSocket.open(second, { port: 9000 });
    let read = 0;
    reader.onDatagram = () => void read++;
    ports[0].txRoom = 0;
    sender.send("waits", 53, PEER);
    for (let round = 0; round < 100; round++) {
      rig.turn(named("x", 60));
      rig.settle();
    }
    // Its frames came back all the time: it could not have read as many else.
    expect([read, rig.counter("QuotaDrops"), rig.counter("MeshFull")]).toEqual([6000, 0, 0]);
    sender.close();
    first.close();
    rig.settle();
    ports[0].txRoom = Number.POSITIVE_INFINITY;
    rig.settle();
    // Of a socket that is closed by now.
    expect(rig.counter("StaleMessages")).toBe(1);
    second.close();
    rig.settle();
  });
});
