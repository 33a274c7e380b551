/** Two hosts on a veth pair with an engine on b, on either provider; and kernel sockets on a that talk to it. */
import { writeFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import type { EngineOptions } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";
import type { Provider } from "../../engine/provider.ts";
import type { AttachedData } from "../engine/modules/attached.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp } from "../support/kernel-udp.ts";

export const PROVIDERS: readonly Provider[] = ["engine", "kernel"];

/** Why the scenarios cannot run here on a provider, or "". */
export const missingFor = (provider: Provider): string =>
  provider === "kernel" ? requires("netns", "veth") : requires("netns", "veth", "af_xdp", "bpf");

/** Runs the program that follows as a user without any capability. */
export const NOBODY = [
  "setpriv",
  "--reuid=65534",
  "--regid=65534",
  "--clear-groups",
  "--bounding-set=-all",
  "--inh-caps=-all",
];

export const module = (name: string): URL => new URL(`../engine/modules/${name}.ts`, import.meta.url);

/** Addresses of both hosts in one family. */
export const ends = ({ a, b }: VethPair, family: 4 | 6) =>
  family === 4 ? { client: a.ipv4Text, server: b.ipv4Text } : { client: a.ipv6Text, server: b.ipv6Text };
export const wildcard = (family: 4 | 6): string => (family === 4 ? "0.0.0.0" : "::");
export const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 31 + length);

export class Bed {
  readonly hosts: VethPair;
  readonly engine: Engine;
  private readonly sockets: KernelUdp[] = [];

  private constructor(hosts: VethPair, engine: Engine) {
    this.hosts = hosts;
    this.engine = engine;
  }

  static async start(provider: Provider, options: Partial<EngineOptions> = {}, queues = 1): Promise<Bed> {
    const hosts = makeHosts({ queues });
    // Else the kernel reports six unreachable ports at once, and then one a second.
    hosts.a.ns.run(() => {
      writeFileSync("/proc/sys/net/ipv4/icmp_ratelimit", "0");
      writeFileSync("/proc/sys/net/ipv6/icmp/ratelimit", "0");
    });
    try {
      const link = provider === "engine" ? { interface: hosts.b.name } : {};
      return new Bed(hosts, await Engine.start({ provider, netns: hosts.b.ns.path, ...link, ...options }));
    } catch (error) {
      hosts.close();
      throw error;
    }
  }

  /** A kernel socket on host a. */
  peer(address: string, port = 0): KernelUdp {
    const socket = new KernelUdp(this.hosts.a.ns, { address, port });
    this.sockets.push(socket);
    return socket;
  }

  /** A worker that joins the engine: see modules/attached.ts. */
  attach(data: Omit<AttachedData, "descriptor">) {
    const worker = new Worker(module("attached"), { workerData: { ...data, descriptor: this.engine.descriptor() } });
    const message = <T>(type: string): Promise<T> =>
      new Promise((resolve, reject) => {
        worker.on("message", (each: { type: string }) => each.type === type && resolve(each as T));
        worker.on("error", reject);
      });
    return { bound: message<{ port: number }>("bound"), ended: message<{ count: number; code: string }>("ended") };
  }

  async close(): Promise<void> {
    await this.engine.close();
    for (const socket of this.sockets) socket.close();
    this.hosts.close();
  }
}
