/** The kernel's TCP at the other end of a veth, both roles, both IP versions, with frames lost in between. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import { Random } from "../../queues/random.ts";
import { bind, close, connect, listen, openSocket, receive, SHUT_WR, send, shutdown } from "../../sockets/tcp/calls.ts";
import { Tcp } from "../../sockets/tcp/core.ts";
import { tcpInfo } from "../../sockets/tcp/info.ts";
import { accept } from "../../sockets/tcp/listen.ts";
import { ESTABLISHED, STATE, SYN_SENT, TCB_WORDS } from "../../sockets/tcp/tcb.ts";
import { runTimers } from "../../sockets/tcp/timers.ts";
import { ip } from "../../sockets/wire/address.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { hasIproute2, ipRun } from "../engine/host/iproute2.ts";
import { PacketSocket } from "../host/packet-socket.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { addressWords, deliver, streamByte, TestSink } from "./segments.ts";

const OWN_MAC = Uint8Array.of(2, 0, 0, 0, 0, 0x40);
const OWN = { 4: "198.18.0.40", 6: "2001:db8::40" } as const;
const ETHERTYPE = { 4: 0x0800, 6: 0x86dd } as const;
const PORT = 7000;
const BYTES = 1_500_000;
const TIMEOUT_MS = 60_000;

/** A TCP of ours on a packet socket: everything that it sends and takes may be lost. */
class Station {
  readonly t: Tcp;
  private readonly sink = new TestSink();
  private readonly random: Random;
  private readonly buffer = new FrameViews(new Uint8Array(1 << 16));
  private readonly family: 4 | 6;
  private readonly wire: PacketSocket;
  private readonly lossPercent: number;
  written = 0;
  read = 0;
  ended = false;

  constructor(wire: PacketSocket, family: 4 | 6, kernelMac: Uint8Array, lossPercent: number, seed: number) {
    this.wire = wire;
    this.family = family;
    this.lossPercent = lossPercent;
    this.random = new Random(seed);
    const secret = Int32Array.from({ length: 4 }, () => this.random.int32());
    const limits = { connections: 16, bufferBytes: 16 << 20, pressureBytes: 12 << 20, segments: 8192, ranges: 1024 };
    this.t = new Tcp({ ...limits, ecn: 1 }, this.sink, secret, seed, performance.now() * 1000);
    this.sink.onFrame = (views, length) => {
      if (this.lost()) return;
      const frame = views.bytes.slice(0, 14 + length);
      frame.set(kernelMac, 0);
      frame.set(OWN_MAC, 6);
      frame.set([ETHERTYPE[family] >> 8, ETHERTYPE[family] & 255], 12);
      wire.send(frame);
    };
  }

  private lost(): boolean {
    return this.random.below(100) < this.lossPercent;
  }

  /** Takes what has come and fires what is due. */
  private turn(): boolean {
    const { t } = this;
    t.begin(performance.now() * 1000);
    let some = false;
    for (let i = 0; i < 64; i++) {
      const frame = this.wire.receive();
      if (frame === null) break;
      some = true;
      if (((frame[12] << 8) | frame[13]) !== ETHERTYPE[this.family] || this.lost()) continue;
      if (frame[this.family === 4 ? 23 : 20] !== 6 || !OWN_MAC.every((byte, at) => frame[at] === byte)) continue;
      const views = new FrameViews(new Uint8Array((frame.length + 7) & ~3));
      views.bytes.set(frame);
      deliver(t, views, frame.length - 14);
    }
    runTimers(t);
    return some;
  }

  /** Turns until a condition holds. */
  async until(what: string, holds: () => boolean): Promise<void> {
    const end = performance.now() + TIMEOUT_MS;
    while (!holds()) {
      if (performance.now() > end) throw new Error(`${what}: not within ${TIMEOUT_MS} ms: ${this.read} read`);
      // Frames wake nobody: the loop gives others a turn, and looks again.
      if (!this.turn()) await Bun.sleep(1);
    }
  }

  /** Writes `total` bytes and reads to the end. Both ways at once. */
  async exchange(id: number, total: number): Promise<void> {
    const { t, buffer } = this;
    await this.until("the exchange", () => {
      while (this.written < total) {
        const count = Math.min(60_000, total - this.written);
        for (let i = 0; i < count; i++) buffer.bytes[4 + i] = streamByte(this.written + i);
        const sent = send(t, id, buffer, 4, count, 0);
        if (sent === -ERRNO.EAGAIN) break;
        expect(sent).toBeGreaterThan(0);
        this.written += sent;
        if (this.written === total) shutdown(t, id, SHUT_WR);
      }
      for (;;) {
        const got = receive(t, id, buffer, 2, 60_000, 0);
        if (got === 0) this.ended = true;
        if (got <= 0) return this.ended && this.written === total && tcpInfo(t.w, id * TCB_WORDS, t.now).unacked === 0;
        for (let i = 0; i < got; i++)
          if (buffer.bytes[2 + i] !== streamByte(this.read + i)) throw new Error(`byte ${this.read + i} is another`);
        this.read += got;
      }
    });
  }
}

describe.skipIf(requires("veth") !== "" || !hasIproute2)("against the kernel", () => {
  let hosts: VethPair;
  let wire: PacketSocket;
  beforeAll(() => {
    hosts = makeHosts();
    const mac = [...OWN_MAC].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
    for (const address of Object.values(OWN))
      ipRun(hosts.a.ns, "neigh", "add", address, "lladdr", mac, "dev", hosts.a.name);
    wire = new PacketSocket(hosts.b.ns, hosts.b.ifindex);
  });
  afterAll(() => {
    wire.close();
    hosts.close();
  });

  function kernel(
    mode: "listen" | "connect",
    address: string,
    port: number,
  ): Bun.Subprocess<"ignore", "pipe", "inherit"> {
    const file = new URL("kernel-peer.ts", import.meta.url).pathname;
    const command = [process.execPath, file, mode, address, String(port), String(BYTES)];
    return hosts.a.ns.run(() => Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "inherit" }));
  }

  let port = PORT;
  const cases = ([4, 6] as const).flatMap((family) =>
    (["connects", "is connected to"] as const).flatMap((role) => [0, 2].map((loss) => ({ family, role, loss }))),
  );
  test.each(cases)(
    "IPv$family, the core $role, $loss percent of frames lost each way: both streams whole, everything closed",
    async ({ family, role, loss }) => {
      port++;
      const station = new Station(wire, family, hosts.a.mac, loss, port);
      const { t } = station;
      const peer = family === 4 ? hosts.a.ipv4Text : hosts.a.ipv6Text;
      const own = addressWords(ip(OWN[family]));
      const child = kernel(role === "connects" ? "listen" : "connect", role === "connects" ? peer : OWN[family], port);
      const lines = child.stdout.getReader();
      let said = "";
      const hear = (async () => {
        for (let part = await lines.read(); !part.done; part = await lines.read())
          said += new TextDecoder().decode(part.value);
      })();
      try {
        let id = openSocket(t, family === 6);
        let listener = -1;
        if (role === "connects") {
          await station.until("the server", () => said.includes("listening"));
          bind(t, id, own, 0);
          expect(connect(t, id, addressWords(ip(peer)), port)).toBe(-ERRNO.EINPROGRESS);
          await station.until("the handshake", () => t.w[id * TCB_WORDS + STATE] !== SYN_SENT);
          expect(t.w[id * TCB_WORDS + STATE]).toBe(ESTABLISHED);
        } else {
          listener = id;
          bind(t, listener, own, port);
          expect(listen(t, listener, 8, false)).toBe(0);
          await station.until("the client", () => {
            id = accept(t, listener);
            return id >= 0;
          });
        }
        // What both have: timestamps, SACK, scaling; and ECN, which the kernel grants and does not ask for.
        expect(tcpInfo(t.w, id * TCB_WORDS, t.now).options).toBe(role === "connects" ? 15 : 7);
        await station.exchange(id, BYTES);
        expect(station.read).toBe(BYTES);
        close(t, id);
        if (listener >= 0) close(t, listener);
        await station.until("the end of the connection", () => t.open === t.timeWaits);
        await station.until("the peer's word", () => said.includes("good"));
        expect(JSON.parse(said.slice(said.indexOf("{")))).toEqual({ read: BYTES, good: true });
        expect([t.chunks.used, t.segments.used, t.ranges.used]).toEqual([0, 0, 0]);
      } finally {
        child.kill();
        await child.exited;
        await hear;
      }
    },
    2 * TIMEOUT_MS,
  );
});
