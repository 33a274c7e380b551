/**
 * Launches: a side's processes, started anew, that make trials, and stand still while the other side makes its own.
 *
 * Standing still is SIGSTOP to the whole process group, so that neither a busy-polling lcore nor a service's own timers
 * take a CPU from who is measured. A stopped process would outlive a killed parent, so setpriv(1) asks the kernel to kill
 * it then.
 */
import type { TrialSpec } from "../spec.ts";
import { LAUNCH_PROTOCOL, type LaunchLine, type LaunchTrial } from "./launch-process.ts";

/** Where a side comes from. Launches of it are alike but for what a start decides by chance. */
export interface Source {
  /** Starts what is measured and what measures. Rejects with Error that says what went wrong. */
  launch(): Promise<Launch>;
}

export interface Launch {
  /** One trial; its processes run for as long as it takes. The first warms up. */
  trial(): Promise<LaunchTrial>;
  /** Resolves with the CPU time that its processes took, nanoseconds. */
  close(): Promise<number>;
}

/** How long a process may take to be ready, and beyond what a trial asks for. */
const START_PATIENCE_MS = 20_000;
const TRIAL_PATIENCE_MS = 20_000;
const CLOSE_PATIENCE_MS = 3000;

/** A process group. */
class Group {
  readonly child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  /** Resolves with the last line of its complaint when it has ended. */
  readonly ended: Promise<string>;

  constructor(command: readonly string[], cwd: string, env: Record<string, string | undefined>) {
    this.child = Bun.spawn(["setpriv", "--pdeathsig", "KILL", ...command], {
      cwd,
      env,
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
      detached: true,
    });
    const complaint = new Response(this.child.stderr).text();
    this.ended = this.child.exited.then(async (status) => {
      const lines = (await complaint).trim().split("\n");
      // What a runtime prints last of an error that nobody caught is its own version.
      const last = lines.findLast((line) => /error/i.test(line)) ?? lines.at(-1) ?? "";
      return `ended with ${this.child.signalCode ?? `status ${status}`}${last === "" ? "" : `: ${last}`}`;
    });
  }

  signal(name: "SIGSTOP" | "SIGCONT" | "SIGTERM" | "SIGKILL"): void {
    try {
      process.kill(-this.child.pid, name);
    } catch {
      // All of it has ended.
    }
  }

  async close(): Promise<number> {
    this.signal("SIGCONT");
    try {
      await this.child.stdin.end();
    } catch {
      // It has ended.
    }
    const killer = setTimeout(() => this.signal("SIGKILL"), CLOSE_PATIENCE_MS);
    await this.child.exited;
    clearTimeout(killer);
    this.signal("SIGKILL");
    return Number(this.child.resourceUsage()?.cpuTime.total ?? 0) * 1000;
  }
}

/** Lines of a stream, one at a time. */
async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop() as string;
    yield* parts;
  }
}

/** A launch-process.ts, of the tree at `root`. */
class TrialProcess implements Launch {
  private readonly group: Group;
  private readonly lines: AsyncGenerator<string, void>;
  private readonly patienceMs: number;

  constructor(root: string, spec: TrialSpec, cpu: number | null) {
    const program = `${root}/engine/measure/compare/launch-process.ts`;
    const command = [process.execPath, program, JSON.stringify(spec)];
    const pinned = cpu === null ? command : ["taskset", "--cpu-list", String(cpu), ...command];
    this.group = new Group(pinned, root, process.env);
    this.lines = linesOf(this.group.child.stdout);
    this.patienceMs = (spec.seconds + spec.warmupSeconds) * 1000 + TRIAL_PATIENCE_MS;
  }

  async ready(): Promise<void> {
    const line = await this.next(START_PATIENCE_MS);
    if (!("ready" in line) || line.ready !== LAUNCH_PROTOCOL)
      throw new Error("its trials are of a version of lcore that this one cannot read");
    this.group.signal("SIGSTOP");
  }

  async trial(): Promise<LaunchTrial> {
    this.group.signal("SIGCONT");
    this.group.child.stdin.write("\n");
    await this.group.child.stdin.flush();
    const line = await this.next(this.patienceMs);
    this.group.signal("SIGSTOP");
    if (!("trial" in line)) throw new Error("its trials are of a version of lcore that this one cannot read");
    return line;
  }

  close(): Promise<number> {
    return this.group.close();
  }

  private async next(patienceMs: number): Promise<LaunchLine> {
    const timer = setTimeout(() => this.group.signal("SIGKILL"), patienceMs);
    const line = await this.lines.next();
    clearTimeout(timer);
    if (line.done) throw new Error(await this.group.ended);
    const told = JSON.parse(line.value) as LaunchLine;
    if ("error" in told) throw new Error(told.error);
    return told;
  }
}

async function ready(process: TrialProcess): Promise<TrialProcess> {
  try {
    await process.ready();
    return process;
  } catch (error) {
    await process.close();
    throw error;
  }
}

/** lcore itself, of the tree at `root`; on `cpu` alone, with all its threads, where one is given. */
export const lcoreSource = (root: string, spec: TrialSpec, cpu: number | null = null): Source => ({
  launch: () => ready(new TrialProcess(root, spec, cpu)),
});

/** A service by its command line: `{port}` in it, and in the target, stands for a free port, as does $PORT. */
export interface ServiceOptions {
  readonly command: string;
  readonly cwd: string;
  /** Where it answers: "127.0.0.1:{port}". */
  readonly target: string;
  /** The tree of the lcore that makes the load. */
  readonly root: string;
  readonly spec: Omit<TrialSpec, "target">;
}

/** Any service that answers at a port. */
export const serviceSource = ({ command, cwd, target, root, spec }: ServiceOptions): Source => ({
  launch: async () => {
    const port = String(freePort());
    const fill = (text: string): string => text.replaceAll("{port}", port);
    const service = new Group(["sh", "-c", fill(command)], cwd, { ...process.env, PORT: port });
    const where = fill(target) as `${string}:${number}`;
    try {
      await answering(where, spec.workload.startsWith("tcp"), service);
      const load = await ready(new TrialProcess(root, { ...spec, target: where }, null));
      service.signal("SIGSTOP");
      return {
        trial: async () => {
          service.signal("SIGCONT");
          const trial = await Promise.race([load.trial(), service.ended.then((why) => Promise.reject(new Error(why)))]);
          service.signal("SIGSTOP");
          return trial;
        },
        close: async () => {
          const loadNs = await load.close();
          service.signal("SIGTERM");
          return loadNs + (await service.close());
        },
      };
    } catch (error) {
      service.signal("SIGTERM");
      await service.close();
      throw error;
    }
  },
});

/** Ports that services of this process were given: two that start at once must not get the same. */
const given = new Set<number>();

/** A port of loopback that nobody has at the moment. */
function freePort(): number {
  for (;;) {
    const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
    const { port } = listener;
    listener.stop(true);
    if (given.has(port)) continue;
    given.add(port);
    return port;
  }
}

/** Time between two attempts to connect. */
const ATTEMPT_MS = 20;

/** Waits until a service takes connections; of UDP, its first answer is waited for by the trial itself. */
async function answering(target: string, tcp: boolean, service: Group): Promise<void> {
  if (!tcp) return;
  const [, host, port] = /^\[?(.+?)\]?:(\d+)$/.exec(target) ?? [];
  const deadline = performance.now() + START_PATIENCE_MS;
  let ended: string | null = null;
  service.ended.then((why) => {
    ended = why;
  });
  for (;;) {
    if (ended !== null) throw new Error(`its command ${ended}`);
    try {
      const socket = await Bun.connect({ hostname: host, port: Number(port), socket: { data: () => {} } });
      socket.end();
      return;
    } catch {
      if (performance.now() > deadline)
        throw new Error(`nobody took a connection at ${target} within ${START_PATIENCE_MS / 1000} s`);
      await Bun.sleep(ATTEMPT_MS);
    }
  }
}
