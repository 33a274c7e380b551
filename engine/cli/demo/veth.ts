/**
 * The demo as root: two hosts in network namespaces, joined by a veth pair. In `b` first a server on Bun's sockets, then
 * the engine, over AF_XDP or on kernel sockets; in `a` a kernel client with one datagram in flight, then lcore's generator at full rate.
 */
import { readdirSync, readFileSync } from "node:fs";
import { Engine, type EngineInfo } from "../../engine.ts";
import { getAffinity } from "../../host/affinity.ts";
import { VethPair } from "../../host/hosts.ts";
import { LATENCY_BUCKETS } from "../../measure/latency.ts";
import type { GeneratorThreadOptions } from "../../measure/load-thread.ts";
import type { Provider } from "../../provider.ts";
import type { EchoData } from "../echo.ts";
import { wildcard } from "../serve.ts";
import type { ClientOptions, ClientResult } from "./client.ts";
import { type DemoResult, type Figures, LOAD } from "./figures.ts";
import { type CpuTimes, figuresOf, lcoreTimes, load } from "./load.ts";
import type { DemoContext } from "./run.ts";

const PORT = 7777;
const CLIENT = new URL("./client.ts", import.meta.url).pathname;
const KERNEL_SERVER = new URL("./kernel-server.ts", import.meta.url).pathname;

/** @param provider of the server that is compared with Bun.udpSocket */
export async function vethDemo(context: DemoContext, provider: Provider): Promise<DemoResult> {
  context.step("two network namespaces and a veth pair between them");
  const bed = new Bed(context);
  try {
    const kernel = await bed.kernelServer();
    const engine = await bed.engine(provider);
    return { wire: "veth", how: bed.describe(engine.info), servers: [engine.figures, kernel] };
  } finally {
    bed.close();
  }
}

class Bed {
  private readonly context: DemoContext;
  private readonly hosts = new VethPair();
  /** The server's CPU, and the client's and generator's. */
  private readonly serverCpu: number;
  private readonly clientCpu: number;

  constructor(context: DemoContext) {
    this.context = context;
    const cpus = getAffinity(0);
    this.clientCpu = cpus[0];
    this.serverCpu = cpus[cpus.length - 1];
  }

  close(): void {
    this.hosts.close();
  }

  describe(info: EngineInfo): string {
    const scarce = this.alone ? " Both share the only CPU, so the figures are the scheduler's." : "";
    const how =
      info.provider === "kernel"
        ? `Kernel sockets (${info.reason}) over veth between two network namespaces. `
        : `AF_XDP over veth between two network namespaces, ${info.attach} mode (${info.reason}), ${info.zeroCopy ? "zero-copy" : "copy"}. `;
    return `${how}Servers on CPU ${this.serverCpu}, clients on CPU ${this.clientCpu}.${scarce}`;
  }

  async kernelServer(): Promise<Figures> {
    const { context, hosts } = this;
    context.step("Bun.udpSocket: one datagram in flight");
    const command = [process.execPath, KERNEL_SERVER, String(PORT), String(this.serverCpu)];
    const server = hosts.b.ns.run(() => Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "inherit" }));
    try {
      await server.stdout.getReader().read();
      return await this.measure("Bun.udpSocket", () => processTimes(server.pid));
    } finally {
      server.kill("SIGKILL");
      await server.exited;
    }
  }

  async engine(provider: Provider): Promise<{ figures: Figures; info: EngineInfo }> {
    const { hosts } = this;
    this.context.step("lcore: one datagram in flight");
    const data: EchoData = { address: wildcard(), udp: PORT, lcores: 1 };
    const engine = await Engine.start({
      provider,
      ...(provider === "engine" ? { interface: hosts.b.name } : {}),
      netns: hosts.b.ns.path,
      cpus: [this.serverCpu],
      poll: this.alone ? "interrupt" : "busy",
      module: new URL("../echo-module.ts", import.meta.url),
      data,
    });
    try {
      const figures = await this.measure("lcore", () => lcoreTimes(engine));
      return { figures, info: engine.info };
    } finally {
      await engine.close();
    }
  }

  private get alone(): boolean {
    return this.serverCpu === this.clientCpu;
  }

  /** Measures the server that runs. `times` reads those of its threads so far. */
  private async measure(name: string, times: () => CpuTimes): Promise<Figures> {
    const roundTrips = await this.roundTrips();
    this.context.step(`${name}: as many echoes as it can`);
    return figuresOf(name, await load(this.generator(), this.context, times), roundTrips);
  }

  /** Round trips of a client on a kernel socket. */
  private async roundTrips(): Promise<Float64Array> {
    const { abort, seconds } = this.context;
    const { a, b } = this.hosts;
    const options: ClientOptions = {
      address: b.ipv4Text,
      port: PORT,
      payload: LOAD.payload,
      seconds,
      cpu: this.clientCpu,
      spin: !this.alone,
    };
    abort.throwIfAborted();
    const command = [process.execPath, CLIENT, JSON.stringify(options)];
    const client = a.ns.run(() => Bun.spawn(command, { stdout: "pipe", stderr: "inherit", signal: abort }));
    const output = await client.stdout.text();
    await client.exited;
    abort.throwIfAborted();
    if (client.exitCode !== 0) throw new Error(`the kernel client failed with status ${client.exitCode}`);
    const { counts } = JSON.parse(output) as ClientResult;
    const roundTrips = new Float64Array(LATENCY_BUCKETS);
    for (const [bucket, count] of counts) roundTrips[bucket] = count;
    return roundTrips;
  }

  private generator(): GeneratorThreadOptions {
    const { a, b } = this.hosts;
    return {
      link: { kind: "xdp", ifindex: a.ifindex, netns: a.ns.path, queues: [0], mode: "skb" },
      cpu: this.clientCpu,
      sourceMac: a.mac,
      destinationMac: b.mac,
      source: a.ipv4,
      destination: b.ipv4,
      sourcePort: 20000,
      destinationPort: PORT,
      ...LOAD,
    };
  }
}

/** Times of all threads of another process together. */
function processTimes(pid: number): CpuTimes {
  const times = { runNs: 0, waitNs: 0 };
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    let line = "0 0";
    try {
      line = readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8");
    } catch {
      // The thread has ended since.
    }
    const [runNs, waitNs] = line.split(" ");
    times.runNs += Number(runNs);
    times.waitNs += Number(waitNs);
  }
  return times;
}
