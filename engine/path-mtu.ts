/**
 * Path MTUs that routers have reported (RFC 1191, RFC 8201), by destination. The FIB tells the packet path; what is larger
 * goes by the kernel, which has heard of them too and takes it apart.
 */
import { addressBytes, type FibPathMtu, PATH_MTUS_MAX } from "../sockets/fib.ts";

/** How long a report counts (RFC 1191, section 6.3; net.ipv4.route.mtu_expires): then a larger packet tries again. */
const EXPIRY_MS = 600_000;
/** The least time between two publications: reports are cheap to forge, a new FIB is not cheap to read. */
const PUBLISH_MS = 100;
/** The least that IPv6 has (RFC 8200, section 5): reports of less are taken for it, as Linux does. */
const IPV6_MIN_MTU = 1280;

interface PathMtu extends FibPathMtu {
  readonly expiresAt: number;
}

export class PathMtus {
  /** In the order in which they were learned. */
  private readonly entries = new Map<string, PathMtu>();
  private changed = false;
  private publishAt = 0;

  /** A router on the way to `address` (four words, IPv4 mapped) lets no more than `mtu` bytes pass. */
  learn(address: Int32Array, mtu: number, now: number): void {
    const destination = addressBytes(address[0], address[1], address[2], address[3]);
    const key = destination.join();
    const least = Math.max(mtu >>> 0, destination.length === 4 ? 1 : IPV6_MIN_MTU);
    const known = this.entries.get(key);
    this.entries.delete(key);
    if (this.entries.size === PATH_MTUS_MAX) this.entries.delete(this.entries.keys().next().value as string);
    this.entries.set(key, { destination, mtu: least, expiresAt: now + EXPIRY_MS });
    if (known?.mtu !== least) this.changed = true;
  }

  /** Whether the FIB is to be published for what was learned, or has expired. Asked now and then; the next answer is no. */
  isDue(now: number): boolean {
    for (const [key, { expiresAt }] of this.entries) {
      if (expiresAt > now) break;
      this.entries.delete(key);
      this.changed = true;
    }
    if (!this.changed || now < this.publishAt) return false;
    this.changed = false;
    this.publishAt = now + PUBLISH_MS;
    return true;
  }

  list(): FibPathMtu[] {
    return [...this.entries.values()];
  }
}
