/** `lcore http` and `lcore echo --tcp` over veth: curl and nc are the clients, on the kernel's TCP. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeHosts, requires, type VethPair } from "../../support/hosts.ts";
import { Cli, lcore } from "./cli.ts";

const PORT = 8080;
const sha256 = (bytes: Buffer): string => new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
/** Two processes a step, on a machine that may be loaded. */
const TIMEOUT_MS = 60_000;
const MISSING = ["curl", "nc"].some((tool) => Bun.which(tool) === null);

describe.skipIf(requires("netns", "veth", "af_xdp", "bpf") !== "" || MISSING)("over veth", () => {
  const big = Buffer.alloc(10 << 20);
  for (let i = 0; i < big.length; i += 4) big.writeUInt32LE((i * 2654435761) % 2 ** 32, i);
  let hosts: VethPair;
  let root: string;

  beforeAll(() => {
    hosts = makeHosts({ queues: 2 });
    root = mkdtempSync(join(tmpdir(), "lcore-root-"));
    mkdirSync(join(root, "dir"));
    writeFileSync(join(root, "index.html"), "hello\n");
    writeFileSync(join(root, "dir/index.html"), "dir\n");
    writeFileSync(join(root, "big.bin"), big);
  });
  afterAll(() => {
    hosts.close();
    rmSync(root, { recursive: true });
  });

  /** What a client in the other namespace prints. */
  async function client(command: string[], input: string | Buffer = ""): Promise<Buffer> {
    const stdin = Buffer.from(input);
    const child = hosts.a.ns.run(() => Bun.spawn(command, { stdin, stdout: "pipe", stderr: "inherit" }));
    try {
      const output = Buffer.from(await child.stdout.bytes());
      await child.exited;
      return output;
    } finally {
      child.kill();
    }
  }

  const curl = async (...args: string[]): Promise<string> =>
    (await client(["curl", "-sS", "--max-time", "10", ...args])).toString();

  /** A server from its line "ready" to its end, whatever `use` comes to. What it has printed. */
  async function serving(args: string[], ready: string, use: () => Promise<void>): Promise<string> {
    const server = new Cli(args, { ns: hosts.b.ns });
    try {
      await server.stdout.until(ready).catch(async (error: Error) => {
        throw new Error(`${error.message}${await server.stderr.all()}`);
      });
      await use();
      server.kill("SIGTERM");
      const { status, stdout, stderr } = await server.finish();
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      return stdout;
    } finally {
      server.kill("SIGKILL");
      await server.child.exited;
    }
  }

  test(
    "http: files, heads, ranges, redirects, connections that stay, 10 MiB with every byte",
    async () => {
      const args = ["http", "--interface", "veth0", "--port", String(PORT), "--root", root, "--log"];
      const stdout = await serving(args, "ready HTTP *:8080 on veth0", async () => {
        for (const host of [hosts.b.ipv4Text, `[${hosts.b.ipv6Text}]`]) {
          const url = (path: string): string => `http://${host}:${PORT}${path}`;
          expect(await curl(url("/"))).toBe("hello\n");
          expect(await curl("-I", url("/"))).toMatch(/^HTTP\/1.1 200 OK\r\n.*Content-Length: 6\r\n/s);
          expect(await curl("-r", "-3", url("/"))).toBe("lo\n");
          expect(await curl("-L", url("/dir"))).toBe("dir\n");
          expect(await curl("-o", "/dev/null", "-w", "%{http_code}", url("/nowhere"))).toBe("404");
          expect(await curl("-o", "/dev/null", "-w", "%{http_code}", "--path-as-is", url("/../x"))).toBe("400");
          expect(await curl("-d", "a=b", "-o", "/dev/null", "-w", "%{http_code}", url("/"))).toBe("405");
          expect(await curl(url("/"), url("/dir/"), "-w", "%{num_connects}\n")).toBe("hello\n1\ndir\n0\n");
          const got = await client(["curl", "-sS", "--max-time", "20", url("/big.bin")]);
          expect(sha256(got)).toBe(sha256(big));
        }
        const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        const pipelined = await client(["nc", "-N", "-w", "5", hosts.b.ipv4Text, String(PORT)], request.repeat(200));
        expect(pipelined.toString().match(/\r\n\r\nhello\n/g)).toHaveLength(200);
      });
      expect(stdout).toMatch(/^198\.18\.0\.\d+ - - \[.*\] "GET \/ HTTP\/1\.1" 200 6$/m);
      expect(stdout).toMatch(/^405 +2 +Method Not Allowed$/m);
    },
    TIMEOUT_MS,
  );

  test(
    "echo: UDP and TCP on one port, and every byte of a connection comes back",
    async () => {
      const args = ["echo", "--interface", "veth0", "--udp", "7007", "--tcp", "7007"];
      const stdout = await serving(args, "ready UDP *:7007 and TCP *:7007 on veth0", async () => {
        const sent = big.subarray(0, 1 << 20);
        const back = await client(["nc", "-N", "-w", "5", hosts.b.ipv4Text, "7007"], sent);
        expect(sha256(back)).toBe(sha256(sent));
        expect(await client(["nc", "-u", "-w", "1", hosts.b.ipv4Text, "7007"], "datagram")).toEqual(
          Buffer.from("datagram"),
        );
      });
      expect(stdout).toMatch(/^TcpPassiveOpens +1 +connections begun by peers$/m);
    },
    TIMEOUT_MS,
  );
});

describe("what cannot be is one line", () => {
  test.each([
    [["echo"], "echo: give --udp PORT, --tcp PORT or both"],
    [
      ["echo", "--tcp", "7", "--provider", "kernel"],
      "echo: --tcp is the engine's own TCP, which kernel sockets do without",
    ],
    [["http", "--port", "80", "--root", "/nowhere"], "http: --root /nowhere: no such directory"],
    [["http", "--port", "80", "--root", "/", "--log", "--json"], "http: --log beside --json needs a file"],
  ])("%p", async (args, line) => {
    const { status, stderr } = await lcore(args);
    expect({ status, stderr }).toEqual({ status: 2, stderr: `lcore: ${line}\n` });
  });
});
