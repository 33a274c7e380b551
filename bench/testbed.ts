/**
 * Where the peers are measured: two namespaces joined by a veth pair, the generator (or the client) in `a` on one CPU, the
 * peer in `b` on another. Programs are born in their namespace and on their CPU, so every peer is placed the same way.
 */
import { readdirSync, readFileSync } from "node:fs";
import { getAffinity, setAffinity } from "../engine/host/affinity.ts";
import { type Host, type VethOptions, VethPair } from "../engine/host/hosts.ts";

export const GENERATOR_CPU = 0;
export const PEER_CPU = 1;
export const PORT = 9000;

export type Child = Bun.Subprocess<"ignore", "pipe", "pipe">;

/** Where else a program finds itself. */
export interface Place {
  /** Working directory; default that of this process. */
  cwd?: string;
  /** Variables beside those of this process. */
  env?: Record<string, string>;
}

export class Testbed {
  readonly hosts: VethPair;
  private readonly children = new Set<Child>();

  constructor(options: Pick<Partial<VethOptions>, "offloads"> = {}) {
    const cpus = getAffinity(0);
    if (!cpus.includes(GENERATOR_CPU) || !cpus.includes(PEER_CPU))
      throw new Error(`needs CPUs ${GENERATOR_CPU} and ${PEER_CPU}; this process may use ${cpus.join()}`);
    this.hosts = new VethPair({ ipv6: false, ...options });
    const { a, b } = this.hosts;
    // The generator answers no ARP, and a question in between would be counted by nobody but cost somebody.
    a.rtnl.setNeighbour(a.ifindex, b.ipv4, b.mac);
    b.rtnl.setNeighbour(b.ifindex, a.ipv4, a.mac);
  }

  /**
   * Has each host receive on the CPU of its own program, as two machines do: on veth whoever sends runs the softirq of the
   * receiver, unless RPS hands the frame to another CPU.
   */
  receiveAtHome(): void {
    for (const [{ name, ns }, cpu] of [[this.hosts.a, GENERATOR_CPU] as const, [this.hosts.b, PEER_CPU] as const]) {
      // sysfs shows the devices of the namespace that it was mounted in.
      const write = `mount -t sysfs none /sys && for f in /sys/class/net/${name}/queues/rx-*/rps_cpus; do echo ${(1 << cpu).toString(16)} > $f; done`;
      const { exitCode, stderr } = ns.run(() => Bun.spawnSync(["unshare", "--mount", "sh", "-c", write]));
      if (exitCode !== 0) throw new Error(`rps_cpus: ${stderr.toString().trim()}`);
    }
  }

  /** Starts a program in a host's namespace, on one CPU or, for a program that places its own threads, on all. */
  spawn(host: Host, command: string[], cpu: number | null, place: Place = {}): Child {
    const before = getAffinity(0);
    if (cpu !== null) setAffinity(0, [cpu]);
    try {
      const child = host.ns.run(() =>
        Bun.spawn(command, {
          stdin: "ignore",
          stdout: "pipe",
          stderr: "pipe",
          cwd: place.cwd ?? process.cwd(),
          env: { ...process.env, ...place.env },
        }),
      );
      this.children.add(child);
      return child;
    } finally {
      setAffinity(0, before);
    }
  }

  /** Ends a program and waits until it is gone. */
  async stop(child: Child): Promise<void> {
    child.kill("SIGTERM");
    const killer = setTimeout(() => child.kill("SIGKILL"), 3000);
    await child.exited;
    clearTimeout(killer);
    this.children.delete(child);
  }

  close(): void {
    for (const child of this.children) child.kill("SIGKILL");
    this.hosts.close();
  }
}

/** Lines of a stream, one at a time. */
export async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop() as string;
    yield* parts;
  }
  if (rest !== "") yield rest;
}

/**
 * Time the threads of a process ran so far, and time they waited for a CPU although they could have run, nanoseconds.
 * Source: /proc/PID/task/TID/schedstat.
 */
export function processTimes(pid: number): { runNs: number; waitNs: number } {
  let runNs = 0;
  let waitNs = 0;
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    const [run, wait] = readFileSync(`/proc/${pid}/task/${tid}/schedstat`, "utf8").split(" ");
    runNs += Number(run);
    waitNs += Number(wait);
  }
  return { runNs, waitNs };
}

/** Units of /proc/stat a second (USER_HZ). */
const STAT_HZ = 100;

/** What a CPU has done so far, nanoseconds: softirqs alone, and all but idling. */
export interface CpuTimes {
  readonly softirqNs: number;
  readonly busyNs: number;
}

/**
 * The times of a CPU, sampled by the kernel's tick, so that a second tells them to a few per cent (250 samples at HZ=250).
 * Source: /proc/stat.
 */
export function cpuTimes(cpu: number): CpuTimes {
  const line = readFileSync("/proc/stat", "utf8")
    .split("\n")
    .find((line) => line.startsWith(`cpu${cpu} `));
  const [user, nice, system, , , irq, softirq] = (line ?? "").split(" ").slice(1).map(Number);
  const ns = 1e9 / STAT_HZ;
  return { softirqNs: softirq * ns, busyNs: (user + nice + system + irq + softirq) * ns };
}

/** Reads a stream to its end: a program that prints must not fill its pipe. */
export async function drain(stream: ReadableStream<Uint8Array>): Promise<void> {
  for await (const _chunk of stream);
}

/** An IPv4 address of 4 bytes as an int32. */
export const int32Of = (address: Uint8Array): number => new DataView(address.buffer, address.byteOffset, 4).getInt32(0);
