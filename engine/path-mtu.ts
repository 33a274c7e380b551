/**
 * Path MTUs that routers have reported (RFC 1191, RFC 8201), by destination, as the kernel believes them: a report only says
 * of which destination to ask. The FIB tells the packet path; what is larger goes by the kernel, which takes it apart.
 */
import { addressBytes, type FibPathMtu, PATH_MTUS_MAX } from "../sockets/fib.ts";

/** How often the kernel is asked again: an MTU that has expired there, or was flushed, counts for so long still. */
const ASK_MS = 1000;
/** The least time between two looks at reports: they are cheap to forge, a new FIB is not cheap to read. */
const PUBLISH_MS = 100;

/** The kernel's path MTU to a destination of 4 or 16 bytes, where it is less than that of the route; else 0. */
export type PathMtuOracle = (destination: Uint8Array) => number;

export class PathMtus {
  private readonly ask: PathMtuOracle;
  /** In the order in which they were last reported. MTU 0: not asked yet. */
  private readonly entries = new Map<string, FibPathMtu>();
  private reported = false;
  private publishAt = 0;
  private askAt = 0;

  constructor(ask: PathMtuOracle) {
    this.ask = ask;
  }

  /** A router on the way to `address` (four words, IPv4 mapped) is said to let less pass than was sent. */
  learn(address: Int32Array): void {
    const destination = addressBytes(address[0], address[1], address[2], address[3]);
    const key = destination.join();
    const mtu = this.entries.get(key)?.mtu ?? 0;
    this.entries.delete(key);
    if (this.entries.size === PATH_MTUS_MAX) this.entries.delete(this.entries.keys().next().value as string);
    this.entries.set(key, { destination, mtu });
    this.reported = true;
  }

  /** Whether the FIB is to be published for what the kernel believes now. Asked now and then (milliseconds). */
  isDue(now: number): boolean {
    if (now < this.publishAt || (!this.reported && now < this.askAt)) return false;
    this.publishAt = now + PUBLISH_MS;
    this.askAt = now + ASK_MS;
    this.reported = false;
    let changed = false;
    for (const [key, { destination, mtu }] of this.entries) {
      const believed = this.ask(destination);
      if (believed === 0) this.entries.delete(key);
      else if (believed !== mtu) this.entries.set(key, { destination, mtu: believed });
      if (believed !== mtu) changed = true;
    }
    return changed;
  }

  list(): FibPathMtu[] {
    return [...this.entries.values()].filter(({ mtu }) => mtu > 0);
  }
}
