/** SO_RXQ_OVFL: the count of drops that comes with a datagram, on a kernel socket and on the engine's. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { sys } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import { MessageHeader } from "../../sockets/msghdr.ts";
import { SO_RCVBUF, SO_RXQ_OVFL, SOL_SOCKET } from "../../sockets/options.ts";
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { Rig } from "../sockets/rig.ts";
import { udpFrame } from "../support/frames.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";

setDefaultTimeout(60_000);

const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];
/** SO_RCVBUF as set. With 56 bytes both charge 832 a datagram, so both hold nine. */
const BUFFER = 4096;
const PAYLOAD = new Uint8Array(56);
/** Datagrams sent before all that wait are read: the kernel credits a reader who leaves some only now and then. */
const ROUNDS = [5, 20, 3, 30, 1, 11, 9];

/** What one sends to, reads from and asks. */
interface Receiver {
  /** Waits until so many have arrived, been queued or dropped, since the start. */
  arrived(count: number): Promise<void>;
  /** The count that comes with the next datagram; 0 where none comes; -1 without a datagram. */
  read(): number;
}

async function play(send: () => void, receiver: Receiver): Promise<number[]> {
  const told: number[] = [];
  let total = 0;
  for (const sent of ROUNDS) {
    for (let i = 0; i < sent; i++) send();
    total += sent;
    await receiver.arrived(total);
    for (let drops = receiver.read(); drops >= 0; drops = receiver.read()) told.push(drops);
  }
  return told;
}

class KernelReceiver implements Receiver {
  readonly socket: KernelUdp;
  private readonly header = new MessageHeader();
  private readonly memory = new Uint8Array(2048);

  constructor(socket: KernelUdp) {
    this.socket = socket;
    expect(sys.setsockoptInt(socket.fd, SOL_SOCKET, SO_RCVBUF, BUFFER)).toBe(0);
    expect(sys.setsockoptInt(socket.fd, SOL_SOCKET, SO_RXQ_OVFL, 1)).toBe(0);
  }

  async arrived(): Promise<void> {
    // What is sent over veth has arrived when the softirq has run.
    await Bun.sleep(20);
  }

  read(): number {
    const { header } = this;
    if (header.receive(this.socket.fd, sys.addressOf(this.memory), this.memory.length, 0x40) < 0) return -1;
    for (let at = header.firstControl(); at >= 0; at = header.nextControl(at))
      if (header.controlLevel(at) === SOL_SOCKET && header.controlType(at) === SO_RXQ_OVFL)
        return header.controlInt(at);
    return 0;
  }
}

const missing = requires("veth", "af_xdp", "bpf");

describe.skipIf(missing !== "")("as with a kernel socket", () => {
  let hosts: VethPair;
  // An XDP program in skb mode has the kernel's sockets charged for more headroom.
  let plain: VethPair;
  let engine: Engine;
  let byKernel: Engine;
  beforeAll(async () => {
    hosts = makeHosts();
    plain = makeHosts();
    engine = await Engine.start({ interface: hosts.b.name, netns: hosts.b.ns.path });
    byKernel = await Engine.start({ provider: "kernel", netns: plain.b.ns.path });
  });
  afterAll(async () => {
    await byKernel?.close();
    await engine?.close();
    hosts?.close();
    plain?.close();
  });

  test.each(FAMILIES)("IPv%i", async (family: Family) => {
    const [from, at] = family === 4 ? [hosts.a.ipv4Text, hosts.b.ipv4Text] : [hosts.a.ipv6Text, hosts.b.ipv6Text];
    const oracle = new KernelReceiver(new KernelUdp(plain.b.ns, { address: at }));
    const first = new KernelUdp(plain.a.ns, { address: from });
    const expected = await play(() => first.send(PAYLOAD, at, oracle.socket.port), oracle);
    expect(expected.at(-1)).toBeGreaterThan(0);
    oracle.socket.close();
    first.close();
    for (const each of [engine, byKernel]) {
      const sender = new KernelUdp((each === engine ? hosts : plain).a.ns, { address: from });
      const socket = each.udp({ address: at });
      socket.setsockopt(SOL_SOCKET, SO_RCVBUF, BUFFER);
      socket.setsockopt(SOL_SOCKET, SO_RXQ_OVFL, 1);
      const start = each.counters();
      const datagram = socket.newDatagram();
      const told = await play(() => sender.send(PAYLOAD, at, socket.port), {
        async arrived(count) {
          if (each === byKernel) return Bun.sleep(20);
          const { HandedOver, UdpRcvbufErrors } = start;
          await until("the datagrams", () => {
            const now = each.counters();
            return now.HandedOver - HandedOver + now.UdpRcvbufErrors - UdpRcvbufErrors === count;
          });
        },
        read: () => (socket.receiveInto(datagram) < 0 ? -1 : datagram.drops),
      });
      datagram.release();
      expect(told).toEqual(expected);
      expect(socket.drops).toBe(told.at(-1) as number);
      socket.close();
      sender.close();
    }
  });
});

describe.each(["thread", "lcore"] as const)("%s", (where) => {
  test("0 unless it is asked for; then the count when the datagram was queued, also in a handler set later", () => {
    const rig = new Rig();
    const endpoint = where === "thread" ? rig.threads[0] : rig.lcores[0].stack;
    const socket = UdpSocket.open(endpoint, { port: 9000, receiveBuffer: 2304 });
    const frames = (count: number): Uint8Array[] => Array.from({ length: count }, () => udpFrame({ payload: "x" }));
    const next = (): number => {
      const datagram = socket.newDatagram();
      const drops = socket.receiveInto(datagram) < 0 ? -1 : datagram.drops;
      datagram.release();
      return drops;
    };
    rig.turn(frames(5));
    const lost = socket.drops;
    expect(lost).toBeGreaterThan(0);
    expect(next()).toBe(0);
    rig.turn(frames(1));
    socket.setsockopt(SOL_SOCKET, SO_RXQ_OVFL, 1);
    for (let drops = next(); drops >= 0; drops = next()) expect(drops).toBe(0);
    rig.turn(frames(1));
    expect(next()).toBe(socket.drops);
    expect(socket.drops).toBeGreaterThan(0);
    const seen: number[] = [];
    socket.onDatagram = (d) => seen.push(d.drops);
    rig.turn(frames(1));
    rig.settle();
    expect(seen.at(-1)).toBe(socket.drops);
    expect(rig.missing()).toBe(0);
  });
});
