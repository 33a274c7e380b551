/** Which provider serves, and why; what a start fails with; and that nothing is left of one. */
import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Umem, Xsk } from "af-xdp-bindings";
import type { EngineOptions } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";
import { lcore } from "../engine/cli/cli.ts";
import { makeHosts, requires } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";
import { module, NOBODY } from "./bed.ts";

setDefaultTimeout(120_000);

const missing = requires("veth", "af_xdp", "bpf");
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SERVE = fileURLToPath(new URL("./serve.ts", import.meta.url));
const DROPIN = fileURLToPath(new URL("./dropin.ts", import.meta.url));
const CLI = fileURLToPath(new URL("../../engine/cli/main.ts", import.meta.url));
const PORT = 9000;

describe.skipIf(missing !== "")("", () => {
  const pair = missing === "" ? makeHosts() : null;
  const { a, b } = pair ?? ({} as NonNullable<typeof pair>);
  afterAll(() => pair?.close());
  const cleanUp: (() => unknown)[] = [];
  afterEach(async () => {
    for (const each of cleanUp.splice(0).toReversed()) await each();
  });

  /** Starts a program on host b; resolves with the first line that it prints. */
  async function firstLine(command: string[]): Promise<string> {
    const child = b.ns.run(() => Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe", cwd: ROOT }));
    cleanUp.push(async () => {
      child.kill();
      await child.exited;
    });
    let text = "";
    for await (const chunk of child.stdout) {
      text += new TextDecoder().decode(chunk);
      if (text.includes("\n")) break;
    }
    if (text === "") throw new Error(await new Response(child.stderr).text());
    return text.split("\n")[0];
  }

  async function serve(
    provider: string,
    name: string,
    as: string[] = [],
    options: Partial<EngineOptions> = {},
  ): Promise<Record<string, unknown>> {
    const command = [process.execPath, SERVE, provider, `${PORT}`, name, JSON.stringify(options)];
    return JSON.parse(await firstLine([...as, ...command]));
  }

  async function answers(): Promise<void> {
    const peer = new KernelUdp(a.ns, { address: a.ipv4Text });
    cleanUp.push(() => peer.close());
    expect((await peer.ask("anybody", b.ipv4Text, PORT)).text).toBe("anybody");
  }

  test("auto with the privilege: the engine", async () => {
    expect(await serve("auto", b.name)).toMatchObject({ provider: "engine", interface: b.name, notices: [] });
    await answers();
  });

  test("auto without privilege: kernel sockets, and the reason with what would help", async () => {
    const said = await serve("auto", b.name, NOBODY);
    expect(said).toMatchObject({ provider: "kernel", attach: "none" });
    expect(said.reason).toMatch(/AF_XDP needs CAP_NET_RAW, CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON: run as root.*setcap/);
    expect(said.notices).toEqual([`on kernel sockets: ${said.reason}`]);
    await answers();
  });

  test("kernel without privilege: nothing to say", async () => {
    expect(await serve("kernel", "", NOBODY)).toMatchObject({ provider: "kernel", reason: "asked for", notices: [] });
    await answers();
  });

  test("engine without privilege: fails, with the call and what would help", async () => {
    const said = await serve("engine", b.name, NOBODY);
    expect(said.code).toBe("EPERM");
    expect(said.hint).toContain("CAP_");
  });

  test("auto where nothing leads anywhere: kernel sockets; the engine is refused", async () => {
    const said = await serve("auto", "");
    expect(said).toMatchObject({ provider: "kernel", reason: "no default route leads over an interface: name one" });
    await answers();
    const { message } = await serve("engine", "");
    expect(message).toContain("no default route");
  });

  test("auto on an interface that AF_XDP cannot serve: kernel sockets; the engine is refused", async () => {
    const said = await serve("auto", "lo");
    expect(said.provider).toBe("kernel");
    expect(said.reason).toContain("interface lo");
    expect((await serve("engine", "lo")).message).toContain("interface lo");
  });

  test.each(["auto", "engine"])("%s on an interface that is not there fails", async (provider) => {
    expect(await serve(provider, "absent0")).toMatchObject({ code: "ENODEV" });
  });

  test("auto on an interface whose queue somebody holds fails: it is no lack of support", async () => {
    const umem = new Umem({ chunks: 64 });
    const xsk = b.ns.run(() => {
      const opened = new Xsk(umem, { ifindex: b.ifindex, queue: 0, rxSize: 64, txSize: 64 });
      opened.bind();
      return opened;
    });
    cleanUp.push(() => {
      xsk.close();
      umem.close();
    });
    expect(await serve("auto", b.name)).toMatchObject({ code: "EBUSY" });
  });

  test("auto with options of the interface, without privilege: the reason says which are without effect", async () => {
    const options: Partial<EngineOptions> = { mode: "native", queues: [0], frames: 16384, ringSlots: 64, poll: "busy" };
    const said = await serve("auto", b.name, NOBODY, options);
    expect(said).toMatchObject({ provider: "kernel", interface: null });
    expect(said.reason).toMatch(
      /setcap.*; without effect there: interface, mode, queues, poll, ringSlots, frames 16384 \(8192 a thread\)$/,
    );
    expect(said.notices).toEqual([`on kernel sockets: ${said.reason}`]);
    await answers();
  });

  test("lcore echo --provider kernel says so in its first line, and echoes", async () => {
    const line = await firstLine([process.execPath, CLI, "echo", "--provider", "kernel", "--udp", `${PORT}`]);
    expect(line).toMatch(/^ready UDP \*:9000 on kernel sockets, CPU \d+, poll adaptive, pid \d+$/);
    await answers();
  });

  test.each(["--interface lo", "--queues 0", "--mode skb", "--addresses 198.18.0.9/24", "--no-dad"])(
    "lcore echo --provider kernel refuses %s in one line, status 2",
    async (option) => {
      const command = ["echo", "--provider", "kernel", "--udp", `${PORT}`, ...option.split(" ")];
      const { status, stdout, stderr } = await lcore(command, { ns: b.ns });
      expect([status, stdout]).toEqual([2, ""]);
      expect(stderr).toMatch(/^lcore: [a-z]+: [^\n]*\n$/);
      expect(option).toContain(stderr.split(": ")[1]);
    },
  );

  test.each([
    ["", /^serves$/, /Warning: lcore: on kernel sockets: AF_XDP needs CAP_/],
    ["kernel", /^serves$/, /^$/],
    ["engine", /EPERM/, /^$/],
  ])("a drop-in without privilege, LCORE_PROVIDER=%s", async (provider, said, warned) => {
    const child = b.ns.run(() =>
      Bun.spawn([...NOBODY, process.execPath, DROPIN, `${PORT}`], {
        ...{ stdin: "ignore", stdout: "pipe", stderr: "pipe", cwd: ROOT },
        env: { ...process.env, LCORE_PROVIDER: provider, LCORE_INTERFACE: provider === "kernel" ? "" : b.name },
      }),
    );
    const { value } = await child.stdout.getReader().read();
    const line = new TextDecoder().decode(value).trim();
    expect(line).toMatch(said);
    if (line === "serves") await answers();
    child.kill();
    expect(await new Response(child.stderr).text()).toMatch(warned);
  });

  test("a hundred starts and stops leave no descriptor and no thread", async () => {
    const peer = new KernelUdp(a.ns, { address: a.ipv4Text });
    cleanUp.push(() => peer.close());
    const count = (): [number, number] => [readdirSync("/proc/self/fd").length, readdirSync("/proc/self/task").length];
    const cycle = async (): Promise<void> => {
      const engine = await Engine.start({
        provider: "kernel",
        netns: b.ns.path,
        module: module("echo"),
        data: { port: PORT },
      });
      const socket = engine.udp({ port: PORT + 1 });
      socket.onDatagram = (datagram) => datagram.reply();
      // Left open: a flow, a connected socket, one that waits.
      engine.udp().connect(PORT, a.ipv4Text);
      const waiting = engine
        .udp()
        .receive()
        .catch(() => {});
      await peer.ask("lcore", b.ipv4Text, PORT);
      await peer.ask("thread", b.ipv4Text, PORT + 1);
      await engine.close();
      await waiting;
    };
    for (let i = 0; i < 5; i++) await cycle();
    const before = count();
    for (let i = 0; i < 100; i++) await cycle();
    // A worker that has just ended may still hold its own few.
    await until("descriptors and threads", () => {
      const now = count();
      return now[0] <= before[0] && now[1] <= before[1] + 1;
    });
  });
});
