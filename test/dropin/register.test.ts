/** Which ways to node:dgram lead to the drop-in with lcore/register, and without. */
import { describe, expect, test } from "bun:test";
import { fileURLToPath } from "node:url";

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
