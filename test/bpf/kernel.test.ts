/** Classic programs, here and in the kernel: the same are valid, and they keep the same of the same packets. */
import { afterAll, describe, expect, test } from "bun:test";
import { ERRNO, sys } from "af-xdp-bindings";
import { NetNs } from "../../engine/host/netns.ts";
import { Rtnl } from "../../engine/host/rtnetlink.ts";
import { Random } from "../../queues/random.ts";
import {
  type ClassicFilter,
  compileClassic,
  decodeClassic,
  faultOf,
  PacketContext,
  type SockFilter,
} from "../../sockets/bpf/classic.ts";
import { compile } from "../../sockets/bpf/compile.ts";
import { requires } from "../support/hosts.ts";
import { KernelUdp } from "../support/kernel-udp.ts";
import { attachFilter, KernelFilter } from "./kernel-filter.ts";
import { changed, validProgram } from "./programs.ts";

const PROGRAMS = Number(process.env.LCORE_BPF_PROGRAMS ?? 3000);
const PACKETS = 20;
const PACKET_MAX = 96;
const SEED = Number(process.env.LCORE_BPF_SEED ?? 1);

const kernel = new KernelFilter();
afterAll(() => kernel.close());

/** What a socket of AF_UNIX knows: no headers but the packet itself where the network header would be. */
const context = new PacketContext();
context.networkOffset = 0;

/** Packets with bytes that look like lengths and like anything, some as netlink attributes. */
function fillPacket(random: Random, bytes: Uint8Array): number {
  const length = 1 + random.below(PACKET_MAX);
  const small = random.below(2) === 0;
  for (let i = 0; i < length; i++) bytes[i] = small ? random.below(12) : random.below(256);
  return length;
}

function show(program: readonly SockFilter[]): string {
  return program.map(({ code, jt, jf, k }, pc) => `${pc}: ${code.toString(16)} ${jt} ${jf} ${k}`).join("\n");
}

describe("the kernel's verdicts", () => {
  test("which programs are valid", () => {
    const random = new Random(SEED);
    let refused = 0;
    for (let i = 0; i < PROGRAMS; i++) {
      const valid = validProgram(random, 1 + random.below(30));
      expect(faultOf(valid)).toBeNull();
      const program = changed(random, valid);
      const result = kernel.attach(program);
      const fault = faultOf(program);
      if ((fault === null) !== (result === 0) || (fault !== null && result !== -ERRNO.EINVAL)) {
        throw new Error(`kernel ${result}, here "${fault}":\n${show(program)}`);
      }
      if (fault !== null) refused++;
      else kernel.detach();
    }
    // Both verdicts were put to the test.
    expect(refused).toBeGreaterThan(PROGRAMS / 5);
    expect(refused).toBeLessThan((PROGRAMS * 4) / 5);
  });

  test("what they keep of a packet, jumps written either way", () => {
    const random = new Random(SEED + 1);
    const memory = new Uint8Array(PACKET_MAX + 8);
    const outcomes = new Set<number>();
    let cut = 0;
    for (let i = 0; i < PROGRAMS; i++) {
      const program = validProgram(random, 1 + random.below(i % 10 === 0 ? 300 : 30));
      expect(kernel.attach(program)).toBe(0);
      const forms: ClassicFilter[] = [compile(program, "nested"), compile(program, "switch")];
      for (let p = 0; p < PACKETS; p++) {
        const offset = random.below(8);
        const bytes = memory.subarray(offset);
        const length = fillPacket(random, bytes);
        const kept = kernel.kept(sys.addressOf(bytes), length);
        for (const filter of forms) {
          const result = Math.min(filter(memory, offset, length, context), length);
          if (result !== Math.max(kept, 0)) {
            throw new Error(
              `kernel keeps ${kept}, here ${result}, of ${bytes.subarray(0, length).toHex()}:\n${show(program)}`,
            );
          }
        }
        outcomes.add(kept);
        if (kept > 0 && kept < length) cut++;
      }
    }
    // Dropped, cut and whole ones, of many lengths.
    expect(outcomes.has(-1)).toBe(true);
    expect(outcomes.size).toBeGreaterThan(50);
    expect(cut).toBeGreaterThan(PROGRAMS);
  });
});

describe.skipIf(requires("netns") !== "")("on a UDP socket", () => {
  test("what the kernel knows of a datagram, and its headers", () => {
    const ns = NetNs.create();
    const rtnl = ns.run(() => new Rtnl());
    rtnl.setLink(rtnl.link("lo").ifindex, { up: true });
    const receiver = new KernelUdp(ns, { address: "127.0.0.1" });
    const sender = new KernelUdp(ns);
    const payload = new Uint8Array(1500).map((_, i) => i * 7);
    // To a filter the packet begins with the UDP header; that and what is before it is made up of what the kernel told.
    const udp = [sender.port >> 8, sender.port & 255, receiver.port >> 8, receiver.port & 255, 1508 >> 8, 1508 & 255];
    const ip = [0x45, 0, 1528 >> 8, 1528 & 255, -1, -1, 0x40, 0, 64, 17, -1, -1, 127, 0, 0, 1, 127, 0, 0, 1];
    const frame = Uint8Array.from([...Array(12).fill(0), 8, 0, ...ip, ...udp, 0, 0, ...payload]);
    const context = new PacketContext();
    Object.assign(context, { protocol: 0x0800, ifindex: 1, hardwareType: 772, networkOffset: -20, linkOffset: -34 });
    try {
      const ancillary = [0, 4, 8, 20, 24, 28, 44, 48].map((what) => [0x20, 0, 0, -0x1000 + what]);
      const headers = [0, 2, 8, 9, 12, 19, 24, 25, 28, 1527].map((at) => [0x30, 0, 0, -0x100000 + at]);
      const link = [0, 12, 13, 14, 34, 1541, 1542].map((at) => [0x30, 0, 0, -0x200000 + at]);
      const inside = [0, 2, 8, 9, 1504, 1505].map((at) => [0x20, 0, 0, at]);
      for (const load of [...ancillary, ...headers, ...link, ...inside]) {
        // Half of the low bits at a time, as the length that is kept: with the UDP header, which is never cut.
        for (const shift of [0, 8]) {
          const program = decodeClassic([
            load,
            [0x74, 0, 0, shift],
            [0x54, 0, 0, 0xff],
            [0x04, 0, 0, 8],
            [0x16, 0, 0, 0],
          ]);
          expect(attachFilter(receiver.fd, program)).toBe(0);
          expect(sender.send(payload, "127.0.0.1", receiver.port)).toBe(1500);
          const kept = receiver.take()?.payload.length ?? -8;
          const here = compileClassic(program)(frame, 34, frame.length - 34, context);
          expect([load, shift, kept + 8]).toEqual([load, shift, here]);
        }
      }
    } finally {
      sender.close();
      receiver.close();
      rtnl.close();
      ns.close();
    }
  });
});
