/** A memory cgroup for the processes of one test, below the group that the test itself is in: cgroup v1. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";

const MOUNT = "/sys/fs/cgroup/memory";

/** Directory of this process's own memory group, or "" where the machine has no memory controller of cgroup v1. */
function ownGroup(): string {
  const path = /^\d+:memory:(.*)$/m.exec(readFileSync("/proc/self/cgroup", "utf8"))?.[1];
  return path !== undefined && existsSync(`${MOUNT}${path}/memory.limit_in_bytes`) ? MOUNT + path : "";
}

/** Why there can be no such group, or "". Said once, so that a skip is never silent. */
export function lacksMemoryGroups(): string {
  if (ownGroup() !== "") return "";
  const reason = `memory groups: no memory controller of cgroup v1 at ${MOUNT}`;
  console.warn(`skipped tests: ${reason}`);
  return reason;
}

export class MemoryGroup {
  private readonly path = `${ownGroup()}/lcore-test-${process.pid}`;

  constructor() {
    mkdirSync(this.path);
  }

  /** A command that runs `words` in the group. The shell that starts it is in there, too. */
  command(...words: string[]): string[] {
    return ["sh", "-c", `echo $$ > ${this.path}/cgroup.procs && exec "$@"`, "sh", ...words];
  }

  /** Bytes charged to the group now. */
  get usage(): number {
    return Number(this.read("memory.usage_in_bytes"));
  }

  /** Times that the limit was met, and processes that the kernel killed for it. */
  get met(): number {
    return Number(this.read("memory.failcnt"));
  }

  get killed(): number {
    return Number(/^oom_kill (\d+)$/m.exec(this.read("memory.oom_control"))?.[1]);
  }

  /** Sets the limit, bytes. Throws EBUSY where less than what is charged cannot be had. */
  limit(bytes: number): void {
    writeFileSync(`${this.path}/memory.limit_in_bytes`, String(bytes));
  }

  /** Once its processes have ended. */
  close(): void {
    rmdirSync(this.path);
  }

  private read(file: string): string {
    return readFileSync(`${this.path}/${file}`, "utf8");
  }
}
