/**
 * Memory is short where the engine runs: other processes of its cgroup take all there is, again and again. The runtime
 * is a copy of its own, so that its code is charged to the group, thrown out and read again.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { requires } from "../support/hosts.ts";
import { KernelUdp } from "../support/kernel-udp.ts";
import { lacksMemoryGroups, MemoryGroup } from "./memory-group.ts";
import { PORT, scene, until } from "./serving.ts";

setDefaultTimeout(60_000);

const MIB = 2 ** 20;
/**
 * What is left below the limit. The kernel kills whose memory, with a bonus of the whole limit for the balloon, is most;
 * that of the runtime counts its code, whoever it is charged to (oom_badness): less than its 45 MiB and it would be the one.
 */
const ROOM = 64 * MIB;
/** Balloons that are blown up until the kernel kills them. */
const BALLOONS = 10;
const FLOWS = 8;

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "" || lacksMemoryGroups() !== "")("", () => {
  const { cleanUp, hosts } = scene();

  test("memory pressure: every flow is served through it, and nothing grows", async () => {
    const { a, b } = hosts();
    const directory = mkdtempSync(join(tmpdir(), "lcore-"));
    cleanUp.push(() => rmSync(directory, { recursive: true }));
    const group = new MemoryGroup();
    cleanUp.push(() => group.close());
    const runtime = join(directory, "bun");
    expect(await Bun.spawn(group.command("cp", process.execPath, runtime)).exited).toBe(0);
    const script = fileURLToPath(new URL("./pressure.ts", import.meta.url));
    const child = Bun.spawn(group.command(runtime, script, b.name, b.ns.path, String(PORT)), {
      stdin: "pipe",
      stdout: "pipe",
    });
    cleanUp.push(() => {
      child.kill("SIGKILL");
      return child.exited;
    });
    const { value } = await child.stdout.getReader().read();
    expect(new TextDecoder().decode(value)).toBe("ready\n");

    const peers = Array.from({ length: FLOWS }, () => new KernelUdp(a.ns, {}));
    for (const peer of peers) cleanUp.push(() => peer.close());
    let rounds = 0;
    /** A question of each flow, to the lcore's socket and the thread's in turn, and every one is answered. */
    const round = async (): Promise<void> => {
      const text = `round ${++rounds}`;
      for (const peer of peers) peer.send(text, b.ipv4Text, PORT + (rounds & 1));
      for (const peer of peers) expect((await peer.receive()).text).toBe(text);
    };
    for (let i = 0; i < 100; i++) await round();
    const before = group.usage;
    group.limit(before + ROOM);

    const balloons = (async () => {
      for (let i = 0; i < BALLOONS; i++) {
        const balloon = group.command("tail", "/dev/zero");
        // Raised before it comes in: nobody else is to be chosen.
        balloon[2] = `echo 1000 > /proc/self/oom_score_adj && ${balloon[2]}`;
        await Bun.spawn(balloon, { stdout: "ignore" }).exited;
      }
    })();
    let pressed = 0;
    while (group.killed < BALLOONS) {
      await round();
      pressed++;
    }
    await balloons;
    expect([group.killed, child.exitCode, child.signalCode]).toEqual([BALLOONS, null, null]);
    expect(group.met).toBeGreaterThan(BALLOONS);
    expect(pressed).toBeGreaterThan(BALLOONS);
    for (let i = 0; i < 100; i++) await round();
    expect(group.usage - before).toBeLessThan(ROOM / 2);
    child.stdin.write("stop\n");
    child.stdin.flush();
    await until("its end", () => child.exitCode !== null);
    expect(child.exitCode).toBe(0);
  });
});
