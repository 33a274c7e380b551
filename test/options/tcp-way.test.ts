/** SO_MARK, SO_PRIORITY and SO_DONTROUTE of TCP: the kernel sends the segments, so its rules and filters see them. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ERRNO, sys } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import { AsyncCalls } from "../../sockets/calls/async-calls.ts";
import { AF_INET, AF_INET6, POLLIN, POLLOUT, SOCK_STREAM } from "../../sockets/calls/constants.ts";
import { controlInt } from "../../sockets/calls/control.ts";
import { addressBuffer } from "../../sockets/calls/message.ts";
import type { SocketProcess } from "../../sockets/calls/process.ts";
import { SO_DONTROUTE, SO_MARK, SO_PRIORITY, SOL_SOCKET } from "../../sockets/options.ts";
import { sockaddrOf } from "../../sockets/sockaddr.ts";
import { ip } from "../../sockets/wire/address.ts";
import { type Host, makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelTcp } from "../support/kernel-tcp.ts";
import { until } from "../support/kernel-udp.ts";

setDefaultTimeout(60_000);

const WAIT_MS = 10_000;
const MARK = 7;
const PRIORITY = 0x10_003;
const missing = requires("veth", "af_xdp", "bpf");
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** Runs a command in a host's namespace. Returns what it printed. */
function run(host: Host, ...command: string[]): string {
  const { exitCode, stderr, stdout } = Bun.spawnSync(["nsenter", `--net=${host.ns.path}`, ...command]);
  expect([command, exitCode, stderr.toString()]).toEqual([command, 0, ""]);
  return stdout.toString();
}

describe.skipIf(missing !== "" || Bun.which("nft") === null).each([4, 6])("IPv%i", (family) => {
  let hosts: VethPair;
  let engine: Engine;
  let calls: SocketProcess;
  let waiting: AsyncCalls;
  let server: KernelTcp;
  const addressOf = (host: Host): string => (family === 4 ? host.ipv4Text : host.ipv6Text);

  beforeAll(async () => {
    hosts = makeHosts();
    const rules = [`meta mark ${MARK}`, `meta priority ${PRIORITY}`].map(
      (rule) => `add rule inet t out ${rule} counter;`,
    );
    const chain = "add chain inet t out { type filter hook postrouting priority 0; };";
    run(hosts.b, "nft", `add table inet t; ${chain} ${rules.join(" ")}`);
    engine = await Engine.start({ interface: hosts.b.name, netns: hosts.b.ns.path });
    calls = engine.calls();
    waiting = new AsyncCalls(calls);
    server = KernelTcp.listen(hosts.a.ns, addressOf(hosts.a));
  });
  afterAll(async () => {
    server?.close();
    await engine?.close();
    hosts?.close();
  });

  const set = (fd: number, name: number, value: number): void =>
    expect(calls.setsockopt(fd, SOL_SOCKET, name, controlInt(value))).toBe(0);
  /** Packets that the kernel has sent with the mark, and with the priority. */
  const counts = (): number[] =>
    [...run(hosts.b, "nft", "list", "table", "inet", "t").matchAll(/counter packets (\d+)/g)].map(([, n]) => Number(n));

  async function connected(prepare: (fd: number) => void): Promise<{ fd: number; peer: KernelTcp }> {
    const fd = calls.socket(family === 4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
    prepare(fd);
    calls.connect(fd, sockaddrOf(ip(addressOf(hosts.a)), server.port));
    expect(await waiting.poll(fd, POLLOUT, WAIT_MS)).toBe(POLLOUT);
    let peer: KernelTcp | null = null;
    await until("a connection", () => {
      peer = server.accept();
      return peer !== null;
    });
    return { fd, peer: peer as unknown as KernelTcp };
  }

  async function exchange(fd: number, peer: KernelTcp): Promise<void> {
    const { bytes } = peer;
    expect(calls.write(fd, text("question"))).toBe(8);
    await until("the bytes", () => {
      peer.pull();
      return peer.bytes === bytes + 8;
    });
    peer.send("answer");
    expect(await waiting.poll(fd, POLLIN, WAIT_MS)).toBe(POLLIN);
    expect(calls.read(fd, new Uint8Array(64))).toBe(6);
  }

  test.each([
    ["SO_MARK", SO_MARK, MARK, 0],
    ["SO_PRIORITY", SO_PRIORITY, PRIORITY, 1],
  ] as const)(
    "%s: of the connection from its SYN on, of no other, and no more when it is 0",
    async (_, name, value, at) => {
      const other = await connected(() => {});
      const before = counts();
      const { fd, peer } = await connected((socket) => set(socket, name, value));
      for (const each of [{ fd, peer }, other]) await exchange(each.fd, each.peer);
      const sent = counts().map((count, i) => count - before[i]);
      // SYN, the acknowledgment of its answer, bytes, and the acknowledgment of what came, if it has not waited.
      expect(sent[at]).toBeGreaterThanOrEqual(3);
      expect(sent[at]).toBeLessThanOrEqual(4);
      expect(sent[1 - at]).toBe(0);
      set(fd, name, 0);
      // What was on its way is there: the peer has it.
      await exchange(fd, peer);
      const { TcpOutViaKernel } = engine.counters();
      await exchange(fd, peer);
      expect(engine.counters().TcpOutViaKernel).toBe(TcpOutViaKernel);
      for (const end of [other, { fd, peer }]) {
        calls.close(end.fd);
        end.peer.close();
      }
    },
  );

  test("a policy route for the mark is the segments'", async () => {
    run(hosts.b, "ip", `-${family}`, "rule", "add", "fwmark", `${MARK}`, "lookup", "100");
    run(hosts.b, "ip", `-${family}`, "route", "add", "unreachable", "default", "table", "100");
    const refused = calls.socket(family === 4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
    const kernel = hosts.b.ns.run(() => sys.socket(family === 4 ? AF_INET : AF_INET6, SOCK_STREAM, 0));
    const to = sockaddrOf(ip(addressOf(hosts.a)), server.port);
    set(refused, SO_MARK, MARK);
    expect(sys.setsockoptInt(kernel, SOL_SOCKET, SO_MARK, MARK)).toBe(0);
    expect(calls.connect(refused, to)).toBe(sys.connect(kernel, to));
    expect(calls.close(refused)).toBe(0);
    sys.close(kernel);
    const { fd, peer } = await connected(() => {});
    set(fd, SO_MARK, MARK);
    const { TcpOutErrors } = engine.counters();
    expect(calls.write(fd, text("nowhere"))).toBe(7);
    await until("the refusal", () => engine.counters().TcpOutErrors > TcpOutErrors);
    peer.pull();
    expect(peer.bytes).toBe(0);
    set(fd, SO_MARK, 0);
    await until("the segment, sent again", () => {
      peer.pull();
      return peer.bytes === 7;
    });
    calls.close(fd);
    peer.close();
  });

  test("SO_DONTROUTE: whether a gateway is a way, as for a kernel socket", async () => {
    const beyond = family === 4 ? "198.18.77.1/32" : "2001:db8:77::1/128";
    run(hosts.a, "ip", "addr", "add", beyond, "dev", hosts.a.name, ...(family === 4 ? [] : ["nodad"]));
    run(hosts.b, "ip", "route", "add", beyond, "via", addressOf(hosts.a));
    const to = sockaddrOf(ip(beyond.replace(/\/.*/, "")), server.port);
    const kernel = hosts.b.ns.run(() => sys.socket(family === 4 ? AF_INET : AF_INET6, SOCK_STREAM, 0));
    expect(sys.setsockoptInt(kernel, SOL_SOCKET, SO_DONTROUTE, 1)).toBe(0);
    const fd = calls.socket(family === 4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
    set(fd, SO_DONTROUTE, 1);
    const told = await waiting.connect(fd, to);
    expect(told).toBe(sys.connect(kernel, to));
    // IPv6 does not ask for it; nobody listens at that address.
    expect(told).toBe(family === 4 ? -ERRNO.ENETUNREACH : -ERRNO.ECONNREFUSED);
    calls.close(fd);
    sys.close(kernel);
  });

  test("what is accepted has the listener's mark and SO_DONTROUTE", async () => {
    run(hosts.b, "ip", `-${family}`, "rule", "del", "fwmark", `${MARK}`, "lookup", "100");
    const listener = calls.socket(family === 4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
    set(listener, SO_MARK, MARK);
    set(listener, SO_DONTROUTE, 1);
    expect(calls.bind(listener, sockaddrOf(ip(addressOf(hosts.b)), 8080))).toBe(0);
    expect(calls.listen(listener, 4)).toBe(0);
    const [marked] = counts();
    const peer = KernelTcp.connect(hosts.a.ns, addressOf(hosts.b), 8080);
    expect(await waiting.poll(listener, POLLIN, WAIT_MS)).toBe(POLLIN);
    const fd = calls.accept4(listener, addressBuffer(), 0);
    expect(fd).toBeGreaterThanOrEqual(0);
    await exchange(fd, peer);
    expect(counts()[0]).toBeGreaterThan(marked + 1);
    calls.close(fd);
    calls.close(listener);
    peer.close();
  });
});
