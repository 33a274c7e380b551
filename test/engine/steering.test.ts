/** The steering program run by the kernel on frames made here, and compared with a plain model of its decision. */
import { afterAll, describe, expect, test } from "bun:test";
import {
  attachedXdp,
  check,
  sys,
  testRunXdp,
  Umem,
  XDP_PASS,
  XDP_REDIRECT,
  type XdpTestResult,
  Xsk,
} from "af-xdp-bindings";
import {
  COUNTERS,
  type CounterName,
  type Family,
  METADATA,
  METADATA_MAGIC,
  type Protocol,
  STAMP,
  V4_ADDRESS,
  V4_ANY,
  V6_ADDRESS,
  V6_ANY,
} from "../../engine/steering/layout.ts";
import { Steering } from "../../engine/steering/program.ts";
import { makeHosts, requires } from "../support/hosts.ts";
import { type Binding, type Decision, decide, type HostModel } from "./steering-model.ts";

const MAC = "020000000001";
const PEER = "020000000002";
/** Five of each family: the fifth is found in the overflow table. */
const LOCALS_V4 = ["c6120001", "c6120002", "c6120003", "c6120004", "c6120005"];
const LOCALS_V6 = [1, 2, 3, 4, 5].map((n) => `20010db800000000000000000000000${n}`);
const FOREIGN_V4 = "c6120099";
const FOREIGN_V6 = "20010db8000000000000000000000099";
const UDP = 17;
const TCP = 6;

const BINDINGS: readonly Binding[] = [
  { protocol: UDP, port: 53, family: 4 },
  { protocol: UDP, port: 53, family: 6 },
  { protocol: TCP, port: 80, family: 4 },
  { protocol: TCP, port: 443, family: 6 },
  { protocol: UDP, port: 123, family: 4, address: LOCALS_V4[1] },
  { protocol: UDP, port: 123, family: 4, address: LOCALS_V4[2] },
  { protocol: UDP, port: 123, family: 6, address: LOCALS_V6[1] },
  { protocol: UDP, port: 123, family: 6, address: LOCALS_V6[2] },
  { protocol: UDP, port: 319, family: 4, stamp: true },
  { protocol: UDP, port: 319, family: 4, address: LOCALS_V4[0] },
  { protocol: UDP, port: 320, family: 6, address: LOCALS_V6[0], stamp: true },
  { protocol: UDP, port: 320, family: 6 },
  { protocol: TCP, port: 0x1234, family: 4 },
];
const HOST: HostModel = { mac: MAC, locals: [...LOCALS_V4, ...LOCALS_V6], bindings: BINDINGS };

const bytes = (hex: string): Uint8Array<ArrayBuffer> => Uint8Array.fromHex(hex);
const hex16 = (value: number): string => value.toString(16).padStart(4, "0");

interface FrameOptions {
  readonly mac?: string;
  readonly tags?: string;
  readonly protocol?: number;
  readonly destination?: string;
  readonly port?: number;
  /** IPv4 options, hex of a multiple of four bytes. */
  readonly options?: string;
  /** IPv4 flags and fragment offset. */
  readonly fragment?: number;
}

const transport = (port: number): string => `04d2${hex16(port)}00100000${"00".repeat(8)}`;

function frame4(o: FrameOptions = {}): Uint8Array<ArrayBuffer> {
  const { mac = MAC, tags = "", protocol = UDP, destination = LOCALS_V4[0], port = 53, options = "", fragment = 0 } = o;
  const words = 5 + options.length / 8;
  const length = hex16(words * 4 + 16);
  const header = `4${words.toString(16)}00${length}0000${hex16(fragment)}40${protocol.toString(16).padStart(2, "0")}0000`;
  return bytes(`${mac}${PEER}${tags}0800${header}c61200fe${destination}${options}${transport(port)}`);
}

function frame6(o: FrameOptions = {}): Uint8Array<ArrayBuffer> {
  const { mac = MAC, tags = "", protocol = UDP, destination = LOCALS_V6[0], port = 53 } = o;
  const header = `600000000010${protocol.toString(16).padStart(2, "0")}40`;
  const source = "20010db80000000000000000000000fe";
  return bytes(`${mac}${PEER}${tags}86dd${header}${source}${destination}${transport(port)}`);
}

const ONE_TAG = "81000007";
const TWO_TAGS = "88a8000781000008";

/** A Steering set up as the model, with an AF_XDP socket at queue 0. */
function setUp(queues = 1): { steering: Steering; xsk: number } {
  const steering = Steering.load({ mac: bytes(MAC), queues });
  steering.setLocals(HOST.locals.map(bytes));
  const wildcards = new Map<string, number>();
  for (const { protocol, port, family, address, stamp } of BINDINGS) {
    if (address) {
      steering.bindAddress(protocol as Protocol, family as Family, bytes(address), port, stamp ? STAMP : 0);
      continue;
    }
    const flags = (wildcards.get(`${protocol} ${port}`) ?? 0) | (family === 4 ? V4_ANY : V6_ANY) | (stamp ? STAMP : 0);
    wildcards.set(`${protocol} ${port}`, flags);
    steering.setPort(protocol as Protocol, port, flags);
  }
  // The verdict is decided by the entry alone; nothing is delivered in a test run, so the socket needs no rings.
  const xsk = sys.socket(44, 3, 0);
  expect(xsk).toBeGreaterThan(0);
  steering.xskmap.set(0, xsk);
  return { steering, xsk };
}

describe.skipIf(requires("bpf", "af_xdp") !== "")("steering", () => {
  const { steering, xsk } = setUp();
  afterAll(() => {
    steering.close();
    sys.close(xsk);
  });

  let last = steering.counters();
  /** Runs a frame and returns the one counter it moved, checking that it moved exactly one, by one. */
  const counterOf = (result: XdpTestResult): CounterName => {
    const now = steering.counters();
    const moved = COUNTERS.filter((name) => now[name] !== last[name]);
    expect(moved.map((name) => now[name] - last[name])).toEqual([1]);
    last = now;
    expect(result.action).toBe(moved[0] === "redirected" ? XDP_REDIRECT : XDP_PASS);
    return moved[0];
  };
  const verdict = (frame: Uint8Array): CounterName => counterOf(testRunXdp(steering.program, frame));

  test("wildcard bindings, for every local address of the family", () => {
    for (const destination of LOCALS_V4) expect(verdict(frame4({ destination }))).toBe("redirected");
    for (const destination of LOCALS_V6) expect(verdict(frame6({ destination }))).toBe("redirected");
    expect(verdict(frame4({ protocol: TCP, port: 80 }))).toBe("redirected");
    expect(verdict(frame6({ protocol: TCP, port: 443 }))).toBe("redirected");
  });

  test("a binding is for its protocol, family and port", () => {
    expect(verdict(frame4({ protocol: TCP }))).toBe("passNoMatch");
    expect(verdict(frame4({ port: 80 }))).toBe("passNoMatch");
    expect(verdict(frame6({ protocol: TCP, port: 80 }))).toBe("passNoMatch");
    expect(verdict(frame4({ protocol: TCP, port: 443 }))).toBe("passNoMatch");
    expect(verdict(frame4({ protocol: TCP, port: 0x3412 }))).toBe("passNoMatch");
    expect(verdict(frame4({ protocol: TCP, port: 0x1234 }))).toBe("redirected");
  });

  test("addresses that are not the host's: a box that forwards keeps forwarding", () => {
    expect(verdict(frame4({ destination: FOREIGN_V4 }))).toBe("passNotHost");
    expect(verdict(frame6({ destination: FOREIGN_V6 }))).toBe("passNotHost");
    expect(verdict(frame4({ mac: "020000000003" }))).toBe("passNotHost");
    expect(verdict(frame6({ mac: "020000010001" }))).toBe("passNotHost");
  });

  test("broadcast and multicast stay with the kernel", () => {
    expect(verdict(frame4({ mac: "ffffffffffff", destination: "ffffffff" }))).toBe("passNotHost");
    expect(verdict(frame4({ mac: "01005e0000fb", destination: "e00000fb" }))).toBe("passNotHost");
    expect(verdict(frame4({ destination: "e00000fb" }))).toBe("passNotHost");
    expect(verdict(frame4({ destination: "ffffffff" }))).toBe("passNotHost");
    expect(verdict(frame4({ destination: "00000000" }))).toBe("passNotHost");
    expect(verdict(frame6({ destination: "ff020000000000000000000000000001" }))).toBe("passNotHost");
    expect(verdict(frame6({ destination: "f".repeat(32), port: 123 }))).toBe("passNotHost");
    expect(verdict(frame6({ destination: "0".repeat(32) }))).toBe("passNotHost");
  });

  test("addresses bound at a port: the one in the port's entry, one in the table, none other", () => {
    for (const [destination, counter] of [
      [LOCALS_V4[1], "redirected"],
      [LOCALS_V4[2], "redirected"],
      [LOCALS_V4[0], "passNoMatch"],
      ["00000000", "passNoMatch"],
    ]) {
      expect(verdict(frame4({ destination, port: 123 }))).toBe(counter as CounterName);
    }
    for (const [destination, counter] of [
      [LOCALS_V6[1], "redirected"],
      [LOCALS_V6[2], "redirected"],
      [LOCALS_V6[0], "passNoMatch"],
      [`${LOCALS_V6[1].slice(0, 16)}0000000000000007`, "passNoMatch"],
    ]) {
      expect(verdict(frame6({ destination, port: 123 }))).toBe(counter as CounterName);
    }
  });

  test("up to two VLAN tags", () => {
    expect(verdict(frame4({ tags: ONE_TAG }))).toBe("redirected");
    expect(verdict(frame6({ tags: ONE_TAG }))).toBe("redirected");
    expect(verdict(frame4({ tags: TWO_TAGS }))).toBe("redirected");
    expect(verdict(frame6({ tags: TWO_TAGS, destination: FOREIGN_V6 }))).toBe("passNotHost");
    expect(verdict(frame4({ tags: `${TWO_TAGS}81000009` }))).toBe("passNotIp");
  });

  test("IPv4 options, with the port behind them", () => {
    for (const words of [1, 2, 10]) {
      expect(verdict(frame4({ options: "01".repeat(4 * words) }))).toBe("redirected");
      expect(verdict(frame4({ options: "01".repeat(4 * words), port: 54 }))).toBe("passNoMatch");
    }
  });

  test("fragments, first and later", () => {
    expect(verdict(frame4({ fragment: 0x2000 }))).toBe("passFragment");
    expect(verdict(frame4({ fragment: 0x0001 }))).toBe("passFragment");
    expect(verdict(frame4({ fragment: 0x1fff }))).toBe("passFragment");
    expect(verdict(frame4({ fragment: 0x4000 }))).toBe("redirected");
    expect(verdict(frame6({ protocol: 44 }))).toBe("passFragment");
  });

  test("other protocols", () => {
    expect(verdict(frame4({ protocol: 1 }))).toBe("passProtocol");
    for (const header of [0, 43, 58, 60]) expect(verdict(frame6({ protocol: header }))).toBe("passProtocol");
    expect(verdict(bytes(`${MAC}${PEER}0806${"00".repeat(28)}`))).toBe("passNotIp");
    expect(verdict(bytes(`${MAC}${PEER}002e${"00".repeat(46)}`))).toBe("passNotIp");
  });

  test("a header that lies about itself", () => {
    for (const first of [0x44, 0x40, 0x55, 0x65, 0x05]) {
      const frame = frame4();
      frame[14] = first;
      expect(verdict(frame)).toBe("passMalformed");
    }
    const frame = frame6();
    frame[14] = 0x45;
    expect(verdict(frame)).toBe("passMalformed");
  });

  test("every truncation of every kind of frame", () => {
    const whole = [frame4(), frame6(), frame4({ tags: TWO_TAGS, options: "01010101" }), frame6({ tags: ONE_TAG })];
    for (const frame of whole) {
      for (let length = 14; length <= frame.length; length++) {
        const cut = frame.slice(0, length);
        expect([length, verdict(cut)]).toEqual([length, decide(HOST, cut).counter]);
      }
      expect(verdict(frame)).toBe("redirected");
    }
  });

  test("a stamp in front: clock, magic, queue; and the frame untouched behind it", () => {
    const before = Bun.nanoseconds();
    const frame = frame4({ port: 319, destination: LOCALS_V4[1] });
    const first = testRunXdp(steering.program, frame);
    expect(counterOf(first)).toBe("redirected");
    expect(first.metadata).toBe(METADATA.size);
    expect(first.data.subarray(METADATA.size)).toEqual(frame);
    const view = new DataView(first.data.buffer);
    expect(view.getUint32(METADATA.magic, true)).toBe(METADATA_MAGIC);
    expect(view.getUint32(METADATA.queue, true)).toBe(0);
    const second = testRunXdp(steering.program, frame);
    counterOf(second);
    const elapsed = new DataView(second.data.buffer).getBigUint64(0, true) - view.getBigUint64(0, true);
    expect(elapsed).toBeGreaterThan(0n);
    expect(Number(elapsed)).toBeLessThan(Bun.nanoseconds() - before);
  });

  test("a bound address decides over its port's wildcard whether there is a stamp", () => {
    const stamped = (frame: Uint8Array): boolean => {
      const result = testRunXdp(steering.program, frame);
      expect(counterOf(result)).toBe("redirected");
      return result.metadata === METADATA.size;
    };
    expect(stamped(frame4({ port: 319, destination: LOCALS_V4[0] }))).toBe(false);
    expect(stamped(frame4({ port: 319, destination: LOCALS_V4[4] }))).toBe(true);
    expect(stamped(frame6({ port: 320, destination: LOCALS_V6[0] }))).toBe(true);
    expect(stamped(frame6({ port: 320, destination: LOCALS_V6[4] }))).toBe(false);
  });

  test("without room for a stamp the frame is redirected without", () => {
    // A driver's own metadata leaves less than 16 of the headroom's 256 bytes beside struct xdp_frame (40).
    const metadata = 208;
    const frame = frame4({ port: 319, destination: LOCALS_V4[1] });
    const padded = new Uint8Array(metadata + frame.length);
    padded.set(frame, metadata);
    const result = testRunXdp(steering.program, padded, { metadata });
    expect(counterOf(result)).toBe("redirected");
    expect(result.metadata).toBe(metadata);
  });

  test("random and mutated frames fare as in the model", () => {
    const random = generator(0x5eed);
    const pick = <T>(values: readonly T[]): T => values[random() % values.length];
    const ports = [...new Set(BINDINGS.map(({ port }) => port)), 54, 0];
    const build = (): Uint8Array => {
      const four = random() % 2 === 0;
      const options: FrameOptions = {
        mac: random() % 16 === 0 ? pick(["ffffffffffff", "020000000101"]) : MAC,
        tags: pick(["", "", ONE_TAG, TWO_TAGS]),
        protocol: pick([UDP, UDP, TCP, TCP, random() % 256]),
        destination: four ? pick([...LOCALS_V4, FOREIGN_V4]) : pick([...LOCALS_V6, FOREIGN_V6]),
        port: pick(ports),
        options: pick(["", "", "", "01010101", "01".repeat(40)]),
        fragment: pick([0, 0, 0x4000, random() % 65536]),
      };
      const frame = four ? frame4(options) : frame6(options);
      const mutations = pick([0, 0, 1, 2, 3]);
      for (let i = 0; i < mutations; i++) frame[random() % frame.length] = random() % 256;
      return random() % 8 === 0 ? frame.slice(0, 14 + (random() % (frame.length - 13))) : frame;
    };
    const expected = steering.counters();
    const seen = new Map<CounterName, number>();
    const deadline = Bun.nanoseconds() + 6e9;
    let frames = 0;
    for (; frames < 100_000 && Bun.nanoseconds() < deadline; frames++) {
      const frame = build();
      const model = decide(HOST, frame);
      expected[model.counter]++;
      seen.set(model.counter, (seen.get(model.counter) ?? 0) + 1);
      const wrong = disagreement(model, frame, testRunXdp(steering.program, frame));
      if (wrong !== "") throw new Error(`frame ${frames}, ${frame.toHex()}: ${wrong}`);
      // Reading the counters costs eight system calls: all verdicts of a batch must add up.
      if (frames % 500 === 499) expect(steering.counters()).toEqual(expected);
    }
    expect(steering.counters()).toEqual(expected);
    expect(frames).toBeGreaterThan(10_000);
    // The generator reaches every outcome, each often.
    for (const name of COUNTERS) if (name !== "passNoSocket") expect(seen.get(name) ?? 0).toBeGreaterThan(100);
    last = steering.counters();
  });
});

/** What differs between the model's decision and the kernel's result; "" when nothing does. */
function disagreement(model: Decision, frame: Uint8Array, result: XdpTestResult): string {
  const action = model.counter === "redirected" ? XDP_REDIRECT : XDP_PASS;
  if (result.action !== action) return `action ${result.action}, model ${model.counter}`;
  const metadata = model.stamp ? METADATA.size : 0;
  if (result.metadata !== metadata) return `${result.metadata} bytes of metadata, model ${metadata}`;
  return Buffer.compare(result.data.subarray(metadata), frame) === 0 ? "" : "the frame was changed";
}

/** xorshift32: the same frames every time. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

describe.skipIf(requires("bpf", "af_xdp") !== "")("steering's control side", () => {
  const redirects = (steering: Steering, frame: Uint8Array): boolean =>
    testRunXdp(steering.program, frame).action === XDP_REDIRECT;

  test("a queue without a socket passes to the kernel and counts that", () => {
    using steering = Steering.load({ mac: bytes(MAC), queues: 1 });
    steering.setLocals([bytes(LOCALS_V4[0])]);
    steering.setPort(UDP, 53, V4_ANY);
    expect(testRunXdp(steering.program, frame4()).action).toBe(XDP_PASS);
    expect(steering.counters()).toMatchObject({ redirected: 0, passNoSocket: 1 });
  });

  test("ports close, addresses unbind, and the flags follow", () => {
    const { steering, xsk } = setUp();
    try {
      steering.setPort(UDP, 53, 0);
      expect(redirects(steering, frame4())).toBe(false);

      const [first, second] = [bytes(LOCALS_V4[1]), bytes(LOCALS_V4[2])];
      expect(steering.getPort(UDP, 123)).toBe(V4_ADDRESS | V6_ADDRESS);
      // The first sits in the port's entry, the second only in the table: either may go first.
      expect(steering.unbindAddress(UDP, 4, first, 123)).toBe(true);
      expect(steering.unbindAddress(UDP, 4, first, 123)).toBe(false);
      expect(redirects(steering, frame4({ port: 123, destination: LOCALS_V4[1] }))).toBe(false);
      expect(redirects(steering, frame4({ port: 123, destination: LOCALS_V4[2] }))).toBe(true);
      steering.bindAddress(UDP, 4, second, 123);
      expect(steering.unbindAddress(UDP, 4, second, 123)).toBe(true);
      expect(redirects(steering, frame4({ port: 123, destination: LOCALS_V4[2] }))).toBe(false);
      expect(steering.getPort(UDP, 123)).toBe(V6_ADDRESS);

      // setPort leaves bound addresses alone.
      steering.setPort(UDP, 123, V6_ANY);
      steering.setPort(UDP, 123, 0);
      expect(redirects(steering, frame6({ port: 123, destination: LOCALS_V6[1] }))).toBe(true);
    } finally {
      steering.close();
      sys.close(xsk);
    }
  });

  test("binding again changes the stamp", () => {
    const { steering, xsk } = setUp();
    try {
      const metadata = (): number =>
        testRunXdp(steering.program, frame4({ port: 123, destination: LOCALS_V4[1] })).metadata;
      expect(metadata()).toBe(0);
      steering.bindAddress(UDP, 4, bytes(LOCALS_V4[1]), 123, STAMP);
      expect(metadata()).toBe(METADATA.size);
      steering.bindAddress(UDP, 4, bytes(LOCALS_V4[1]), 123);
      expect(metadata()).toBe(0);
      // Counted once all the same.
      expect(steering.unbindAddress(UDP, 4, bytes(LOCALS_V4[1]), 123)).toBe(true);
      expect(steering.unbindAddress(UDP, 4, bytes(LOCALS_V4[2]), 123)).toBe(true);
      expect(steering.getPort(UDP, 123)).toBe(V6_ADDRESS);
    } finally {
      steering.close();
      sys.close(xsk);
    }
  });

  test("local addresses and the MAC change at run time", () => {
    const { steering, xsk } = setUp();
    try {
      steering.setLocals([...LOCALS_V4.slice(1), FOREIGN_V4, LOCALS_V6[4]].map(bytes));
      const taken = [...LOCALS_V4, FOREIGN_V4].map((destination) => redirects(steering, frame4({ destination })));
      expect(taken).toEqual([false, true, true, true, true, true]);
      const taken6 = LOCALS_V6.map((destination) => redirects(steering, frame6({ destination })));
      expect(taken6).toEqual([false, false, false, false, true]);
      steering.setMac(bytes("020000000077"));
      expect(redirects(steering, frame4({ destination: FOREIGN_V4 }))).toBe(false);
      expect(redirects(steering, frame4({ destination: FOREIGN_V4, mac: "020000000077" }))).toBe(true);
      steering.setLocals([]);
      expect(redirects(steering, frame4({ destination: FOREIGN_V4, mac: "020000000077" }))).toBe(false);
    } finally {
      steering.close();
      sys.close(xsk);
    }
  });

  test("another Steering over the same descriptors outlives the first", () => {
    const { steering, xsk } = setUp();
    using other = Steering.fromDescriptors(structuredClone(steering.descriptors()));
    steering.close();
    expect(redirects(other, frame4())).toBe(true);
    other.setPort(UDP, 53, 0);
    expect(redirects(other, frame4())).toBe(false);
    expect(other.counters()).toMatchObject({ redirected: 1, passNoMatch: 1 });
    expect(() => Steering.fromDescriptors(steering.descriptors())).toThrow("EBADF");
    sys.close(xsk);
  });

  test("what it refuses", () => {
    using steering = Steering.load({ mac: bytes(MAC), queues: 1 });
    expect(() => steering.setPort(UDP, 65536, V4_ANY)).toThrow("port 65536");
    expect(() => steering.setPort(UDP, 1, V4_ADDRESS)).toThrow("V4_ANY, V6_ANY and STAMP only");
    expect(() => steering.setMac(new Uint8Array(5))).toThrow("5 bytes");
    for (const address of ["e0000001", "ffffffff", "00000000", "ff020000000000000000000000000001", "0".repeat(32)]) {
      expect(() => steering.setLocals([bytes(address)])).toThrow("not a unicast address");
    }
    expect(() => steering.bindAddress(UDP, 6, bytes(LOCALS_V4[0]), 53)).toThrow("not an IPv6 address");
    expect(() => steering.bindAddress(UDP, 4, bytes(LOCALS_V4[0]), 53, V4_ANY)).toThrow("STAMP only");
  });
});

describe.skipIf(requires("bpf", "veth") !== "")("steering on an interface", () => {
  test.each(["native", "skb"] as const)("attaches in %s mode and is gone with its link", (mode) => {
    const hosts = makeHosts();
    try {
      using steering = Steering.load({ mac: hosts.a.mac, queues: 1, name: "steer" });
      hosts.a.ns.run(() => {
        const link = steering.attach(hosts.a.ifindex, mode);
        expect(attachedXdp(hosts.a.ifindex)).toEqual([{ mode, programId: steering.program.info.id }]);
        expect(() => steering.attach(hosts.a.ifindex, mode)).toThrow(`"steer" is attached in ${mode} mode`);
        link.close();
        expect(attachedXdp(hosts.a.ifindex)).toEqual([]);
      });
    } finally {
      hosts.close();
    }
  });

  test.each(["native", "skb"] as const)("%s: bound ports reach the XSK with their stamp, others the kernel", (mode) => {
    const hosts = makeHosts({ ipv6: false });
    const { a, b } = hosts;
    using steering = Steering.load({ mac: a.mac, queues: 1 });
    const umem = new Umem({ chunks: 64 });
    const kernel = a.ns.run(() => udpSocket(a.ipv4, 5354));
    const client = b.ns.run(() => udpSocket(b.ipv4, 5353));
    try {
      steering.setLocals([a.ipv4]);
      steering.setPort(UDP, 5353, V4_ANY | STAMP);
      using xsk = a.ns.run(() => new Xsk(umem, { ifindex: a.ifindex }));
      a.ns.run(() => xsk.bind());
      steering.xskmap.set(0, xsk.fd);
      xsk.fill.reserve(16);
      for (let i = 0; i < 16; i++) xsk.fill.set(i, i * umem.chunkSize);
      xsk.fill.submit(16);
      using _link = a.ns.run(() => steering.attach(a.ifindex, mode));

      // The first datagram also resolves the neighbour: ARP passes through the program.
      for (const port of [5354, 5353]) sendDatagram(client, a.ipv4, port, bytes("c0ffee"));
      const received = new Uint8Array(64);
      const deadline = performance.now() + 1000;
      while (xsk.rx.available(1) === 0 && performance.now() < deadline) Bun.sleepSync(0.2);
      expect(xsk.rx.available(1)).toBe(1);
      const at = xsk.rx.address(0);
      expect(xsk.rx.length(0)).toBe(14 + 20 + 8 + 3);
      expect(umem.memory.slice(at + 42, at + 45).toHex()).toBe("c0ffee");
      const stamp = new DataView(umem.memory.buffer, umem.memory.byteOffset + at - METADATA.size, METADATA.size);
      expect(stamp.getUint32(METADATA.magic, true)).toBe(METADATA_MAGIC);
      expect(stamp.getUint32(METADATA.queue, true)).toBe(0);
      expect(at % 8).toBe(0);

      const MSG_DONTWAIT = 0x40;
      expect(sys.recvfrom(kernel, sys.addressOf(received), received.length, MSG_DONTWAIT, 0, 0)).toBe(3);
      const counters = steering.counters();
      expect(counters).toMatchObject({ redirected: 1, passNoMatch: 1, passMalformed: 0, passNoSocket: 0 });
      expect(counters.passNotIp).toBeGreaterThan(0);
    } finally {
      sys.close(kernel);
      sys.close(client);
      umem.close();
      hosts.close();
    }
  });
});

/** A struct sockaddr_in. */
function sockaddr(address: Uint8Array, port: number): Uint8Array {
  const AF_INET = 2;
  return Uint8Array.of(AF_INET, 0, port >> 8, port & 0xff, ...address, 0, 0, 0, 0, 0, 0, 0, 0);
}

function udpSocket(address: Uint8Array, port: number): number {
  const fd = check(sys.socket(2, 2, 0), "socket");
  check(sys.bind(fd, sockaddr(address, port)), "bind");
  return fd;
}

function sendDatagram(fd: number, address: Uint8Array, port: number, payload: Uint8Array): void {
  const to = sockaddr(address, port);
  check(sys.sendto(fd, sys.addressOf(payload), payload.length, 0, sys.addressOf(to), to.length), "sendto");
}
