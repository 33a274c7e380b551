/** Where statistics are served and who may read them, on an engine that needs no privilege. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Engine } from "../../engine/engine.ts";
import { type StatsSnapshot, servedEngines, statsDirectories } from "../../engine/stats.ts";
import { createMemoryWire } from "../../queues/memory.ts";

const mac = Uint8Array.of(2, 0, 0, 0, 0, 2);
const start = (): Promise<Engine> =>
  Engine.start({
    memory: { wire: createMemoryWire(), side: 1, mac, addresses: ["198.18.0.2/24"], neighbours: [] },
    poll: "interrupt",
  });
const ask = (path: string, what = "/stats"): Promise<Response> => fetch(`http://lcore${what}`, { unix: path });
const mode = (path: string): number => statSync(path).mode & 0o777;

describe("statistics", () => {
  const before = process.env.XDG_RUNTIME_DIR;
  let runtime: string;

  beforeAll(() => {
    runtime = mkdtempSync(join(tmpdir(), "lcore-test-"));
    process.env.XDG_RUNTIME_DIR = runtime;
  });
  afterAll(() => {
    if (before === undefined) delete process.env.XDG_RUNTIME_DIR;
    else process.env.XDG_RUNTIME_DIR = before;
    rmSync(runtime, { recursive: true });
  });

  test("are served to this user alone, found, and gone with the engine", async () => {
    const engine = await start();
    const { path } = engine.serveStats();
    expect(path).toBe(join(runtime, "lcore", `${process.pid}.sock`));
    expect([mode(join(runtime, "lcore")), mode(path)]).toEqual([0o700, 0o600]);
    expect(servedEngines()).toContainEqual({ pid: process.pid, path });
    const stats = (await (await ask(path)).json()) as StatsSnapshot;
    expect(stats).toMatchObject({ pid: process.pid, info: { interface: null, attach: "memory" }, steering: null });
    expect(stats.threads.map(({ name }) => name)).toContain("lcore 0");
    expect((await ask(path, "/")).status).toBe(404);
    await engine.close();
    expect(existsSync(path)).toBe(false);
    await expect(ask(path)).rejects.toThrow();
  });

  test("two engines of a process have a socket each; close() leaves the engine running", async () => {
    const [one, two] = [await start(), await start()];
    try {
      const servers = [one.serveStats(), two.serveStats()];
      expect(new Set(servers.map(({ path }) => path)).size).toBe(2);
      servers[0].close();
      expect(existsSync(servers[0].path)).toBe(false);
      expect((await ask(servers[1].path)).status).toBe(200);
    } finally {
      await Promise.all([one.close(), two.close()]);
    }
  });

  test("what an ended process left is removed and not listed", async () => {
    const ended = Bun.spawnSync([process.execPath, "-e", "0"]).pid;
    const stale = join(runtime, "lcore", `${ended}.sock`);
    writeFileSync(stale, "");
    expect(servedEngines().map(({ path }) => path)).not.toContain(stale);
    const engine = await start();
    engine.serveStats();
    expect(existsSync(stale)).toBe(false);
    await engine.close();
  });

  test("a directory that others may write, or a link, is not trusted", async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), "lcore-test-"));
    const engine = await start();
    try {
      for (const prepare of [
        (path: string): void => {
          mkdirSync(path);
          chmodSync(path, 0o777);
        },
        (path: string): void => symlinkSync(elsewhere, path),
      ]) {
        const directory = join(runtime, "lcore");
        rmSync(directory, { recursive: true, force: true });
        prepare(directory);
        const server = engine.serveStats();
        expect(server.path.startsWith(runtime)).toBe(false);
        expect(statsDirectories().some((usual) => server.path.startsWith(usual))).toBe(true);
        server.close();
      }
    } finally {
      await engine.close();
      rmSync(elsewhere, { recursive: true });
    }
  });

  test("a path of one's own", async () => {
    const engine = await start();
    const path = join(runtime, "mine.sock");
    const mask = process.umask(0);
    try {
      engine.serveStats(path);
      expect(process.umask()).toBe(0);
    } finally {
      process.umask(mask);
    }
    expect(mode(path)).toBe(0o600);
    expect(() => engine.serveStats(join(runtime, "no", "such.sock"))).toThrow();
    await engine.close();
    expect(existsSync(path)).toBe(false);
  });
});
