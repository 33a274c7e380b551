/** Servers and loads of the TCP benchmark: each serves, or asks, in the same ways on the same wire. */
import type { PollPolicy } from "../engine/config.ts";
import type { LoadWay } from "./peers/lcore-load-module.ts";
import type { LcoreTcpOptions } from "./peers/lcore-tcp.ts";
import type { ServeWay } from "./peers/lcore-tcp-module.ts";
import type { CompiledPeers, XdpMode } from "./peers.ts";
import type { TcpTimes } from "./tcp-run.ts";
import { type Child, GENERATOR_CPU, PEER_CPU, PORT, type Testbed } from "./testbed.ts";

export interface TcpServer {
  readonly title: string;
  start(testbed: Testbed): Child;
}

export interface TcpLoad {
  readonly title: string;
  start(testbed: Testbed, times: TcpTimes): Child;
}

/** What a load of tcp-load.c does. */
export type KernelWay = LoadWay | "spin" | "source" | "sink";

const script = (name: string): string => new URL(`./peers/${name}`, import.meta.url).pathname;

/** A program of bench/peers in C. Throws where it cannot be compiled. */
function compiledPath(compiled: CompiledPeers, source: string): string {
  const { path, missing } = compiled.build(source);
  if (missing !== "") throw new Error(missing);
  return path;
}

const lcore = (testbed: Testbed, host: "a" | "b", options: Omit<LcoreTcpOptions, "interface">): Child => {
  const where = testbed.hosts[host];
  const all: LcoreTcpOptions = { ...options, interface: where.name };
  // It places its own threads.
  return testbed.spawn(where, [process.execPath, script("lcore-tcp.ts"), JSON.stringify(all)], null);
};

export const lcoreServer = (way: ServeWay, poll: PollPolicy, mode: XdpMode): TcpServer => ({
  title: `lcore, ${poll}`,
  start: (testbed) => lcore(testbed, "b", { cpu: PEER_CPU, mode, poll, serve: { port: PORT, way }, load: null }),
});

export const bunServer = (way: ServeWay): TcpServer => ({
  title: "Bun.listen",
  start: (testbed) =>
    testbed.spawn(testbed.hosts.b, [process.execPath, script("bun-tcp.ts"), String(PORT), way], PEER_CPU),
});

export const kernelServer = (compiled: CompiledPeers, way: ServeWay): TcpServer => {
  const path = compiledPath(compiled, "tcp-serve.c");
  return {
    title: "C, epoll",
    start: (testbed) => testbed.spawn(testbed.hosts.b, [path, String(PORT), way], PEER_CPU),
  };
};

export const lcoreLoad = (way: LoadWay, connections: number, bytes: number, mode: XdpMode): TcpLoad => ({
  title: `${way} of an lcore`,
  start: (testbed, times) => {
    const load = { address: testbed.hosts.b.ipv4Text, port: PORT, way, connections, bytes, ...times };
    return lcore(testbed, "a", { cpu: GENERATOR_CPU, mode, poll: "busy", serve: null, load });
  },
});

export const kernelLoad = (compiled: CompiledPeers, way: KernelWay, connections: number, bytes: number): TcpLoad => {
  const path = compiledPath(compiled, "tcp-load.c");
  return {
    title: `${way} of the kernel`,
    start: (testbed, { warmupMs, measureMs }) =>
      testbed.spawn(
        testbed.hosts.a,
        [path, testbed.hosts.b.ipv4Text, ...[PORT, way, connections, bytes, warmupMs, measureMs].map(String)],
        GENERATOR_CPU,
      ),
  };
};
