/**
 * Network namespaces of the calling thread (network_namespaces(7)).
 *
 * unshare and setns act on the calling thread alone, so `run` is synchronous: the thread is back in its own namespace
 * when it returns, whatever happens. Sockets belong to the namespace they were created in and work from anywhere
 * later. A namespace made here has no name; it lives as long as something holds it (this descriptor, a process, a
 * socket), so it goes away with the process however that dies.
 */
import { closeSync, fstatSync, openSync } from "node:fs";
import { check, SysError, sys } from "af-xdp-bindings";

const CLONE_NEWNET = 0x40000000;
const CURRENT = "/proc/thread-self/ns/net";
const NEEDS_ADMIN = { EPERM: "needs CAP_SYS_ADMIN: run as root" };

export class NetNs {
  /** Descriptor of the namespace (close-on-exec). */
  readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** A fresh namespace with nothing but a `lo` that is down. */
  static create(): NetNs {
    const home = openSync(CURRENT, "r");
    try {
      check(sys.sys3(sys.SYS.unshare, CLONE_NEWNET, 0, 0), "unshare(CLONE_NEWNET)", NEEDS_ADMIN);
      try {
        return new NetNs(openSync(CURRENT, "r"));
      } finally {
        enter(home);
      }
    } finally {
      closeSync(home);
    }
  }

  /** The calling thread's namespace. */
  static current(): NetNs {
    return new NetNs(openSync(CURRENT, "r"));
  }

  /** A namespace by path: /run/netns/NAME or /proc/PID/ns/net. */
  static open(path: string): NetNs {
    return new NetNs(openSync(path, "r"));
  }

  /** Path by which other processes reach the namespace while this one holds it: `nsenter --net=PATH`. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.fd}`;
  }

  /**
   * Runs `body` with the calling thread inside the namespace. Programs that Bun.spawn or node:child_process start in
   * `body` are born in it. `body` must be synchronous: one that returns a promise is refused, since its rest would
   * run outside.
   */
  run<T>(body: () => T): T {
    const home = openSync(CURRENT, "r");
    try {
      // Staying needs no call, and so none of the privilege that setns(2) asks for even then.
      if (isSame(home, this.fd)) return synchronous(body);
      enter(this.fd);
      try {
        return synchronous(body);
      } finally {
        enter(home);
      }
    } finally {
      closeSync(home);
    }
  }

  /** Lets go of the namespace. */
  close(): void {
    closeSync(this.fd);
  }
}

function enter(fd: number): void {
  const result = sys.sys3(sys.SYS.setns, fd, CLONE_NEWNET, 0);
  if (result < 0) throw new SysError(-result, "setns(CLONE_NEWNET)", result === -1 ? NEEDS_ADMIN.EPERM : "");
}

/** Whether two descriptors are of one namespace (namespaces(7)). */
function isSame(a: number, b: number): boolean {
  const [first, second] = [fstatSync(a), fstatSync(b)];
  return first.ino === second.ino && first.dev === second.dev;
}

function synchronous<T>(body: () => T): T {
  const result = body();
  if (result instanceof Promise) throw new TypeError("NetNs.run: the body must be synchronous");
  return result;
}
