/** `lcore echo` over veth: it serves kernel clients, shows its counters from outside, and leaves the host as it was. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { getAffinity } from "../../../engine/host/affinity.ts";
import type { StatsSnapshot } from "../../../engine/stats.ts";
import { type Host, makeHosts, requires, type VethPair } from "../../support/hosts.ts";
import { Cli, lcore } from "./cli.ts";

const PORT = 9000;
/** A client on a kernel socket: sends lines to ADDRESS and prints what comes back. */
const CLIENT = `
const [host, port, count] = process.argv.slice(1);
let answers = 0;
const socket = await Bun.udpSocket({
  hostname: host.includes(":") ? "::" : "0.0.0.0",
  connect: { hostname: host, port: Number(port) },
  socket: { data(_, data) { console.log(data.toString()); if (++answers === Number(count)) process.exit(0); } },
});
for (let i = 0; i < Number(count); i++) socket.send("datagram " + i);
setTimeout(() => process.exit(1), 3000);
`;

async function ask(host: Host, address: string, count: number): Promise<string[]> {
  const command = [process.execPath, "-e", CLIENT, address, String(PORT), String(count)];
  const client = host.ns.run(() => Bun.spawn(command, { stdout: "pipe", stderr: "inherit" }));
  const lines = (await client.stdout.text()).trim().split("\n");
  await client.exited;
  return lines.sort();
}

describe.skipIf(requires("netns", "veth", "af_xdp", "bpf") !== "")("lcore echo", () => {
  let hosts: VethPair;
  const serve = (...options: string[]): Cli =>
    new Cli(["echo", "--interface", "veth0", "--udp", String(PORT), ...options], { ns: hosts.b.ns });
  const expected = ["datagram 0", "datagram 1", "datagram 2"];

  beforeAll(() => {
    hosts = makeHosts({ queues: 2 });
  });
  afterAll(() => hosts.close());

  /** No program on the interface, the port free, no socket of the statistics. */
  function expectUntouched(pid: number): void {
    expect(hosts.b.rtnl.link("veth0").xdp.attached).toBe(0);
    hosts.b.ns.run(() => {
      const held = Bun.spawnSync(["cat", "/proc/net/udp", "/proc/net/udp6"]).stdout.toString();
      expect(held).not.toContain(`:${PORT.toString(16).toUpperCase()} `);
    });
    expect(existsSync(`/run/lcore/${pid}.sock`)).toBe(false);
  }

  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    test(`serves IPv4 and IPv6 until ${signal}`, async () => {
      const echo = serve();
      const ready = await echo.stdout.until("ready");
      const { ifindex } = hosts.b;
      const words = [
        "UDP \\*:9000 on veth0",
        `ifindex ${ifindex}`,
        "skb mode \\(.+\\)",
        "copy",
        "queues 0-1",
        "poll adaptive",
      ];
      expect(ready).toMatch(new RegExp(`^ready ${words.join(".*")}, pid ${echo.child.pid}\n$`));
      expect(hosts.b.rtnl.link("veth0").xdp.attached).not.toBe(0);
      expect(await ask(hosts.a, hosts.b.ipv4Text, 3)).toEqual(expected);
      expect(await ask(hosts.a, hosts.b.ipv6Text, 3)).toEqual(expected);
      echo.kill(signal);
      const { status, stdout, stderr } = await echo.finish();
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      expect(stdout).toMatch(/^UdpInDatagrams +6 +datagrams delivered to sockets$/m);
      expect(stdout).toMatch(/^redirected +6 +to the engine$/m);
      expectUntouched(echo.child.pid);
    });
  }

  test("serves addresses of its own, which the kernel has not", async () => {
    const own = ["198.18.0.200", "2001:db8::200"];
    const echo = serve("--addresses", `${own[0]}/24,${own[1]}/64`, "--gateways", hosts.a.ipv4Text, "--no-dad");
    await echo.stdout.until("ready");
    for (const address of own) {
      expect(await ask(hosts.a, address, 3)).toEqual(expected);
      expect(hosts.a.ns.run(() => Bun.spawnSync(["ping", "-n", "-c1", "-W2", address])).exitCode).toBe(0);
    }
    echo.kill("SIGINT");
    const { status, stderr } = await echo.finish();
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expectUntouched(echo.child.pid);
  });

  test("own addresses that cannot be are refused in a line", async () => {
    const { status, stderr } = await lcore(
      ["echo", "--interface", "veth0", "--udp", String(PORT), "--addresses", "198.18.0.200"],
      { ns: hosts.b.ns },
    );
    expect(status).not.toBe(0);
    expect(stderr).toBe("lcore: address 198.18.0.200: needs a prefix length from 0 to 32, as 198.18.0.1/24\n");
  });

  const cpus = getAffinity(0).slice(0, 2);
  test.skipIf(cpus.length < 2)("serves one address, on two lcores, and tells as JSON", async () => {
    const echo = serve(
      "--address",
      hosts.b.ipv4Text,
      "--cpus",
      cpus.join(),
      "--mode",
      "native",
      "--poll",
      "interrupt",
      "--json",
    );
    const ready = JSON.parse(await echo.stdout.until("{")) as Record<string, unknown>;
    expect(ready).toMatchObject({
      event: "ready",
      attach: "native",
      zeroCopy: false,
      queues: [[0], [1]],
      poll: "interrupt",
    });
    expect(await ask(hosts.a, hosts.b.ipv4Text, 3)).toEqual(expected);
    echo.kill("SIGTERM");
    const { status, stdout } = await echo.finish();
    const last = JSON.parse(stdout.trim().split("\n")[1]) as StatsSnapshot;
    const delivered = last.threads.map(({ counters }) => counters.UdpInDatagrams);
    // One flow, one lcore.
    expect(delivered.filter((count) => count > 0)).toEqual([3]);
    expect(status).toBe(0);
    expectUntouched(echo.child.pid);
  });

  test("a port that the kernel has given away already is one line", async () => {
    const taken = serve();
    await taken.stdout.until("ready");
    try {
      const { status, stderr } = await serve().finish();
      expect(stderr).toMatch(/^lcore: .*\n$/);
      expect(status).toBe(1);
    } finally {
      taken.kill("SIGTERM");
      await taken.finish();
    }
  });

  describe("stats of it", () => {
    let echo: Cli;
    let pid: string;
    beforeAll(async () => {
      echo = serve();
      pid = String(echo.child.pid);
      await echo.stdout.until("ready");
      await ask(hosts.a, hosts.b.ipv4Text, 3);
    });
    afterAll(async () => {
      echo.kill("SIGTERM");
      await echo.finish();
    });

    test("as a table with rates", async () => {
      const { status, stdout, stderr } = await lcore(["stats", "--pid", pid, "--interval", "0.2", "--count", "2"]);
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      expect(stdout.match(/^lcore 0 \(CPU \d+\)( +[\d.]+){5} +\d+ %$/gm)).toHaveLength(2);
      expect(stdout).toMatch(/^UdpInDatagrams +3 +0 +datagrams delivered to sockets$/m);
    });

    test("as JSON, from whoever may open the socket", async () => {
      const { status, stdout } = await lcore(["stats", "--socket", `/run/lcore/${pid}.sock`, "--json"]);
      const stats = JSON.parse(stdout) as StatsSnapshot;
      expect(status).toBe(0);
      expect(stats).toMatchObject({ pid: Number(pid), info: { interface: "veth0" }, steering: { redirected: 3 } });
      expect(stats.threads[0].counters.UdpInDatagrams).toBe(3);
      expect(stats.sockets.map(({ queue, rxRingFull }) => [queue, rxRingFull])).toEqual([
        [0, 0],
        [1, 0],
      ]);
      const refused = await lcore(["stats", "--socket", `/run/lcore/${pid}.sock`], { unprivileged: true });
      expect(refused.status).toBe(1);
    });

    test("in the Prometheus format", async () => {
      const { status, stdout } = await lcore(["stats", "--pid", pid, "--prometheus"]);
      expect(status).toBe(0);
      expect(stdout).toContain("# TYPE lcore_udp_in_datagrams_total counter\n");
      expect(stdout).toContain(`lcore_udp_in_datagrams_total{pid="${pid}",thread="lcore 0"} 3\n`);
      expect(stdout).toContain(`lcore_xdp_frames_total{pid="${pid}",verdict="redirected"} 3\n`);
      expect(stdout).toContain(`lcore_xsk_rx_ring_full_total{pid="${pid}",queue="1"} 0\n`);
    });

    test("the engine ends meanwhile", async () => {
      const stats = new Cli(["stats", "--pid", pid, "--interval", "0.1"]);
      await stats.stdout.until("lcore 0");
      echo.kill("SIGTERM");
      const { status, stderr } = await stats.finish();
      expect(stderr).toMatch(/^lcore: (no engine answers at|the engine at) .*\n$/);
      expect(status).toBe(1);
    });
  });
});
