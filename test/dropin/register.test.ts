/** Which ways to the runtime's modules lead to the drop-ins with lcore/register, and without; programs that know nothing of it. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelTcp } from "../support/kernel-tcp.ts";
import { until } from "../support/kernel-udp.ts";

setDefaultTimeout(30_000);

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

function run(program: string, ...options: string[]) {
  const child = Bun.spawnSync([process.execPath, ...options, `test/dropin/register/${program}`], { cwd: ROOT });
  const lines = child.stdout.toString().trim();
  return { status: child.exitCode, lines: lines === "" ? [] : lines.split("\n"), errors: child.stderr.toString() };
}

const WAYS = ["default", "named", "namespace", "dynamic", "require", "requireBare", "builtin", "extended"];
const every = (ours: boolean, isMainThread = true) => ({
  ...Object.fromEntries(WAYS.map((way) => [way, ours])),
  isMainThread,
});

describe("node:dgram", () => {
  test("without it, is the original", () => {
    const { lines, status } = run("importer.ts");
    expect(JSON.parse(lines[0])).toEqual(every(false));
    expect(status).toBe(0);
  });

  test("with --preload, is the drop-in, whichever way it is named", () => {
    const { lines, status } = run("importer.ts", "--preload", "lcore/register");
    expect(JSON.parse(lines[0])).toEqual(every(true));
    expect(status).toBe(0);
  });

  test("with an import in the first line, is the drop-in for packages and for later imports", () => {
    const { lines, status } = run("first-line.ts");
    expect(JSON.parse(lines[0])).toEqual({ package: true, later: true });
    expect(status).toBe(0);
  });

  test("imported before, it says that it is too late", () => {
    const { errors, lines, status } = run("too-late.ts");
    expect(errors).toContain("node:dgram was imported before");
    expect(lines).toEqual([]);
    expect(status).not.toBe(0);
  });

  test("in a worker, needs its own preload", () => {
    const { lines } = run("workers.ts");
    expect(lines.map((line) => JSON.parse(line))).toEqual([every(false, false), every(true, false)]);
  });
});

describe("net, http, https, tls, Bun.listen", () => {
  const MODULES = ["net", "tls", "http", "https", "required", "bun", "namedBun"];

  test("without it, are the originals; with it, the drop-ins", () => {
    for (const [ours, options] of [
      [false, []],
      [true, ["--preload", "lcore/register"]],
    ] as const) {
      const { lines } = run("modules.ts", ...options);
      expect(JSON.parse(lines[0])).toEqual(Object.fromEntries(MODULES.map((name) => [name, ours])));
    }
  });
});

const missing = Bun.which("curl") === null ? "curl" : requires("veth", "af_xdp", "bpf");

describe.skipIf(missing !== "")(`a program that knows nothing of it${missing && `: ${missing}`}`, () => {
  const [HTTP, NET, BUN, PEER] = [8080, 8081, 8082, 8083];

  /** What curl on the other host prints. */
  function curl({ a }: VethPair, url: string): Promise<string> {
    const command = ["curl", "-sS", "--max-time", "10", url];
    const child = a.ns.run(() => Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "inherit" }));
    return new Response(child.stdout).text();
  }

  /** Sends a text and the end, and returns what comes back. */
  async function echoed({ a, b }: VethPair, port: number): Promise<string> {
    const socket = KernelTcp.connect(a.ns, b.ipv4Text, port);
    await until("the connection", () => socket.send("echo") > 0);
    await until("the echo", () => socket.text === "echo");
    const ofTheKernel = b.ns.run(() => Bun.spawnSync(["ss", "-Htn", "state", "established"]).stdout.toString());
    expect(ofTheKernel).toBe("");
    socket.end();
    await until("the end", () => socket.pull() && socket.ended);
    socket.close();
    return socket.text;
  }

  test("serves curl and others by the engine: the kernel has none of the connections", async () => {
    const hosts = makeHosts();
    const { a, b } = hosts;
    const peer = `require("node:http").createServer((q, r) => r.end("from elsewhere")).listen(${PEER}, "${a.ipv4Text}", () => console.log("up"))`;
    const elsewhere = a.ns.run(() => Bun.spawn([process.execPath, "-e", peer], { stdin: "ignore", stdout: "pipe" }));
    const program = ["--preload", "lcore/register", "test/dropin/register/serve.ts"];
    const settings = [b.ipv4Text, HTTP, NET, BUN, `http://${a.ipv4Text}:${PEER}/`].map(String);
    const child = b.ns.run(() =>
      Bun.spawn([process.execPath, ...program, ...settings], {
        cwd: ROOT,
        env: { ...process.env, LCORE_INTERFACE: b.name, LCORE_POLL: "interrupt" },
        stdin: "ignore",
        stdout: "pipe",
        stderr: "inherit",
      }),
    );
    try {
      await elsewhere.stdout.getReader().read();
      let text = "";
      for await (const chunk of child.stdout) {
        text += Buffer.from(chunk).toString();
        if (text.split("listening").length === 4) break;
      }
      expect(await curl(hosts, `http://${b.ipv4Text}:${HTTP}/one`)).toBe("GET /one");
      expect(await curl(hosts, `http://${b.ipv4Text}:${HTTP}/forward`)).toBe("from elsewhere");
      expect(await echoed(hosts, NET)).toBe("echo");
      expect(await echoed(hosts, BUN)).toBe("echo");
    } finally {
      for (const one of [child, elsewhere]) {
        one.kill();
        await one.exited;
      }
      hosts.close();
    }
  });
});
