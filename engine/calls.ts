/**
 * The calls of socket(7) by descriptor, of one thread of an engine: AF_INET and AF_INET6 are the engine's sockets, or the kernel's
 * where it serves by those; AF_UNIX is the process's own.
 */
import { AF_INET, AF_INET6, AF_UNIX, O_NONBLOCK } from "../sockets/calls/constants.ts";
import { KernelWatch } from "../sockets/calls/events/kernel-watch.ts";
import { raisePipe } from "../sockets/calls/events/signals.ts";
import { InetFamily } from "../sockets/calls/inet/family.ts";
import { EndpointSleeper } from "../sockets/calls/inet/sleeper.ts";
import { KernelFamily } from "../sockets/calls/kernel-file.ts";
import { type Family, SocketProcess } from "../sockets/calls/process.ts";
import { plainSleeper } from "../sockets/calls/sleep.ts";
import { UnixFamily } from "../sockets/calls/unix/family.ts";
import type { Endpoint } from "../sockets/endpoint.ts";
import { openNetns, type Way } from "./wiring.ts";

/**
 * A process on a thread's end of an engine. Its `exit()` closes every descriptor.
 * @param blocks whether calls may wait: not on an lcore, whose sockets have O_NONBLOCK from the start
 */
export function openCalls(endpoint: Endpoint, way: Way, blocks: boolean): SocketProcess {
  const watch = new KernelWatch();
  const families = new Map<number, Family>([[AF_UNIX, new UnixFamily()]]);
  if (way.kind === "sockets") {
    const netns = openNetns(way.netnsPath);
    for (const family of [AF_INET, AF_INET6]) {
      families.set(family, new KernelFamily(family, watch, (body) => netns.run(body)));
    }
    return new SocketProcess(families, plainSleeper, raisePipe, watch);
  }
  const status = blocks ? 0 : O_NONBLOCK;
  for (const family of [AF_INET, AF_INET6]) families.set(family, new InetFamily(endpoint, family, status));
  return new SocketProcess(families, new EndpointSleeper(endpoint), raisePipe, watch);
}
