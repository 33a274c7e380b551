/** What a figure must carry to mean anything: runtime, kernel, machine, time, command, and how much the host took away. */
import { readFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { cpuTime } from "../engine/measure/environment.ts";

export interface Environment {
  readonly date: string;
  readonly command: string;
  readonly bun: string;
  /** "" where there is none. */
  readonly node: string;
  readonly kernel: string;
  readonly cpu: string;
  readonly cpus: number;
  /** Load average over the last minute when the run began: what else ran. */
  readonly load: number;
  /** Part of all CPUs' time that the host of this virtual machine took, 0 to 1, from the beginning to the end. */
  steal: number;
  seconds: number;
}

/** Notes the beginning of a run; call the result's `end` when it is over. */
export function beginRun(argv: readonly string[]): { environment: Environment; end: () => void } {
  const before = cpuTime(null);
  const start = performance.now();
  const node = Bun.which("node");
  const environment: Environment = {
    date: new Date().toISOString(),
    command: `npm run bench -- ${argv.join(" ")}`,
    bun: `${Bun.version} (${Bun.revision.slice(0, 9)})`,
    node: node === null ? "" : Bun.spawnSync([node, "--version"]).stdout.toString().trim(),
    kernel: release(),
    cpu: cpus()[0].model,
    cpus: cpus().length,
    load: Number(readFileSync("/proc/loadavg", "utf8").split(" ")[0]),
    steal: 0,
    seconds: 0,
  };
  return {
    environment,
    end: () => {
      const after = cpuTime(null);
      environment.steal = (after.steal - before.steal) / Math.max(after.total - before.total, Number.MIN_VALUE);
      environment.seconds = (performance.now() - start) / 1000;
    },
  };
}
