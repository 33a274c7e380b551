/**
 * The calls of socket(7) by descriptor, of one thread of an engine: AF_INET and AF_INET6 are the engine's sockets, or the kernel's
 * where it serves by those; AF_UNIX is the thread's own, or the kernel's; AF_PACKET is of the thread that has started the engine.
 */
import { AF_INET, AF_INET6, AF_PACKET, AF_UNIX, O_NONBLOCK } from "../sockets/calls/constants.ts";
import { KernelWatch } from "../sockets/calls/events/kernel-watch.ts";
import { raisePipe } from "../sockets/calls/events/signals.ts";
import { InetFamily } from "../sockets/calls/inet/family.ts";
import { EndpointSleeper } from "../sockets/calls/inet/sleeper.ts";
import type { InNamespace } from "../sockets/calls/kernel-calls.ts";
import { KernelFamily } from "../sockets/calls/kernel-file.ts";
import { PacketFamily } from "../sockets/calls/packet/packet-file.ts";
import type { FrameTaps } from "../sockets/calls/packet/taps.ts";
import { type Family, type Sleeper, SocketProcess } from "../sockets/calls/process.ts";
import { plainSleeper } from "../sockets/calls/sleep.ts";
import { UnixFamily } from "../sockets/calls/unix/family.ts";
import type { Endpoint } from "../sockets/endpoint.ts";
import { openNetns, type Way } from "./wiring.ts";

export interface CallsOptions {
  /**
   * Whose sockets those of AF_UNIX are. "thread" (default): the thread's own, which reach each other and nobody else. "kernel": the
   * kernel's, in the engine's network namespace, which reach other threads and processes; descriptors of the kernel may go along.
   */
  readonly unix?: "thread" | "kernel";
}

/**
 * A process on a thread's end of an engine. Its `exit()` closes every descriptor.
 * @param blocks whether calls may wait: not on an lcore, whose sockets have O_NONBLOCK from the start
 * @param taps frames of the interface, for AF_PACKET
 */
export function openCalls(
  endpoint: Endpoint,
  way: Way,
  blocks: boolean,
  taps: FrameTaps | null = null,
  { unix = "thread" }: CallsOptions = {},
): SocketProcess {
  if (unix !== "thread" && unix !== "kernel") throw new RangeError(`unix: "thread" or "kernel", not ${String(unix)}`);
  const watch = new KernelWatch();
  const families = new Map<number, Family>();
  const atExit: (() => void)[] = [];
  /** Where sockets of the kernel are made. */
  const inNamespace = (path: string | null): InNamespace => {
    const netns = openNetns(path);
    atExit.push(() => netns.close());
    return (body) => netns.run(body);
  };
  if (unix === "thread") families.set(AF_UNIX, new UnixFamily(watch));
  else {
    const within = "netnsPath" in way ? inNamespace(way.netnsPath) : undefined;
    families.set(AF_UNIX, new KernelFamily(AF_UNIX, watch, within));
  }
  let sleeper: Sleeper = plainSleeper;
  if (way.kind === "sockets") {
    const within = inNamespace(way.netnsPath);
    for (const family of [AF_INET, AF_INET6, AF_PACKET]) families.set(family, new KernelFamily(family, watch, within));
  } else {
    sleeper = new EndpointSleeper(endpoint);
    const status = blocks ? 0 : O_NONBLOCK;
    for (const family of [AF_INET, AF_INET6]) families.set(family, new InetFamily(endpoint, family, status));
  }
  if (way.kind === "kernel" && taps !== null) {
    families.set(AF_PACKET, new PacketFamily(taps, watch, inNamespace(way.netnsPath)));
  }
  const process = new SocketProcess(families, sleeper, raisePipe, watch);
  process.atExit.push(...atExit);
  return process;
}
