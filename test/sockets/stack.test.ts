/** One lcore's stack: frames in, datagrams to sockets, answers out; both IP versions, every branch under its counter. */
import { describe, expect, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import { HostStack } from "../../engine/host-stack.ts";
import type { Datagram } from "../../sockets/datagram.ts";
import { type UdpOptions, UdpSocket } from "../../sockets/udp-socket.ts";
import { ip } from "../../sockets/wire/address.ts";
import { arp, describe as describeFrame } from "../host/messages.ts";
import { MAC_A, MAC_B, parseUdpFrame, type UdpFrame, udpFrame } from "../support/frames.ts";
import { hostFib, IFINDEX, Rig } from "./rig.ts";

const open = (rig: Rig, options: UdpOptions, lcore = 0): UdpSocket => UdpSocket.open(rig.lcores[lcore].stack, options);

/** A socket that keeps what it gets as "source:port text". */
function listen(rig: Rig, options: UdpOptions): { socket: UdpSocket; got: string[] } {
  const got: string[] = [];
  const socket = open(rig, options);
  socket.onDatagram = (d) => got.push(`${d.sourceAddress} ${d.sourcePort} ${d.text()}`);
  return { socket, got };
}

const V4: UdpFrame = { source: "198.18.0.2", destination: "198.18.0.1" };
const V6: UdpFrame = { source: "2001:db8::2", destination: "2001:db8::1" };
const families = [
  ["IPv4", V4, "0.0.0.0"],
  ["IPv6", V6, "::"],
] as const;
const macs = MAC_B.toHex() + MAC_A.toHex();

describe.each(families)("%s", (_, base, any) => {
  test("a datagram is delivered with its addresses, and its frame comes back", () => {
    const rig = new Rig();
    const { pool } = rig.lcores[0];
    const before = pool.available;
    const socket = open(rig, { address: any, port: 9000 });
    const seen: unknown[] = [];
    socket.onDatagram = (d) => {
      expect(pool.available).toBe(before - 1);
      seen.push([d.family, d.sourceAddress, d.sourcePort, d.destinationAddress, d.destinationPort, d.ttl, d.tos]);
      seen.push([d.text(), d.length, d.bytes().length, d.copy().length, d.room > d.length]);
    };
    rig.turn([udpFrame({ ...base, payload: "abc", ttl: 7, tos: 0x2a })]);
    const family = any === "::" ? 6 : 4;
    expect(seen).toEqual([
      [family, base.source, 40000, base.destination, 9000, 7, 0x2a],
      ["abc", 3, 3, 3, true],
    ]);
    expect(pool.available).toBe(before);
    expect(rig.counters()).toEqual({ RxFrames: 1, UdpInDatagrams: 1 });
  });

  test("payloads of every length up to the MTU, with tags and padding", () => {
    const rig = new Rig();
    const socket = open(rig, { address: any, port: 9000 });
    let expected = new Uint8Array(0);
    let count = 0;
    socket.onDatagram = (d) => {
      expect(d.copy()).toEqual(expected);
      count++;
    };
    for (let length = 0; length <= 1452; length += length < 64 ? 1 : 31) {
      expected = Uint8Array.from({ length }, (_, i) => i * 7 + length);
      for (const tags of [
        [],
        [[0x8100, 7]],
        [
          [0x88a8, 8],
          [0x8100, 7],
        ],
      ] as [number, number][][]) {
        rig.turn([udpFrame({ ...base, payload: expected, tags, padding: length % 5 })]);
        count--;
      }
    }
    expect(count).toBe(0);
    expect(rig.unaccounted()).toBe(0);
  });

  test("reply goes back to the sender, from the address it was sent to", () => {
    const rig = new Rig();
    const destination = base.destination === "198.18.0.1" ? "198.18.0.10" : "2001:db8::10";
    const socket = open(rig, { address: any, port: 9000, ttl: 33, tos: 0x48 });
    socket.onDatagram = (d) => {
      d.memory[d.offset] = 65;
      expect(d.reply(2)).toBe(2);
      expect(d.reply(2)).toBe(-ERRNO.EINVAL);
    };
    const [sent] = rig.turn([udpFrame({ ...base, destination, payload: "xyz" })]).map(parseUdpFrame);
    expect(sent).toMatchObject({ macs, source: destination, destination: base.source, sourcePort: 9000, port: 40000 });
    expect(sent).toMatchObject({ ttl: 33, tos: 0x48, payload: new TextEncoder().encode("Ay") });
    expect(rig.missing()).toBe(0);
  });

  test("a reply may grow, to the end of its frame and no further; one above the MTU needs the kernel", () => {
    const rig = new Rig();
    const socket = open(rig, { address: any, port: 9000 });
    const results: number[] = [];
    let length = 0;
    socket.onDatagram = (d) => {
      d.memory.fill(1, d.offset, d.offset + d.room);
      results.push(d.reply(length === 0 ? d.room + 1 : length));
    };
    const headers = any === "::" ? 48 : 28;
    for (length of [0, -1, 1500 - headers, 1501 - headers]) rig.turn([udpFrame(base)]);
    expect(results).toEqual([-ERRNO.EMSGSIZE, -ERRNO.EMSGSIZE, 1500 - headers, -ERRNO.EHOSTUNREACH]);
    expect(rig.missing()).toBe(0);
  });

  test("send: headers, checksum, source address and counters", () => {
    const rig = new Rig();
    const socket = open(rig, { address: any, port: 9000, ttl: 9 });
    expect(socket.send("question", 53, base.source ?? "")).toBe(8);
    expect(socket.send(new Uint8Array(0), 53, base.source ?? "")).toBe(0);
    const [sent, empty] = rig.turn().map(parseUdpFrame);
    expect(sent).toMatchObject({ macs, source: base.destination, destination: base.source, sourcePort: 9000 });
    expect(sent).toMatchObject({ port: 53, ttl: 9, payload: new TextEncoder().encode("question") });
    expect(empty.payload.length).toBe(0);
    expect(rig.counters()).toEqual({ TxFrames: 2, UdpOutDatagrams: 2 });
  });

  test("send: payloads of every length up to the MTU, from any source address, over frames of before", () => {
    const rig = new Rig();
    const peer = base.source ?? "";
    const longest = 1500 - (any === "::" ? 48 : 28);
    const bound = open(rig, { address: base.destination, port: 9000 });
    const wildcard = open(rig, { address: any, port: 9001 });
    for (let length = 0; length <= longest; length += length < 300 ? 1 : 29) {
      const payload = Uint8Array.from({ length }, (_, i) => (length % 3 === 0 ? 0xff : i * 7 + length));
      const socket = length % 2 === 0 ? bound : wildcard;
      expect(socket.send(payload, 1 + length * 43, peer)).toBe(length);
      const sent = rig.turn().map(parseUdpFrame);
      expect(sent).toHaveLength(1);
      const { port: sourcePort } = socket;
      const port = 1 + length * 43;
      expect(sent[0]).toMatchObject({ macs, source: base.destination, destination: peer, sourcePort, port, payload });
    }
    expect(rig.missing()).toBe(0);
  });

  test("send: what it refuses, and that no frame is lost by it", () => {
    const rig = new Rig();
    const { pool, ports } = rig.lcores[0];
    const peer = base.source ?? "";
    const socket = open(rig, { address: any, port: 9000 });
    expect(socket.send("x")).toBe(-ERRNO.EDESTADDRREQ);
    expect(socket.send("x", 65536, peer)).toBe(-ERRNO.EINVAL);
    expect(socket.send("x", -1, peer)).toBe(-ERRNO.EINVAL);
    expect(socket.send(new Uint8Array(65536), 53, peer)).toBe(-ERRNO.EMSGSIZE);
    expect(socket.send("x", 53, any === "::" ? "2001:db8::99" : "198.18.0.99")).toBe(-ERRNO.EHOSTUNREACH);
    ports[0].txRoom = 0;
    expect(socket.send("x", 53, peer)).toBe(-ERRNO.EAGAIN);
    ports[0].txRoom = 1;
    while (pool.take() >= 0);
    expect(socket.send("x", 53, peer)).toBe(-ERRNO.EAGAIN);
    socket.close();
    expect(socket.send("x", 53, peer)).toBe(-ERRNO.EBADF);
    expect(rig.counter("UdpSndbufErrors")).toBe(2);
  });

  test("without a handler datagrams wait, up to the receive buffer, in order", () => {
    const rig = new Rig();
    const { pool } = rig.lcores[0];
    const before = pool.available;
    const socket = open(rig, { address: any, port: 9000, receiveBuffer: 4 * 1024 });
    const frames = Array.from({ length: 9 }, (_, i) => udpFrame({ ...base, payload: `n${i}` }));
    rig.turn(frames);
    const datagram = socket.newDatagram();
    const texts: string[] = [];
    while (socket.receiveInto(datagram) >= 0) texts.push(datagram.text());
    expect(texts.length).toBeGreaterThan(3);
    expect(texts).toEqual(Array.from(texts, (_, i) => `n${i}`));
    expect(socket.drops).toBe(9 - texts.length);
    expect(rig.counter("UdpRcvbufErrors")).toBe(socket.drops);
    // What was read makes room again, completely.
    rig.turn(frames.slice(0, texts.length));
    expect(socket.receiveBatch(Array.from({ length: 9 }, () => socket.newDatagram()))).toBe(texts.length);
    datagram.release();
    socket.close();
    expect(rig.unaccounted()).toBe(0);
    expect(before - pool.available).toBe(texts.length);
  });

  test("connected: others' datagrams are not for it; dissolved: they are again", () => {
    const rig = new Rig();
    const { socket, got } = listen(rig, { address: any, port: 9000 });
    const other = any === "::" ? "2001:db8::3" : "198.18.0.3";
    const peer = base.source ?? "";
    socket.connect(40000, peer);
    expect(socket.remoteAddress).toMatchObject({ address: peer, port: 40000 });
    expect(socket.address.address).toBe(base.destination ?? "");
    rig.turn([
      udpFrame({ ...base, payload: "peer" }),
      udpFrame({ ...base, source: other, payload: "other host" }),
      udpFrame({ ...base, sourcePort: 40001, payload: "other port" }),
    ]);
    expect(got).toEqual([`${peer} 40000 peer`]);
    expect(rig.counter("UdpNoPorts")).toBe(2);
    expect(socket.send("to the peer")).toBe(11);
    expect(rig.turn().map(parseUdpFrame)).toMatchObject([{ destination: peer, port: 40000, sourcePort: 9000 }]);
    socket.disconnect();
    expect(socket.remoteAddress).toBeNull();
    expect(socket.send("x")).toBe(-ERRNO.EDESTADDRREQ);
    rig.turn([udpFrame({ ...base, source: other, payload: "now" })]);
    expect(got.at(-1)).toBe(`${other} 40000 now`);
    expect(socket.address.address).toBe(any);
  });

  test("a flow takes its sender's datagrams from the socket it came from, until it is closed", () => {
    const rig = new Rig();
    const parent = open(rig, { address: any, port: 9000 });
    const got: string[] = [];
    const flows: UdpSocket[] = [];
    parent.onDatagram = (d) => {
      got.push(`parent ${d.sourcePort}`);
      const flow = parent.flow(d);
      flow.onDatagram = (next) => {
        got.push(`flow ${next.sourcePort}`);
        next.reply();
      };
      flows.push(flow);
    };
    const from = (sourcePort: number): Uint8Array => udpFrame({ ...base, sourcePort });
    // Two of one sender within a burst: the second already belongs to the flow.
    const sent = rig.turn([from(1), from(1), from(2), from(1)]).map(parseUdpFrame);
    expect(got).toEqual(["parent 1", "flow 1", "parent 2", "flow 1"]);
    expect(sent.map(({ port }) => port)).toEqual([1, 1]);
    flows[0].close();
    rig.turn([from(2), from(1)]);
    expect(got.slice(4)).toEqual(["flow 2", "parent 1"]);
    expect(parent.port).toBe(9000);
    parent.close();
    rig.turn([from(2), from(3)]);
    expect(got.length).toBe(6);
    expect(rig.table.open).toBe(0);
    const again = open(rig, { address: any, port: 9000 });
    expect(again.port).toBe(9000);
  });
});

describe("drops", () => {
  const bind = (rig: Rig): string[] => {
    const { got } = listen(rig, { address: "::", port: 9000 });
    return got;
  };
  const edit = (frame: Uint8Array, at: number, value: number): Uint8Array => {
    frame[at] = value;
    return frame;
  };
  test.each([
    ["a runt", udpFrame().slice(0, 13), "EthTruncated"],
    ["a tag cut off", udpFrame({ tags: [[0x8100, 1]] }).slice(0, 17), "EthTruncated"],
    ["ARP", edit(udpFrame(), 13, 6), "EthUnknownType"],
    ["IEEE 802.3", edit(udpFrame(), 12, 0), "EthUnknownType"],
    [
      "three tags",
      udpFrame({
        tags: [
          [0x88a8, 1],
          [0x8100, 2],
          [0x8100, 3],
        ],
      }),
      "EthUnknownType",
    ],
    ["IPv4 version 5", edit(udpFrame(), 14, 0x55), "IpInHdrErrors"],
    ["an IPv4 header of 16 bytes", edit(udpFrame(), 14, 0x44), "IpInHdrErrors"],
    ["an IPv4 checksum that is wrong", edit(udpFrame(), 22, 9), "IpInCsumErrors"],
    ["IPv4 cut off", udpFrame().slice(0, -1), "IpInTruncatedPkts"],
    ["IPv6 cut off", udpFrame(V6).slice(0, -1), "IpInTruncatedPkts"],
    ["IPv6 version 5", edit(udpFrame(V6), 14, 0x50), "IpInHdrErrors"],
    ["an IPv6 extension header", edit(udpFrame(V6), 20, 0), "IpInUnknownProtos"],
    ["an address of somebody else", udpFrame({ destination: "198.18.0.77" }), "IpInAddrErrors"],
    ["an IPv6 address of somebody else", udpFrame({ ...V6, destination: "2001:db8::77" }), "IpInAddrErrors"],
    ["a group", udpFrame({ destination: "224.0.0.1" }), "IpInAddrErrors"],
    ["a port nobody has", udpFrame({ port: 9001 }), "UdpNoPorts"],
    ["port 0", udpFrame({ port: 0 }), "UdpNoPorts"],
    ["an IPv6 port nobody has", udpFrame({ ...V6, port: 9001 }), "UdpNoPorts"],
    ["a payload changed on the way", edit(udpFrame(), 42, 0), "UdpInCsumErrors"],
    ["an IPv6 payload changed on the way", edit(udpFrame(V6), 62, 0), "UdpInCsumErrors"],
    ["no checksum over IPv6", udpFrame({ ...V6, checksum: "none" }), "UdpInCsumErrors"],
    ["a UDP length below 8", edit(udpFrame(), 39, 7), "UdpInErrors"],
    ["a UDP length beyond the packet", edit(udpFrame(), 39, 14), "UdpInErrors"],
    ["an IPv6 UDP length beyond the packet", edit(udpFrame(V6), 59, 14), "UdpInErrors"],
  ] as const)("%s", (_, frame, counter) => {
    const rig = new Rig();
    const got = bind(rig);
    rig.turn([frame, udpFrame({ payload: "control" })]);
    expect(rig.counters()).toEqual({ RxFrames: 2, UdpInDatagrams: 1, [counter]: 1 });
    expect(got).toEqual(["198.18.0.2 40000 control"]);
    expect(rig.missing()).toBe(0);
  });

  test("a header whose protocol is TCP, a fragment of either kind", () => {
    const rig = new Rig();
    const got = bind(rig);
    const header = (bytes: [number, number][]): Uint8Array => {
      const frame = udpFrame();
      for (const [at, value] of bytes) frame[at] = value;
      // The checksum follows from what the words of the header now add up to.
      frame.fill(0, 24, 26);
      let sum = 0;
      for (let i = 14; i < 34; i += 2) sum += (frame[i] << 8) | frame[i + 1];
      const folded = ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
      frame[24] = folded >> 8;
      frame[25] = folded;
      return frame;
    };
    rig.turn([header([[23, 6]]), header([[20, 0x20]]), header([[21, 1]]), header([[20, 0]])]);
    expect(rig.counters()).toEqual({ RxFrames: 4, UdpInDatagrams: 1, IpInUnknownProtos: 1, IpInFragments: 2 });
    expect(got.length).toBe(1);
  });

  test("sources that no host may have (RFC 1122, 3.2.1.3; RFC 4291, 2.7): never delivered, never answered", () => {
    const rig = new Rig();
    const got = bind(rig);
    const v4 = ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.255.0.1", "255.255.255.255"];
    const v6 = ["ff02::1", "::1"];
    rig.turn([...v4.map((source) => udpFrame({ source })), ...v6.map((source) => udpFrame({ ...V6, source }))]);
    expect(got).toEqual([]);
    // A group as the source is a malformed IPv6 header already.
    expect(rig.counters()).toEqual({ RxFrames: 8, IpInAddrErrors: 7, IpInHdrErrors: 1 });
  });

  test("no checksum over IPv4 is allowed; an unfinished one only where the driver says so", () => {
    const rig = new Rig();
    const got = bind(rig);
    const frames = [
      udpFrame({ checksum: "none", payload: "none" }),
      udpFrame({ checksum: "partial", payload: "partial" }),
      udpFrame({ ...V6, checksum: "partial", payload: "partial6" }),
    ];
    rig.turn(frames);
    expect(got).toEqual(["198.18.0.2 40000 none"]);
    expect(rig.counters()).toMatchObject({ UdpPartialChecksums: 2, UdpInCsumErrors: 2, UdpInDatagrams: 1 });
    rig.lcores[0].ports[0].partialChecksums = true;
    rig.turn(frames);
    expect(got.slice(1)).toEqual(["198.18.0.2 40000 none", "198.18.0.2 40000 partial", "2001:db8::2 40000 partial6"]);
    expect(rig.counters()).toMatchObject({ UdpPartialChecksums: 4, UdpInCsumErrors: 2, UdpInDatagrams: 4 });
  });
});

describe("families", () => {
  test("an IPv6 wildcard takes IPv4 too, in its mapped form; not with ipv6Only", () => {
    const rig = new Rig();
    const dual = listen(rig, { address: "::", port: 9000 });
    const only = listen(rig, { address: "::", port: 9001, ipv6Only: true });
    for (const port of [9000, 9001]) rig.turn([udpFrame({ port }), udpFrame({ ...V6, port })]);
    expect(dual.got).toEqual(["198.18.0.2 40000 hello", "2001:db8::2 40000 hello"]);
    expect(only.got).toEqual(["2001:db8::2 40000 hello"]);
    expect(dual.socket.send("x", 53, "198.18.0.2")).toBe(1);
    expect(rig.turn().map(parseUdpFrame)).toMatchObject([{ source: "198.18.0.1", destination: "198.18.0.2" }]);
  });

  test("a socket cannot send to the family it does not speak", () => {
    const rig = new Rig();
    const v4 = open(rig, { address: "0.0.0.0", port: 1000 });
    const only = open(rig, { address: "::", port: 1001, ipv6Only: true });
    const bound = open(rig, { address: "2001:db8::1", port: 1002 });
    const mapped = open(rig, { address: "::ffff:198.18.0.1", port: 1003 });
    expect(v4.send("x", 53, "2001:db8::2")).toBe(-ERRNO.EAFNOSUPPORT);
    expect(only.send("x", 53, "198.18.0.2")).toBe(-ERRNO.ENETUNREACH);
    expect(bound.send("x", 53, "198.18.0.2")).toBe(-ERRNO.ENETUNREACH);
    expect(mapped.send("x", 53, "2001:db8::2")).toBe(-ERRNO.ENETUNREACH);
    expect(mapped.send("x", 53, "198.18.0.2")).toBe(1);
    expect(() => v4.connect(53, "2001:db8::2")).toThrow("EAFNOSUPPORT");
    expect(rig.turn().length).toBe(1);
  });

  test("IPv4 options are stepped over, and the answer has none", () => {
    const rig = new Rig();
    const socket = open(rig, { port: 9000 });
    socket.onDatagram = (d) => d.reply();
    for (let words = 1; words <= 10; words++) {
      const frame = udpFrame({
        destination: "198.18.0.10",
        options: new Array<number>(words * 4).fill(1),
        payload: "o",
      });
      const [sent] = rig.turn([frame]).map(parseUdpFrame);
      expect(sent).toMatchObject({
        macs,
        source: "198.18.0.10",
        destination: "198.18.0.2",
        sourcePort: 9000,
        port: 40000,
      });
    }
  });
});

describe("IPv4 options that no host takes", () => {
  const malformed = (destination = "198.18.0.1"): Uint8Array =>
    udpFrame({ destination, options: [7, 7, 2, 0, 0, 0, 0, 0] });
  const routed = (): Uint8Array => udpFrame({ options: [131, 7, 4, 198, 18, 0, 9, 0] });

  test("are dropped beside the kernel's stack", () => {
    const rig = new Rig();
    const { got } = listen(rig, { port: 9000 });
    rig.turn([malformed(), routed()]);
    expect([got, rig.counter("IpInHdrErrors")]).toEqual([[], 2]);
    expect(rig.missing()).toBe(0);
  });

  test("go to the host protocols, which tell who sent them; others' do not", () => {
    const rig = new Rig({ lcores: 2, threads: 0, hostThread: 1 });
    const own = { ifindex: IFINDEX, mac: MAC_A, mtu: 1500, partialChecksums: false, gateways: [], dad: false };
    const host = new HostStack({ ...own, addresses: ["198.18.0.1/24"] }, rig.lcores[1].stack, rig.fib, 1, 0, () => {});
    rig.lcores[0].stack.useHost(1);
    host.tick(0);
    rig.settle();
    const { got } = listen(rig, { port: 9000 });
    rig.input([malformed(), routed(), malformed("198.18.0.99")]);
    const asked = rig.settle().map(describeFrame);
    // Who sent it is asked for first.
    expect(asked).toEqual(["ffffffffffff < who has 198.18.0.2, tell 198.18.0.1"]);
    rig.input([arp({ operation: "reply", sender: "198.18.0.2", senderMac: MAC_B, target: "198.18.0.1", to: MAC_A })]);
    const told = rig.settle().map(describeFrame);
    expect(told).toEqual([expect.stringContaining("198.18.0.1 > 198.18.0.2 icmp 12/0")]);
    expect([got, rig.counter("IpInHdrErrors"), rig.counter("IpInHdrErrors", 1)]).toEqual([[], 1, 2]);
    expect(rig.counter("IcmpOutParmProbs", 1)).toBe(1);
  });
});

describe("handlers", () => {
  test("hold keeps a datagram beyond the handler; its frame comes back on release, once", () => {
    const rig = new Rig();
    const { pool } = rig.lcores[0];
    const before = pool.available;
    const held: Datagram[] = [];
    const socket = open(rig, { port: 9000 });
    socket.onDatagram = (d) => {
      held.push(d.hold());
      d.release();
      expect(d.reply()).toBe(-ERRNO.EINVAL);
    };
    rig.turn([udpFrame({ payload: "one" }), udpFrame({ payload: "two" })]);
    expect(held.map((d) => d.text())).toEqual(["one", "two"]);
    expect(pool.available).toBe(before - 2);
    held[0].release();
    held[0].release();
    expect(pool.available).toBe(before - 1);
    expect(held[1].reply()).toBe(3);
    expect(rig.turn().map(parseUdpFrame)).toMatchObject([{ payload: new TextEncoder().encode("two") }]);
    expect(pool.available).toBe(before);
  });

  test("a handler set while datagrams wait gets those first", () => {
    const rig = new Rig();
    const socket = open(rig, { port: 9000 });
    rig.turn(["a", "b"].map((payload) => udpFrame({ payload })));
    const got: string[] = [];
    socket.onDatagram = (d) => got.push(d.text());
    rig.turn([udpFrame({ payload: "c" })]);
    expect(got).toEqual(["a", "b", "c"]);
    expect(rig.missing()).toBe(0);
  });

  test("a handler may close its socket: the rest of the burst finds nobody", () => {
    const rig = new Rig();
    const { pool } = rig.lcores[0];
    const before = pool.available;
    const got: string[] = [];
    const socket = open(rig, { port: 9000 });
    socket.onDatagram = (d) => {
      got.push(d.text());
      socket.close();
    };
    rig.turn(["a", "b", "c"].map((payload) => udpFrame({ payload })));
    expect(got).toEqual(["a"]);
    expect(rig.counter("UdpNoPorts")).toBe(2);
    expect(pool.available).toBe(before);
    expect(rig.unaccounted()).toBe(0);
  });

  test("a socket opened in a handler under the id of one just closed does not inherit its datagrams", () => {
    const rig = new Rig();
    const got: string[] = [];
    const first = open(rig, { port: 9000 });
    first.onDatagram = () => {
      first.close();
      const second = open(rig, { port: 9001 });
      expect(second.id).toBe(first.id);
      second.onDatagram = (d) => got.push(`${d.destinationPort}`);
    };
    rig.turn([udpFrame(), udpFrame(), udpFrame({ port: 9001 })]);
    expect(got).toEqual(["9001"]);
    expect(rig.counter("UdpNoPorts")).toBe(1);
  });

  test("receiving from another socket inside a handler leaves the handler's datagram alone", () => {
    const rig = new Rig({ lcores: 2 });
    const other = open(rig, { port: 9001 });
    const handled = open(rig, { port: 9000 });
    const texts: string[] = [];
    // Two datagrams for lcore 0 arrive on lcore 1 and wait in the ring while lcore 0 is in a handler.
    rig.turn([udpFrame({ port: 9000, payload: "ring" }), udpFrame({ port: 9001, payload: "queue" })], 1);
    handled.onDatagram = (d) => {
      const before = d.text();
      const into = other.newDatagram();
      other.receiveInto(into);
      into.release();
      texts.push(before, d.text());
    };
    rig.turn([udpFrame({ port: 9000, payload: "own" })]);
    rig.settle();
    expect(texts).toEqual(["own", "own", "ring", "ring"]);
    other.close();
    rig.settle();
    expect([rig.missing(0), rig.missing(1)]).toEqual([0, 0]);
  });

  test("handlers of closed sockets are not kept", async () => {
    const rig = new Rig({ sockets: 64 });
    let collected = 0;
    const registry = new FinalizationRegistry(() => collected++);
    for (let i = 0; i < 2000; i++) {
      const socket = open(rig, { port: 9000 });
      const handler = (): void => void socket.port;
      registry.register(handler, i);
      socket.onDatagram = handler;
      socket.close();
    }
    for (let i = 0; i < 50 && collected < 1000; i++) {
      Bun.gc(true);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(collected).toBeGreaterThan(1000);
  });

  test("blocking or awaiting on an lcore is refused: its loop would stop", async () => {
    const rig = new Rig();
    const socket = open(rig, { port: 9000 });
    expect(() => socket.receiveBlocking(1)).toThrow("lcore");
    await expect(socket.receive()).rejects.toThrow("lcore");
  });
});

describe("routes", () => {
  test("a new address is heard of in the middle of a turn", () => {
    const rig = new Rig();
    const { got } = listen(rig, { address: "::", port: 9000 });
    const content = hostFib();
    for (const text of ["198.18.0.44", "2001:db8::44"])
      content.addresses.push({ ifindex: IFINDEX, address: ip(text), prefixLength: 24 });
    const frames = [udpFrame({ destination: "198.18.0.44" }), udpFrame({ ...V6, destination: "2001:db8::44" })];
    rig.input(frames);
    rig.fib.publish(content);
    rig.input(frames.slice(0, 1));
    rig.fib.publish(content);
    rig.input(frames.slice(1));
    expect(rig.counters()).toEqual({ RxFrames: 4, UdpInDatagrams: 2, IpInAddrErrors: 2 });
    expect(got.length).toBe(2);
  });

  test("a change of MAC, MTU or source is followed with the next turn", () => {
    const rig = new Rig();
    const socket = open(rig, { port: 9000 });
    const content = hostFib(1000);
    content.neighbours[0].mac = Uint8Array.of(2, 9, 9, 9, 9, 9);
    content.routes[0].source = Uint8Array.of(198, 18, 0, 10);
    socket.send("x", 53, "198.18.0.2");
    rig.fib.publish(content);
    const [before] = rig.turn().map(parseUdpFrame);
    socket.send("x", 53, "198.18.0.2");
    const [after] = rig.turn().map(parseUdpFrame);
    expect(before).toMatchObject({ macs, source: "198.18.0.1" });
    expect(after).toMatchObject({ macs: `020909090909${MAC_A.toHex()}`, source: "198.18.0.10" });
    expect(socket.send(new Uint8Array(973), 53, "198.18.0.2")).toBe(-ERRNO.EHOSTUNREACH);
    expect(rig.counter("UdpOutTooBig")).toBe(1);
  });

  test("a link that is down, no route, no neighbour, multicast, broadcast, loopback: the kernel's to send", () => {
    const rig = new Rig();
    const socket = open(rig, { address: "::", port: 9000 });
    const away = ["198.18.0.99", "198.18.0.255", "203.0.113.1", "224.0.0.1", "255.255.255.255", "127.0.0.1"];
    const away6 = ["2001:db8::99", "2001:db8:9::1", "ff02::1", "::1", "::"];
    for (const address of [...away, ...away6]) expect(socket.send("x", 53, address)).toBe(-ERRNO.EHOSTUNREACH);
    const content = hostFib();
    const everybody = { ifindex: IFINDEX, address: ip("198.18.0.255"), mac: new Uint8Array(6).fill(0xff) };
    content.neighbours.push(everybody);
    rig.fib.publish(content);
    rig.turn();
    expect(socket.send("x", 53, "198.18.0.255")).toBe(-ERRNO.EHOSTUNREACH);
    content.links[0].up = false;
    rig.fib.publish(content);
    rig.turn();
    expect(socket.send("x", 53, "198.18.0.2")).toBe(-ERRNO.EHOSTUNREACH);
    expect(rig.counter("UdpOutErrors")).toBe(13);
    expect(rig.missing()).toBe(0);
  });

  test("a gateway's MAC for what lies behind it, and its route's own MTU", () => {
    const rig = new Rig();
    const content = hostFib();
    const gateway = Uint8Array.of(198, 18, 0, 2);
    const source = Uint8Array.of(198, 18, 0, 10);
    const route = { destination: Uint8Array.of(203, 0, 113, 0), prefixLength: 24, ifindex: IFINDEX, metric: 0 };
    content.routes.push({ ...route, gateway, source, mtu: 600 });
    rig.fib.publish(content);
    rig.turn();
    const socket = open(rig, { port: 9000 });
    expect(socket.send("x", 53, "203.0.113.7")).toBe(1);
    expect(socket.send(new Uint8Array(573), 53, "203.0.113.7")).toBe(-ERRNO.EHOSTUNREACH);
    expect(rig.turn().map(parseUdpFrame)).toMatchObject([{ macs, source: "198.18.0.10", destination: "203.0.113.7" }]);
  });
});
