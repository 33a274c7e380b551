/** Bad command lines: one line that says what to do, and the status of a usage error. */
import { describe, expect, test } from "bun:test";
import { requires } from "../../support/hosts.ts";
import { lcore } from "./cli.ts";

const ECHO = ["echo", "--interface", "veth0", "--udp", "7"];

describe.concurrent("usage errors", () => {
  const cases: [string, string[], RegExp][] = [
    ["no such command", ["ecoh"], /unknown command 'ecoh'/],
    ["no such option", [...ECHO, "--mod", "skb"], /unknown option '--mod' \(Did you mean --mode\?\)/],
    ["an argument too many", [...ECHO, "veth1"], /too many arguments for 'echo'/],
    ["provider", [...ECHO, "--provider", "dpdk"], /--provider.*auto, engine, kernel/],
    ["no port", ["echo", "--interface", "veth0"], /echo: give --udp PORT, --tcp PORT or both/],
    ["port 0", ["echo", "--interface", "veth0", "--udp", "0"], /--udp.*whole number from 1 to 65535/],
    ["port 65536", ["echo", "--interface", "veth0", "--udp", "65536"], /whole number from 1 to 65535/],
    ["port in hexadecimal", ["echo", "--interface", "veth0", "--udp", "0x7"], /whole number from 1 to 65535/],
    ["address", [...ECHO, "--address", "198.18.0"], /--address.*IPv4 or IPv6 address/],
    ["queues", [...ECHO, "--queues", "1-"], /--queues.*list such as 0-3,8/],
    ["a queue twice", [...ECHO, "--queues", "0,0"], /--queues.*each number once/],
    ["no CPU", [...ECHO, "--cpus", ""], /--cpus.*list such as 0-3,8/],
    ["mode", [...ECHO, "--mode", "fast"], /--mode.*auto, native, skb, zerocopy/],
    ["poll", [...ECHO, "--poll", "never"], /--poll.*busy, adaptive, interrupt/],
    ["interval", ["stats", "--interval", "0"], /--interval.*Seconds above 0/],
    ["count", ["stats", "--count", "-1"], /--count.*whole number/],
    ["both formats", ["stats", "--json", "--prometheus"], /either --json or --prometheus/],
    ["Prometheus again and again", ["stats", "--prometheus", "--interval", "1"], /without --interval/],
    ["a choice of nothing", ["stats", "--sport", "80"], /add --tcp/],
    ["connections again and again", ["stats", "--tcp", "--count", "2"], /once, without --interval/],
    ["a state", ["stats", "--tcp", "--state", "open"], /--state open: one of all, connected/],
    ["two ways to name an engine", ["stats", "--pid", "1", "--socket", "/x"], /either --pid or --socket/],
  ];
  test.each(cases)("%s", async (_name, args, message) => {
    const { status, stdout, stderr } = await lcore(args);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^lcore: .*\n$/);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  });

  test("no command at all shows the help", async () => {
    const { status, stderr } = await lcore([]);
    expect(stderr).toContain("Usage: lcore");
    expect(status).toBe(2);
  });

  test("help was asked for", async () => {
    const { status, stdout } = await lcore(["echo", "--help"]);
    expect(stdout).toContain("--interface <if>");
    expect(status).toBe(0);
  });
});

describe.concurrent("what the host refuses", () => {
  test("no engine runs", async () => {
    const { status, stderr } = await lcore(["stats", "--pid", "4194304"]);
    expect(stderr).toMatch(/^lcore: process 4194304 serves no statistics .*engine\.serveStats.*\n$/);
    expect(status).toBe(1);
  });

  test("nobody at a socket", async () => {
    const { status, stderr } = await lcore(["stats", "--socket", "/nowhere.sock"]);
    expect(stderr).toMatch(/^lcore: no engine answers at \/nowhere\.sock.*\n$/);
    expect(status).toBe(1);
  });

  test.skipIf(process.geteuid?.() !== 0)("no privilege", async () => {
    const { status, stderr } = await lcore([...ECHO, "--provider", "engine"], { unprivileged: true });
    expect(stderr).toMatch(/^lcore: AF_XDP needs CAP_NET_RAW, CAP_BPF, CAP_NET_ADMIN, .*run as root.*setcap.*\n$/);
    expect(status).toBe(1);
  });

  test.skipIf(requires("af_xdp", "bpf") !== "")("no such interface", async () => {
    const { status, stderr } = await lcore(["echo", "--interface", "nowhere0", "--udp", "7"]);
    expect(stderr).toMatch(/^lcore: .*nowhere0.*no such interface.*\n$/);
    expect(status).toBe(1);
  });
});
