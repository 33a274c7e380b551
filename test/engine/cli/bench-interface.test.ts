/** `lcore bench HOST:PORT --interface`: lcore's own load, over veth, on services of the kernel's stack in another namespace. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { TrialJson } from "../../../engine/measure/trial.ts";
import { makeHosts, requires, type VethPair } from "../../support/hosts.ts";
import { KernelUdp } from "../../support/kernel-udp.ts";
import { lcore } from "./cli.ts";

const PORT = 7007;
/** Echoes datagrams and bytes with the sockets of the kernel, and says when it does. */
const SERVICE = `
const hostname = process.argv[1];
const udp = await Bun.udpSocket({ hostname, port: ${PORT}, socket: { data: (s, b, port, from) => void s.send(b, port, from) } });
Bun.listen({ hostname, port: ${PORT}, socket: { data: (s, b) => void s.write(b) } });
console.log("ready");
`;

describe.skipIf(requires("netns", "veth", "af_xdp", "bpf") !== "")("over veth", () => {
  let hosts: VethPair;
  const services: Bun.Subprocess[] = [];
  const bench = (args: string[]) => lcore(["bench", ...args], { ns: hosts.a.ns });
  const load = [
    "--rate",
    "max",
    "--window",
    "16",
    "--seconds",
    "0.2",
    "--warmup",
    "0",
    "--flows",
    "4",
    "--connections",
    "4",
  ];

  beforeAll(async () => {
    hosts = makeHosts({ queues: 2 });
    for (const address of [hosts.b.ipv4Text, hosts.b.ipv6Text]) {
      const child = hosts.b.ns.run(() =>
        Bun.spawn([process.execPath, "-e", SERVICE, address], { stdout: "pipe", stderr: "inherit" }),
      );
      services.push(child);
      const { value } = await child.stdout.getReader().read();
      expect(new TextDecoder().decode(value)).toBe("ready\n");
    }
  });
  afterAll(() => {
    for (const service of services) service.kill();
    hosts.close();
  });

  const targets = (): [string, string] => [`${hosts.b.ipv4Text}:${PORT}`, `[${hosts.b.ipv6Text}]:${PORT}`];

  test.each(["udp-echo", "tcp-rr", "tcp-crr"])("%s, over both IP versions", async (workload) => {
    for (const target of targets()) {
      const args = [workload, "--target", target, "--interface", "veth0", "--json", "-", ...load];
      const { stdout } = await bench(args);
      const [trial] = (JSON.parse(stdout) as { trials: TrialJson[] }).trials;
      expect(trial.parameters).toMatchObject({ wire: "host", generator: "lcore", interface: { name: "veth0" } });
      expect([trial.wrong, trial.duplicated]).toEqual([0, 0]);
      expect(trial.received).toBeGreaterThan(10);
      expect(trial.received + trial.lost).toBe(trial.sent);
    }
    // Neither program nor port stays behind.
    expect(hosts.a.rtnl.link("veth0").xdp.attached).toBe(0);
  });

  test("source ports that the host's programs have are passed over, and keep their datagrams", async () => {
    const taken = new KernelUdp(hosts.a.ns, { address: hosts.a.ipv4Text, port: 20_001 });
    const [target] = targets();
    const running = bench(["udp-echo", "--target", target, "--interface", "veth0", "--json", "-", ...load]);
    while (hosts.a.rtnl.link("veth0").xdp.attached === 0) await Bun.sleep(1);
    taken.send("mine", hosts.b.ipv4Text, PORT);
    const [trial] = (JSON.parse((await running).stdout) as { trials: TrialJson[] }).trials;
    expect(trial.received).toBeGreaterThan(10);
    expect((await taken.receive()).text).toBe("mine");
    taken.close();
  });

  test.each<[string, string[], string]>([
    ["no such interface", ["--interface", "nic9"], "nic9"],
    ["no way", ["--target", "[2001:db8:ffff::1]:7", "--interface", "veth0"], "no way from it to 2001:db8:ffff::1"],
    ["nobody there", ["--target", "198.19.255.1:7", "--interface", "veth0"], "nobody there answers for 198.19.255.1"],
    ["loopback", ["--interface", "lo"], "not an Ethernet interface"],
    ["too large", ["--interface", "veth0", "--size", "1473"], "up to 1472 bytes fit a datagram of veth0"],
    ["its queues", ["--interface", "veth0", "--queues", "2"], "used with all the queues that it has"],
    ["kernel sockets", ["--interface", "veth0", "--generator", "kernel"], "go together"],
    ["an own target", ["--target", "lcore", "--interface", "veth0"], "of a target HOST:PORT"],
    ["a mode of nothing", ["--mode", "skb"], "--mode skb: of an --interface"],
  ])("refuses in one line: %s", async (_, args, words) => {
    const given = args.includes("--target") ? args : ["--target", targets()[0], ...args];
    const { status, stdout, stderr } = await bench(["udp-echo", ...given]);
    expect([status, stdout]).toEqual([expect.any(Number), ""]);
    expect(status).not.toBe(0);
    expect(stderr).toContain(words);
    expect(stderr.split("\n").filter((line) => line.startsWith("lcore: ")).length).toBe(1);
  });
});
