/** SO_SNDBUF: how much a socket may have under way, on a kernel socket whose device holds everything, and on the engine's. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ERRNO, sys } from "af-xdp-bindings";
import { SO_MEMINFO, SO_SNDBUF, SOL_SOCKET } from "../../sockets/options.ts";
import { truesize } from "../../sockets/truesize.ts";
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { Rig } from "../sockets/rig.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp } from "../support/kernel-udp.ts";

setDefaultTimeout(60_000);

const SIOCOUTQ = 0x5411;
const PEER = { 4: "198.18.0.2", 6: "2001:db8::2" };
const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];
const SIZES = [0, 1, 64, 149, 150, 200, 512, 600, 700, 1000, 1400, 1452];
const BUFFERS = [1, 4608, 8192, 20_000, 65_536];

/** What was sent until there was no room, and what the socket then has under way. */
interface Filled {
  buffer: number;
  datagrams: number;
  queue: number;
}

/** Fills an engine's socket. */
function fill(socket: UdpSocket, family: Family, size: number, buffer: number): Filled {
  socket.setsockopt(SOL_SOCKET, SO_SNDBUF, buffer);
  let datagrams = 0;
  const send = (): number => socket.send(new Uint8Array(size), 53, PEER[family]);
  while (send() >= 0) datagrams++;
  expect(send()).toBe(-ERRNO.EAGAIN);
  return { buffer: socket.getsockopt(SOL_SOCKET, SO_SNDBUF), datagrams, queue: socket.sendQueue };
}

const missing = requires("veth");

describe.skipIf(missing !== "")("as much as on a kernel socket", () => {
  let hosts: VethPair;
  beforeAll(() => {
    hosts = makeHosts();
    // A bucket that lets next to nothing through: what is sent stays with its socket.
    const tc = [
      "tc",
      "qdisc",
      "add",
      "dev",
      hosts.b.name,
      "root",
      "tbf",
      "rate",
      "8bit",
      "burst",
      "1514",
      "limit",
      "100mb",
    ];
    const { exitCode } = Bun.spawnSync(["nsenter", `--net=${hosts.b.ns.path}`, ...tc]);
    expect(exitCode).toBe(0);
    // The neighbour's entry, and what the bucket holds.
    for (const address of [hosts.a.ipv4Text, hosts.a.ipv6Text]) {
      const socket = new KernelUdp(hosts.b.ns, { address: address.includes(":") ? "::" : "0.0.0.0" });
      for (let i = 0; i < 4; i++) socket.send(new Uint8Array(1400), address, 9);
      socket.close();
    }
  });
  afterAll(() => hosts?.close());

  function fillKernel(family: Family, size: number, buffer: number): Filled {
    const socket = new KernelUdp(hosts.b.ns, { address: family === 4 ? "0.0.0.0" : "::" });
    const value = new Int32Array(1);
    sys.setsockoptInt(socket.fd, SOL_SOCKET, SO_SNDBUF, buffer);
    sys.getsockoptInt(socket.fd, SOL_SOCKET, SO_SNDBUF, value);
    const [told] = value;
    const to = family === 4 ? hosts.a.ipv4Text : hosts.a.ipv6Text;
    let datagrams = 0;
    while (socket.send(new Uint8Array(size), to, 9) >= 0) datagrams++;
    sys.ioctl(socket.fd, SIOCOUTQ, sys.addressOf(value));
    socket.close();
    return { buffer: told, datagrams, queue: value[0] };
  }

  test.each(FAMILIES)("IPv%i: every size of datagram and buffer", async (family) => {
    await Bun.sleep(200);
    for (const size of SIZES) {
      for (const buffer of BUFFERS) {
        const kernel = fillKernel(family, size, buffer);
        expect(kernel.queue).toBe(kernel.datagrams * truesize(size, family === 4));
        for (const where of ["thread", "lcore"] as const) {
          const rig = new Rig({ frames: 2048 });
          const socket = UdpSocket.open(where === "thread" ? rig.threads[0] : rig.lcores[0].stack, { address: "::" });
          expect([where, size, fill(socket, family, size, buffer)]).toEqual([where, size, kernel]);
        }
      }
    }
  });
});

describe.each(["thread", "lcore"] as const)("%s", (where) => {
  const open = (): { rig: Rig; socket: UdpSocket } => {
    const rig = new Rig({ frames: 2048 });
    return {
      rig,
      socket: UdpSocket.open(where === "thread" ? rig.threads[0] : rig.lcores[0].stack, { address: "::" }),
    };
  };

  test("what has left makes room again, and the socket that waits is told", async () => {
    const { rig, socket } = open();
    const { datagrams } = fill(socket, 4, 100, 8192);
    const free = UdpSocket.open(socket.endpoint, { address: "::" });
    expect(free.send("another socket", 53, PEER[4])).toBe(14);
    let told = 0;
    socket.onWritable = () => told++;
    expect(socket.send("x", 53, PEER[4])).toBe(-ERRNO.EAGAIN);
    rig.threads[0].flush();
    const { stack, ports } = rig.lcores[0];
    // The lcore has them, and the wire has not.
    stack.poll();
    stack.flush();
    rig.threads[0].poll();
    expect([told, socket.sendQueue]).toEqual([0, datagrams * truesize(100, true)]);
    expect(ports[0].sent.length).toBe(datagrams + 1);
    rig.settle();
    expect([told, socket.sendQueue]).toEqual([1, 0]);
    await socket.writable().catch(() => expect(where).toBe("lcore"));
    expect(socket.send("x", 53, PEER[4])).toBe(1);
    rig.settle();
    expect(rig.missing()).toBe(0);
  });

  test("segments count one by one, and a send that began within the bound is sent whole", () => {
    const { rig, socket } = open();
    socket.setsockopt(SOL_SOCKET, SO_SNDBUF, 8192);
    expect(socket.sendSegments(new Uint8Array(12_800), 100, 53, PEER[6])).toBe(12_800);
    expect(socket.sendQueue).toBe(128 * truesize(100, false));
    expect(socket.send("x", 53, PEER[6])).toBe(-ERRNO.EAGAIN);
    expect(rig.settle().length).toBe(128);
    expect(socket.sendQueue).toBe(0);
  });

  test("what a closed socket had under way is nobody's", () => {
    const { rig, socket } = open();
    fill(socket, 4, 100, 8192);
    rig.threads[0].flush();
    rig.lcores[0].stack.poll();
    socket.close();
    const next = UdpSocket.open(socket.endpoint, { address: "::" });
    expect(next.id).toBe(socket.id);
    rig.settle();
    expect([next.sendQueue, rig.counter("StaleMessages"), rig.missing()]).toEqual([0, 0, 0]);
    fill(next, 4, 100, 8192);
    rig.settle();
    expect(next.sendQueue).toBe(0);
  });

  test("a reserved frame counts too, and one that finds no room is given back", () => {
    const { rig, socket } = open();
    fill(socket, 4, 100, 8192);
    expect(socket.reserve()?.send(10, 53, PEER[4])).toBe(-ERRNO.EAGAIN);
    rig.settle();
    expect(socket.reserve()?.send(10, 53, PEER[4])).toBe(10);
    expect(socket.sendQueue).toBe(truesize(10, true));
    rig.settle();
    expect(rig.missing()).toBe(0);
  });

  test("SO_MEMINFO tells it", () => {
    const { socket } = open();
    const { queue } = fill(socket, 4, 100, 8192);
    expect(new Uint32Array(socket.getsockoptBytes(SOL_SOCKET, SO_MEMINFO, 36).buffer)[2]).toBe(queue);
  });
});
