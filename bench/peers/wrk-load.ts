/**
 * wrk as a load of the TCP benchmark: `bun bench/peers/wrk-load.ts URL CONNECTIONS WARMUP_MS MEASURE_MS`. Runs it twice, the
 * first time to warm the server up, prints "measuring" in between, and a LoadResult as tcp-load.c does. wrk takes whole
 * seconds: at least one each.
 */
import type { LoadResult } from "../tcp-run.ts";

const [url, connections, warmupMs, measureMs] = process.argv.slice(2);

interface WrkRun {
  readonly text: string;
  readonly cpuNs: number;
}

async function wrk(ms: number): Promise<WrkRun> {
  const seconds = Math.max(Math.round(ms / 1000), 1);
  const command = ["wrk", "--latency", "-t", "1", "-c", connections, "-d", `${seconds}s`, url];
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
  const text = await child.stdout.text();
  if ((await child.exited) !== 0) throw new Error(text.trim());
  return { text, cpuNs: Number(child.resourceUsage()?.cpuTime.total ?? 0) * 1000 };
}

const UNITS: Readonly<Record<string, number>> = { us: 1, ms: 1e3, s: 1e6 };

/** A line of wrk's latency distribution, microseconds. */
function latency(text: string, percent: string): number {
  const [, value = "0", unit = "us"] = new RegExp(`^ +${percent}% +([\\d.]+)(us|ms|s)$`, "m").exec(text) ?? [];
  return Number(value) * UNITS[unit];
}

await wrk(Number(warmupMs));
console.log("measuring");
const { cpuNs, text } = await wrk(Number(measureMs));
const [, requests = "0", time = "1", unit = "s"] = /(\d+) requests in ([\d.]+)(ms|s|m)/.exec(text) ?? [];
const failures = [...(/Socket errors: (.*)$/m.exec(text)?.[1] ?? "").matchAll(/\d+/g)];
const result: LoadResult = {
  done: Number(requests),
  failed: failures.reduce((sum, [count]) => sum + Number(count), 0),
  bad: Number(/Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ?? 0),
  bytes: 0,
  elapsedMs: Number(time) * (unit === "ms" ? 1 : unit === "s" ? 1000 : 60_000),
  p50: latency(text, "50"),
  p99: latency(text, "99"),
  p999: 0,
  max: 0,
  loadNs: cpuNs,
};
console.log(JSON.stringify(result));
