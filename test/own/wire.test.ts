/**
 * What an engine with addresses of its own puts on the wire, read by tshark; and frames as no station would send them, made of
 * those, to which it must not stop serving.
 */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openCapture } from "../../queues/pcap/reader.ts";
import { Random } from "../../queues/random.ts";
import { ip } from "../../sockets/wire/address.ts";
import { PacketSocket } from "../host/packet-socket.ts";
import { all, tshark, withoutTshark } from "../pcap/read.ts";
import { type Host, requires } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";
import { ask, CleanUp, echo, OWN4, OWN6, PORT, payload, runOn, startOnVeth } from "./support.ts";

setDefaultTimeout(120_000);

const cleanUp = new CleanUp();
afterEach(() => cleanUp.run());

const missing = requires("veth", "af_xdp", "bpf") !== "" || Bun.which("tcpdump") === null || withoutTshark !== "";
/** The longest that an answer may take on a loaded machine. */
const ANSWER_MS = 1000;
const colons = (mac: Uint8Array): string => [...mac].map((byte) => byte.toString(16).padStart(2, "0")).join(":");

/** tcpdump on a host's interface, until stop(). */
async function record(host: Host, file: string): Promise<() => Promise<void>> {
  const tcpdump = Bun.spawn(
    ["nsenter", `--net=${host.ns.path}`, "tcpdump", "-Z", "root", "-U", "-n", "-i", host.name, "-w", file],
    { stdout: "ignore", stderr: "pipe" },
  );
  const reader = tcpdump.stderr.getReader();
  for (let text = ""; !text.includes("listening on"); ) text += new TextDecoder().decode((await reader.read()).value);
  return async () => {
    await Bun.sleep(300);
    tcpdump.kill("SIGINT");
    await tcpdump.exited;
  };
}

/** Everything that the host protocols do, once. */
async function scenario(
  file: string,
): Promise<{ a: Host; b: Host; engine: Awaited<ReturnType<typeof startOnVeth>>["engine"] }> {
  const { a, b, engine } = await startOnVeth(cleanUp, { dad: true });
  const stop = await record(a, file);
  const server = echo(engine);
  for (const own of [OWN4, OWN6]) {
    runOn(a, "ping", "-n", "-c1", "-W2", own);
    runOn(a, "ping", "-n", "-c1", "-W2", "-s", "4000", own);
    const any = own === OWN4 ? "0.0.0.0" : "::";
    const peer = new KernelUdp(a.ns, { address: any });
    cleanUp.add(() => peer.close());
    await until("an answer", () => {
      peer.send(payload(5000), own, PORT);
      return peer.take() !== null;
    });
    peer.send("nobody", own, PORT + 1);
    const kernel = new KernelUdp(a.ns, { address: any, port: PORT });
    const client = engine.udp({ address: any });
    await until("the kernel hears us", () => {
      client.send(payload(5000), PORT, own === OWN4 ? a.ipv4Text : a.ipv6Text);
      return kernel.take() !== null;
    });
    kernel.close();
    client.send("nobody there", PORT, own === OWN4 ? "198.18.0.77" : "2001:db8::77");
  }
  server.joinGroup("239.1.2.3");
  server.joinSourceGroup("198.18.0.9", "232.1.1.1");
  server.joinGroup("ff05::123");
  await Bun.sleep(1500);
  server.leaveGroup("239.1.2.3");
  server.leaveGroup("ff05::123");
  await Bun.sleep(1500);
  await stop();
  return { a, b, engine };
}

function temporary(): string {
  const directory = mkdtempSync(join(tmpdir(), "lcore-own-"));
  cleanUp.add(() => rmSync(directory, { recursive: true }));
  return join(directory, "wire.pcap");
}

describe.skipIf(missing)("on the wire", () => {
  test("tshark reads every frame of ours without complaint", async () => {
    const file = temporary();
    const { b } = await scenario(file);
    const checks = ["ip", "udp", "tcp"].flatMap((name) => ["-o", `${name}.check_checksum:TRUE`]);
    const ours = `eth.src == ${colons(b.mac)}`;
    const protocols = new Set(
      tshark(file, ["frame.protocols"], ...checks, "-Y", ours).flatMap(([names]) => names.split(":")),
    );
    for (const name of ["arp", "icmp", "icmpv6", "igmp", "ip", "ipv6", "udp"]) expect([...protocols]).toContain(name);
    const warnings = tshark(
      file,
      ["frame.number", "frame.protocols", "_ws.expert.message"],
      ...checks,
      "-Y",
      `${ours} && (_ws.malformed || _ws.expert.severity >= warning)`,
    );
    // What our ICMP quotes is the other side's, and a port that is closed.
    expect(warnings.filter(([, , message]) => !/unreachable|No response/i.test(message ?? ""))).toEqual([]);
  });

  test("frames that no station would send: none stops it, none keeps others waiting", async () => {
    const file = temporary();
    const { a, b, engine } = await scenario(file);
    const seeds = all(openCapture(file)).map(({ hex }) => Uint8Array.fromHex(hex));
    expect(seeds.length).toBeGreaterThan(50);
    const wire = new PacketSocket(a.ns, a.ifindex);
    cleanUp.add(() => wire.close());
    const random = new Random(0x0badf00d);
    // An address that no frame of these names: nobody can make the engine believe that another station has it.
    const asker = "198.18.0.77";
    a.rtnl.addAddress(a.ifindex, ip(asker), 24);
    const peer = new KernelUdp(a.ns, { address: asker });
    cleanUp.add(() => peer.close());
    let answers = 0;
    for (let i = 0; i < 10_000; i++) {
      wire.send(mutated(seeds[random.below(seeds.length)], b.mac, random));
      if (i % 100 !== 0) continue;
      peer.send("still there?", OWN4, PORT);
      const deadline = performance.now() + ANSWER_MS;
      while (peer.take() === null && performance.now() < deadline) await Bun.sleep(1);
      if (performance.now() < deadline) answers++;
    }
    expect(answers).toBeGreaterThan(95);
    expect(engine.running).toBe(true);
    expect(engine.counters().RxFrames).toBeGreaterThan(5000);
    // A wrong address is found out by five seconds of use and three probes (RFC 4861, 7.3.3).
    for (const own of [OWN4, OWN6]) {
      await until(`answers to pings of ${own}`, () =>
        / [1-5] received/.test(runOn(a, "ping", "-n", "-c5", "-i0.2", "-W2", own).text),
      );
    }
    const client = engine.udp();
    const server = new KernelUdp(a.ns, { address: a.ipv4Text, port: PORT });
    cleanUp.add(() => server.close());
    const echoing = setInterval(() => {
      for (let each = server.take(); each !== null; each = server.take())
        server.send(each.payload, each.address, each.port);
    }, 1);
    expect(await ask(client, payload(3000), a.ipv4Text)).toEqual(payload(3000));
    clearInterval(echoing);
  });
});

/** A frame with some bytes changed, cut or lengthened, mostly still for the station; the checksum of its IPv4 header is right half the time. */
function mutated(seed: Uint8Array, mac: Uint8Array, random: Random): Uint8Array {
  let frame = seed.slice();
  if (random.below(8) !== 0 && (frame[0] & 1) === 0) frame.set(mac);
  for (let n = random.below(6); n > 0; n--) frame[12 + random.below(frame.length - 12)] = random.int32();
  if (random.below(4) === 0) frame = frame.slice(0, 14 + random.below(frame.length - 14));
  if (random.below(16) === 0) frame = Uint8Array.from([...frame, ...new Uint8Array(random.below(100))]);
  if (frame.length > 34 && frame[12] === 8 && frame[13] === 0 && random.below(2) === 0) mendIpv4(frame);
  return frame.subarray(0, 1514);
}

/** Makes the header's checksum right, so that what is behind it is looked at. */
function mendIpv4(frame: Uint8Array): void {
  const end = Math.min(14 + (frame[14] & 15) * 4, frame.length - 1);
  frame[24] = 0;
  frame[25] = 0;
  let total = 0;
  for (let at = 14; at < end; at += 2) total += (frame[at] << 8) | frame[at + 1];
  while (total > 0xffff) total = (total & 0xffff) + (total >> 16);
  frame[24] = ~total >> 8;
  frame[25] = ~total;
}
