/** The kernel takes no frames for a while, or the device drops them: kept and in order, or counted. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import { requires } from "../support/hosts.ts";
import { KernelUdp } from "../support/kernel-udp.ts";
import { ip, PORT, scene, until } from "./serving.ts";

setDefaultTimeout(60_000);

/** Fewer than the TX ring holds, and then more: 2,048 entries. */
const FEW = 500;
const MANY = 3000;
/** Questions sent without a pause: fewer than the fill ring and the ring to a thread hold. */
const BATCH = 500;

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")("", () => {
  const { cleanUp, hosts, serve, answered } = scene();

  async function serveRefusing() {
    const { a, b } = hosts();
    const words = new Int32Array(new SharedArrayBuffer(8));
    const engine = await Engine.start({
      interface: b.name,
      netns: b.ns.path,
      module: new URL("./refused-kicks.ts", import.meta.url),
      data: { port: PORT, words: words.buffer },
      poll: "busy",
    });
    cleanUp.push(() => engine.close());
    const peer = new KernelUdp(a.ns, {});
    cleanUp.push(() => peer.close());
    // The first go through the kernel: it has to find the neighbour.
    await until("an answer by the queue", async () => {
      await answered(a, b.ipv4Text, "before");
      return engine.counters().TxFrames > 0;
    });
    const received = (): number => engine.counters().RxFrames;
    /** Sends questions no faster than `seen` counts them. */
    const ask = async (count: number, port = PORT, seen = received): Promise<void> => {
      const before = seen();
      for (let i = 0; i < count; i++) {
        peer.send(`question ${i}`, b.ipv4Text, port);
        if (i % BATCH === 0 || i === count - 1) await until("them", () => seen() > before + i);
      }
    };
    return { a, engine, peer, words, ask };
  }

  function take(peer: KernelUdp, into: string[]): string[] {
    for (let answer = peer.take(); answer !== null; answer = peer.take()) into.push(answer.text);
    return into;
  }

  test.each(["ENOBUFS", "ENOMEM", "EAGAIN", "ENETDOWN"] as const)("%s: all answers wait, in order", async (name) => {
    const { engine, peer, words, ask } = await serveRefusing();
    Atomics.store(words, 0, ERRNO[name]);
    await ask(FEW);
    expect(peer.take()).toBeNull();
    await until("the count", () => name === "EAGAIN" || engine.counters().TxRefused > 0);
    Atomics.store(words, 0, 0);
    const answers: string[] = [];
    await until("all answers", () => take(peer, answers).length === FEW);
    expect(answers).toEqual(Array.from({ length: FEW }, (_, i) => `question ${i}`));
    expect(engine.counters()).toMatchObject({ TxDropped: 0, UdpSndbufErrors: 0 });
  });

  test("refused for long: what a thread sends and answers waits, and then a send says EAGAIN; nothing is lost", async () => {
    const { a, engine, peer, words, ask } = await serveRefusing();
    const socket = engine.udp({ port: PORT + 1, receiveBuffer: 1 << 24 });
    let read = 0;
    socket.onDatagram = (d) => {
      read++;
      d.reply();
    };
    const free = Atomics.load(words, 1);
    Atomics.store(words, 0, ERRNO.ENOBUFS);
    await ask(MANY, PORT + 1, () => read);
    let accepted = 0;
    while (socket.send(`datagram ${accepted}`, peer.port, a.ipv4Text) >= 0) accepted++;
    expect(accepted).toBeGreaterThan(0);
    expect(peer.take()).toBeNull();
    Atomics.store(words, 0, 0);
    const answers: string[] = [];
    await until("them all", () => take(peer, answers).length === MANY + accepted);
    const { MeshFull, QuotaDrops, UdpRcvbufErrors, UdpSndbufErrors } = engine.counters();
    // The one is the send that was told.
    expect([MeshFull, QuotaDrops, UdpRcvbufErrors, UdpSndbufErrors]).toEqual([0, 0, 0, 1]);
    await until("the frames in the pool again", () => Atomics.load(words, 1) === free);
  });

  test("refused for long: what the TX ring has no room for is counted, and no frame is lost", async () => {
    const { engine, peer, words, ask } = await serveRefusing();
    const free = Atomics.load(words, 1);
    Atomics.store(words, 0, ERRNO.ENOBUFS);
    await ask(MANY);
    await until("the loss", () => engine.counters().UdpSndbufErrors > 0);
    Atomics.store(words, 0, 0);
    const answers: string[] = [];
    await until("the answers", () => take(peer, answers).length === MANY - engine.counters().UdpSndbufErrors);
    await until("the frames in the pool again", () => Atomics.load(words, 1) === free);
    expect(engine.counters().PoolEmpty).toBe(0);
  });

  test.each(["adaptive", "interrupt"] as const)("no carrier: what the device drops is counted, %s", async (poll) => {
    const { a, b, engine, socket } = await serve(1, { poll });
    await answered(a, b.ipv4Text, "before");
    const { TxFrames, TxDropped } = engine.counters();
    ip(a, "link", "set", a.name, "down");
    for (let i = 0; i < 200; i++) socket.send("lost", PORT, a.ipv4Text);
    await until("the count of each", () => {
      const now = engine.counters();
      return now.TxDropped > TxDropped && now.TxDropped - TxDropped === now.TxFrames - TxFrames;
    });
    ip(a, "link", "set", a.name, "up");
    await answered(a, b.ipv4Text, "after");
  });
});
