/** Own addresses beside a kernel: who has them, who else wants them, and those that a router's advertisements make. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Engine } from "../../engine/engine.ts";
import { writeInterfaceId } from "../../sockets/host/addresses.ts";
import { formatIp, ip } from "../../sockets/wire/address.ts";
import { storeChecksum, sum } from "../../sockets/wire/checksum.ts";
import { writeIpv4 } from "../../sockets/wire/ipv4.ts";
import { FrameViews, readInt32 } from "../../sockets/wire/views.ts";
import { ipRun } from "../engine/host/iproute2.ts";
import { be32, framed, icmp6, macOption } from "../host/messages.ts";
import { PacketSocket } from "../host/packet-socket.ts";
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

  test("redirects are counted, and packets go where they went", async () => {
    const { a, b, engine } = await startOnVeth(cleanUp, { gateways: ["198.18.0.1"] });
    const wire = new PacketSocket(a.ns, a.ifindex);
    cleanUp.add(() => wire.close());
    const peer = new KernelUdp(a.ns, { port: PORT });
    cleanUp.add(() => peer.close());
    ipRun(a.ns, "addr", "add", "198.19.0.1/32", "dev", "lo");
    const client = engine.udp();
    const arrives = (): Promise<void> =>
      until("it", () => {
        client.send("x", PORT, "198.19.0.1");
        return peer.take() !== null;
      });
    await arrives();
    for (let i = 0; i < 5; i++) wire.send(redirect(b.mac, a.mac, client.port));
    await until("they came", () => engine.counters().IcmpInRedirects === 5);
    await arrives();
  });

  test("the link goes and comes back: addresses are there again, and found", async () => {
    const { a, b } = await startOnVeth(cleanUp);
    for (const own of [OWN4, OWN6]) await succeeds(a, "ping", "-n", "-c1", "-W2", own);
    ipRun(a.ns, "link", "set", a.name, "down");
    await Bun.sleep(200);
    ipRun(a.ns, "link", "set", a.name, "up");
    await until("an answer", () => runOn(a, "ping", "-n", "-c1", "-W1", OWN4).exitCode === 0);
    ipRun(b.ns, "link", "set", b.name, "down");
    await Bun.sleep(200);
    ipRun(b.ns, "link", "set", b.name, "up");
    await until("an answer", () => runOn(a, "ping", "-n", "-c1", "-W1", OWN4).exitCode === 0);
  });

  test("a carrier that comes back leaves what a router gave; switched off and on, it is forgotten", async () => {
    const { a, b } = await startOnVeth(cleanUp);
    const made = madeOf(ip("2001:db8:7::"), b.mac);
    const advertise = (): void => {
      // A socket of its own: one whose interface was down has that error waiting.
      const wire = new PacketSocket(a.ns, a.ifindex);
      const prefix = [3, 4, 64, 0xc0, ...be32(3600), ...be32(3600), 0, 0, 0, 0, ...ip("2001:db8:7::")];
      const body = [...be32(0), ...be32(0), ...macOption(1, a.mac), ...prefix];
      wire.send(framed(b.mac, a.mac, icmp6("fe80::e", "ff02::1", [134, 0, 1800], body, 255)));
      wire.close();
    };
    const answers = (address: string): boolean => runOn(a, "ping", "-n", "-c1", "-W1", address).exitCode === 0;
    const addresses = (): void => {
      for (const own of ["2001:db8:7::1/64", `${a.ipv6Text}/64`])
        runOn(a, "ip", "addr", "replace", own, "dev", a.name, "nodad");
    };
    addresses();
    await until("the address", () => {
      advertise();
      return answers(made);
    });
    ipRun(a.ns, "link", "set", a.name, "down");
    ipRun(a.ns, "link", "set", a.name, "up");
    addresses();
    await until("an answer", () => answers(OWN6));
    expect(answers(made)).toBe(true);
    ipRun(b.ns, "link", "set", b.name, "down");
    ipRun(b.ns, "link", "set", b.name, "up");
    await until("an answer", () => answers(OWN6));
    await until("none", () => !answers(made));
    await until("the address again", () => {
      advertise();
      return answers(made);
    });
  });

  test("the interface is deleted, or gets another MAC address: the engine ends and says so", async () => {
    const first = await startOnVeth(cleanUp);
    ipRun(first.a.ns, "link", "del", first.a.name);
    await expect(first.engine.closed).rejects.toThrow(/ENODEV.*was deleted/s);
    const second = await startOnVeth(cleanUp);
    ipRun(second.b.ns, "link", "set", second.b.name, "address", "02:00:00:00:00:77");
    await expect(second.engine.closed).rejects.toThrow(/ENODEV.*MAC address was changed/s);
  });
});

/** The address that a station with this MAC address makes of a prefix. */
function madeOf(prefix: Uint8Array, mac: Uint8Array): string {
  const address = prefix.slice();
  writeInterfaceId(address, mac);
  return formatIp(address);
}

/** An ICMP redirect of a datagram of ours to 198.19.0.1: by way of 198.18.0.99. */
function redirect(to: Uint8Array, from: Uint8Array, port: number): Uint8Array {
  const frame = new Uint8Array(14 + 20 + 8 + 28);
  const views = new FrameViews(new Uint8Array(128));
  const word = (text: string): number => readInt32(ip(text), 0);
  const ours = word(OWN4);
  const router = word("198.18.0.1");
  writeIpv4(views, 16, 0, 56, 1, 0, 64, 1, router, ours);
  views.bytes.set([5, 1, 0, 0, ...ip("198.18.0.99")], 36);
  writeIpv4(views, 44, 0, 29, 0, 0x4000, 64, 17, ours, word("198.19.0.1"));
  views.bytes.set([port >> 8, port & 0xff, PORT >> 8, PORT & 0xff, 0, 9, 0, 0], 64);
  storeChecksum(views, 38, sum(views, 36, 36, 0));
  frame.set(to);
  frame.set(from, 6);
  frame.set([8, 0], 12);
  frame.set(views.bytes.subarray(16, 72), 14);
  return frame;
}
