/**
 * `npm test`: every test, in two parts. Most files wait most of the time, for timers, neighbours and processes, each in network
 * namespaces of its own: two of them run at a time. Files that want the machine's CPUs to themselves run one after another.
 *
 * With arguments, as in `npm test -- test/tcp` or `npm test -- -t name`, it is `bun test` with those.
 */
import { relative } from "node:path";
import { Glob } from "bun";

/** Paths under test/ of what times something, or asks for a CPU that nobody else uses. */
const ALONE = [
  // Rates and latencies.
  "bench/bench.test.ts",
  "engine/cli/bench.test.ts",
  "engine/cli/regress.test.ts",
  "engine/measure/inline.test.ts",
  "measure/",
  // Threads that play against each other on both CPUs.
  "conformance/",
  // What a loop does with a CPU of its own, and what it does with one that it shares.
  "e2e/shared-cpu.test.ts",
  "faults/pressure.test.ts",
  "provider/busy.test.ts",
];
const TIMEOUT_MS = 60_000;
const OUTCOMES = ["pass", "skip", "fail"] as const;

class Run {
  status = 0;
  output = "";

  /** Runs `bun test`; what it prints is let through. */
  static async of(flags: readonly string[]): Promise<Run> {
    const run = new Run();
    const child = Bun.spawn([process.execPath, "test", "--timeout", `${TIMEOUT_MS}`, ...flags], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      env: { ...process.env, ...(process.stdout.isTTY ? { FORCE_COLOR: "1" } : {}) },
    });
    await Promise.all([run.pass(child.stdout, process.stdout), run.pass(child.stderr, process.stderr)]);
    run.status = await child.exited;
    return run;
  }

  private async pass(from: ReadableStream<Uint8Array>, to: NodeJS.WriteStream): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of from) {
      to.write(chunk);
      this.output += decoder.decode(chunk, { stream: true });
    }
  }

  private get lines(): string[] {
    return Bun.stripANSI(this.output).split("\n");
  }

  /** Of its summary: " 12 pass". */
  count(outcome: string): number {
    const line = this.lines.findLast((each) => each.endsWith(` ${outcome}`) && /^ *\d+ /.test(each));
    return Number.parseInt(line ?? "0", 10);
  }

  /** What was printed of the tests that failed: the file, what came before the result, the result. */
  get failures(): string[] {
    const found: string[] = [];
    let file = "";
    let said: string[] = [];
    for (const line of this.lines) {
      if (/^test\/\S+\.test\.ts:$/.test(line)) file = line;
      // Of the test before: that it timed out.
      else if (line.startsWith("  ^ ")) found.push(line);
      else said.push(line);
      if (/^\(fail\) |^# Unhandled error/.test(line)) found.push([file, ...said].join("\n"));
      if (/^\((fail|pass|skip)\) |^test\//.test(line)) said = [];
    }
    return found;
  }
}

async function everything(): Promise<number> {
  const files = [...new Glob("**/*.test.ts").scanSync(import.meta.dir)].sort();
  const unused = ALONE.filter((start) => !files.some((file) => file.startsWith(start)));
  if (unused.length > 0) throw new Error(`ALONE in test/run.ts names what is not there: ${unused}`);
  const isAlone = (file: string): boolean => ALONE.some((start) => file.startsWith(start));
  const here = relative(process.cwd(), import.meta.dir);
  const paths = (some: readonly string[]): string[] => some.map((file) => `./${here}/${file}`);
  const runs = [
    await Run.of(["--parallel=2", ...paths(files.filter((file) => !isAlone(file)))]),
    await Run.of(paths(files.filter(isAlone))),
  ];
  const failures = runs.flatMap((run) => run.failures);
  if (failures.length > 0) console.log(`\nfailed:\n\n${failures.join("\n")}`);
  console.log(`\n${files.length} files:`);
  for (const outcome of OUTCOMES) {
    const total = runs.reduce((sum, run) => sum + run.count(outcome), 0);
    if (total > 0 || outcome !== "skip") console.log(` ${total} ${outcome}`);
  }
  return runs.find(({ status }) => status !== 0)?.status ?? 0;
}

const flags = process.argv.slice(2);
process.exitCode = flags.length === 0 ? await everything() : (await Run.of(flags)).status;
