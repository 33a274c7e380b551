/**
 * The values of /proc/sys/net/core that socket(7) names, as an engine has them: the host's when it starts, in memory that all of its
 * threads see. Those that mean something to its sockets may be set, with the kernel's checks (net/core/sysctl_net_core.c).
 */
import { readFileSync } from "node:fs";
import { ERRNO, SysError } from "af-xdp-bindings";

/** SOCK_MIN_RCVBUF and SOCK_MIN_SNDBUF (include/net/sock.h of 64-bit kernels). */
const RCVBUF_MIN = 2304;
const SNDBUF_MIN = 4608;
const INT_MAX = 0x7fffffff;

interface Entry {
  /** Where the host does not tell: what a kernel with pages of 4 KiB begins with. */
  readonly initial: number;
  /** The least it may be set to; null: it is the kernel's alone. */
  readonly least: number | null;
}

const ENTRIES = {
  /** SO_RCVBUF of a new socket, bytes. */
  rmem_default: { initial: 212992, least: RCVBUF_MIN },
  /** The most that SO_RCVBUF asks for, bytes. */
  rmem_max: { initial: 212992, least: RCVBUF_MIN },
  wmem_default: { initial: 212992, least: SNDBUF_MIN },
  wmem_max: { initial: 212992, least: SNDBUF_MIN },
  /** Bytes of control messages that a send may have. */
  optmem_max: { initial: 131072, least: 0 },
  message_cost: { initial: 5, least: null },
  message_burst: { initial: 10, least: null },
  netdev_max_backlog: { initial: 1000, least: null },
} as const satisfies Record<string, Entry>;

export type SysctlName = keyof typeof ENTRIES;
export const SYSCTLS = Object.keys(ENTRIES) as SysctlName[];

export class Sysctl {
  /** What the engine has, then what the host had; in the order of SYSCTLS. */
  private readonly words: Int32Array;

  /** Set-up: the host's values. */
  static create(): SharedArrayBuffer {
    const buffer = new SharedArrayBuffer(2 * 4 * SYSCTLS.length);
    const words = new Int32Array(buffer);
    SYSCTLS.forEach((name, i) => {
      words[i] = words[i + SYSCTLS.length] = ofHost(name);
    });
    return buffer;
  }

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer);
  }

  get(name: SysctlName): number {
    return Atomics.load(this.words, this.at(name));
  }

  /** What the host had when the engine started. */
  host(name: SysctlName): number {
    return this.words[this.at(name) + SYSCTLS.length];
  }

  /**
   * Sets a value for all threads: new sockets and later calls obey it. Throws SysError: EINVAL for what the kernel would not take
   * either, EOPNOTSUPP for what is the kernel's alone.
   */
  set(name: SysctlName, value: number): void {
    const { least } = ENTRIES[name] as Entry;
    const call = `sysctl net.core.${name}`;
    if (least === null) throw new SysError(ERRNO.EOPNOTSUPP, call, "only the kernel has a use for it: sysctl(8)");
    if (!Number.isInteger(value) || value < least || value > INT_MAX) {
      throw new SysError(ERRNO.EINVAL, call, `a whole number from ${least} to ${INT_MAX}`);
    }
    Atomics.store(this.words, this.at(name), value);
  }

  private at(name: SysctlName): number {
    const at = SYSCTLS.indexOf(name);
    if (at < 0) throw new RangeError(`sysctl ${name}: one of ${SYSCTLS.join(", ")}`);
    return at;
  }
}

/** Missing in network namespaces other than the first, some of them. */
function ofHost(name: SysctlName): number {
  try {
    return Number(readFileSync(`/proc/sys/net/core/${name}`, "utf8"));
  } catch {
    return ENTRIES[name].initial;
  }
}
