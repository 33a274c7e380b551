import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  checkOut,
  provideDependencies,
  repositoryAround,
  workingTree,
} from "../../../engine/measure/compare/worktree.ts";
import type { ComparisonReport, StoredReport } from "../../../engine/measure/report/data.ts";

setDefaultTimeout(60_000);

const MAIN = join(import.meta.dir, "../../../engine/cli/main.ts");
const ROOT = join(import.meta.dir, "../../..");
const directory = mkdtempSync(join(tmpdir(), "lcore-gate-"));
const repository = join(directory, "repository");

function git(...words: string[]): string {
  const { stdout, stderr, exitCode } = Bun.spawnSync([
    "git",
    "-c",
    "user.name=t",
    "-c",
    "user.email=t@example.com",
    "-C",
    repository,
    ...words,
  ]);
  if (exitCode !== 0) throw new Error(stderr.toString());
  return stdout.toString().trim();
}

function commit(message: string): string {
  git("add", "-A");
  git("commit", "--quiet", "-m", message);
  return git("rev-parse", "HEAD");
}

async function regress(cwd: string, ...words: string[]): Promise<{ code: number; out: string; error: string }> {
  const child = Bun.spawn([process.execPath, MAIN, "regress", ...words], { cwd, stdout: "pipe", stderr: "pipe" });
  const [out, error, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { code, out, error };
}

const worktrees = (): string[] =>
  readdirSync(tmpdir()).filter((name) => name.startsWith(`lcore-regress-${process.pid}-`));

/** A repository with the engine of this one, whose second commit changes nothing but a text. */
beforeAll(() => {
  mkdirSync(repository);
  git("init", "--quiet");
  for (const name of ["engine", "queues", "sockets", "package.json", "package-lock.json"])
    Bun.spawnSync(["cp", "-r", join(ROOT, name), repository]);
  symlinkSync(join(ROOT, "node_modules"), join(repository, "node_modules"));
  writeFileSync(join(repository, ".gitignore"), "node_modules\n");
  commit("first");
  writeFileSync(join(repository, "notes"), "nothing");
  commit("second");
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe("checkouts", () => {
  test("a commit in a worktree of its own, with the dependencies that are there, and gone afterwards", async () => {
    const base = await checkOut(await repositoryAround(repository), "HEAD~1");
    expect(base).toMatchObject({ ref: "HEAD~1", subject: "first", changed: false });
    expect(existsSync(join(base.root, "notes"))).toBe(false);
    expect(await provideDependencies(base, repository)).toBe("linked");
    expect(existsSync(join(base.root, "node_modules/commander/package.json"))).toBe(true);
    // A workspace leads into the worktree, not to the version that is installed elsewhere.
    const bindings = Bun.resolveSync("af-xdp-bindings", join(base.root, "engine"));
    expect(bindings).toStartWith(base.root);
    await base.close();
    expect(existsSync(base.root)).toBe(false);
    expect(git("worktree", "list").split("\n").length).toBe(1);
  });

  test("the working tree is itself, and says whether it was changed", async () => {
    expect(await workingTree(repository)).toMatchObject({ root: repository, changed: false });
    writeFileSync(join(repository, "notes"), "something");
    expect(await workingTree(repository)).toMatchObject({ changed: true });
    git("checkout", "--quiet", "notes");
  });

  test("what a killed process left is taken away by the next", async () => {
    const gone = Bun.spawnSync(["sh", "-c", "echo $$"]).stdout.toString().trim();
    const left = join(tmpdir(), `lcore-regress-${gone}-abc`);
    git("worktree", "add", "--quiet", "--detach", left, "HEAD");
    await (await checkOut(repository, "HEAD")).close();
    expect(existsSync(left)).toBe(false);
  });
});

describe("bad usage ends with 3", () => {
  test.each([
    [[], /compared with\?/],
    [["--base", "no-such-ref"], /no-such-ref: no commit/],
    [["--base", "HEAD", "--metrics", "p51"], /p51/],
    [["--base", "HEAD", "--min-effect", "p50"], /p50=3/],
    [["--base-command", "true"], /go together/],
    [["--baseline", "file", "--base", "HEAD"], /does not go with --base/],
    [["--baseline", "file", "--head-command", "true"], /does not go with --head-command/],
    [["--baseline", "file", "--html", "file"], /does not go with --html/],
    [["--save", "file", "--head", "HEAD"], /--save without a base does not go with --head/],
    [["--save", "file", "--json", "-"], /--save without a base does not go with --json/],
    [["--base", "HEAD", "--workload", "tcp-rr"], /inline/],
    [["--seconds", "0"], /Seconds above 0/],
  ])("%p", async (words, message) => {
    const { code, error } = await regress(repository, ...words);
    expect(error).toMatch(message);
    expect(code).toBe(/no-such-ref/.test(words.join(" ")) ? 2 : 3);
    expect(error.trim().split("\n").length).toBeLessThan(4);
  });
});

test("a base without the program that makes trials is told, with 2", async () => {
  const other = join(directory, "other");
  mkdirSync(other);
  const run = (...words: string[]) =>
    Bun.spawnSync(["git", "-c", "user.name=t", "-c", "user.email=t@example.com", ...words], { cwd: other });
  run("init", "--quiet");
  run("commit", "--quiet", "--allow-empty", "-m", "empty");
  const { code, error } = await regress(other, "--base", "HEAD");
  expect(error).toMatch(/older than lcore regress/);
  expect(code).toBe(2);
});

const QUICK = ["--seconds", "4", "--trials", "2", "--warmup", "0.1", "--seed", "1"];

test("a run that was stored is compared with, in every report, and what that is worth is said", async () => {
  const file = join(directory, "runs.baseline.jsonl");
  const first = await regress(repository, "--base", "HEAD~1", "--head", "HEAD", ...QUICK, "--save", file);
  expect(first.error).not.toMatch(/lcore:/);
  const path = (name: string): string => join(directory, `stored.${name}`);
  const reports = ["json", "junit", "markdown"].flatMap((kind) => [`--${kind}`, path(kind)]);
  const { code, out } = await regress(repository, "--baseline", file, ...QUICK, ...reports);
  const told = out.replace(/\s+/g, " ");
  expect(told).toMatch(/worth less/);
  expect(told).toMatch(/10 % is assumed/);
  const report = JSON.parse(readFileSync(path("json"), "utf8")) as StoredReport;
  expect(code).toBe({ pass: 0, improved: 0, regressed: 1, inconclusive: 2 }[report.outcome]);
  expect(report).toMatchObject({ schema: "lcore-regress-stored", file, runs: 1 });
  for (const kind of ["junit", "markdown"]) expect(readFileSync(path(kind), "utf8")).toContain(report.sentence);
});

/** Echoes bytes with the sockets of the kernel. */
const ECHO =
  "Bun.listen({ hostname: '127.0.0.1', port: +process.env.PORT, socket: { data: (s, b) => void s.write(b) } })";

test("a service is stored without a base, and compared with what was stored", async () => {
  const file = join(directory, "service.baseline.jsonl");
  const service = ["--command", `"${process.execPath}" -e "${ECHO}"`, ...QUICK];
  const first = await regress(directory, "--save", file, ...service);
  expect(first.error).not.toMatch(/lcore:/);
  expect([first.code, first.out]).toEqual([
    0,
    expect.stringMatching(/stored p50 [\d.]+ µs, p99 .*, throughput .*\/s\n$/),
  ]);
  const again = await regress(directory, "--baseline", file, "--save", file, "--json", "-", ...service);
  const report = JSON.parse(again.out) as StoredReport;
  expect(again.code).toBe({ pass: 0, improved: 0, regressed: 1, inconclusive: 2 }[report.outcome]);
  expect(report.runs).toBe(1);
  expect(readFileSync(file, "utf8").trim().split("\n").length).toBe(2);
  // Another workload is another matter.
  const other = await regress(directory, "--baseline", file, "--connections", "2", ...service);
  expect([other.code, other.error]).toEqual([2, expect.stringMatching(/has no run of this workload/)]);
});

test("a file of stored runs that is not there is told before anything is measured", async () => {
  const start = performance.now();
  const { code, error } = await regress(repository, "--baseline", join(directory, "nowhere"), "--seconds", "60");
  expect([code, error]).toEqual([2, expect.stringContaining("nowhere")]);
  expect(performance.now() - start).toBeLessThan(10_000);
});

test("two commits are compared: every report, the verdict's status, and no trace", async () => {
  const file = (name: string): string => join(directory, name);
  const reports = ["json", "html", "junit", "markdown"].flatMap((kind) => [`--${kind}`, file(kind)]);
  const { code, out, error } = await regress(
    repository,
    ...["--base", "HEAD~1", "--head", "HEAD", ...QUICK],
    ...reports,
  );
  expect(error).not.toMatch(/lcore:/);
  const report = JSON.parse(readFileSync(file("json"), "utf8")) as ComparisonReport;
  expect(code).toBe({ pass: 0, improved: 0, regressed: 1, inconclusive: 2 }[report.outcome]);
  expect(out).toContain("HEAD~1");
  expect(report.trials.length).toBeGreaterThanOrEqual(4);
  expect(new Set(report.trials.map(({ side }) => side))).toEqual(new Set(["base", "head"]));
  for (const kind of ["html", "junit", "markdown"]) expect(readFileSync(file(kind), "utf8")).toContain("second");
  expect(worktrees()).toEqual([]);
  expect(git("worktree", "list").split("\n").length).toBe(1);
});
