/** The name server of the examples on AF_XDP and, its import changed, on the kernel: what dig says of the two is the same. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";

setDefaultTimeout(60_000);

const missing = requires("veth", "af_xdp", "bpf");
const SERVER = fileURLToPath(new URL("../../examples/dns-server.ts", import.meta.url));
const KERNEL_IMPORT = fileURLToPath(new URL("../../bench/peers/kernel-import.ts", import.meta.url));
const PORT = "5353";

const QUESTIONS: Record<string, readonly string[]> = {
  "an address": ["host7.example.test", "A"],
  "an IPv6 address": ["host7.example.test", "AAAA"],
  "an alias": ["www.example.test", "A"],
  "a mail exchange": ["example.test", "MX"],
  "a service": ["_sip._udp.example.test", "SRV"],
  "no such name": ["nobody.example.test", "A"],
  "no record of the type": ["mail.example.test", "AAAA"],
  "another's zone": ["example.com", "A"],
  "without EDNS": ["host7.example.test", "A", "+noedns"],
  "a version of EDNS that is not there": ["host7.example.test", "A", "+edns=1", "+noednsneg"],
  "in capitals": ["HOST7.EXAMPLE.TEST", "A"],
};

/** A server in host b of a pair of its own. */
class NameServer {
  readonly hosts: VethPair = makeHosts();
  private readonly child: Bun.Subprocess<"ignore", "pipe", "inherit">;

  constructor(onEngine: boolean) {
    const { b } = this.hosts;
    const preload = onEngine ? [] : ["--preload", KERNEL_IMPORT];
    this.child = b.ns.run(() =>
      Bun.spawn([process.execPath, ...preload, SERVER, PORT], {
        stdin: "ignore",
        stdout: "pipe",
        stderr: "inherit",
        env: { ...process.env, LCORE_INTERFACE: b.name },
      }),
    );
  }

  /** Resolves with its first words: it serves. */
  async ready(): Promise<string> {
    const { value } = await this.child.stdout.getReader().read();
    return new TextDecoder().decode(value);
  }

  /** What dig in host a says of a question, less what differs each time. */
  async dig(family: 4 | 6, question: readonly string[]): Promise<string> {
    const { a, b } = this.hosts;
    const server = family === 4 ? b.ipv4Text : b.ipv6Text;
    const options = ["+noall", "+comments", "+question", "+answer", "+authority", "+tries=2", "+time=3", "+nocookie"];
    const child = a.ns.run(() =>
      Bun.spawn(["dig", `-${family}`, `@${server}`, "-p", PORT, ...question, ...options], { stdout: "pipe" }),
    );
    const text = await child.stdout.text();
    return text.replace(/id: \d+/, "id");
  }

  async close(): Promise<number> {
    this.child.kill("SIGTERM");
    const status = await this.child.exited;
    this.hosts.close();
    return status;
  }
}

describe.skipIf(missing !== "")("dns-server.ts", () => {
  let engine: NameServer;
  let kernel: NameServer;

  beforeAll(async () => {
    engine = new NameServer(true);
    kernel = new NameServer(false);
    for (const server of [engine, kernel]) expect(await server.ready()).toContain(`on UDP ${PORT}`);
  });

  afterAll(async () => {
    for (const server of [engine, kernel]) expect(await server.close()).toBe(0);
  });

  test("answers dig over both families", async () => {
    for (const family of [4, 6] as const) {
      expect(await engine.dig(family, ["host7.example.test", "A"])).toMatch(
        /\nhost7\.example\.test\.\s+300\s+IN\s+A\s+198\.19\.0\.7\n/,
      );
      expect(await engine.dig(family, ["nobody.example.test", "A"])).toContain("status: NXDOMAIN");
    }
  });

  test.each(Object.keys(QUESTIONS))("%s: as on the kernel", async (name) => {
    for (const family of [4, 6] as const) {
      const expected = await kernel.dig(family, QUESTIONS[name]);
      expect(expected).toContain("status: ");
      expect(await engine.dig(family, QUESTIONS[name])).toBe(expected);
    }
  });
});
