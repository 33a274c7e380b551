/** lcore/http, https and net on AF_XDP, with the kernel's TCP at the other end: curl asks, and a server of the kernel's is asked. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { RequestListener } from "node:http";
import { useEngine } from "../../engine/dropin/default-engine.ts";
import http from "../../engine/dropin/http.ts";
import https from "../../engine/dropin/https.ts";
import net from "../../engine/dropin/net.ts";
import { Engine } from "../../engine/engine.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { CERT, KEY } from "./certificate.ts";

setDefaultTimeout(20_000);

const missing = Bun.which("curl") === null ? "curl" : requires("veth", "af_xdp", "bpf");
const PORT = 8080;
const BODY = Buffer.alloc(1 << 20, "lcore and curl, ");

/** Accepts one connection and sends back what comes. */
const ECHO = `
  const server = require("node:net").createServer((socket) => socket.pipe(socket).on("close", () => process.exit()));
  server.listen(${PORT + 1}, process.argv.at(-1), () => console.log("listening"));
`;

describe.skipIf(missing !== "")(`kernel peers${missing && `: ${missing}`}`, () => {
  let hosts: VethPair;
  let engine: Engine;
  beforeAll(async () => {
    hosts = makeHosts();
    engine = await Engine.start({ interface: hosts.b.name, netns: hosts.b.ns.path, poll: "interrupt" });
    useEngine(engine);
  });
  afterAll(async () => {
    useEngine(null);
    await engine.close();
    hosts.close();
  });

  /** What curl on the other host prints. */
  async function curl(...args: string[]): Promise<string> {
    const command = ["curl", "-sS", "--max-time", "10", ...args];
    const child = hosts.a.ns.run(() => Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "inherit" }));
    const text = await new Response(child.stdout).text();
    expect(await child.exited).toBe(0);
    return text;
  }

  const handle: RequestListener = async (request, response) => {
    let length = 0;
    for await (const chunk of request) length += chunk.length;
    if (request.url === "/large") response.end(BODY);
    else response.end(`${request.method} ${request.url} ${length};`);
  };

  test("curl: GET, POST and a large answer, over one connection, IPv4 and IPv6", async () => {
    let connections = 0;
    const server = http.createServer(handle).on("connection", () => void connections++);
    await new Promise<void>((resolve) => server.listen(PORT, resolve));
    for (const host of [hosts.b.ipv4Text, `[${hosts.b.ipv6Text}]`]) {
      const url = `http://${host}:${PORT}`;
      expect(await curl(`${url}/one`, `${url}/two`)).toBe("GET /one 0;GET /two 0;");
      expect(await curl("-d", "x".repeat(5000), `${url}/three`)).toBe("POST /three 5000;");
      expect(await curl(`${url}/large`)).toBe(BODY.toString());
    }
    expect(connections).toBe(6);
    await new Promise((resolve) => server.close(resolve));
  });

  test("curl: https", async () => {
    const server = https.createServer({ cert: CERT, key: KEY }, handle);
    await new Promise<void>((resolve) => server.listen(PORT, hosts.b.ipv4Text, resolve));
    expect(await curl("-k", `https://${hosts.b.ipv4Text}:${PORT}/one`)).toBe("GET /one 0;");
    await new Promise((resolve) => server.close(resolve));
  });

  test("a client of lcore/net and a server of the kernel's: 1 MiB there and back", async () => {
    const command = [process.execPath, "-e", ECHO, hosts.a.ipv4Text];
    const child = hosts.a.ns.run(() => Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "inherit" }));
    await child.stdout.getReader().read();
    const socket = net.connect(PORT + 1, hosts.a.ipv4Text);
    const chunks: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.end(BODY);
    await new Promise((resolve) => socket.on("close", resolve));
    expect(Buffer.concat(chunks).equals(BODY)).toBe(true);
    expect(await child.exited).toBe(0);
  });
});
