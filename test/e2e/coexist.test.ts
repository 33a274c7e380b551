/** The interface goes on serving the kernel while the engine serves: TCP, ping, and hostile frames through the program. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { check, sys } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import { Random } from "../../queues/random.ts";
import { onesSum, type UdpFrame, udpFrame } from "../support/frames.ts";
import { type Host, makeHosts, requires } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";

setDefaultTimeout(60_000);

const missing = requires("veth", "af_xdp", "bpf");
const PORT = 9000;
const TCP_PORT = 2222;
const MSG_DONTWAIT = 0x40;
const SOCK_RAW_CLOEXEC = 0x80003;
const AF_INET = 2;
const AF_INET6 = 10;
const AF_PACKET = 17;
const ETH_P_ALL = 0x0300;

/** A raw socket of a host, closed with `close`. */
const raw = (host: Host, family: number, protocol: number): number =>
  check(
    host.ns.run(() => sys.socket(family, SOCK_RAW_CLOEXEC, protocol)),
    "socket",
  );

describe.skipIf(missing !== "")("", () => {
  const pair = missing === "" ? makeHosts() : null;
  const { a, b } = pair ?? ({} as NonNullable<typeof pair>);
  let engine: Engine;
  let peer: KernelUdp;
  beforeAll(async () => {
    engine = await Engine.start({ interface: b.name, netns: b.ns.path });
    const socket = engine.udp({ address: "::", port: PORT });
    socket.onDatagram = (d) => void d.reply();
    peer = new KernelUdp(a.ns, { address: a.ipv4Text });
  });
  afterAll(async () => {
    await engine?.close();
    peer?.close();
    pair?.close();
  });

  /** The engine answers, whatever else goes on. */
  const engineServes = async (text: string): Promise<void> => {
    expect((await peer.ask(text, b.ipv4Text, PORT)).text).toBe(text);
  };

  test.each([4, 6])("TCP over IPv%i, in lock-step and in bulk, on the port's own number too", async (family) => {
    const [server, bind] = family === 4 ? [b.ipv4Text, "0.0.0.0"] : [b.ipv6Text, "::"];
    for (const port of [TCP_PORT, PORT]) {
      const echo = `require("net").createServer((s) => s.pipe(s)).listen(${port}, "${bind}", () => console.log("listening"))`;
      const listener = b.ns.run(() => Bun.spawn([process.execPath, "-e", echo], { stdout: "pipe" }));
      expect(new TextDecoder().decode((await listener.stdout.getReader().read()).value)).toBe("listening\n");
      const client = `
        let replies = 0, received = 0;
        const s = require("net").connect(${port}, "${server}", () => s.write("0"));
        s.on("data", (d) => {
          if (replies < 50) s.write(++replies < 50 ? "0" : new Uint8Array(2 ** 20));
          else if ((received += d.length) === 2 ** 20) { console.log(replies, received); process.exit(0); }
        });`;
      const child = a.ns.run(() => Bun.spawn([process.execPath, "-e", client], { stdout: "pipe" }));
      const output = new Response(child.stdout).text();
      let exited = false;
      void child.exited.then(() => {
        exited = true;
      });
      let total = 0;
      while (!exited) {
        await engineServes(`beside TCP ${total++}`);
        await new Promise((resolve) => setImmediate(resolve));
      }
      listener.kill("SIGKILL");
      expect(await output).toBe(`50 ${2 ** 20}\n`);
      expect(total).toBeGreaterThan(0);
    }
    expect(engine.steeringCounters()?.passNoMatch).toBeGreaterThan(100);
  });

  test.each([4, 6])("ping over IPv%i", async (family) => {
    const v6 = family === 6;
    const fd = raw(a, v6 ? AF_INET6 : AF_INET, v6 ? 58 : 1);
    const target = v6 ? b.ipv6 : b.ipv4;
    const to = new Uint8Array(v6 ? 28 : 16);
    new DataView(to.buffer).setUint16(0, v6 ? AF_INET6 : AF_INET, true);
    to.set(target, v6 ? 8 : 4);
    const answer = new Uint8Array(256);
    for (let i = 1; i <= 10; i++) {
      // Echo request, identifier 0x1234; over IPv6 the kernel makes the checksum.
      const request = Uint8Array.of(v6 ? 128 : 8, 0, 0, 0, 0x12, 0x34, 0, i, 1, 2, 3, 4);
      if (!v6) request.set([(~onesSum(request) >> 8) & 255, ~onesSum(request) & 255], 2);
      const size = request.length;
      check(sys.sendto(fd, sys.addressOf(request), size, 0, sys.addressOf(to), to.length), "sendto");
      await engineServes(`beside ping ${i}`);
      await until("an echo reply", () => {
        const received = sys.recvfrom(fd, sys.addressOf(answer), answer.length, MSG_DONTWAIT, 0, 0);
        const icmp = v6 ? 0 : 20;
        return received > 0 && answer[icmp] === (v6 ? 129 : 0) && answer[icmp + 5] === 0x34 && answer[icmp + 7] === i;
      });
    }
    sys.close(fd);
  });

  test("hostile frames on the wire: counted by the program or the lcore, and the engine serves on", async () => {
    const fd = raw(a, AF_PACKET, 0);
    // struct sockaddr_ll: family, protocol, interface.
    const to = new Uint8Array(20);
    const view = new DataView(to.buffer);
    view.setUint16(0, AF_PACKET, true);
    view.setUint16(2, ETH_P_ALL, true);
    view.setInt32(4, a.ifindex, true);
    to[11] = 6;
    const send = (frame: Uint8Array): number =>
      sys.sendto(fd, sys.addressOf(frame), frame.length, MSG_DONTWAIT, sys.addressOf(to), to.length);
    const own = (frame: UdpFrame): Uint8Array => {
      const bytes = udpFrame({ sourcePort: 4000, port: PORT, ...frame });
      bytes.set(b.mac, 0);
      bytes.set(a.mac, 6);
      return bytes;
    };
    const v4 = { source: a.ipv4Text, destination: b.ipv4Text };
    const v6 = { source: a.ipv6Text, destination: b.ipv6Text };
    const corpus = [own(v4), own(v6), own({ ...v4, options: [1, 1, 1, 0] }), own({ ...v4, tags: [[0x8100, 1]] })];
    const sum = (): number => Object.values(engine.steeringCounters() ?? {}).reduce((all, count) => all + count, 0);
    const before = sum();
    const random = new Random(77);
    let sent = 0;
    for (let i = 0; i < 20_000; i++) {
      const frame = corpus[random.below(corpus.length)].slice();
      for (let changes = random.below(4); changes > 0; changes--) {
        frame[12 + random.below(Math.min(frame.length - 12, 70))] = random.below(256);
      }
      const length = random.below(4) === 0 ? 14 + random.below(frame.length - 13) : frame.length;
      if (send(frame.subarray(0, length)) > 0) sent++;
      if (i % 500 === 0) await engineServes(`beside ${i}`);
    }
    await engineServes("afterwards");
    expect(sent).toBeGreaterThan(19_000);
    expect(sum() - before).toBeGreaterThanOrEqual(sent);
    await until("counters", () => {
      const c = engine.counters(0);
      const redirected = engine.steeringCounters()?.redirected ?? 0;
      return c.RxFrames + engine.stats().sockets[0].rxRingFull + engine.stats().sockets[0].rxDropped >= redirected;
    });
    const counters = engine.counters(0);
    expect(counters.UdpInCsumErrors + counters.IpInCsumErrors).toBeGreaterThan(500);
    sys.close(fd);
  });
});
