/**
 * The directory that is served. Its files are opened by openat2(2) with RESOLVE_BENEATH, so that it is the kernel that
 * sees to it that neither "..", nor a symbolic link, nor a directory moved at the wrong moment leads out of it. Links
 * that stay within are followed; those that begin at "/" do not, wherever they end.
 */
import { type BigIntStats, closeSync, fstatSync, openSync } from "node:fs";
import { ERRNO, SysError, sys } from "af-xdp-bindings";
import { octets, SLASH } from "./octets.ts";
import { PATH_MAX } from "./path.ts";

const O_NONBLOCK = 0o4000;
const O_NOCTTY = 0o400;
const O_CLOEXEC = 0o2000000;
/** struct open_how (include/uapi/linux/openat2.h): flags, mode, resolve; 64 bits each. */
const OPEN_HOW_BYTES = 24;
const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_BENEATH = 0x08;
/** Opening again where a directory on the way was moved meanwhile (EAGAIN). */
const ATTEMPTS = 4;

/** What a path that ends in a slash stands for. */
export const INDEX = octets("index.html");

/** What tells a file's contents from others. */
export interface Identity {
  readonly regular: boolean;
  readonly directory: boolean;
  readonly size: number;
  readonly mtimeNs: bigint;
  /** Changes with the contents as mtimeNs does, and cannot be set. */
  readonly ctimeNs: bigint;
  readonly ino: bigint;
  readonly dev: bigint;
}

export class Root {
  private readonly fd: number;
  private readonly how = new BigUint64Array(OPEN_HOW_BYTES / 8);
  private readonly name = new Uint8Array(PATH_MAX + INDEX.length + 1);
  private readonly howAddress: number;
  private readonly nameAddress: number;

  /** Throws where `directory` cannot be opened, or the kernel has no openat2(2). */
  constructor(directory: string) {
    this.fd = openSync(directory, "r");
    this.how[0] = BigInt(O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    this.how[2] = BigInt(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
    this.howAddress = sys.addressOf(this.how);
    this.nameAddress = sys.addressOf(this.name);
    const here = this.open(octets("/."), 2);
    if (here < 0) {
      closeSync(this.fd);
      throw new SysError(
        -here,
        "openat2",
        `RESOLVE_BENEATH of ${directory} needs Linux 5.6, and a sandbox that lets it`,
      );
    }
    sys.close(here);
  }

  /**
   * Opens what is at a path that begins with a slash; where it ends in one, its index. Never waits for a FIFO's other end.
   * @returns a descriptor, or -errno
   */
  open(path: Uint8Array, length: number): number {
    const { name } = this;
    let at = 0;
    for (let i = 1; i < length; i++) name[at++] = path[i];
    if (path[length - 1] === SLASH) for (let i = 0; i < INDEX.length; i++) name[at++] = INDEX[i];
    name[at] = 0;
    let result = 0;
    for (let i = 0; i < ATTEMPTS; i++) {
      result = sys.sys6(sys.SYS.openat2, this.fd, this.nameAddress, this.howAddress, OPEN_HOW_BYTES, 0, 0);
      if (result !== -ERRNO.EAGAIN) break;
    }
    return result;
  }

  close(): void {
    sys.close(this.fd);
  }
}

/** What is behind a descriptor, null where the file system does not say (ESTALE, EIO). */
export function identify(fd: number): Identity | null {
  let stat: BigIntStats;
  try {
    stat = fstatSync(fd, { bigint: true });
  } catch {
    return null;
  }
  return {
    regular: stat.isFile(),
    directory: stat.isDirectory(),
    size: Number(stat.size),
    mtimeNs: stat.mtimeNs,
    ctimeNs: stat.ctimeNs,
    ino: stat.ino,
    dev: stat.dev,
  };
}

export function isSame(a: Identity | null, b: Identity): boolean {
  return (
    a !== null &&
    a.ctimeNs === b.ctimeNs &&
    a.mtimeNs === b.mtimeNs &&
    a.size === b.size &&
    a.ino === b.ino &&
    a.dev === b.dev
  );
}

/** The status that an errno of open() is told by. */
export function statusOf(errno: number): number {
  switch (errno) {
    case ERRNO.ENOENT:
    case ERRNO.ENOTDIR:
    case ERRNO.ENAMETOOLONG:
    // Leads out of the root; through too many links, or one of /proc; a device without a driver; a socket.
    case ERRNO.EXDEV:
    case ERRNO.ELOOP:
    case ERRNO.ENXIO:
    case ERRNO.ENODEV:
      return 404;
    case ERRNO.EACCES:
    case ERRNO.EPERM:
      return 403;
    case ERRNO.EMFILE:
    case ERRNO.ENFILE:
    case ERRNO.ENOMEM:
    case ERRNO.EAGAIN:
      return 503;
    default:
      return 500;
  }
}

/** Reads octets of a file from `position` on to bytes[at, at + length). How many, fewer at its end; or -errno. */
export function readAt(fd: number, bytes: Uint8Array, at: number, length: number, position: number): number {
  let done = 0;
  while (done < length) {
    const address = sys.addressOf(bytes) + at + done;
    const count = sys.sys6(sys.SYS.pread64, fd, address, length - done, position + done, 0, 0);
    if (count === -ERRNO.EINTR) continue;
    if (count < 0) return count;
    if (count === 0) break;
    done += count;
  }
  return done;
}
