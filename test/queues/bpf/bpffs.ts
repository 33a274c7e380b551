/** A BPF file system attached to no directory: pins in it vanish with the descriptor. */
import { check, sys } from "af-xdp-bindings";

const FSOPEN_CLOEXEC = 1;
const FSCONFIG_CMD_CREATE = 6;
const FSMOUNT_CLOEXEC = 1;

export class BpfFs {
  readonly #fd: number;

  /** Needs CAP_SYS_ADMIN and Linux 5.2. */
  constructor() {
    const type = new TextEncoder().encode("bpf\0");
    const context = check(sys.sys3(sys.SYS.fsopen, sys.addressOf(type), FSOPEN_CLOEXEC, 0), "fsopen(bpf)");
    try {
      check(sys.sys6(sys.SYS.fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0, 0), "fsconfig(bpf)");
      this.#fd = check(sys.sys3(sys.SYS.fsmount, context, FSMOUNT_CLOEXEC, 0), "fsmount(bpf)");
    } finally {
      sys.close(context);
    }
  }

  path(name: string): string {
    return `/proc/self/fd/${this.#fd}/${name}`;
  }

  [Symbol.dispose](): void {
    sys.close(this.#fd);
  }
}
