/** Targets: a program or an engine that serves one workload, how it is started, what it counted, and what it cost. */
import { readdirSync, readFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import type { EngineOptions } from "../config.ts";
import { Engine, type EngineInfo } from "../engine.ts";
import { getAffinity, setAffinity } from "../host/affinity.ts";
import type { Host } from "../host/hosts.ts";
import type { InlineData } from "./inline-module.ts";
import { BYTES, COUNTS_BYTES, REQUESTS, type ServeData } from "./serve.ts";
import type { ServeThreadStart } from "./serve-thread.ts";
import type { OwnTarget } from "./spec.ts";

/** What a target itself counted: requests or datagrams taken (of "stream" sent), bytes taken. */
export interface TargetCounts {
  readonly requests: number;
  readonly bytes: number;
}

export interface Target {
  /** How it is attached, where it is an engine. */
  readonly info: EngineInfo | null;
  counts(): Promise<TargetCounts>;
  /** CPU time of its threads so far, nanoseconds; null where it is not ours to ask. */
  cpuNs(): number | null;
  /** Whether those are threads of another process. */
  readonly apart: boolean;
  /** Resolves with the error that ended it, never before close() otherwise. */
  readonly failed: Promise<Error>;
  close(): Promise<void>;
}

const never = new Promise<never>(() => {});

/** An engine of this process, serving in a module on its lcore, with its load there or not, or in a thread that its lcore hands datagrams to. */
export async function engineTarget(
  options: EngineOptions,
  data: Omit<ServeData, "counts"> | Omit<InlineData, "counts">,
  handoffCpu: number | null,
): Promise<Target> {
  const counts = new SharedArrayBuffer(COUNTS_BYTES);
  const serveData: ServeData = { ...data, counts };
  const module = new URL("load" in data ? "./inline-module.ts" : "./serve-module.ts", import.meta.url);
  const inModule = { module, data: serveData };
  const engine = await Engine.start({ ...options, ...(handoffCpu === null ? inModule : {}) });
  let thread: Worker | null = null;
  if (handoffCpu !== null) {
    const start: ServeThreadStart = { engine: engine.descriptor(), data: serveData, cpu: handoffCpu };
    thread = new Worker(new URL("./serve-thread.ts", import.meta.url), { workerData: start });
    await new Promise((resolve, reject) => thread?.once("message", resolve).once("error", reject));
  }
  const words = new Float64Array(counts);
  return {
    info: engine.info,
    counts: async () => ({ requests: words[REQUESTS], bytes: words[BYTES] }),
    apart: false,
    cpuNs: () => engine.stats().threads[0].times?.runNs ?? 0,
    failed: new Promise((resolve) => engine.closed.catch(resolve)),
    close: async () => {
      if (thread !== null) {
        const gone = new Promise((resolve) => thread.once("exit", resolve));
        thread.postMessage("end");
        await gone;
      }
      await engine.close();
    },
  };
}

/** What the program of a target is told on its command line. */
export interface ChildStart {
  readonly target: OwnTarget;
  readonly interface: string;
  readonly cpu: number;
  readonly handoff: boolean;
  readonly data: Omit<ServeData, "counts">;
}

const BUN_CHILD = new URL("./peers/serve-child.ts", import.meta.url).pathname;
const NODE_CHILD = new URL("./peers/node-dgram.mjs", import.meta.url).pathname;
/** Far longer than a start takes: on a machine that is busy with other things it may take seconds. */
const START_TIMEOUT_MS = 60_000;

/** A program in a namespace, on one CPU. It says "ready", counts when it is asked, and ends with its standard input. */
export async function childTarget(host: Host, start: ChildStart): Promise<Target> {
  const node = start.target === "node-dgram";
  const command = [node ? (Bun.which("node") ?? process.execPath) : process.execPath, node ? NODE_CHILD : BUN_CHILD];
  const before = getAffinity(0);
  // An lcore places its threads itself; the others are born where they are to stay.
  if (start.target !== "lcore") setAffinity(0, [start.cpu]);
  const spawn = () => Bun.spawn([...command, JSON.stringify(start)], { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
  let child: ReturnType<typeof spawn>;
  try {
    child = host.ns.run(spawn);
  } finally {
    setAffinity(0, before);
  }
  const lines = linesOf(child.stdout);
  const errors = new Response(child.stderr).text();
  const gone = child.exited.then(async (status) => {
    const lines = (await errors).trim().split("\n");
    const said = lines.find((line) => /error:/i.test(line)) ?? lines[lines.length - 1];
    return new Error(`${start.target} ended with status ${status}${said === "" ? "" : `: ${said}`}`);
  });
  const next = async (): Promise<string> => {
    const line = await Promise.race([lines.next(), gone]);
    if (line instanceof Error) throw line;
    if (line.done) throw await gone;
    return line.value;
  };
  const timer = setTimeout(() => child.kill("SIGKILL"), START_TIMEOUT_MS);
  const info = JSON.parse(await next()) as EngineInfo | null;
  clearTimeout(timer);
  return {
    info,
    counts: async () => {
      child.stdin.write("counts\n");
      await child.stdin.flush();
      return JSON.parse(await next()) as TargetCounts;
    },
    apart: true,
    cpuNs: () => processCpuNs(child.pid),
    failed: gone,
    close: async () => {
      const killer = setTimeout(() => child.kill("SIGKILL"), 3000);
      await child.stdin.end();
      await child.exited;
      clearTimeout(killer);
    },
  };
}

/** Whoever answers at a HOST:PORT: nothing is known but what comes back. */
export const foreignTarget: Target = {
  info: null,
  counts: async () => ({ requests: 0, bytes: 0 }),
  apart: true,
  cpuNs: () => null,
  failed: never,
  close: async () => {},
};

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

/** Time that the threads of a process ran so far, nanoseconds. Source: /proc/PID/task/TID/schedstat. */
function processCpuNs(pid: number): number {
  let runNs = 0;
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    try {
      runNs += Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, "utf8").split(" ")[0]);
    } catch {
      // The thread has ended since.
    }
  }
  return runNs;
}
