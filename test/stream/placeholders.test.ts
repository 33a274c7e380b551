/** TCP sockets in the table beside the kernel's: which ports are steered, what the kernel answers there, ports that are held. */
import { afterAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { check, ERRNO, type Link, sys } from "af-xdp-bindings";
import { NetNs } from "../../engine/host/netns.ts";
import { KernelBinder } from "../../engine/kernel-binder.ts";
import { Steering } from "../../engine/steering/program.ts";
import { SO_ERROR, SOL_SOCKET } from "../../sockets/options.ts";
import { sockaddrOf } from "../../sockets/sockaddr.ts";
import { HeldPorts } from "../../sockets/stream/held-ports.ts";
import {
  bindTcpRecord,
  closeTcpRecord,
  listenTcpRecord,
  openTcpRecord,
  steerTcpRecord,
  type TcpRecordOptions,
  unlistenTcpRecord,
} from "../../sockets/stream/tcp-record.ts";
import { AF_INET, AF_INET6, IPPROTO_TCP, LOCAL_PORT } from "../../sockets/table.ts";
import { ip } from "../../sockets/wire/address.ts";
import { Rig } from "../sockets/rig.ts";
import { makeHosts, requires } from "../support/hosts.ts";

setDefaultTimeout(120_000);

const PORT = 7000;
const SOCK_STREAM_NONBLOCK = 0x80801;
const POLLOUT = 4;
const EPOLL_CLOEXEC = 0x80000;
/** Over veth an answer is there within a millisecond. */
const SILENCE_MS = 200;
const missing = requires("veth", "bpf");

describe.skipIf(missing !== "")(
  "over veth, no queue served: what is steered goes up to the kernel all the same",
  () => {
    const hosts = missing === "" ? makeHosts() : null;
    const steering = missing === "" ? Steering.load({ mac: hosts?.a.mac as Uint8Array, queues: 1 }) : null;
    let link: Link | undefined;
    let epoll = -1;
    let rig: Rig;
    if (hosts !== null && steering !== null) {
      steering.setLocals([hosts.a.ipv4, hosts.a.ipv6]);
      link = hosts.a.ns.run(() => steering.attach(hosts.a.ifindex, "skb"));
      epoll = check(sys.sys3(sys.SYS.epoll_create1, EPOLL_CLOEXEC, 0, 0), "epoll_create1");
    }
    const { a, b } = hosts ?? ({} as NonNullable<typeof hosts>);
    const program = steering as Steering;
    const opened: number[] = [];

    beforeEach(() => {
      for (const id of opened.splice(0)) closeTcpRecord(rig.threads[0], id);
      rig = new Rig({
        binder: new KernelBinder(NetNs.open(a.ns.path), Steering.fromDescriptors(program.descriptors()), epoll),
      });
    });
    afterAll(() => {
      for (const id of opened.splice(0)) closeTcpRecord(rig.threads[0], id);
      link?.close();
      steering?.close();
      if (epoll >= 0) sys.close(epoll);
      hosts?.close();
    });

    function open(family = AF_INET, options: TcpRecordOptions = {}): number {
      const id = openTcpRecord(rig.threads[0], family, options);
      expect(id).toBeGreaterThanOrEqual(0);
      opened.push(id);
      return id;
    }

    const bind = (id: number, address: Uint8Array, port = PORT): number =>
      bindTcpRecord(rig.threads[0], id, sockaddrOf(address, port));
    const listen = (id: number): number => listenTcpRecord(rig.threads[0], id, 8);
    const portOf = (id: number): number => rig.table.get(id, LOCAL_PORT);

    /** A SYN from host b: whether it was steered, and what came back: an errno, or silence. */
    function knock(address: Uint8Array, port = PORT): { steered: boolean; answer: string } {
      const before = program.counters();
      const family = address.length === 4 ? AF_INET : AF_INET6;
      const fd = check(
        b.ns.run(() => sys.socket(family, SOCK_STREAM_NONBLOCK, 0)),
        "socket",
      );
      expect(sys.connect(fd, sockaddrOf(address, port))).toBe(-ERRNO.EINPROGRESS);
      const pollfd = new Int32Array([fd, POLLOUT]);
      const timeout = new BigInt64Array([0n, BigInt(SILENCE_MS) * 1_000_000n]);
      const events = check(sys.ppoll(sys.addressOf(pollfd), 1, sys.addressOf(timeout)), "ppoll");
      const error = new Int32Array(1);
      sys.getsockoptInt(fd, SOL_SOCKET, SO_ERROR, error);
      sys.close(fd);
      const after = program.counters();
      const steered = after.passNoSocket - before.passNoSocket > 0;
      const passed = after.passNoMatch - before.passNoMatch > 0;
      expect(steered).toBe(!passed);
      const answer =
        events === 0 ? "silence" : error[0] === ERRNO.ECONNREFUSED ? "refused" : error[0] === 0 ? "open" : "error";
      return { steered, answer };
    }

    const REFUSED = { steered: false, answer: "refused" };
    const DEAF = { steered: true, answer: "silence" };

    test.each([
      ["0.0.0.0", AF_INET],
      ["::", AF_INET6],
      ["own IPv4", AF_INET],
      ["own IPv6", AF_INET6],
    ])("bound to %s: steered and deaf while it listens, else as any port of the kernel", (name, family) => {
      const own = name === "own IPv4" ? a.ipv4 : a.ipv6;
      const address = name.startsWith("own") ? own : ip(name);
      const targets = name === "::" ? [a.ipv4, a.ipv6] : [family === AF_INET ? a.ipv4 : a.ipv6];
      const id = open(family);
      expect(bind(id, address)).toBe(0);
      for (const target of targets) expect(knock(target)).toEqual(REFUSED);
      expect(listen(id)).toBe(0);
      expect(listen(id)).toBe(0);
      for (const target of targets) expect(knock(target)).toEqual(DEAF);
      if (name === "::") expect(bind(open(), ip("0.0.0.0"))).toBe(-ERRNO.EADDRINUSE);
      unlistenTcpRecord(rig.threads[0], id);
      expect(portOf(id)).toBe(PORT);
      for (const target of targets) expect(knock(target)).toEqual(REFUSED);
      expect(listen(id)).toBe(0);
      for (const target of targets) expect(knock(target)).toEqual(DEAF);
      closeTcpRecord(rig.threads[0], id);
      for (const target of targets) expect(knock(target)).toEqual(REFUSED);
      expect(rig.table.portInUse(IPPROTO_TCP, PORT)).toBe(false);
    });

    test("the control thread hears of none", () => {
      const id = open();
      expect(bind(id, a.ipv4)).toBe(0);
      expect(listen(id)).toBe(0);
      expect(readFileSync(`/proc/self/fdinfo/${epoll}`, "utf8")).not.toContain("tfd:");
    });

    test("what connects from its own port is steered without listening", () => {
      const id = open();
      expect(bind(id, a.ipv4)).toBe(0);
      steerTcpRecord(rig.threads[0], id);
      expect(knock(a.ipv4).steered).toBe(true);
      // Of two that share the port one may still listen.
      closeTcpRecord(rig.threads[0], id);
      const [first, second] = [0, 0].map(() => open(AF_INET, { reuseAddress: true }));
      expect([bind(first, a.ipv4), bind(second, a.ipv4)]).toEqual([0, 0]);
      steerTcpRecord(rig.threads[0], first);
      expect([listen(second), listen(first)]).toEqual([0, -ERRNO.EADDRINUSE]);
      closeTcpRecord(rig.threads[0], second);
      expect(knock(a.ipv4).steered).toBe(true);
    });

    test("one that is not bound is given a port by listening, and loses it with that", () => {
      const id = open();
      expect(listen(id)).toBe(0);
      const port = portOf(id);
      expect(port).toBeGreaterThan(1023);
      expect(knock(a.ipv4, port)).toEqual(DEAF);
      unlistenTcpRecord(rig.threads[0], id);
      expect(portOf(id)).toBe(0);
      expect(knock(a.ipv4, port)).toEqual(REFUSED);
      expect(listen(id)).toBe(0);
      expect(knock(a.ipv4, portOf(id))).toEqual(DEAF);
    });

    test("errors are the kernel's", () => {
      const id = open();
      expect(bind(id, ip("198.18.77.77"))).toBe(-ERRNO.EADDRNOTAVAIL);
      expect(bind(id, a.ipv6)).toBe(-ERRNO.EAFNOSUPPORT);
      const taken = check(
        a.ns.run(() => sys.socket(AF_INET, SOCK_STREAM_NONBLOCK, 0)),
        "socket",
      );
      expect(sys.bind(taken, sockaddrOf(ip("0.0.0.0"), PORT))).toBe(0);
      expect(bind(id, a.ipv4)).toBe(-ERRNO.EADDRINUSE);
      sys.close(taken);
      expect(bind(id, a.ipv4)).toBe(0);
      expect(bind(id, a.ipv4)).toBe(-ERRNO.EINVAL);
      expect(openTcpRecord(rig.threads[0], 77)).toBe(-ERRNO.EAFNOSUPPORT);
      expect(rig.table.open).toBe(1);
    });

    test("held ports: steered, deaf, nobody else's, and given back", () => {
      const held = new HeldPorts(rig.threads[0], 0);
      const ports = [held.hold(), held.hold(), held.hold()];
      expect(held.count).toBe(3);
      expect(ports.map((_, i) => held.at(i))).toEqual(ports);
      expect(new Set(ports).size).toBe(3);
      const range = a.ns.run(() => readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8"));
      const [first, last] = range.trim().split(/\s+/).map(Number);
      for (const port of ports) {
        expect(port).toBeWithin(first, last + 1);
        expect(rig.shared.portOwners[port]).toBe(1);
        for (const target of [a.ipv4, a.ipv6]) expect(knock(target, port)).toEqual(DEAF);
        expect(bind(open(AF_INET, { reuseAddress: true }), a.ipv4, port)).toBe(-ERRNO.EADDRINUSE);
      }
      held.close();
      expect(held.count).toBe(0);
      expect(rig.shared.portOwners.some((owner) => owner !== 0)).toBe(false);
      for (const port of ports) {
        expect(rig.table.portInUse(IPPROTO_TCP, port)).toBe(false);
        expect(knock(a.ipv4, port)).toEqual(REFUSED);
      }
    });
  },
);

describe("on a memory wire", () => {
  const bind = (rig: Rig, id: number, address: string, port = PORT): number =>
    bindTcpRecord(rig.threads[0], id, sockaddrOf(ip(address), port));
  const listen = (rig: Rig, id: number): number => listenTcpRecord(rig.threads[0], id, 8);

  test("the table decides over ports", () => {
    const rig = new Rig();
    const [first, second, other] = [AF_INET, AF_INET, AF_INET6].map((family) =>
      openTcpRecord(rig.threads[0], family, { reuseAddress: true }),
    );
    expect(bind(rig, first, "198.18.0.1")).toBe(0);
    expect(bind(rig, second, "0.0.0.0")).toBe(0);
    expect(bind(rig, other, "ff02::1")).toBe(-ERRNO.EINVAL);
    expect(bind(rig, other, "2001:db8::77")).toBe(-ERRNO.EADDRNOTAVAIL);
    expect(listen(rig, first)).toBe(0);
    expect(listen(rig, second)).toBe(-ERRNO.EADDRINUSE);
    unlistenTcpRecord(rig.threads[0], first);
    expect(listen(rig, second)).toBe(0);
    expect(listen(rig, first)).toBe(-ERRNO.EADDRINUSE);
    expect(bind(rig, other, "::")).toBe(-ERRNO.EADDRINUSE);
    expect(bind(rig, other, "2001:db8::1")).toBe(0);
    for (const id of [first, second, other]) closeTcpRecord(rig.threads[0], id);
    expect(rig.table.portInUse(IPPROTO_TCP, PORT)).toBe(false);
  });

  test("one that is not bound is given a port by listening, and loses it with that", () => {
    const rig = new Rig();
    const id = openTcpRecord(rig.threads[0], AF_INET);
    expect(listen(rig, id)).toBe(0);
    expect(rig.table.get(id, LOCAL_PORT)).toBeWithin(32768, 61000);
    unlistenTcpRecord(rig.threads[0], id);
    expect(rig.table.get(id, LOCAL_PORT)).toBe(0);
    expect(listen(rig, id)).toBe(0);
    closeTcpRecord(rig.threads[0], id);
    expect(rig.table.open).toBe(0);
  });

  test("held ports", () => {
    const rig = new Rig({ lcores: 2 });
    const held = new HeldPorts(rig.lcores[1].stack, 1);
    const ports = Array.from({ length: 50 }, () => held.hold());
    expect(new Set(ports).size).toBe(50);
    for (const port of ports) {
      expect(port).toBeWithin(32768, 61000);
      expect(rig.shared.portOwners[port]).toBe(2);
    }
    expect(bind(rig, openTcpRecord(rig.threads[0], AF_INET), "198.18.0.1", ports[0])).toBe(-ERRNO.EADDRINUSE);
    held.close();
    expect(rig.shared.portOwners.some((owner) => owner !== 0)).toBe(false);
    expect(rig.table.open).toBe(1);
  });

  test("a full table is an errno", () => {
    const rig = new Rig({ sockets: 1 });
    expect(openTcpRecord(rig.threads[0], AF_INET)).toBe(0);
    expect(openTcpRecord(rig.threads[0], AF_INET)).toBe(-ERRNO.ENFILE);
    expect(new HeldPorts(rig.threads[0], 0).hold()).toBe(-ERRNO.ENFILE);
  });
});
