/** `lcore capture` as users run it: files and pipes that tshark and tcpdump read, every way to end. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { INBOUND, OUTBOUND } from "../../queues/pcap/format.ts";
import { openCapture } from "../../queues/pcap/reader.ts";
import { FileSink, PcapWriter } from "../../queues/pcap/writer.ts";
import { Cli, lcore } from "../engine/cli/cli.ts";
import { udpFrame } from "../support/frames.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";
import { all, tshark, withoutTshark } from "./read.ts";

setDefaultTimeout(60_000);

const MAIN = new URL("../../engine/cli/main.ts", import.meta.url).pathname;
const directory = mkdtempSync(join(tmpdir(), "lcore-cli-"));
afterAll(() => rmSync(directory, { recursive: true }));
const path = (name: string): string => join(directory, name);

/** 2,000 frames a second. */
const FRAMES = 200;
const load = ((): string => {
  const sink = new FileSink(path("load.pcap"));
  const writer = new PcapWriter(sink);
  for (let i = 0; i < FRAMES; i++) {
    const frame = udpFrame({ payload: `question ${i}`, sourcePort: 2000 + (i % 40) });
    writer.packet(frame, 0, frame.length, 1, i * 500_000);
  }
  writer.flush();
  sink.close();
  return path("load.pcap");
})();

/** An engine under load in another process. */
class Served {
  readonly socket = path(`${crypto.randomUUID().slice(0, 8)}.sock`);
  private readonly child: Bun.Subprocess<"ignore", "pipe", "inherit">;

  private constructor() {
    const script = new URL("./serve.ts", import.meta.url).pathname;
    const command = [process.execPath, script, load, this.socket];
    this.child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  }

  static async start(): Promise<Served> {
    const served = new Served();
    // Its first line says that it is ready.
    await served.child.stdout.getReader().read();
    return served;
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    this.child.kill(signal);
    await this.child.exited;
  }
}

/** A file's packets, after tcpdump and tshark have read it without complaint. */
function wholePackets(file: string): ReturnType<typeof all> {
  const reader = openCapture(file);
  const packets = all(reader);
  expect(reader.rest).toBe("");
  if (Bun.which("tcpdump") !== null) {
    const dumped = Bun.spawnSync(["tcpdump", "-Z", "root", "-nn", "-r", file]);
    expect(dumped.stdout.toString().split("\n").length - 1).toBe(packets.length);
    expect(dumped.stderr.toString()).toMatch(
      /^reading from file .*, link-type EN10MB \(Ethernet\), snapshot length \d+\n$/,
    );
  }
  if (withoutTshark === "") expect(tshark(file, ["frame.number"])).toHaveLength(packets.length);
  return packets;
}

describe("an engine under load", () => {
  let served: Served;
  beforeAll(async () => {
    served = await Served.start();
  });
  afterAll(() => served.end("SIGTERM"));
  const capture = (...options: string[]): string[] => ["capture", "--path", served.socket, ...options];

  test("as many frames as asked for, in a file", async () => {
    const file = path("count.pcapng");
    const { status, stdout, stderr } = await lcore(capture("-w", file, "--count", "77"));
    expect({ status, stdout }).toEqual({ status: 0, stdout: "" });
    expect(stderr).toBe(`lcore: capturing from ${served.socket}; Ctrl-C ends it\nlcore: 77 frames captured\n`);
    expect(wholePackets(file)).toHaveLength(77);
  });

  test("filtered, cut, one direction, for a time", async () => {
    const file = path("filtered.pcapng");
    const options = ["--filter", "udp src port 2007", "--rx", "--snaplen", "44", "--seconds", "0.4", "--lcore", "0"];
    const { status, stderr } = await lcore(capture("-w", file, ...options, "--buffer", "64"));
    expect(status).toBe(0);
    expect(stderr).toContain(", udp src port 2007; Ctrl-C ends it\n");
    const packets = wholePackets(file);
    // Five of each two hundred, every tenth of a second.
    expect(packets.length).toBeGreaterThan(4);
    for (const { hex, direction, original } of packets) {
      expect([hex.length / 2, direction, hex.slice(68, 72)]).toEqual([44, 1, (2007).toString(16).padStart(4, "0")]);
      expect(original).toBeGreaterThan(44);
    }
  });

  test("up to a size", async () => {
    const file = path("size.pcapng");
    const { status, stderr } = await lcore(capture("-w", file, "--size", "1"));
    expect(status).toBe(0);
    const { size } = Bun.file(file);
    expect(size > 999_000 && size <= 1_000_000).toBe(true);
    expect(stderr).toEndWith(`lcore: ${wholePackets(file).length.toLocaleString("en-US")} frames captured\n`);
  });

  test("a line a frame, without a file", async () => {
    const { status, stdout } = await lcore(capture("--count", "3", "--tx"));
    expect(status).toBe(0);
    const line = String.raw`\d\d:\d\d:\d\d\.\d{9} pcap:0 tx 198\.18\.0\.1:9000 > 198\.18\.0\.2:20\d\d UDP 1[0-2]\n`;
    expect(stdout).toMatch(new RegExp(`^(${line}){3}$`));
  });

  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    test(`${signal} leaves a whole file`, async () => {
      const file = path(`${signal}.pcapng`);
      const running = new Cli(capture("-w", file));
      await running.stderr.until("lcore: capturing");
      await until("frames in the file", () => Bun.file(file).size > 20_000);
      running.kill(signal);
      const { status, stderr } = await running.finish();
      expect(status).toBe(0);
      const packets = wholePackets(file);
      expect(stderr).toEndWith(`lcore: ${packets.length.toLocaleString("en-US")} frames captured\n`);
    });
  }

  test.skipIf(withoutTshark !== "")("into a pipe that tshark reads", async () => {
    const left = `"${process.execPath}" "${MAIN}" capture --path "${served.socket}" -w - --count 50`;
    const both = Bun.spawn(["sh", "-c", `${left} | tshark -r - -T fields -e udp.srcport -e frame.interface_name`], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr] = await Promise.all([both.stdout.text(), both.stderr.text(), both.exited]);
    expect(stdout.trim().split("\n")).toHaveLength(50);
    expect(stdout).toMatch(/^(9000|20\d\d)\tpcap:0\n/);
    expect(stderr.split("\n").filter((line) => !/^(lcore: |Running as user|$)/.test(line))).toEqual([]);
  });

  test("into a pipe whose reader goes away", async () => {
    const command = [process.execPath, MAIN, ...capture("-w", "-")];
    const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
    const reader = child.stdout.getReader();
    await reader.read();
    await reader.cancel();
    const [stderr] = await Promise.all([child.stderr.text(), child.exited]);
    expect(child.exitCode).toBe(0);
    expect(stderr).toMatch(/\nlcore: [\d,]+ frames captured\n$/);
  });

  test("what cannot be done is one line", async () => {
    const cases: [string[], RegExp, number][] = [
      [capture("-w", path("no/such/file")), /^lcore: capture: ENOENT.*\n$/, 1],
      [capture("--lcore", "5"), /refuses: lcore 5: a whole number from 0 to 0\n$/, 1],
      [
        ["capture", "--path", path("nobody.sock")],
        /^lcore: no engine answers at .*nobody.sock: it has ended, or.*\n$/,
        1,
      ],
      [capture("--interface", "veth0"), /^lcore: capture: one of --interface, --pid and --path\n$/, 2],
      [capture("--rx", "--tx"), /^lcore: capture: either --rx or --tx; without them both directions\n$/, 2],
      [capture("--buffer", "100"), /^lcore: capture: --buffer 100: a power of two\n$/, 2],
      [capture("--size", "1"), /^lcore: capture: --size is of a file: add --write\n$/, 2],
      [capture("--snaplen", "0"), /--snaplen.*whole number from 1 to 262144/, 2],
      [capture("--filter", "udp port"), /^lcore: filter: .*\n$/, 2],
      [["capture", "--interface", "nowhere0"], /^lcore: no running engine serves nowhere0: .*\n$/, 1],
    ];
    const results = await Promise.all(cases.map(([args]) => lcore(args)));
    results.forEach(({ status, stderr, stdout }, i) => {
      expect({ i, status, stdout }).toEqual({ i, status: cases[i][2], stdout: "" });
      expect(stderr).toMatch(cases[i][1]);
    });
  });

  test("a disk that is full is one line", async () => {
    const { status, stderr } = await lcore(capture("-w", "/dev/full"));
    expect(status).toBe(1);
    expect(stderr).toMatch(/\nlcore: capture: \/dev\/full: ENOSPC.*\n$/);
  });

  test.skipIf(requires("netns") !== "")("a disk that becomes full keeps whole blocks, and says so", async () => {
    // In a mount namespace of its own: the file system is gone with the command.
    const mount = path("small");
    const script = `mkdir "${mount}" && mount -t tmpfs -o size=96k none "${mount}" &&
      { "${process.execPath}" "${MAIN}" capture --path "${served.socket}" -w "${mount}/f"; cp "${mount}/f" "${mount}.pcapng"; }`;
    const child = Bun.spawn(["unshare", "--mount", "sh", "-c", script], { stdin: "ignore", stderr: "pipe" });
    const [stderr] = await Promise.all([child.stderr.text(), child.exited]);
    expect(stderr).toMatch(/\nlcore: [\d,]+ frames captured\n.*ENOSPC.*\n$/s);
    expect(wholePackets(`${mount}.pcapng`).length).toBeGreaterThan(300);
  });

  // Long, as what it is about took 12 s: the server's idea of a connection that nobody uses.
  test("nothing to capture for a long time is no end", async () => {
    const running = new Cli(capture("--filter", "tcp"));
    await running.stderr.until("lcore: capturing");
    await Bun.sleep(13_000);
    running.kill("SIGINT");
    const { status, stderr } = await running.finish();
    expect([status, stderr.split("\n").slice(1)]).toEqual([0, ["lcore: 0 frames captured", ""]]);
  });
});

describe("an engine that ends meanwhile", () => {
  test.each<[NodeJS.Signals, RegExp]>([
    ["SIGTERM", /\nlcore: the engine has ended\n$/],
    ["SIGKILL", /\nlcore: the engine has gone: .*\n$/],
  ])("by %s leaves a whole file and a note", async (signal, note) => {
    const served = await Served.start();
    const file = path(`ended-${signal}.pcapng`);
    const running = new Cli(["capture", "--path", served.socket, "-w", file]);
    await running.stderr.until("lcore: capturing");
    await until("frames in the file", () => Bun.file(file).size > 20_000);
    await served.end(signal);
    const { status, stderr } = await running.finish();
    expect(stderr).toMatch(note);
    expect(status).toBe(0);
    expect(wholePackets(file).length).toBeGreaterThan(50);
  });
});

/** Questions that are asked until the answers come from the lcore itself begin so. */
const FIRST = "is the neighbour known?";

describe.skipIf(requires("netns", "veth", "af_xdp", "bpf") !== "" || Bun.which("tcpdump") === null)("on veth", () => {
  let hosts: VethPair;
  beforeAll(() => {
    hosts = makeHosts({ queues: 2 });
  });
  afterAll(() => hosts.close());

  test("the engine's capture has what tcpdump sees at the other end of the wire", async () => {
    const echo = new Cli(["echo", "--interface", "veth0", "--udp", "9000"], { ns: hosts.b.ns });
    await echo.stdout.until("ready");
    const mine = path("engine.pcapng");
    const theirs = path("wire.pcap");
    const running = new Cli(["capture", "--interface", "veth0", "-w", mine, "--filter", "udp port 9000"]);
    const dump = ["tcpdump", "-Z", "root", "--immediate-mode", "-U", "-i", "veth0", "-w", theirs, "udp port 9000"];
    const wire = hosts.a.ns.run(() => Bun.spawn(dump, { stdin: "ignore", stdout: "ignore", stderr: "pipe" }));
    await running.stderr.until("lcore: capturing");
    // tcpdump says so when it listens.
    await wire.stderr.getReader().read();
    const clients = [new KernelUdp(hosts.a.ns), new KernelUdp(hosts.a.ns, { address: "::" })];
    let asked = 0;
    const ask = async (client: KernelUdp, text: string): Promise<void> => {
      const address = client === clients[0] ? hosts.b.ipv4Text : hosts.b.ipv6Text;
      await client.ask(`${text} ${asked++}`, address, 9000);
    };
    // Until the lcore has heard of a neighbour, its answers go through the kernel's stack, unseen by the capture.
    for (const client of clients) {
      const before = packetsSoFar(mine, OUTBOUND);
      do await ask(client, FIRST);
      while (packetsSoFar(mine, OUTBOUND) === before);
    }
    for (let i = 0; i < 20; i++) for (const client of clients) await ask(client, "question");
    for (const client of clients) client.close();
    await until("every frame at the other end", () => packetsSoFar(theirs) >= 2 * asked);
    wire.kill("SIGINT");
    running.kill("SIGINT");
    await Promise.all([wire.exited, running.finish()]);
    echo.kill("SIGTERM");
    await echo.finish();
    const seen = new Map(all(openCapture(theirs)).map((packet) => [packet.hex, Number(packet.time)]));
    const captured = wholePackets(mine);
    const counted = captured.filter(({ hex }) => !hex.includes(Buffer.from(FIRST).toHex()));
    expect(counted.map(({ direction }) => direction)).toEqual(Array(40).fill([INBOUND, OUTBOUND]).flat());
    expect(captured.filter(({ direction }) => direction === INBOUND)).toHaveLength(asked);
    for (const { hex, time, direction } of captured) {
      const there = seen.get(hex) as number;
      // tcpdump's clock shows microseconds; a question comes after it was sent, an answer before it arrives.
      const late = direction === INBOUND ? Number(time) - there : there - Number(time);
      expect(late).toBeGreaterThan(-2e-6);
      expect(late).toBeLessThan(10);
    }
    const names = tshark(mine, ["frame.interface_name"]).map(([name]) => name);
    expect([...new Set(names)].every((name) => /^veth0:[01]$/.test(name))).toBe(true);
  });
});

/** Packets of a file that is being written, all of them or those of one direction. */
function packetsSoFar(file: string, way = 0): number {
  try {
    return all(openCapture(file)).filter(({ direction }) => way === 0 || direction === way).length;
  } catch {
    return 0;
  }
}
