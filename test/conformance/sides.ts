/** What scenarios are played on. */
import { unlinkSync, writeFileSync } from "node:fs";

import type { EngineOptions } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";
import { createMemoryWire, type Side as End } from "../../queues/memory.ts";
import { BpfObjects, type LoadedProgram, type ProgramSource } from "../../sockets/bpf/objects.ts";
import { AF_INET, AF_INET6, AF_UNIX, MSG_DONTWAIT, POLLIN, SOCK_DGRAM } from "../../sockets/calls/constants.ts";
import { KernelWatch } from "../../sockets/calls/events/kernel-watch.ts";
import { raisePipe } from "../../sockets/calls/events/signals.ts";
import { KernelCalls } from "../../sockets/calls/kernel-calls.ts";
import { KernelFamily } from "../../sockets/calls/kernel-file.ts";
import { SocketProcess } from "../../sockets/calls/process.ts";
import { plainSleeper } from "../../sockets/calls/sleep.ts";
import type { SocketCalls } from "../../sockets/calls/socket-calls.ts";
import { UnixFamily } from "../../sockets/calls/unix/family.ts";
import { addressWords } from "../../sockets/fib.ts";
import { writeSockaddr } from "../../sockets/sockaddr.ts";
import { NEWRENO } from "../../sockets/tcp/config.ts";
import { ip } from "../../sockets/wire/address.ts";
import { pauseFor } from "../calls/inet/tcp-tools.ts";
import { type Host, VethPair } from "../support/hosts.ts";
import type { Places } from "./generate.ts";
import type { Side } from "./run.ts";

/** A port under which sockets of generated scenarios are bound, and the peer's, where nobody is. */
const OWN_PORT = 5000;
const NOBODY_PORT = 9;

function sockaddr(address: Uint8Array, port: number): Uint8Array {
  const bytes = new Uint8Array(28);
  const [w0, w1, w2, w3] = addressWords(address);
  const family = address.length === 4 ? AF_INET : AF_INET6;
  return bytes.subarray(0, writeSockaddr(new DataView(bytes.buffer), family, w0, w1, w2, w3, port));
}

const placesOf = (own: Pick<Host, "ipv4" | "ipv6">, peer: Pick<Host, "ipv4" | "ipv6">): Places => ({
  own4: sockaddr(own.ipv4, OWN_PORT),
  own6: sockaddr(own.ipv6, OWN_PORT),
  peer4: sockaddr(peer.ipv4, NOBODY_PORT),
  peer6: sockaddr(peer.ipv6, NOBODY_PORT),
});

const ANY = { ipv4: ip("0.0.0.0"), ipv6: ip("::") };
const NOWHERE = placesOf(ANY, ANY);

/** bpf(2). */
const loadInKernel = (source: ProgramSource): LoadedProgram => new BpfObjects(null).load(source);

/** unlink(2) of the name of a socket in the file system: 0 or an errno. */
function unlinkInode(path: string): number {
  try {
    unlinkSync(path);
    return 0;
  } catch (error) {
    return (error as { errno: number }).errno;
  }
}

/** Something to play on, and to be closed. */
export interface OpenSide extends Side {
  close(): Promise<void>;
}

/** net.*: every error is reported, and not a few a second as by default; the rest is what Linux has by default. */
const SYSCTLS = {
  "ipv4/icmp_ratelimit": "0",
  "ipv6/icmp/ratelimit": "0",
  // In a namespace of its own the one that is always allowed.
  "ipv4/tcp_congestion_control": "reno",
  "ipv4/tcp_rmem": "4096 131072 6291456",
  "ipv4/tcp_wmem": "4096 16384 4194304",
};

/** Two hosts whose kernels are set up alike, whatever the machine has. */
function hosts(): VethPair {
  const pair = new VethPair();
  for (const { ns } of [pair.a, pair.b]) {
    ns.run(() => {
      for (const [path, value] of Object.entries(SYSCTLS)) writeFileSync(`/proc/sys/net/${path}`, value);
    });
  }
  return pair;
}

/** Ports of the sockets that settle() sends between. */
const SETTLING_PORT = 4998;
const SETTLING_MS = 2000;

/** Longer than the MTU: the threads of the host protocols make fragments of it. Short enough to go to them by an lcore, in order. */
const FRAGMENTED_BYTES = 1500;

/**
 * A datagram each way, then one more, for what the peer has sent may have been answered by an ICMP error. None overtakes what was
 * sent before, as lcores and rings are in order; but only what passes through the threads of the host protocols too, being
 * FRAGMENTED_BYTES long, comes after the errors that they send and report.
 */
function settling({ calls, peer, places }: Pick<Side, "calls" | "peer" | "places">, length = 1): () => void {
  const at = (address: Uint8Array): Uint8Array => {
    const bytes = address.slice();
    new DataView(bytes.buffer).setUint16(2, SETTLING_PORT);
    return bytes;
  };
  const own = at(places.own4);
  const other = at(places.peer4);
  if (peer === null) return () => {};
  const [near, far] = [calls.socket(AF_INET, SOCK_DGRAM, 0), peer.socket(AF_INET, SOCK_DGRAM, 0)];
  calls.bind(near, own);
  peer.bind(far, other);
  const cross = (from: SocketCalls, source: number, to: SocketCalls, sink: number, address: Uint8Array): void => {
    const entry = { fd: sink, events: POLLIN, revents: 0 };
    from.sendto(source, new Uint8Array(length), 0, address);
    // Whoever sends from rings hands them over when it looks for news.
    from.poll([], 0);
    if (to.poll([entry], SETTLING_MS) !== 1) throw new Error("a datagram between two scenarios was lost");
    to.recvfrom(sink, new Uint8Array(1), MSG_DONTWAIT, null);
  };
  return () => {
    cross(calls, near, peer, far, other);
    cross(peer, far, calls, near, own);
    cross(calls, near, peer, far, other);
  };
}

/** A frame crosses a wire, is answered, and the answer is taken in: a turn of each lcore, and again. */
const ROUNDS = 2;
const TURNS_MS = 10_000;

/** Waits until the lcores of engines have had turns, whoever else uses their CPUs. */
function turning(...engines: Engine[]): () => void {
  const lcores = engines.flatMap((engine) => {
    const socket = engine.udp();
    const { mesh } = socket.endpoint.shared;
    socket.close();
    return engine.info.cpus.map((_, lcore) => ({ mesh, lcore }));
  });
  return () => {
    const deadline = performance.now() + TURNS_MS;
    for (let round = 0; round < ROUNDS; round++) {
      for (const { mesh, lcore } of lcores) {
        const before = mesh.turns(lcore);
        // The turn after the one that is under way has ended when the next begins.
        for (let ms = 0; ((mesh.turns(lcore) - before) | 0) < 2; ms = 0.02) {
          if (performance.now() > deadline) throw new Error(`lcore ${lcore} takes no turns`);
          mesh.ring(lcore);
          Bun.sleepSync(ms);
        }
      }
    }
  };
}

/** Sockets of the kernel on two hosts. */
export function kernelSide(): OpenSide {
  const pair = hosts();
  return {
    name: "kernel",
    calls: new KernelCalls((body) => pair.a.ns.run(body)),
    peer: new KernelCalls((body) => pair.b.ns.run(body)),
    places: placesOf(pair.a, pair.b),
    unlink: unlinkInode,
    load: loadInKernel,
    async close() {
      pair.close();
    },
  };
}

/** Sockets of the kernel in the thread's own namespace, for what needs no network: AF_UNIX. */
export function kernelHere(): OpenSide {
  return {
    name: "kernel",
    calls: new KernelCalls(),
    peer: null,
    places: NOWHERE,
    unlink: unlinkInode,
    load: loadInKernel,
    async close() {},
  };
}

/** Files of the kernel in a process of ours: descriptors, waiting, poll and epoll are ours, the sockets are not. */
export function kernelFilesSide(): OpenSide {
  const watch = new KernelWatch();
  const families = new Map([[AF_UNIX, new KernelFamily(AF_UNIX, watch)]]);
  const process = new SocketProcess(families, plainSleeper, raisePipe, watch);
  return {
    name: "kernel files",
    calls: process,
    peer: null,
    places: NOWHERE,
    unlink: unlinkInode,
    load: loadInKernel,
    async close() {
      process.exit();
    },
  };
}

/** Sockets of AF_UNIX in a process of ours. */
export function processSide(): OpenSide {
  const family = new UnixFamily();
  const process = new SocketProcess(new Map([[AF_UNIX, family]]), plainSleeper, raisePipe);
  return {
    name: "process",
    calls: process,
    peer: null,
    places: NOWHERE,
    unlink: (path) => family.unlink(path),
    load: loadInKernel,
    async close() {
      process.exit();
    },
  };
}

/** Sockets of an engine on an interface; the peer's are the kernel's. */
export const engineSide = (): Promise<OpenSide> => besideKernel((host) => ({ interface: host.name }));

/** The same by an engine on kernel sockets. */
export const providerSide = (): Promise<OpenSide> => besideKernel(() => ({ provider: "kernel" }));

async function besideKernel(options: (host: Host) => EngineOptions): Promise<OpenSide> {
  const pair = hosts();
  const engine = await Engine.start({ ...options(pair.a), netns: pair.a.ns.path });
  const parties = {
    calls: engine.calls(),
    peer: new KernelCalls((body) => pair.b.ns.run(body)),
    places: placesOf(pair.a, pair.b),
  };
  if (engine.info.provider === "engine") pauseFor(turning(engine));
  return {
    name: "engine",
    ...parties,
    settle: settling(parties),
    unlink: unlinkInode,
    load: (source) => engine.bpf.load(source),
    async close() {
      pauseFor(() => {});
      await engine.close();
      pair.close();
    },
  };
}

/** Two engines on a wire in memory, without any kernel. */
export async function memorySide(): Promise<OpenSide> {
  const wire = createMemoryWire();
  const start = (side: End): Promise<Engine> => {
    const addresses = [`198.18.0.${side + 1}/24`, `2001:db8::${side + 1}/64`];
    const mac = Uint8Array.of(2, 0, 0, 0, 0, side + 1);
    return Engine.start({ memory: { wire, side, mac, addresses }, dad: false, tcp: { congestion: NEWRENO } });
  };
  const a = await start(0);
  const b = await start(1);
  const host = (number: number): Pick<Host, "ipv4" | "ipv6"> => ({
    ipv4: ip(`198.18.0.${number}`),
    ipv6: ip(`2001:db8::${number}`),
  });
  const parties = { calls: a.calls(), peer: b.calls(), places: placesOf(host(1), host(2)) };
  pauseFor(turning(a, b));
  return {
    name: "memory",
    ...parties,
    settle: settling(parties, FRAGMENTED_BYTES),
    unlink: unlinkInode,
    load: (source) => a.bpf.load(source),
    async close() {
      pauseFor(() => {});
      await a.close();
      await b.close();
    },
  };
}

/** What scenarios are played on besides the kernel. */
export const SIDES = {
  process: async (): Promise<OpenSide> => processSide(),
  "kernel files": async (): Promise<OpenSide> => kernelFilesSide(),
  engine: engineSide,
  memory: memorySide,
};

export type SideName = keyof typeof SIDES;
