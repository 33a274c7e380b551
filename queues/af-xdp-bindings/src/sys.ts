/**
 * The system-call shim: the one place that loads native code.
 *
 * Each call returns the kernel's result, or -errno. Nothing here throws, so the packet path may use it. 64-bit values
 * (addresses, offsets) cross as plain numbers, which are exact to 2^53; a user-space address has at most 47 bits
 * (57 with five-level paging, which the kernel hands out only on request).
 */
import { cc, FFIType, ptr } from "bun:ffi";
import { fileURLToPath } from "node:url";

const ARCH = process.arch as "x64" | "arm64";

/** System-call numbers: asm/unistd_64.h (x86-64) and asm-generic/unistd.h (arm64). */
const NUMBERS = {
  x64: {
    read: 0,
    write: 1,
    close: 3,
    lseek: 8,
    mmap: 9,
    mprotect: 10,
    munmap: 11,
    rt_sigprocmask: 14,
    ioctl: 16,
    pread64: 17,
    pwrite64: 18,
    readv: 19,
    writev: 20,
    madvise: 28,
    getpid: 39,
    socket: 41,
    connect: 42,
    sendto: 44,
    recvfrom: 45,
    sendmsg: 46,
    recvmsg: 47,
    shutdown: 48,
    bind: 49,
    listen: 50,
    getsockname: 51,
    getpeername: 52,
    socketpair: 53,
    setsockopt: 54,
    getsockopt: 55,
    kill: 62,
    fcntl: 72,
    capget: 125,
    rt_sigtimedwait: 128,
    rt_sigqueueinfo: 129,
    mount: 165,
    umount2: 166,
    gettid: 186,
    tkill: 200,
    sched_setaffinity: 203,
    sched_getaffinity: 204,
    clock_gettime: 228,
    epoll_ctl: 233,
    tgkill: 234,
    pselect6: 270,
    ppoll: 271,
    epoll_pwait: 281,
    epoll_create1: 291,
    unshare: 272,
    accept4: 288,
    eventfd2: 290,
    rt_tgsigqueueinfo: 297,
    recvmmsg: 299,
    prlimit64: 302,
    sendmmsg: 307,
    setns: 308,
    getcpu: 309,
    process_vm_readv: 310,
    bpf: 321,
    fsopen: 430,
    fsconfig: 431,
    fsmount: 432,
    pidfd_open: 434,
    openat2: 437,
    pidfd_getfd: 438,
  },
  arm64: {
    eventfd2: 19,
    epoll_create1: 20,
    epoll_ctl: 21,
    epoll_pwait: 22,
    fcntl: 25,
    ioctl: 29,
    umount2: 39,
    mount: 40,
    close: 57,
    lseek: 62,
    read: 63,
    write: 64,
    readv: 65,
    writev: 66,
    pread64: 67,
    pwrite64: 68,
    pselect6: 72,
    ppoll: 73,
    capget: 90,
    unshare: 97,
    clock_gettime: 113,
    sched_setaffinity: 122,
    sched_getaffinity: 123,
    kill: 129,
    tkill: 130,
    tgkill: 131,
    rt_sigprocmask: 135,
    rt_sigtimedwait: 137,
    rt_sigqueueinfo: 138,
    getcpu: 168,
    getpid: 172,
    gettid: 178,
    socket: 198,
    socketpair: 199,
    bind: 200,
    listen: 201,
    connect: 203,
    getsockname: 204,
    getpeername: 205,
    sendto: 206,
    recvfrom: 207,
    setsockopt: 208,
    getsockopt: 209,
    shutdown: 210,
    sendmsg: 211,
    recvmsg: 212,
    munmap: 215,
    mmap: 222,
    mprotect: 226,
    madvise: 233,
    rt_tgsigqueueinfo: 240,
    accept4: 242,
    recvmmsg: 243,
    prlimit64: 261,
    setns: 268,
    sendmmsg: 269,
    process_vm_readv: 270,
    bpf: 280,
    fsopen: 430,
    fsconfig: 431,
    fsmount: 432,
    pidfd_open: 434,
    openat2: 437,
    pidfd_getfd: 438,
  },
} as const;

if (process.platform !== "linux" || !(ARCH in NUMBERS)) {
  throw new Error(`af-xdp-bindings needs Linux on x64 or arm64, this is ${process.platform} on ${process.arch}`);
}

/** System-call numbers of this machine's architecture. */
export const SYS: Record<keyof (typeof NUMBERS)["x64"], number> = NUMBERS[ARCH];

const word = FFIType.i64_fast;

const shim = cc({
  source: fileURLToPath(new URL("./shim.c", import.meta.url)),
  symbols: {
    sys3: { args: [word, word, word, word], returns: word },
    sys6: { args: [word, word, word, word, word, word, word], returns: word },
    xsk_send: { args: [FFIType.i32], returns: FFIType.i32 },
    xsk_receive: { args: [FFIType.i32], returns: FFIType.i32 },
    copy: { args: [word, word, word], returns: FFIType.void },
  },
});

/** Any system call of up to three arguments: result, or -errno. */
export const sys3 = shim.symbols.sys3 as unknown as (nr: number, a: number, b: number, c: number) => number;

/** Any system call of up to six arguments: result, or -errno. */
export const sys6 = shim.symbols.sys6 as unknown as (
  nr: number,
  a: number,
  b: number,
  c: number,
  d: number,
  e: number,
  f: number,
) => number;

/** sendto(fd, NULL, 0, MSG_DONTWAIT): 0, or -errno. */
export const xskSend = shim.symbols.xsk_send as unknown as (fd: number) => number;

/** recvfrom(fd, NULL, 0, MSG_DONTWAIT): 0, or -errno. */
export const xskReceive = shim.symbols.xsk_receive as unknown as (fd: number) => number;

/** memcpy(3) of `length` bytes between two memory addresses that do not overlap. */
export const copy = shim.symbols.copy as unknown as (to: number, from: number, length: number) => void;

/**
 * Address of a view's first byte, valid while the view's buffer is reachable: keep the view in a field as long as the
 * kernel may use the address. An empty view has no address and gives 0.
 *
 * A small typed array has its bytes on the garbage-collected heap, and they move when it is given a buffer: at the first
 * look at its `buffer`, and also when the optimising compiler takes the array for a constant, after some ten thousand
 * calls (JavaScriptCore, ArrayBufferViewWatchpointAdaptor; seen in Bun 1.4.5). So it is given one here, once.
 */
export function addressOf(view: ArrayBufferView): number {
  return view.buffer.byteLength === 0 ? 0 : transientAddressOf(view);
}

/**
 * addressOf() for the call that follows at once: the view's bytes may be elsewhere after that. For payloads of others,
 * where the buffer would cost 150 to 470 ns each (Bun 1.4.5, 64 to 600 bytes).
 */
export function transientAddressOf(view: ArrayBufferView): number {
  return view.byteLength === 0 ? 0 : (ptr(view as Uint8Array) as number);
}

export const close = (fd: number): number => sys3(SYS.close, fd, 0, 0);

export const read = (fd: number, address: number, length: number): number => sys3(SYS.read, fd, address, length);

export const write = (fd: number, address: number, length: number): number => sys3(SYS.write, fd, address, length);

export const socket = (family: number, type: number, protocol: number): number =>
  sys3(SYS.socket, family, type, protocol);

export const bind = (fd: number, address: Uint8Array): number =>
  sys3(SYS.bind, fd, transientAddressOf(address), address.byteLength);

export const connect = (fd: number, address: Uint8Array): number =>
  sys3(SYS.connect, fd, transientAddressOf(address), address.byteLength);

export const setsockopt = (fd: number, level: number, name: number, value: ArrayBufferView): number =>
  sys6(SYS.setsockopt, fd, level, name, transientAddressOf(value), value.byteLength, 0);

const intBox = new Int32Array(1);
const lengthBox = new Uint32Array(1);

/** setsockopt with an `int` value. */
export function setsockoptInt(fd: number, level: number, name: number, value: number): number {
  intBox[0] = value;
  return setsockopt(fd, level, name, intBox);
}

/** Of SO_GET_FILTER the kernel takes the length for instructions of 8 bytes, and writes as many. */
const SOL_SOCKET = 1;
const SO_GET_FILTER = 26;
const SOCK_FILTER_BYTES = 8;

/** getsockopt into `value`; returns the length the kernel wrote, of SO_GET_FILTER the number of instructions, or -errno. */
export function getsockopt(fd: number, level: number, name: number, value: ArrayBufferView): number {
  const isFilter = level === SOL_SOCKET && name === SO_GET_FILTER;
  lengthBox[0] = isFilter ? Math.floor(value.byteLength / SOCK_FILTER_BYTES) : value.byteLength;
  const result = sys6(SYS.getsockopt, fd, level, name, transientAddressOf(value), transientAddressOf(lengthBox), 0);
  return result < 0 ? result : (lengthBox[0] as number);
}

/** getsockopt of an `int`: writes it to `out[0]`; returns 0 or -errno. */
export function getsockoptInt(fd: number, level: number, name: number, out: Int32Array): number {
  const result = getsockopt(fd, level, name, out.length === 1 ? out : out.subarray(0, 1));
  return Math.min(result, 0);
}

/** sendto(fd, buffer, flags, address); the address may be 0 bytes long for none. Returns bytes sent, or -errno. */
export const sendto = (
  fd: number,
  buffer: number,
  length: number,
  flags: number,
  address: number,
  addressLength: number,
): number => sys6(SYS.sendto, fd, buffer, length, flags, address, addressLength);

/** recvfrom(fd, buffer, flags, address, &addressLength). Returns bytes received, or -errno. */
export const recvfrom = (
  fd: number,
  buffer: number,
  length: number,
  flags: number,
  address: number,
  addressLength: number,
): number => sys6(SYS.recvfrom, fd, buffer, length, flags, address, addressLength);

/**
 * mmap. `offset` may exceed 32 bits (the AF_XDP ring offsets do). Returns the address, or -errno.
 */
export const mmap = (
  address: number,
  length: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
): number => sys6(SYS.mmap, address, length, protection, flags, fd, offset);

export const munmap = (address: number, length: number): number => sys3(SYS.munmap, address, length, 0);

export const madvise = (address: number, length: number, advice: number): number =>
  sys3(SYS.madvise, address, length, advice);

/**
 * Fills `out` from an address of this process that somebody has named, as the kernel would copy from there: returns 0, or
 * -EFAULT where not all of it may be read.
 */
export function readMemory(address: number, out: Uint8Array): number {
  if (out.byteLength === 0) return 0;
  // struct iovec: address and length; ours, then the one to be read.
  const vectors = BigUint64Array.of(
    BigInt(addressOf(out)),
    BigInt(out.byteLength),
    BigInt(address),
    BigInt(out.byteLength),
  );
  const at = addressOf(vectors);
  const pid = sys3(SYS.getpid, 0, 0, 0);
  const result = sys6(SYS.process_vm_readv, pid, at, 1, at + 16, 1, 0);
  if (result === out.byteLength) return 0;
  return result < 0 ? result : -EFAULT;
}

const EFAULT = 14;

export const ioctl = (fd: number, request: number, argument: number): number => sys3(SYS.ioctl, fd, request, argument);

/**
 * poll(2) over an array of `struct pollfd` { i32 fd; i16 events; i16 revents } at `fds`.
 * `timeout` is the address of a struct timespec { i64 s; i64 ns }, or 0 to wait for ever.
 */
export const ppoll = (fds: number, count: number, timeout: number): number =>
  sys6(SYS.ppoll, fds, count, timeout, 0, 8, 0);

/** Thread id of the calling thread. */
export const gettid = (): number => sys3(SYS.gettid, 0, 0, 0);

/** Creates an eventfd; returns the descriptor, or -errno. */
export const eventfd = (initial: number, flags: number): number => sys3(SYS.eventfd2, initial, flags, 0);
