/** Fragments of ours put together by the kernel, the kernel's by ours, and both given the same nonsense. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { VethPair } from "../../engine/host/hosts.ts";
import { Random } from "../../queues/random.ts";
import { Fragmenter, FragmentIds } from "../../sockets/host/fragment.ts";
import * as r from "../../sockets/host/reassembly.ts";
import { formatIp, ip } from "../../sockets/wire/address.ts";
import { checkIpv4, IPV4_OK } from "../../sockets/wire/ipv4.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { onesSum } from "../support/frames.ts";
import { makeHosts, requires } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";
import { PacketSocket } from "./packet-socket.ts";
import { fragmentOf, framed, headerBytes, pattern, payloadOf, sealed4, udpPacket } from "./packets.ts";

const IP = 14;
const sha = (bytes: Uint8Array): string => new Bun.CryptoHasher("sha256").update(bytes).digest("hex");

describe.skipIf(requires("netns", "veth") !== "")("fragments and the kernel", () => {
  let hosts: VethPair;
  let wire: PacketSocket;
  /** Hosts that exist only as frames on the wire to b, whose kernel is the peer. */
  const own = { 4: "198.18.0.77", 6: "2001:db8::77" };
  const peer = { 4: "198.18.0.2", 6: "2001:db8::2" };

  beforeAll(() => {
    hosts = makeHosts();
    wire = new PacketSocket(hosts.a.ns, hosts.a.ifindex);
    for (const address of Object.values(own)) hosts.b.rtnl.setNeighbour(hosts.b.ifindex, ip(address), hosts.a.mac);
  });
  afterAll(() => {
    wire?.close();
    hosts?.close();
  });

  const send = (packet: Uint8Array): void => wire.send(framed(hosts.b.mac, hosts.a.mac, packet));

  /** Cuts a packet as the host on the wire, and sends it; fragments in the order that `order` gives. */
  function sendCut(packet: Uint8Array, ids: FragmentIds, order = (index: number, _count: number) => index): number {
    const fragmenter = new Fragmenter();
    const view = new DataView(packet.buffer, packet.byteOffset);
    const count =
      packet[0] >> 4 === 4
        ? fragmenter.begin4(packet, 0, 1500, ids.next4(view.getInt32(12), view.getInt32(16), packet[9]))
        : fragmenter.begin6(packet, 0, 1500, ids.next6());
    const to = new FrameViews(new Uint8Array(2048));
    for (let i = 0; i < count; i++) {
      const length = fragmenter.write(order(i, count), to, IP);
      send(to.bytes.slice(IP, IP + length));
    }
    return count;
  }

  describe.each([4, 6] as const)("IPv%d", (family) => {
    test("the kernel puts ours together, in either order", async () => {
      const ids = new FragmentIds();
      const socket = new KernelUdp(hosts.b.ns, { address: peer[family] });
      try {
        for (const length of [1473, 5000, 20_000, 60_000, 65_507]) {
          for (const order of [(i: number) => i, (i: number, count: number) => count - 1 - i]) {
            const payload = pattern(length, length);
            const packet = udpPacket({ source: own[family], destination: peer[family], port: socket.port, payload });
            expect(sendCut(packet, ids, order)).toBe(Math.ceil((length + 8) / (family === 4 ? 1480 : 1448)));
            const got = await socket.receive();
            expect(got.address).toBe(own[family]);
            expect(sha(got.payload)).toBe(sha(payload));
          }
        }
      } finally {
        socket.close();
      }
    });

    test("ours puts the kernel's together: 60,000 bytes, and the greatest", async () => {
      const reassembly = new r.Reassembly(5, () => {});
      const socket = new KernelUdp(hosts.b.ns, { address: peer[family] });
      try {
        for (const length of [1473, 60_000, 65_507]) {
          const payload = pattern(length, length);
          expect(socket.send(payload, own[family], 9)).toBe(length);
          let whole: Uint8Array | null = null;
          await until("the kernel's fragments", () => {
            whole ??= receiveWhole(reassembly, family);
            return whole !== null;
          });
          const packet = whole as unknown as Uint8Array;
          expect(sha(payloadOf(packet).subarray(8))).toBe(sha(payload));
          expect(udpSum(packet)).toBe(0xffff);
        }
      } finally {
        socket.close();
      }
    });

    test("ping -s 5000 of a host that does nothing but put together, turn round and cut", async () => {
      const reassembly = new r.Reassembly(5, () => {});
      const ids = new FragmentIds();
      const ping = hosts.b.ns.run(() =>
        Bun.spawn(["ping", `-${family}`, "-n", "-c", "3", "-i", "0.05", "-s", "5000", own[family]], {
          stdout: "pipe",
          stderr: "pipe",
        }),
      );
      let running = true;
      void ping.exited.then(() => {
        running = false;
      });
      while (running) {
        const whole = receiveWhole(reassembly, family);
        if (whole !== null) sendCut(echoed(whole), ids);
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect(await new Response(ping.stdout).text()).toContain("3 packets transmitted, 3 received, 0% packet loss");
    });

    test("the same nonsense: as many datagrams whole, failed and overlapped as in the kernel", async () => {
      // Room for all that stays incomplete: nothing is to be evicted.
      const reassembly = new r.Reassembly(5, () => {}, { memoryBytes: 32 << 20, datagramsMax: 8192 });
      const counts = family === 4 ? reassembly.counts4 : reassembly.counts6;
      const random = new Random(family);
      const before = kernelCounts(family);
      for (let id = 1; id <= 1000; id++) {
        const script = nonsense(random, family, id);
        for (const packet of script) {
          if (family === 4) reassembly.receive4(packet, 0, 0);
          else reassembly.receive6(packet, 0, 0);
          send(packet);
        }
        const overlaps = family === 4 ? counts.overlaps : 0;
        const wanted = [id, counts.requests, counts.oks, counts.fails, overlaps];
        const counted = (): number[] => {
          const now = kernelCounts(family);
          return [
            id,
            now.requests - before.requests,
            now.oks - before.oks,
            now.fails - before.fails,
            now.overlaps - before.overlaps,
          ];
        };
        // They may be a softirq behind; when they stay so, the comparison says how.
        await until("the kernel's counts", () => Bun.deepEquals(counted(), wanted), 2000).catch(() => {});
        expect(counted()).toEqual(wanted);
      }
      // All of it happened, many times.
      expect(Math.min(counts.oks, counts.fails - counts.overlaps, counts.overlaps)).toBeGreaterThan(20);
    });
  });

  /** Takes frames until a datagram is whole; null when no more are there. */
  function receiveWhole(reassembly: r.Reassembly, family: 4 | 6): Uint8Array | null {
    const views = new FrameViews(new Uint8Array(2048));
    for (let frame = wire.receive(); frame !== null; frame = wire.receive()) {
      if (frame[IP] >> 4 !== family || frame.length > 1514) continue;
      views.bytes.set(frame);
      if (family === 4) expect(checkIpv4(views, IP, frame.length - IP)).toBe(IPV4_OK);
      const code = family === 4 ? reassembly.receive4(views.bytes, IP, 0) : reassembly.receive6(views.bytes, IP, 0);
      if (code === r.FRAGMENT_COMPLETES) {
        return reassembly.packet.bytes.slice(r.PACKET_AT, r.PACKET_AT + reassembly.length);
      }
    }
    return null;
  }

  /** What the kernel of b has counted of a family. */
  function kernelCounts(family: 4 | 6): { requests: number; oks: number; fails: number; overlaps: number } {
    return hosts.b.ns.run(() => {
      const read = (file: string): string => readFileSync(`/proc/thread-self/net/${file}`, "utf8");
      if (family === 6) {
        const text = read("snmp6");
        const value = (name: string): number => Number(new RegExp(`^Ip6${name}\\s+(\\d+)`, "m").exec(text)?.[1] ?? 0);
        // Of IPv6 the kernel counts overlaps, but shows them nowhere.
        return { requests: value("ReasmReqds"), oks: value("ReasmOKs"), fails: value("ReasmFails"), overlaps: 0 };
      }
      const value = (text: string, name: string, field: string): number => {
        const [names, values] = text.split("\n").filter((line) => line.startsWith(`${name}:`));
        return Number(values.split(" ")[names.split(" ").indexOf(field)]);
      };
      const snmp = read("snmp");
      return {
        requests: value(snmp, "Ip", "ReasmReqds"),
        oks: value(snmp, "Ip", "ReasmOKs"),
        fails: value(snmp, "Ip", "ReasmFails"),
        overlaps: value(read("netstat"), "IpExt", "ReasmOverlaps"),
      };
    });
  }

  /** A few fragments of one datagram, most of them as they should be. */
  function nonsense(random: Random, family: 4 | 6, id: number): Uint8Array[] {
    const units = 2 + random.below(8);
    const packet = udpPacket({
      source: own[family],
      destination: peer[family],
      id,
      port: 9,
      payload: pattern(units * 8 - 8 - random.below(8), id),
    });
    const data = payloadOf(packet);
    const step = 1 + random.below(3);
    const script: Uint8Array[] = [];
    const piece = (from: number, length: number, more: boolean): Uint8Array => {
      const padded = new Uint8Array(length);
      padded.set(data.subarray(from, from + length));
      const fragment = fragmentOf(packet, from, padded, more, id);
      if (random.below(12) !== 0) return fragment;
      // Congestion marks of every kind.
      if (family === 4) fragment[1] |= random.below(4);
      else fragment[1] |= random.below(4) << 4;
      return family === 4 ? sealed4(fragment) : fragment;
    };
    for (let from = 0; from < data.length; from += step * 8) {
      const length = Math.min(step * 8, data.length - from);
      script.push(piece(from, length, from + length < data.length));
    }
    for (let more = random.below(4); more > 0; more--) {
      const from = random.below(units) * 8;
      const length = random.below(3 * 8 + 1);
      const isLast = random.below(4) === 0;
      // No offset and no more: not a fragment, or an atomic one, which is another matter.
      if (from > 0 || !isLast) script.push(piece(from, family === 6 && !isLast ? length & ~7 : length, !isLast));
    }
    for (let i = script.length - 1; i > 0; i--) {
      const j = random.below(3) === 0 ? random.below(i + 1) : i;
      [script[i], script[j]] = [script[j], script[i]];
    }
    return script.filter((fragment) => !isShortFirst(fragment, family));
  }
});

/** An IPv6 first fragment without a whole UDP header: a parameter problem that the kernel does not count among these. */
const isShortFirst = (packet: Uint8Array, family: 4 | 6): boolean =>
  family === 6 && (((packet[42] << 8) | packet[43]) & 0xfff8) === 0 && packet.length < 40 + 8 + 8;

/** One's-complement sum of a UDP packet, pseudo-header included: 0xffff when it is right. */
function udpSum(packet: Uint8Array): number {
  const header = headerBytes(packet);
  const addresses = packet.subarray(header === 40 ? 8 : 12, header);
  const length = packet.length - header;
  return onesSum(packet, header, packet.length, onesSum([...addresses, 0, 17, length >> 8, length & 255]));
}

/** An echo request turned round: addresses, type and checksum. */
function echoed(packet: Uint8Array): Uint8Array {
  const out = packet.slice();
  const header = headerBytes(packet);
  const [at, size, reply] = header === 40 ? [8, 16, 129] : [12, 4, 0];
  out.set(packet.subarray(at + size, at + 2 * size), at);
  out.set(packet.subarray(at, at + size), at + size);
  out[header] = reply;
  out[header + 2] = 0;
  out[header + 3] = 0;
  const length = packet.length - header;
  const pseudo = header === 40 ? onesSum([...out.subarray(8, 40), 0, 58, length >> 8, length & 255]) : 0;
  const sum = ~onesSum(out, header, out.length, pseudo) & 0xffff;
  out[header + 2] = sum >> 8;
  out[header + 3] = sum;
  if (header !== 40) sealed4(out);
  expect(formatIp(out.subarray(at, at + size))).toMatch(/77$/);
  return out;
}
