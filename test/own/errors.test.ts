/** What the network says of datagrams that an engine with addresses of its own has sent, and what it says of others'. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import { createMemoryWire } from "../../queues/memory.ts";
import type { QueuedError } from "../../sockets/error-queue.ts";
import {
  IP_MTU,
  IP_MTU_DISCOVER,
  IP_RECVERR,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_MTU_DISCOVER,
  IPV6_RECVERR,
} from "../../sockets/options.ts";
import { PMTUDISC_DO } from "../../sockets/send-word.ts";
import type { UdpSocket } from "../../sockets/udp-socket.ts";
import { ipRun } from "../engine/host/iproute2.ts";
import { requires } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";
import { CleanUp, OWN4, OWN6, PORT, payload, runOn, startOnVeth, startOnWire } from "./support.ts";

setDefaultTimeout(60_000);

const cleanUp = new CleanUp();
afterEach(() => cleanUp.run());

/** Has the thread look at what comes for the socket while its event loop turns. */
function listen(socket: UdpSocket): void {
  socket.onDatagram = () => {};
}

function queueErrors(socket: UdpSocket, address: string): void {
  listen(socket);
  if (address.includes(":")) socket.setsockopt(IPPROTO_IPV6, IPV6_RECVERR, 1);
  else socket.setsockopt(IPPROTO_IP, IP_RECVERR, 1);
}

/** Sends until an error is queued. */
async function errorOf(socket: UdpSocket, send: () => unknown): Promise<QueuedError> {
  let error: QueuedError | null = null;
  await until("an error", () => {
    send();
    socket.takeError();
    error = socket.receiveError();
    return error !== null;
  });
  return error as unknown as QueuedError;
}

describe("two engines on a wire in memory", () => {
  test.each([
    ["198.18.0.1", "0.0.0.0"],
    ["2001:db8::1", "::"],
  ])("nobody at the port: a connected socket is refused, %s", async (address, any) => {
    const wire = createMemoryWire();
    await startOnWire(wire, 0, cleanUp);
    const socket = (await startOnWire(wire, 1, cleanUp)).udp({ address: any });
    listen(socket);
    socket.connect(PORT, address);
    let result = 0;
    await until("ECONNREFUSED", () => {
      result = socket.send("anybody?");
      return result < 0;
    });
    expect(result).toBe(-ERRNO.ECONNREFUSED);
    expect(socket.send("again")).toBeGreaterThan(0);
  });

  test.each([
    ["198.18.0.77", "0.0.0.0"],
    ["2001:db8::77", "::"],
  ])("nobody at the address: EHOSTUNREACH to who asks for errors, %s", async (address, any) => {
    const wire = createMemoryWire();
    await startOnWire(wire, 0, cleanUp);
    const socket = (await startOnWire(wire, 1, cleanUp)).udp({ address: any });
    queueErrors(socket, address);
    const error = await errorOf(socket, () => socket.send("anybody?", PORT, address));
    expect(error).toMatchObject({ errno: ERRNO.EHOSTUNREACH, address, port: PORT });
    expect(new TextDecoder().decode(error.payload)).toBe("anybody?");
  });

  test("no route: ENETUNREACH", async () => {
    const socket = (await startOnWire(createMemoryWire(), 0, cleanUp)).udp({ address: "::" });
    expect(socket.send("x", PORT, "198.19.0.1")).toBe(-ERRNO.ENETUNREACH);
    expect(socket.send("x", PORT, "2001:db8:1::1")).toBe(-ERRNO.ENETUNREACH);
    expect(() => socket.connect(PORT, "198.19.0.1")).toThrow("ENETUNREACH");
  });

  test("who forbids fragments is told that a datagram is too long", async () => {
    const wire = createMemoryWire();
    await startOnWire(wire, 0, cleanUp);
    const engine = await startOnWire(wire, 1, cleanUp);
    const four = engine.udp();
    four.setsockopt(IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO);
    expect(four.send(payload(1473), PORT, "198.18.0.1")).toBe(-ERRNO.EMSGSIZE);
    expect(four.send(payload(1472), PORT, "198.18.0.1")).toBe(1472);
    const six = engine.udp({ address: "::" });
    six.setsockopt(IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DO);
    expect(six.send(payload(1453), PORT, "2001:db8::1")).toBe(-ERRNO.EMSGSIZE);
    expect(six.send(payload(1452), PORT, "2001:db8::1")).toBe(1452);
  });
});

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")("beside the kernel", () => {
  test.each([4, 6])("its port unreachable: ECONNREFUSED, IPv%i", async (family) => {
    const { a, engine } = await startOnVeth(cleanUp);
    const address = family === 4 ? a.ipv4Text : a.ipv6Text;
    const socket = engine.udp({ address: family === 4 ? "0.0.0.0" : "::" });
    queueErrors(socket, address);
    const error = await errorOf(socket, () => socket.send("anybody?", PORT, address));
    expect(error).toMatchObject({ errno: ERRNO.ECONNREFUSED, address, port: PORT, offender: address });
  });

  test.each([
    { own: OWN4, any: "0.0.0.0", most: 60 },
    { own: OWN6, any: "::", most: 60 },
  ])("ours are few, however many datagrams nobody wants: $own", async ({ own, any, most }) => {
    const { a, engine } = await startOnVeth(cleanUp);
    const peer = new KernelUdp(a.ns, { address: any });
    cleanUp.add(() => peer.close());
    const name = own === OWN4 ? "IcmpOutDestUnreachs" : "Icmp6OutDestUnreachs";
    const before = engine.counters()[name];
    for (let i = 0; i < 3000; i++) peer.send("nobody wants it", own, PORT);
    await until("some", () => engine.counters()[name] > before);
    await Bun.sleep(300);
    const sent = engine.counters()[name] - before;
    expect(sent).toBeLessThan(most);
    expect(engine.counters().UdpNoPorts).toBeGreaterThan(sent);
  });

  test("a router's path MTU: packets are cut, or refused, to it", async () => {
    const { a, engine } = await startOnVeth(cleanUp, { gateways: ["198.18.0.1"] });
    // The peer routes to a link of MTU 1,000 where nobody is.
    runOn(a, "sysctl", "-qw", "net.ipv4.ip_forward=1");
    ipRun(a.ns, "link", "add", "narrow", "mtu", "1000", "type", "veth", "peer", "name", "end");
    ipRun(a.ns, "link", "set", "narrow", "up");
    ipRun(a.ns, "link", "set", "end", "up");
    ipRun(a.ns, "route", "add", "198.19.0.0/24", "dev", "narrow");
    ipRun(a.ns, "neigh", "add", "198.19.0.1", "lladdr", "02:00:00:00:00:09", "dev", "narrow");
    const socket = engine.udp();
    queueErrors(socket, "198.19.0.1");
    socket.setsockopt(IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO);
    const error = await errorOf(socket, () => socket.send(payload(1400), PORT, "198.19.0.1"));
    expect(error).toMatchObject({ errno: ERRNO.EMSGSIZE, info: 1000, offender: a.ipv4Text });
    // More of the first one's datagrams may be under way, each to bring it an error.
    const next = engine.udp();
    next.setsockopt(IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO);
    next.connect(PORT, "198.19.0.1");
    await until("the path MTU", () => next.getsockopt(IPPROTO_IP, IP_MTU) === 1000);
    expect(next.send(payload(973))).toBe(-ERRNO.EMSGSIZE);
    expect(next.send(payload(972))).toBe(972);
  });
});
