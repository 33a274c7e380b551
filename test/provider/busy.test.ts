/** What `poll: "busy"` asks of the kernel, read back from the sockets; and what is said where the kernel does not allow it. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { abi, ERRNO, sys } from "af-xdp-bindings";
import type { PollPolicy } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";
import { getAffinity } from "../../engine/host/affinity.ts";
import { PLACEHOLDER } from "../../sockets/table.ts";
import type { UdpSocket } from "../../sockets/udp-socket.ts";
import { Cli } from "../engine/cli/cli.ts";
import type { DescriptorsData } from "../engine/modules/descriptors.ts";
import { makeHosts, requires } from "../support/hosts.ts";
import { KernelUdp } from "../support/kernel-udp.ts";
import { module, NOBODY } from "./bed.ts";

setDefaultTimeout(30_000);

const missing = requires("netns", "veth");
const SOL_SOCKET = 1;
const CPUS = getAffinity(0).slice(0, 2);
const BUDGET = fileURLToPath(new URL("./budget.ts", import.meta.url));

/** SO_BUSY_POLL, SO_PREFER_BUSY_POLL. */
function read(fd: number): number[] {
  return [abi.SO_BUSY_POLL, abi.SO_PREFER_BUSY_POLL].map((name) => {
    const value = Int32Array.of(-1);
    expect(sys.getsockoptInt(fd, SOL_SOCKET, name, value)).toBe(0);
    return value[0];
  });
}

/** SO_BUSY_POLL_BUDGET of each: see budget.ts. */
async function budgets(fds: readonly number[]): Promise<number[]> {
  const args = fds.map((_, i) => String(3 + i));
  const child = Bun.spawn([...NOBODY, process.execPath, BUDGET, ...args], {
    stdio: ["ignore", "pipe", "inherit", ...fds],
  });
  return JSON.parse(await new Response(child.stdout as ReadableStream).text());
}

const fdOf = ({ endpoint, id }: UdpSocket): number => endpoint.table.get(id, PLACEHOLDER);

describe.skipIf(missing !== "")("", () => {
  const cleanUp: (() => unknown)[] = [];
  afterEach(async () => {
    for (const each of cleanUp.splice(0).toReversed()) await each();
  });
  const hosts = () => {
    const pair = makeHosts();
    cleanUp.push(() => pair.close());
    return pair;
  };

  /** An engine with a socket on each lcore; their descriptors, and what was said. */
  async function start(poll: PollPolicy) {
    const words = new Int32Array(new SharedArrayBuffer(4 * CPUS.length)).fill(-1);
    const data: DescriptorsData = { words };
    const notices: string[] = [];
    const engine = await Engine.start({
      provider: "kernel",
      netns: hosts().b.ns.path,
      cpus: CPUS,
      poll,
      module: module("descriptors"),
      data,
      onNotice: (text) => notices.push(text),
    });
    cleanUp.push(() => engine.close());
    return { engine, notices, fds: [...words] };
  }

  test("busy: sockets of lcores have all three, those of other threads none", async () => {
    const { engine, fds, notices } = await start("busy");
    const own = fdOf(engine.udp());
    for (const fd of fds) expect(read(fd)).toEqual([20, 1]);
    expect(read(own)).toEqual([0, 0]);
    expect(await budgets([...fds, own])).toEqual([...fds.map(() => 64), 0]);
    expect(notices).toEqual([]);
  });

  test.each(["adaptive", "interrupt"] as const)("%s: none has any", async (poll) => {
    const { fds } = await start(poll);
    for (const fd of fds) expect(read(fd)).toEqual([0, 0]);
    expect(await budgets(fds)).toEqual(fds.map(() => 0));
  });

  test("the budget is one that getsockopt(2) does not tell", () => {
    const fd = sys.socket(2, 2, 0);
    expect(sys.getsockoptInt(fd, SOL_SOCKET, abi.SO_BUSY_POLL_BUDGET, Int32Array.of(0))).toBe(-ERRNO.ENOPROTOOPT);
    sys.close(fd);
  });

  test("without CAP_NET_ADMIN: said once, however many lcores and sockets there are, and it echoes", async () => {
    const { a, b } = hosts();
    const args = ["echo", "--provider", "kernel", "--poll", "busy", "--udp", "9000", "--cpus", CPUS.join()];
    const cli = new Cli(args, { ns: b.ns, unprivileged: true });
    cleanUp.push(() => cli.kill("SIGKILL"));
    await cli.stdout.until("ready UDP");
    const peer = new KernelUdp(a.ns, { address: a.ipv4Text });
    cleanUp.push(() => peer.close());
    expect((await peer.ask("x", b.ipv4Text, 9000)).text).toBe("x");
    cli.kill("SIGTERM");
    const { status, stderr } = await cli.finish();
    expect(status).toBe(0);
    const said = stderr.split("\n").filter((line) => line.startsWith("lcore: poll busy: "));
    expect(said).toEqual([
      "lcore: poll busy: SO_PREFER_BUSY_POLL needs CAP_NET_ADMIN; reads drive the device's NAPI, and so do its interrupts, as before",
    ]);
  });
});
