/** The descriptors of a SocketProcess: the lowest free number first, as in the kernel. */
import { ERRNO } from "af-xdp-bindings";
import type { File } from "./file.ts";

/** As RLIMIT_NOFILE's usual hard limit. */
export const DESCRIPTORS_MAX = 1 << 20;

export class FileTable {
  private readonly files: (File | null)[] = [];
  private readonly closeOnExec = new Set<number>();
  /** No number below is free. */
  private lowest = 0;
  private readonly limit: number;

  /** @param limit descriptors at most, RLIMIT_NOFILE */
  constructor(limit = DESCRIPTORS_MAX) {
    this.limit = limit;
  }

  get(fd: number): File | null {
    return this.files[fd] ?? null;
  }

  /** Gives a file its descriptor, not below `from`. The reference is the table's from now on. Returns it or -EMFILE. */
  add(file: File, closeOnExec = false, from = 0): number {
    let fd = Math.max(from, this.lowest);
    while ((this.files[fd] ?? null) !== null) fd++;
    if (fd >= this.limit) return -ERRNO.EMFILE;
    while (this.files.length < fd) this.files.push(null);
    this.files[fd] = file;
    if (from <= this.lowest) this.lowest = fd + 1;
    if (closeOnExec) this.closeOnExec.add(fd);
    return fd;
  }

  close(fd: number): number {
    const file = this.get(fd);
    if (file === null) return -ERRNO.EBADF;
    this.files[fd] = null;
    this.closeOnExec.delete(fd);
    this.lowest = Math.min(this.lowest, fd);
    file.drop();
    return 0;
  }

  closeAll(): void {
    for (let fd = 0; fd < this.files.length; fd++) if (this.files[fd] !== null) this.close(fd);
  }

  /** FD_CLOEXEC is kept and told; a process of this kind never executes another program. */
  closesOnExec(fd: number): boolean {
    return this.closeOnExec.has(fd);
  }

  setCloseOnExec(fd: number, on: boolean): void {
    if (on) this.closeOnExec.add(fd);
    else this.closeOnExec.delete(fd);
  }
}
