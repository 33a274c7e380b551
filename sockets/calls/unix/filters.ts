/**
 * Socket filters of AF_UNIX: classic BPF programs that drop messages on their way to a socket, or cut them off (sk_filter, sk_attach_filter
 * in net/core/filter.c). Streams take one and never run it. Extended programs are an engine's (bpf.load()), which such sockets have
 * none of: no handle of one is good here.
 */
import { ERRNO, sys } from "af-xdp-bindings";
import { classicCharge } from "../../bpf/charge.ts";
import { type ClassicFilter, compileClassic, decodeClassic, faultOf, PacketContext } from "../../bpf/classic.ts";
import {
  SO_ATTACH_BPF,
  SO_ATTACH_FILTER,
  SO_ATTACH_REUSEPORT_CBPF,
  SO_ATTACH_REUSEPORT_EBPF,
  SO_DETACH_FILTER,
  SO_DETACH_REUSEPORT_BPF,
  SO_LOCK_FILTER,
  SOL_SOCKET,
} from "../../options.ts";
import { readProgram, tellFilter } from "../../sockopt/filters.ts";
import { type Option, type OptionPart, option, readInt, refused, writeInt } from "../../sockopt/rules.ts";
import type { UnixOptions } from "./options.ts";
import type { Packet } from "./packet.ts";

const INT_BYTES = 4;

/** A program that is attached. */
export interface SocketFilter {
  /** Its instructions, struct sock_filter each. */
  readonly code: Uint8Array;
  /** Bytes of optmem_max. */
  readonly charge: number;
  readonly run: ClassicFilter;
}

const cpu = new Uint32Array(1);

/** The message is all there is: no interface, no protocol, no link; its network header is where it begins. */
const context = new PacketContext();
context.networkOffset = 0;

/** Runs the filter, which may cut the message off. False: it is to be dropped. */
export function passes({ run }: SocketFilter, packet: Packet): boolean {
  sys.sys3(sys.SYS.getcpu, sys.addressOf(cpu), 0, 0);
  context.cpu = cpu[0];
  const kept = run(packet.data, 0, packet.data.length, context) >>> 0;
  if (kept > 0 && kept < packet.data.length) packet.trim(kept);
  return kept > 0;
}

/** A classic program, checked and compiled, or -errno. */
function compiled(code: Uint8Array): SocketFilter | number {
  const program = decodeClassic(code);
  const charge = faultOf(program) === null ? classicCharge(program) : -1;
  return charge < 0 ? -ERRNO.EINVAL : { code, charge, run: compileClassic(program) };
}

const attach: OptionPart<UnixOptions> = {
  set(target, bytes) {
    const code = readProgram(bytes, target.filterLocked);
    const filter = typeof code === "number" ? code : compiled(code);
    if (typeof filter === "number") return filter;
    const { optmemMax } = target.limits;
    // The one before is charged until the new one is there.
    if (filter.charge > optmemMax || target.filterCharge + filter.charge >= optmemMax) return -ERRNO.ENOMEM;
    target.filter = filter;
    return 0;
  },
  get: ({ filter }, out) => tellFilter(filter?.code ?? new Uint8Array(0), out),
};

const detach: OptionPart<UnixOptions> = {
  set(target, bytes) {
    if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
    if (target.filterLocked) return -ERRNO.EPERM;
    if (target.filter === null) return -ERRNO.ENOENT;
    target.filter = null;
    return 0;
  },
};

/** Once locked, always locked. */
const lock: OptionPart<UnixOptions> = {
  set(target, bytes) {
    if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
    const on = readInt(bytes, SOL_SOCKET) !== 0;
    if (target.filterLocked && !on) return -ERRNO.EPERM;
    target.filterLocked = on;
    return 0;
  },
  get: ({ filterLocked }, out) => writeInt(SOL_SOCKET, out, Number(filterLocked)),
};

/** A program by its handle. */
const attachHandle: OptionPart<UnixOptions> = {
  set({ filterLocked }, bytes) {
    if (bytes.length !== INT_BYTES) return -ERRNO.EINVAL;
    return filterLocked ? -ERRNO.EPERM : -ERRNO.EBADF;
  },
};

/** No socket of AF_UNIX is of a reuseport group. */
const attachToGroup: OptionPart<UnixOptions> = {
  set(target, bytes) {
    const code = readProgram(bytes, target.filterLocked);
    const filter = typeof code === "number" ? code : compiled(code);
    if (typeof filter === "number") return filter;
    return filter.charge > target.limits.optmemMax ? -ERRNO.ENOMEM : -ERRNO.EINVAL;
  },
};

const so = (name: number, label: string, part: OptionPart<UnixOptions>): Option<UnixOptions> =>
  option(SOL_SOCKET, name, label, part);

export const FILTER_OPTIONS: readonly Option<UnixOptions>[] = [
  so(SO_ATTACH_FILTER, "SO_ATTACH_FILTER", attach),
  so(SO_DETACH_FILTER, "SO_DETACH_FILTER", detach),
  so(SO_LOCK_FILTER, "SO_LOCK_FILTER", lock),
  so(SO_ATTACH_BPF, "SO_ATTACH_BPF", attachHandle),
  so(SO_ATTACH_REUSEPORT_CBPF, "SO_ATTACH_REUSEPORT_CBPF", attachToGroup),
  so(SO_ATTACH_REUSEPORT_EBPF, "SO_ATTACH_REUSEPORT_EBPF", attachHandle),
  so(SO_DETACH_REUSEPORT_BPF, "SO_DETACH_REUSEPORT_BPF", refused(ERRNO.EINVAL, ERRNO.ENOPROTOOPT)),
];
