/** Own addresses beside a kernel: who has them, who else wants them, and those that a router's advertisements make. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Engine } from "../../engine/engine.ts";
import { type Host, makeHosts, requires } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";
import { CleanUp, echo, OWN4, OWN6, PORT, runOn, startOnVeth } from "./support.ts";

setDefaultTimeout(60_000);

const cleanUp = new CleanUp();
afterEach(() => cleanUp.run());

const has = (program: string): boolean => Bun.which(program) !== null;

/** Runs until it succeeds. */
async function succeeds(host: Host, ...command: string[]): Promise<void> {
  let last = "";
  for (let i = 0; i < 10; i++) {
    const { exitCode, text } = runOn(host, ...command);
    if (exitCode === 0) return;
    last = text;
  }
  throw new Error(`${command.join(" ")}: ${last}`);
}

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")("beside a kernel", () => {
  test.each(["0", "1472", "4000", "30000", "60000"])("ping of %s bytes", async (size) => {
    const { a, engine } = await startOnVeth(cleanUp);
    await succeeds(a, "ping", "-n", "-c3", "-i0.05", "-W2", "-s", size, OWN4);
    await succeeds(a, "ping", "-n", "-c3", "-i0.05", "-W2", "-s", size, OWN6);
    expect(engine.counters().IcmpInErrors).toBe(0);
  });

  test.skipIf(!has("arping") || !has("ndisc6"))("arping and ndisc6 get our MAC address", async () => {
    const { a, b } = await startOnVeth(cleanUp);
    const mac = [...b.mac].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
    const arp = runOn(a, "arping", "-c", "1", "-w", "2", "-I", a.name, OWN4);
    expect(arp.text.toLowerCase()).toContain(mac);
    expect(runOn(a, "ndisc6", OWN6, a.name).text.toLowerCase()).toContain(mac);
  });

  test.each(["4", "6"])(
    "an address that the kernel has is not taken, and the start says whose it is: IPv%s",
    async (v) => {
      const pair = makeHosts();
      cleanUp.add(() => pair.close());
      const { a, b } = pair;
      const taken = v === "4" ? `${a.ipv4Text}/24` : `${a.ipv6Text}/64`;
      const start = Engine.start({ interface: b.name, netns: b.ns.path, addresses: [taken] });
      await expect(start).rejects.toThrow(/EADDRINUSE.*is the station .*'s/s);
    },
  );

  test("one of two addresses is the kernel's: the other one serves, and a line says so", async () => {
    const pair = makeHosts();
    cleanUp.add(() => pair.close());
    const { a, b } = pair;
    const notices: string[] = [];
    const engine = await Engine.start({
      interface: b.name,
      netns: b.ns.path,
      addresses: [`${a.ipv6Text}/64`, `${OWN6}/64`],
      onNotice: (text) => notices.push(text),
    });
    cleanUp.add(() => engine.close());
    expect(notices).toHaveLength(1);
    expect(notices[0]).toMatch(new RegExp(`^${a.ipv6Text}: the station .* has it, too; it is not used$`));
    await succeeds(a, "ping", "-n", "-c1", "-W2", OWN6);
  });

  test("the kernel finds by its own detection that an address is ours", async () => {
    const { a } = await startOnVeth(cleanUp);
    await succeeds(a, "ping", "-n", "-c1", "-W2", OWN6);
    runOn(a, "sysctl", "-qw", `net.ipv6.conf.${a.name}.accept_dad=1`, `net.ipv6.conf.${a.name}.dad_transmits=1`);
    runOn(a, "ip", "addr", "add", `${OWN6}/64`, "dev", a.name);
    await until("dadfailed", () => runOn(a, "ip", "-6", "addr", "show", "dev", a.name).text.includes("dadfailed"));
    if (has("arping")) expect(runOn(a, "arping", "-D", "-c", "2", "-w", "3", "-I", a.name, OWN4).exitCode).toBe(1);
  });

  test.skipIf(!has("radvd"))("a router's advertisements: a default route, and an address of its prefix", async () => {
    const { a, engine } = await startOnVeth(cleanUp);
    const directory = mkdtempSync(join(tmpdir(), "lcore-radvd-"));
    cleanUp.add(() => rmSync(directory, { recursive: true }));
    const file = join(directory, "radvd.conf");
    writeFileSync(
      file,
      `interface ${a.name} { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;
        prefix 2001:db8:5::/64 { AdvOnLink on; AdvAutonomous on; }; };`,
    );
    runOn(a, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1");
    runOn(a, "ip", "addr", "add", "2001:db8:5::1/64", "dev", a.name, "nodad");
    runOn(a, "ip", "addr", "add", "2001:db8:ffff::1/128", "dev", "lo");
    const pid = join(directory, "pid");
    const radvd = Bun.spawn(["nsenter", `--net=${a.ns.path}`, "radvd", "-n", "-C", file, "-p", pid, "-m", "stderr"], {
      stdout: "ignore",
      stderr: "ignore",
    });
    cleanUp.add(async () => {
      radvd.kill();
      await radvd.exited;
    });
    const peer = new KernelUdp(a.ns, { address: "::", port: PORT });
    cleanUp.add(() => peer.close());
    const client = engine.udp({ address: "::" });
    let from = "";
    await until("the way to a network that only the router knows", () => {
      client.send("x", PORT, "2001:db8:ffff::1");
      from = peer.take()?.address ?? "";
      return from !== "";
    });
    // The address made of the prefix answers to the kernel, and can be bound to.
    echo(engine);
    await until("an address of the prefix", () => {
      client.send("x", PORT, "2001:db8:5::1");
      for (let each = peer.take(); each !== null; each = peer.take())
        if (/^2001:db8:5:/.test(each.address)) from = each.address;
      return /^2001:db8:5:/.test(from);
    });
    await succeeds(a, "ping", "-n", "-c1", "-W2", from);
    expect(engine.udp({ address: from }).address.address).toBe(from);
  });
});
