/**
 * Options that attach BPF programs: SO_ATTACH_FILTER and its kin. What they do is in bpf/attach.ts; here is how their values come:
 * a struct sock_fprog, whose pointer leads to instructions in this process's memory, or the handle of a loaded program, an int.
 */
import { ERRNO, sys } from "af-xdp-bindings";
import {
  attachClassic,
  attachGroupClassic,
  attachGroupHandle,
  attachHandle,
  detachFilter,
  detachGroupProgram,
  filterOf,
  isLocked,
  lockFilter,
  recordPlace,
} from "../bpf/attach.ts";
import { decodeClassic, faultOf, SOCK_FILTER_BYTES } from "../bpf/classic.ts";
import { BPF_MAXINSNS } from "../bpf/opcodes.ts";
import {
  SO_ATTACH_BPF,
  SO_ATTACH_FILTER,
  SO_ATTACH_REUSEPORT_CBPF,
  SO_ATTACH_REUSEPORT_EBPF,
  SO_DETACH_FILTER,
  SO_DETACH_REUSEPORT_BPF,
  SO_LOCK_FILTER,
  SOL_SOCKET,
} from "../options.ts";
import { option, READER, writeInt } from "./rules.ts";
import type { UdpOption, UdpPart } from "./udp-target.ts";

const INT_BYTES = 4;
/** struct sock_fprog on 64 bits: u16 length, padding, pointer. */
const FPROG_BYTES = 16;
const POINTER_AT = 8;
/** User space ends below it (TASK_SIZE_MAX with four and five levels of pages). */
const ADDRESS_MAX = 2n ** 56n;

const NO_GROUP = "the socket is of no reuseport group: opened without reusePort, or connected since";
const HINTS = new Map<number, string>([
  [ERRNO.EPERM, "SO_LOCK_FILTER is set"],
  [ERRNO.ENOENT, "nothing is attached"],
  [ERRNO.EBADF, "no program is loaded under this handle: bpf.load() gives them"],
  [ERRNO.ENOMEM, "above net.core.optmem_max, or the engine's option 'bpfBytes'"],
]);

/**
 * The value of SO_ATTACH_FILTER: the instructions that a struct sock_fprog points to, or -errno, in the kernel's order of
 * checks: length of the value, lock, instructions. @param locked whether SO_LOCK_FILTER is set
 */
export function readProgram(bytes: Uint8Array, locked: boolean): Uint8Array | number {
  if (bytes.length !== FPROG_BYTES) return -ERRNO.EINVAL;
  if (locked) return -ERRNO.EPERM;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const count = view.getUint16(0, true);
  const address = view.getBigUint64(POINTER_AT, true);
  if (address === 0n || count === 0 || count > BPF_MAXINSNS) return -ERRNO.EINVAL;
  if (address >= ADDRESS_MAX) return -ERRNO.EFAULT;
  const code = new Uint8Array(new ArrayBuffer(count * SOCK_FILTER_BYTES));
  const result = sys.readMemory(Number(address), code);
  return result < 0 ? result : code;
}

type AttachClassic = typeof attachClassic;
type AttachHandle = typeof attachHandle;

const classic = (attach: AttachClassic): UdpPart => ({
  set(target, bytes) {
    const { endpoint, id } = target.socket;
    const code = readProgram(bytes, isLocked(endpoint.table, id));
    if (typeof code === "number") return code;
    const result = attach(endpoint.table, id, code, target.limits.optmemMax);
    target.hint = result === -ERRNO.EINVAL ? (faultOf(decodeClassic(code)) ?? NO_GROUP) : (HINTS.get(-result) ?? "");
    endpoint.tableChanged();
    return result;
  },
});

const handle = (attach: AttachHandle): UdpPart => ({
  set(target, bytes) {
    if (bytes.length !== INT_BYTES) return -ERRNO.EINVAL;
    const { endpoint, id } = target.socket;
    const given = new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true);
    const result = attach(endpoint.table, id, given, target.limits.optmemMax);
    target.hint =
      result === -ERRNO.EINVAL ? `a program of another type, or none; ${NO_GROUP}` : (HINTS.get(-result) ?? "");
    endpoint.tableChanged();
    return result;
  },
});

const detach = (take: typeof detachFilter): UdpPart => ({
  set(target, bytes) {
    if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
    const { endpoint, id } = target.socket;
    const result = take(endpoint.table, id);
    target.hint = result === -ERRNO.EINVAL ? NO_GROUP : (HINTS.get(-result) ?? "");
    endpoint.tableChanged();
    return result;
  },
});

/** SO_GET_FILTER: how many instructions there are, which are told where `out` has room for all of them, or for none. */
export function tellFilter(code: Uint8Array, out: Uint8Array): number {
  const room = Math.floor(out.length / SOCK_FILTER_BYTES) * SOCK_FILTER_BYTES;
  if (room > 0 && room < code.length) return -ERRNO.EINVAL;
  if (room > 0) out.set(code);
  return code.length / SOCK_FILTER_BYTES;
}

const getFilter: UdpPart = {
  get({ socket: { endpoint, id } }, out) {
    const code = filterOf(recordPlace(endpoint.table, id));
    return typeof code === "number" ? code : tellFilter(code, out);
  },
};

const lock: UdpPart = {
  set({ socket: { endpoint, id } }, bytes) {
    if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
    const on = new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true) !== 0;
    return lockFilter(endpoint.table, id, on);
  },
  get(this: UdpOption, { socket: { endpoint, id } }, out) {
    return writeInt(this.level, out, isLocked(endpoint.table, id) ? 1 : 0);
  },
};

const so = (name: number, label: string, ...parts: UdpPart[]): UdpOption =>
  option(SOL_SOCKET, name, label, READER, ...parts);

export const FILTER_OPTIONS: readonly UdpOption[] = [
  so(SO_ATTACH_FILTER, "SO_ATTACH_FILTER", classic(attachClassic), getFilter),
  so(SO_DETACH_FILTER, "SO_DETACH_FILTER", detach(detachFilter)),
  so(SO_LOCK_FILTER, "SO_LOCK_FILTER", lock),
  so(SO_ATTACH_BPF, "SO_ATTACH_BPF", handle(attachHandle)),
  so(SO_ATTACH_REUSEPORT_CBPF, "SO_ATTACH_REUSEPORT_CBPF", classic(attachGroupClassic)),
  so(SO_ATTACH_REUSEPORT_EBPF, "SO_ATTACH_REUSEPORT_EBPF", handle(attachGroupHandle)),
  so(SO_DETACH_REUSEPORT_BPF, "SO_DETACH_REUSEPORT_BPF", detach(detachGroupProgram)),
];
