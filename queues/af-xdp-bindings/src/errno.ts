/**
 * Operating errors: the errno name, the system call that gave it, and what to do about it.
 *
 * Numbers are those of include/uapi/asm-generic/errno{-base,}.h, which x86-64 and arm64 share.
 */

/** errno number by name. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  ENOEXEC: 8,
  EBADF: 9,
  ECHILD: 10,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  ENOTBLK: 15,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  EROFS: 30,
  EMLINK: 31,
  EPIPE: 32,
  EDOM: 33,
  ERANGE: 34,
  EDEADLK: 35,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENOMSG: 42,
  ENODATA: 61,
  ETIME: 62,
  ENONET: 64,
  ENOLINK: 67,
  EPROTO: 71,
  EBADMSG: 74,
  EOVERFLOW: 75,
  EBADFD: 77,
  EILSEQ: 84,
  EUSERS: 87,
  ENOTSOCK: 88,
  EDESTADDRREQ: 89,
  EMSGSIZE: 90,
  EPROTOTYPE: 91,
  ENOPROTOOPT: 92,
  EPROTONOSUPPORT: 93,
  ESOCKTNOSUPPORT: 94,
  EOPNOTSUPP: 95,
  EPFNOSUPPORT: 96,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ENETRESET: 102,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ENOBUFS: 105,
  EISCONN: 106,
  ENOTCONN: 107,
  ESHUTDOWN: 108,
  ETOOMANYREFS: 109,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EHOSTDOWN: 112,
  EHOSTUNREACH: 113,
  EALREADY: 114,
  EINPROGRESS: 115,
  ESTALE: 116,
  ECANCELED: 125,
  ENOKEY: 126,
  // Kernel-internal, but seen in user space: the bpf and tracing code return it for an unsupported operation.
  ENOTSUPP: 524,
} as const;

export type ErrnoName = keyof typeof ERRNO;

const NAMES = new Map<number, string>(Object.entries(ERRNO).map(([name, number]) => [number, name]));

/** Name of an errno number ("EINVAL"), or "errno 999" for one this table does not know. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}

/**
 * A failed system call. `code` is the errno name as in Node's errors, `errno` the positive number, `syscall` the call
 * with what it was about ("bpf(BPF_PROG_LOAD)"), `hint` what the caller can do.
 */
export class SysError extends Error {
  override readonly name = "SysError";
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
  readonly hint: string;

  constructor(errno: number, syscall: string, hint = "", detail = "") {
    const code = errnoName(errno);
    super(`${syscall}: ${code}${detail ? ` (${detail})` : ""}${hint ? `: ${hint}` : ""}`);
    this.errno = errno;
    this.code = code;
    this.syscall = syscall;
    this.hint = hint;
  }
}

/**
 * Passes a result through, or throws what the errno means. `hints` gives advice by errno name; it is read only on
 * failure, so call sites may build it from constants without cost.
 */
export function check(result: number, syscall: string, hints: Partial<Record<ErrnoName, string>> = {}): number {
  if (result >= 0) return result;
  const name = errnoName(-result);
  throw new SysError(-result, syscall, hints[name as ErrnoName] ?? "");
}
