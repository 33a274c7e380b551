/** UDP_SEGMENT: what leaves, and what is refused, on a kernel socket and on the engine's, with and without a kernel. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { errnoName, sys } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import {
  IP_MTU_DISCOVER,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_MTU_DISCOVER,
  SO_NO_CHECK,
  SOL_SOCKET,
  SOL_UDP,
  UDP_NO_CHECK6_TX,
  UDP_SEGMENT,
} from "../../sockets/options.ts";
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { Rig } from "../sockets/rig.ts";
import { parseUdpFrame } from "../support/frames.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp } from "../support/kernel-udp.ts";

setDefaultTimeout(60_000);

const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];
const missing = requires("veth", "af_xdp", "bpf");
const MODULE = new URL("./modules/segments.ts", import.meta.url);

const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 7);
/** The longest payload of a packet with an MTU of 1500. */
const most = (family: Family): number => (family === 4 ? 1472 : 1452);

/** [segment, bytes]: what fits, and either side of each bound. */
const casesOf = (family: Family): [segment: number, length: number][] => {
  const m = most(family);
  return [
    [0, 1000],
    [100, 1000],
    [100, 1001],
    [100, 99],
    [100, 100],
    [7, 0],
    [100, 12_800],
    [100, 12_801],
    [1, 128],
    [1, 129],
    [m, 3 * m],
    [m + 1, 3 * m],
    [m + 1, m + 1],
    [m + 1, m],
    [1000, 65_507],
    [1000, 65_508],
    [1000, 65_527],
    [1000, 65_528],
    [65_535, 65_507],
    [m + 1, 70_000],
  ];
};

/** What a send returned, and the lengths of what came of it. */
interface Outcome {
  result: string;
  lengths: number[];
}

const told = (result: number): string => (result < 0 ? errnoName(-result) : `${result}`);

describe.skipIf(missing !== "")("beside the kernel", () => {
  let hosts: VethPair;
  let engine: Engine;
  let receiver: Record<Family, KernelUdp>;

  beforeAll(async () => {
    hosts = makeHosts();
    engine = await Engine.start({
      interface: hosts.b.name,
      netns: hosts.b.ns.path,
      module: MODULE,
      data: { port: 9300 },
    });
    receiver = {
      4: new KernelUdp(hosts.a.ns, { address: hosts.a.ipv4Text }),
      6: new KernelUdp(hosts.a.ns, { address: hosts.a.ipv6Text }),
    };
  });
  afterAll(async () => {
    await engine?.close();
    for (const family of FAMILIES) receiver?.[family].close();
    hosts?.close();
  });

  const target = (family: Family): string => (family === 4 ? hosts.a.ipv4Text : hosts.a.ipv6Text);

  /** Receives up to the datagram that says that it is the last. */
  async function lengthsOf(family: Family, payload: Uint8Array, end: (text: string) => void): Promise<number[]> {
    const lengths: number[] = [];
    let at = 0;
    for (;;) {
      const { payload: part, text } = await receiver[family].receive();
      if (text.startsWith("result ") || text === "the end") {
        end(text);
        return lengths;
      }
      expect(part).toEqual(payload.slice(at, at + part.length));
      at += part.length;
      lengths.push(part.length);
    }
  }

  /** Both IP versions' options that bear on segments. */
  type Setting = "plain" | "no checksum" | "DONT" | "DO" | "PROBE" | "INTERFACE" | "OMIT";
  const DISCOVER = { DONT: 0, DO: 2, PROBE: 3, INTERFACE: 4, OMIT: 5 };
  function optionsOf(family: Family, setting: Setting): [number, number, number][] {
    if (setting === "plain") return [];
    if (setting === "no checksum")
      return [family === 4 ? [SOL_SOCKET, SO_NO_CHECK, 1] : [SOL_UDP, UDP_NO_CHECK6_TX, 1]];
    const value = DISCOVER[setting];
    return [family === 4 ? [IPPROTO_IP, IP_MTU_DISCOVER, value] : [IPPROTO_IPV6, IPV6_MTU_DISCOVER, value]];
  }

  async function byKernel(family: Family, segment: number, length: number, setting: Setting): Promise<Outcome> {
    const sender = new KernelUdp(hosts.b.ns, { address: family === 4 ? "0.0.0.0" : "::" });
    for (const [level, name, value] of [...optionsOf(family, setting), [SOL_UDP, UDP_SEGMENT, segment]])
      expect(sys.setsockoptInt(sender.fd, level, name, value)).toBe(0);
    const payload = pattern(length);
    const result = told(sender.send(payload, target(family), receiver[family].port));
    for (const [level, name] of [...optionsOf(family, setting), [SOL_UDP, UDP_SEGMENT]])
      sys.setsockoptInt(sender.fd, level, name, 0);
    sender.send("the end", target(family), receiver[family].port);
    const lengths = await lengthsOf(family, payload, () => {});
    sender.close();
    return { result, lengths };
  }

  async function byEngine(
    family: Family,
    length: number,
    setting: Setting,
    send: (socket: UdpSocket, payload: Uint8Array, port: number, address: string) => number,
  ): Promise<Outcome> {
    const socket = engine.udp({ address: family === 4 ? "0.0.0.0" : "::" });
    for (const [level, name, value] of optionsOf(family, setting)) socket.setsockopt(level, name, value);
    const payload = pattern(length);
    const result = told(send(socket, payload, receiver[family].port, target(family)));
    for (const [level, name] of [...optionsOf(family, setting), [SOL_UDP, UDP_SEGMENT]])
      socket.setsockopt(level, name, 0);
    socket.send("the end", receiver[family].port, target(family));
    const lengths = await lengthsOf(family, payload, () => {});
    socket.close();
    return { result, lengths };
  }

  const byOption = (segment: number) => (socket: UdpSocket, payload: Uint8Array, port: number, address: string) => {
    socket.setsockopt(SOL_UDP, UDP_SEGMENT, segment);
    return socket.send(payload, port, address);
  };

  test.each(FAMILIES)("IPv%i, a thread: by option and by call, as the kernel's", async (family) => {
    for (const setting of ["plain", "no checksum", "DONT", "DO", "PROBE", "INTERFACE", "OMIT"] as const) {
      for (const [segment, length] of casesOf(family)) {
        const what = `${setting}: ${length} bytes by ${segment}`;
        const kernel = { what, ...(await byKernel(family, segment, length, setting)) };
        expect({ what, ...(await byEngine(family, length, setting, byOption(segment))) }).toEqual(kernel);
        if (segment === 0) continue;
        const byCall = await byEngine(family, length, setting, (socket, payload, port, address) =>
          socket.sendSegments(payload, segment, port, address),
        );
        expect({ what, ...byCall }).toEqual(kernel);
      }
    }
  });

  test.each(FAMILIES)("IPv%i, an lcore: as the kernel's", async (family) => {
    const local = family === 4 ? hosts.b.ipv4Text : hosts.b.ipv6Text;
    for (const [segment, length] of casesOf(family)) {
      if (segment === 0) continue;
      receiver[family].send(`${length} ${segment}`, local, 9300);
      let result = "";
      const lengths = await lengthsOf(family, pattern(length), (text) => {
        result = told(Number(text.slice("result ".length)));
      });
      const what = `${length} bytes by ${segment}`;
      expect({ what, result, lengths }).toEqual({ what, ...(await byKernel(family, segment, length, "plain")) });
    }
  });

  test.each(FAMILIES)("IPv%i: what can leaves by the fast path, an answer in place too", async (family) => {
    // The neighbour is known by now.
    const local = family === 4 ? hosts.b.ipv4Text : hosts.b.ipv6Text;
    const before = engine.counters();
    const outcome = await byEngine(family, 12_000, "plain", byOption(1000));
    expect(outcome).toEqual({ result: "12000", lengths: Array(12).fill(1000) });
    receiver[family].send(pattern(1050), local, 9301);
    const parts: Uint8Array[] = [];
    while (parts.length < 11) parts.push((await receiver[family].receive()).payload);
    expect(Buffer.concat(parts)).toEqual(Buffer.from(pattern(1050)));
    expect(parts.map((part) => part.length)).toEqual([...Array(10).fill(100), 50]);
    expect(engine.counters().UdpOutViaKernel).toBe(before.UdpOutViaKernel);
    expect(engine.counters().UdpOutErrors).toBe(before.UdpOutErrors);
  });

  test("a flow has a size of its own, by the kernel's way too", async () => {
    const server = engine.udp({ address: hosts.b.ipv4Text, port: 9302 });
    receiver[4].send("hello", hosts.b.ipv4Text, 9302);
    const datagram = await server.receive();
    server.setsockopt(SOL_UDP, UDP_SEGMENT, 500);
    const flow = server.flow(datagram);
    datagram.release();
    expect(flow.getsockopt(SOL_UDP, UDP_SEGMENT)).toBe(500);
    flow.setsockopt(SOL_UDP, UDP_SEGMENT, 300);
    for (const priority of [0, 6]) {
      // With a priority all the socket sends goes by the kernel.
      server.setsockopt(SOL_SOCKET, 12, priority);
      expect([server.send(pattern(1000), receiver[4].port, target(4)), flow.send(pattern(1000))]).toEqual([1000, 1000]);
      const lengths: number[] = [];
      while (lengths.reduce((a, b) => a + b, 0) < 2000) lengths.push((await receiver[4].receive()).payload.length);
      expect(lengths.toSorted((a, b) => a - b)).toEqual([100, 300, 300, 300, 500, 500]);
    }
    server.close();
  });
});

describe("without a kernel", () => {
  const ADDRESS = { 4: "198.18.0.2", 6: "2001:db8::2" };
  /** As a kernel socket was seen to answer beside the kernel, above. */
  const expected = (family: Family, segment: number, length: number): string => {
    const headers = family === 4 ? 28 : 48;
    if (length > (family === 4 ? 65_507 : 65_527)) return "EMSGSIZE";
    if (segment === 0) return length + headers > 1500 ? "EMSGSIZE" : `${length}`;
    if (Math.min(segment, length) + headers > 1500) return "EMSGSIZE";
    return length > segment * 128 ? "EINVAL" : `${length}`;
  };

  describe.each(["thread", "lcore"] as const)("%s", (where) => {
    test.each(FAMILIES)("IPv%i", (family) => {
      const rig = new Rig({ frames: 4096 });
      const socket = UdpSocket.open(where === "thread" ? rig.threads[0] : rig.lcores[0].stack, { address: "::" });
      for (const [segment, length] of casesOf(family)) {
        if (segment === 0) continue;
        const payload = pattern(length);
        socket.setsockopt(SOL_UDP, UDP_SEGMENT, segment);
        const result = told(socket.send(payload, 53, ADDRESS[family]));
        const what = `${length} bytes by ${segment}`;
        const frames = rig.settle().map((frame) => parseUdpFrame(frame));
        expect([what, result]).toEqual([what, expected(family, segment, length)]);
        if (!/^\d/.test(result)) {
          expect(frames).toEqual([]);
          continue;
        }
        expect(Buffer.concat(frames.map((frame) => frame.payload))).toEqual(Buffer.from(payload));
        expect(frames.length).toBe(Math.max(Math.ceil(length / segment), 1));
        for (const frame of frames.slice(0, -1)) expect(frame.payload.length).toBe(segment);
      }
      rig.settle();
      expect(rig.missing()).toBe(0);
    });
  });

  test("an lcore that has too few frames sends what there is, and loses none of them", () => {
    const rig = new Rig({ frames: 64, threads: 0 });
    const socket = UdpSocket.open(rig.lcores[0].stack, { address: "::" });
    expect(socket.sendSegments(pattern(12_800), 100, 53, ADDRESS[4])).toBe(12_800);
    const sent = rig.settle().length;
    expect(sent).toBe(128);
    expect(rig.missing()).toBe(0);
    for (const port of rig.lcores[0].ports) port.txRoom = 10;
    expect(socket.sendSegments(pattern(12_800), 100, 53, ADDRESS[4])).toBe(12_800);
    expect(rig.settle().length).toBe(10);
    expect(rig.counter("UdpSndbufErrors")).toBeGreaterThan(0);
    expect(rig.missing()).toBe(0);
  });
});
