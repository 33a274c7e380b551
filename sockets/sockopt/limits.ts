/** What the host's kernel bounds socket options by: sysctls of net.core, and the privileges of this process. */
import { readFileSync } from "node:fs";
import { sys } from "af-xdp-bindings";
import { SO_RCVTIMEO, SOL_SOCKET } from "../options.ts";

const AF_UNIX = 1;
const SOCK_STREAM = 1;

/** Of a kernel with CONFIG_HZ=250. */
const TICK_DEFAULT_US = 4000;
const CAP_SETGID = 6;
const CAP_SETUID = 7;
const CAP_NET_ADMIN = 12;
const CAP_NET_RAW = 13;
const CAP_SYS_ADMIN = 21;
const CAP_SYS_RESOURCE = 24;
/** Default of rmem_max, wmem_max and their defaults on a kernel with 4 KiB pages (net/core/sock.c, SK_WMEM_MAX), where /proc says nothing. */
const BUFFER_MAX = 212992;
/** Default of optmem_max since Linux 6.8. */
const OPTMEM_MAX = 131072;

export interface Limits {
  /** net.core.rmem_max and wmem_max, bytes. */
  readonly rcvbufMax: number;
  readonly sndbufMax: number;
  /** net.core.rmem_default and wmem_default, bytes. */
  readonly rcvbufDefault: number;
  readonly sndbufDefault: number;
  /** A tick of the kernel's clock, in which it counts timeouts: microseconds. */
  readonly tickUs: number;
  /** net.core.busy_read, microseconds. */
  readonly busyRead: number;
  /** net.core.optmem_max, bytes: what a socket's filter and the like may take. */
  readonly optmemMax: number;
  readonly netAdmin: boolean;
  readonly netRaw: boolean;
  /** RLIMIT_NOFILE. */
  readonly descriptors: number;
  readonly sysAdmin: boolean;
  readonly sysResource: boolean;
  readonly setUid: boolean;
  readonly setGid: boolean;
}

let limits: Limits | null = null;

/** Read once a thread: what changes later holds for engines started later. */
export function hostLimits(): Limits {
  limits ??= {
    rcvbufMax: sysctl("rmem_max"),
    sndbufMax: sysctl("wmem_max"),
    rcvbufDefault: sysctl("rmem_default"),
    sndbufDefault: sysctl("wmem_default"),
    tickUs: tick(),
    busyRead: Number(text("/proc/sys/net/core/busy_read")) || 0,
    optmemMax: sysctl("optmem_max", OPTMEM_MAX),
    netAdmin: capable(CAP_NET_ADMIN),
    netRaw: capable(CAP_NET_RAW),
    descriptors: openFiles(),
    sysAdmin: capable(CAP_SYS_ADMIN),
    sysResource: capable(CAP_SYS_RESOURCE),
    setUid: capable(CAP_SETUID),
    setGid: capable(CAP_SETGID),
  };
  return limits;
}

function sysctl(name: string, otherwise = BUFFER_MAX): number {
  return Number(text(`/proc/sys/net/core/${name}`).trim()) || otherwise;
}

function openFiles(): number {
  const [, soft] = /^Max open files\s+(\d+)/m.exec(text("/proc/self/limits")) ?? [];
  return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
}

/** The least timeout that a socket of the kernel can be given, but none. */
function tick(): number {
  const fd = sys.socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) return TICK_DEFAULT_US;
  const time = BigInt64Array.of(0n, 1n);
  sys.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, time);
  sys.getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, time);
  sys.close(fd);
  return Number(time[1]) || TICK_DEFAULT_US;
}

function capable(bit: number): boolean {
  const [, effective] = /^CapEff:\s*([0-9a-f]+)$/m.exec(text("/proc/self/status")) ?? ["", "0"];
  return ((BigInt(`0x${effective}`) >> BigInt(bit)) & 1n) === 1n;
}

function text(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
