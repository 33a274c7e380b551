/** Sockets of AF_PACKET on an engine's interface, against the kernel's on one without an engine. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import { sockFprog } from "../../sockets/bpf/classic.ts";
import { AsyncCalls } from "../../sockets/calls/async-calls.ts";
import {
  AF_INET,
  AF_PACKET,
  EPOLL_CTL_ADD,
  MSG_DONTWAIT,
  MSG_PEEK,
  MSG_TRUNC,
  POLLIN,
  POLLRDNORM,
  SOCK_DGRAM,
  SOCK_RAW,
  SOCK_STREAM,
} from "../../sockets/calls/constants.ts";
import { controlInt, decodeControl } from "../../sockets/calls/control.ts";
import { KernelCalls } from "../../sockets/calls/kernel-calls.ts";
import { addressBuffer, addressIn, messageOf } from "../../sockets/calls/message.ts";
import type { SocketProcess } from "../../sockets/calls/process.ts";
import { decodeAddress, encodeAddress } from "../../sockets/calls/sockaddr.ts";
import type { SocketCalls } from "../../sockets/calls/socket-calls.ts";
import { SO_ATTACH_BPF, SOL_SOCKET } from "../../sockets/options.ts";
import { type Host, makeHosts, requires, type VethPair } from "../support/hosts.ts";

const SOL_PACKET = 263;
const PACKET_STATISTICS = 6;
const PACKET_AUXDATA = 8;
const ETH_P_ALL = 3;
const ETH_P_IP = 0x0800;
const ETH_P_ARP = 0x0806;
const PORT = 7000;
const htons = (value: number): number => ((value & 0xff) << 8) | (value >> 8);

/** One host whose packets are looked at, and its peer. */
interface Stand {
  readonly pair: VethPair;
  readonly calls: SocketCalls;
  readonly peer: Peer;
  /** Sends a datagram to the peer by whatever serves there, from PORT. */
  send(text: string): void;
  close(): Promise<void>;
}

function kernelStand(): Stand {
  const pair = makeHosts({ ipv6: false });
  const calls = new KernelCalls((body) => pair.a.ns.run(body));
  const peer = new Peer(pair);
  const udp = calls.socket(AF_INET, SOCK_DGRAM, 0);
  calls.bind(udp, encodeAddress({ family: AF_INET, address: pair.a.ipv4Text, port: PORT }));
  return {
    pair,
    calls,
    peer,
    send(text) {
      const to = encodeAddress({ family: AF_INET, address: pair.b.ipv4Text, port: PORT });
      calls.sendto(udp, new TextEncoder().encode(text), 0, to);
    },
    async close() {
      calls.close(udp);
      peer.close();
      pair.close();
    },
  };
}

async function engineStand(): Promise<Stand & { process: SocketProcess }> {
  const pair = makeHosts({ ipv6: false });
  const engine = await Engine.start({ interface: pair.a.name, netns: pair.a.ns.path, mode: "skb", poll: "interrupt" });
  const process = engine.calls();
  const peer = new Peer(pair);
  const udp = engine.udp({ address: pair.a.ipv4Text, port: PORT });
  return {
    pair,
    calls: process,
    peer,
    process,
    send(text) {
      udp.send(text, PORT, pair.b.ipv4Text);
      // It leaves now, not when the event loop has its turn.
      udp.awaitRoom();
    },
    async close() {
      await engine.close();
      peer.close();
      pair.close();
    },
  };
}

/** The peer's kernel socket, bound to PORT: nobody answers that there is none. */
class Peer {
  private readonly calls: KernelCalls;
  private readonly fd: number;
  private readonly to: string;

  constructor({ a, b }: VethPair) {
    this.calls = new KernelCalls((body) => b.ns.run(body));
    this.fd = this.calls.socket(AF_INET, SOCK_DGRAM, 0);
    this.calls.bind(this.fd, encodeAddress({ family: AF_INET, address: b.ipv4Text, port: PORT }));
    this.to = a.ipv4Text;
  }

  send(text: string, port = PORT): void {
    const to = encodeAddress({ family: AF_INET, address: this.to, port });
    this.calls.sendto(this.fd, new TextEncoder().encode(text), 0, to);
  }

  close(): void {
    this.calls.close(this.fd);
  }
}

/** A name for each address of the link layer, and none for what differs from run to run: identification and checksum of IPv4. */
function normal(frame: Uint8Array, { a, b }: { a: Host; b: Host }, from: number): string {
  const bytes = frame.slice();
  if (from === 0 && ((bytes[12] << 8) | bytes[13]) === ETH_P_IP) bytes.fill(0, 18, 20).fill(0, 24, 26);
  if (from === 14 && bytes[0] === 0x45) bytes.fill(0, 4, 6).fill(0, 10, 12);
  const named = (hex: string): string => hex.replaceAll(a.mac.toHex(), "<a>").replaceAll(b.mac.toHex(), "<b>");
  return named(bytes.toHex());
}

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")("packet sockets", () => {
  let kernel: Stand;
  let engine: Awaited<ReturnType<typeof engineStand>>;
  beforeAll(async () => {
    kernel = kernelStand();
    engine = await engineStand();
    // Both hosts know each other's addresses from here on.
    for (const stand of [kernel, engine]) {
      stand.peer.send("hello");
      stand.send("hello");
      await Bun.sleep(50);
    }
  });
  afterAll(async () => {
    await kernel?.close();
    await engine?.close();
  });

  const open = ({ calls }: Stand, type: number, protocol: number): number =>
    calls.socket(AF_PACKET, type, htons(protocol));
  /** What waits at a socket, each with its sender, once `count` have come. */
  function taken(stand: Stand, fd: number, count: number, from: number): unknown[] {
    const frames: unknown[] = [];
    const { calls, pair } = stand;
    while (frames.length < count) {
      const entry = { fd, events: POLLIN, revents: 0 };
      if (calls.poll([entry], 2000) !== 1) break;
      const name = addressBuffer();
      const message = messageOf(new Uint8Array(2000));
      message.name = name;
      message.control = new Uint8Array(128);
      const length = calls.recvmsg(fd, message, MSG_DONTWAIT);
      const sender = decodeAddress(addressIn(name));
      if (sender?.family !== AF_PACKET) throw new Error("no sockaddr_ll");
      const { hardwareAddress = new Uint8Array(0), interfaceIndex, ...rest } = sender;
      frames.push({
        frame: normal(message.iov[0].subarray(0, length), pair, from),
        rest,
        by: normal(hardwareAddress, pair, -1),
        here: interfaceIndex === pair.a.ifindex,
        nameLength: name.length,
        flags: message.flags,
        control: decodeControl(message.control, message.controlLength)?.map(({ level, type, data }) => [
          level,
          type,
          data.length,
        ]),
      });
    }
    return frames;
  }

  test.each([
    ["raw", SOCK_RAW, 0],
    ["cooked", SOCK_DGRAM, 14],
  ] as const)("%s: what comes and what is sent, as the kernel shows it", (_, type, from) => {
    const seen = [kernel, engine].map((stand) => {
      const fd = open(stand, type, ETH_P_ALL);
      stand.calls.setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, controlInt(1));
      stand.peer.send("in");
      const came = taken(stand, fd, 1, from);
      stand.send("out");
      const left = taken(stand, fd, 1, from);
      stand.calls.close(fd);
      return [came, left];
    });
    expect(seen[1]).toEqual(seen[0]);
    expect(seen[1].map((frames) => frames.length)).toEqual([1, 1]);
  });

  test("one protocol alone: what comes of it, and nothing that is sent", () => {
    const seen = [kernel, engine].map((stand) => {
      const ip = open(stand, SOCK_RAW, ETH_P_IP);
      const arp = open(stand, SOCK_RAW, ETH_P_ARP);
      stand.send("out");
      stand.peer.send("in");
      const came = taken(stand, ip, 1, 0);
      const more = stand.calls.recvfrom(ip, new Uint8Array(10), MSG_DONTWAIT, null);
      const none = stand.calls.recvfrom(arp, new Uint8Array(10), MSG_DONTWAIT, null);
      for (const fd of [ip, arp]) stand.calls.close(fd);
      return [came, more, none];
    });
    expect(seen[1]).toEqual(seen[0]);
    expect(seen[1].slice(1)).toEqual([-ERRNO.EAGAIN, -ERRNO.EAGAIN]);
  });

  test("what the XDP program leaves to the kernel is seen as well", () => {
    const fd = open(engine, SOCK_RAW, ETH_P_ALL);
    engine.peer.send("to nobody here", PORT + 1);
    const frames = taken(engine, fd, 2, 0) as { rest: { packetType: number } }[];
    // The datagram, and the kernel's answer that nobody listens.
    expect(frames.map(({ rest }) => rest.packetType)).toEqual([0, 4]);
    engine.calls.close(fd);
  });

  test("peeked at, cut off, its whole length told; FIONREAD", () => {
    const seen = [kernel, engine].map((stand) => {
      const fd = open(stand, SOCK_RAW, ETH_P_IP);
      stand.peer.send("0123456789");
      const { calls } = stand;
      const entry = { fd, events: POLLIN | POLLRDNORM, revents: 0 };
      calls.poll([entry], 2000);
      const waiting = controlInt(0);
      const message = messageOf(new Uint8Array(20));
      const answers = [
        entry.revents,
        calls.ioctl(fd, 0x541b, waiting),
        waiting.toHex(),
        calls.recvfrom(fd, new Uint8Array(30), MSG_PEEK, null),
        calls.recvfrom(fd, new Uint8Array(30), MSG_PEEK | MSG_TRUNC, null),
        calls.recvmsg(fd, message, 0),
        message.flags,
        calls.recvfrom(fd, new Uint8Array(30), MSG_DONTWAIT, null),
      ];
      calls.close(fd);
      return answers;
    });
    expect(seen[1]).toEqual(seen[0]);
  });

  test.each([
    [
      "what is long enough, cut to 36 bytes",
      [
        [0x80, 0, 0, 0],
        [0x35, 0, 1, 46],
        [6, 0, 0, 36],
        [6, 0, 0, 0],
      ],
    ],
    [
      "EtherType and packet type",
      [
        [0x28, 0, 0, 0xfffff000],
        [0x15, 0, 1, ETH_P_IP],
        [6, 0, 0, 50],
        [6, 0, 0, 0],
      ],
    ],
  ])("a filter: %s", (_, program) => {
    const seen = [kernel, engine].map((stand) => {
      const { calls, peer } = stand;
      const fd = open(stand, SOCK_RAW, ETH_P_IP);
      const answers: unknown[] = [calls.setsockopt(fd, 1, 26, sockFprog(program))];
      peer.send("short");
      peer.send("long enough");
      const count = program[1][3] === ETH_P_IP ? 2 : 1;
      answers.push(taken(stand, fd, count, 0), calls.recvfrom(fd, new Uint8Array(9), MSG_DONTWAIT, null));
      answers.push(calls.setsockopt(fd, 1, 27, controlInt(0)), calls.setsockopt(fd, 1, 27, controlInt(0)));
      peer.send("short");
      answers.push(taken(stand, fd, 1, 0));
      calls.close(fd);
      return answers;
    });
    expect(seen[1]).toEqual(seen[0]);
  });

  test("statistics count, and begin anew", () => {
    const seen = [kernel, engine].map((stand) => {
      const fd = open(stand, SOCK_RAW, ETH_P_IP);
      for (let i = 0; i < 5; i++) stand.peer.send(`${i}`);
      taken(stand, fd, 5, 0);
      const told = (): unknown => {
        const out = new Uint8Array(8);
        return [stand.calls.getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, out), out.toHex()];
      };
      const answers = [told(), told()];
      stand.calls.close(fd);
      return answers;
    });
    expect(seen[1]).toEqual(seen[0]);
  });

  test("what is refused, and what is no operation of theirs", () => {
    const seen = [kernel, engine].map((stand) => {
      const { calls } = stand;
      const fd = open(stand, SOCK_RAW, 0);
      const address = encodeAddress({ family: AF_PACKET, protocol: ETH_P_ALL, interfaceIndex: stand.pair.a.ifindex });
      const name = addressBuffer();
      const answers = [
        calls.socket(AF_PACKET, SOCK_STREAM, 0),
        calls.bind(fd, encodeAddress({ family: AF_INET, address: "198.18.0.1", port: 1 })),
        calls.bind(fd, address.subarray(0, 10)),
        calls.bind(fd, encodeAddress({ family: AF_PACKET, protocol: ETH_P_ALL, interfaceIndex: 4000 })),
        calls.bind(fd, address),
        calls.getsockname(fd, name),
        name.length,
        calls.getpeername(fd, name),
        calls.connect(fd, address),
        calls.listen(fd, 1),
        calls.accept4(fd, null, 0),
        calls.shutdown(fd, 2),
        calls.recvfrom(fd, new Uint8Array(1), 0x100 | MSG_DONTWAIT, null),
        calls.sendto(fd, new Uint8Array(5), 0, null),
        calls.sendto(fd, new Uint8Array(5000), 0, null),
      ];
      calls.close(fd);
      return answers;
    });
    expect(seen[1]).toEqual(seen[0]);
  });

  test("what would show the kernel's half alone is refused", () => {
    const fd = open(engine, SOCK_RAW, ETH_P_ALL);
    const [rxRing, txRing, header, fanOut, fanOutData, headerSize] = [5, 13, 15, 18, 22, 24];
    for (const option of [rxRing, txRing, header, fanOut, fanOutData, headerSize]) {
      expect(engine.calls.setsockopt(fd, SOL_PACKET, option, controlInt(1))).toBe(-ERRNO.EOPNOTSUPP);
    }
    expect(engine.calls.setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, controlInt(fd))).toBe(-ERRNO.EOPNOTSUPP);
    engine.calls.close(fd);
  });

  test("in an epoll instance, waited for blocking and in the event loop", async () => {
    const { calls, process, peer } = engine;
    const fd = open(engine, SOCK_RAW, ETH_P_IP);
    const epoll = calls.epollCreate(0);
    calls.epollControl(epoll, EPOLL_CTL_ADD, fd, { events: POLLIN, data: 5 });
    const events = [{ events: 0, data: 0 }];
    peer.send("in");
    expect(calls.epollWait(epoll, events, 2000)).toBe(1);
    expect(events[0]).toEqual({ events: POLLIN, data: 5 });
    expect(calls.recvfrom(fd, new Uint8Array(100), 0, null)).toBe(44);
    expect(calls.epollWait(epoll, events, 0)).toBe(0);
    setTimeout(() => peer.send("late"), 10);
    expect(await new AsyncCalls(process).recvfrom(fd, new Uint8Array(100))).toBe(46);
    setTimeout(() => peer.send("later"), 10);
    expect(await new AsyncCalls(process).epollWait(epoll, events, 2000)).toBe(1);
    for (const each of [epoll, fd]) calls.close(each);
  });
});
