/** The bpf(2) call: a `union bpf_attr` under construction, and the hints its errors carry. */
import { type ErrnoName, errnoName, SysError } from "../errno.ts";
import * as sys from "../sys.ts";
import { ATTR_SIZE, BPF_OBJ_NAME_LEN, CMD } from "./uapi.ts";

/** One `union bpf_attr`. It keeps alive whatever its pointers point to. All fields are in the host's byte order. */
export class Attr {
  readonly bytes = new Uint8Array(ATTR_SIZE);
  readonly view = new DataView(this.bytes.buffer);
  readonly pointees: ArrayBufferView[] = [];

  u32(offset: number, value: number): this {
    this.view.setUint32(offset, value, true);
    return this;
  }

  /** An unsigned value below 2^53. */
  u64(offset: number, value: number): this {
    this.view.setUint32(offset, value % 0x1_0000_0000, true);
    this.view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
    return this;
  }

  /** The address of a view's first byte. */
  pointer(offset: number, pointee: ArrayBufferView): this {
    this.pointees.push(pointee);
    return this.u64(offset, sys.addressOf(pointee));
  }

  /** The address of a NUL-terminated copy of the text. */
  text(offset: number, text: string): this {
    return this.pointer(offset, new TextEncoder().encode(`${text}\0`));
  }

  /** An object name in place, validated here because the kernel says only EINVAL. */
  name(offset: number, name: string): this {
    if (!/^[\w.]*$/.test(name) || name.length >= BPF_OBJ_NAME_LEN) {
      throw new RangeError(`BPF object name "${name}": at most ${BPF_OBJ_NAME_LEN - 1} of A-Z a-z 0-9 _ .`);
    }
    new TextEncoder().encodeInto(name, this.bytes.subarray(offset));
    return this;
  }

  getU32(offset: number): number {
    return this.view.getUint32(offset, true);
  }
}

export type Command = keyof typeof CMD;

/** The attr of the call under way: reachable from here until the kernel is done with the addresses in it. */
let inFlight: Attr | undefined;

/** bpf(command, attr): the kernel's result, or -errno. */
export function bpf(command: Command, attr: Attr): number {
  inFlight = attr;
  const result = sys.sys3(sys.SYS.bpf, CMD[command], sys.addressOf(inFlight.bytes), ATTR_SIZE);
  inFlight = undefined;
  return result;
}

/** Advice by errno that holds for every command. */
const COMMON_HINTS: Partial<Record<ErrnoName, string>> = {
  EPERM:
    "needs CAP_BPF and CAP_NET_ADMIN in the initial user namespace (run as root, or setcap cap_bpf,cap_net_admin+ep); " +
    "kernel.unprivileged_bpf_disabled and kernel lockdown refuse it without",
  ENOSYS: "this kernel is built without CONFIG_BPF_SYSCALL, or a seccomp filter hides bpf(2)",
  EMFILE: "out of file descriptors: raise RLIMIT_NOFILE",
};

/** Passes a result of `bpf` through, or throws what the errno means. `hints` come before the common ones. */
export function checkBpf(
  result: number,
  command: Command,
  hints: Partial<Record<ErrnoName, string>> = {},
  detail = "",
): number {
  if (result >= 0) return result;
  const name = errnoName(-result) as ErrnoName;
  throw new SysError(-result, `bpf(${command})`, hints[name] ?? COMMON_HINTS[name] ?? "", detail);
}

/** Decodes a NUL-terminated name. */
export function decodeName(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}
