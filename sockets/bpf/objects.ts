/**
 * Programs and maps as a thread makes them, and names them afterwards: what bpf(2) is to sockets of the kernel. On an engine they
 * are checked by the verifier here and lie in its store; with kernel sockets programs are the kernel's own, loaded by bpf(2).
 */
import { ERRNO, Program, SysError, sys } from "af-xdp-bindings";
import type { SocketTable } from "../table.ts";
import { registryOf } from "./attach.ts";
import { extendedCharge } from "./charge.ts";
import { source } from "./extended/compile.ts";
import type { ProgramTypeName } from "./extended/context.ts";
import { decodeExtended, isWide } from "./extended/instruction.ts";
import { verifyExtended } from "./extended/verifier.ts";
import {
  completeOptions,
  type MapOf,
  openSharedMap,
  type SharedMap,
  type SharedMapOptions,
  sharedMapBytes,
} from "./maps/index.ts";
import { MAPS_MAX, SCHED_CLS, SK_REUSEPORT, SOCKET_FILTER, type StoredType } from "./store.ts";
import { parseExtended } from "./text/extended-text.ts";

export interface ProgramSource {
  /** socket_filter for SO_ATTACH_BPF; that or sk_reuseport for SO_ATTACH_REUSEPORT_EBPF. */
  readonly type: ProgramTypeName;
  /** struct bpf_insn, as Assembler.assemble() makes them, or text: see text/extended-text.ts. Maps are named by their `fd`. */
  readonly instructions: Uint8Array | string;
}

/** A loaded program. Sockets that it is attached to keep it when it is closed. */
export class LoadedProgram {
  /** The value of SO_ATTACH_BPF and SO_ATTACH_REUSEPORT_EBPF, on whichever thread of the engine. */
  readonly handle: number;
  private readonly release: () => void;
  private closed = false;

  constructor(handle: number, release: () => void) {
    this.handle = handle;
    this.release = release;
  }

  /** Gives the handle up; a second time does nothing. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.release();
  }
}

const STORED: Record<ProgramTypeName, StoredType> = {
  socket_filter: SOCKET_FILTER,
  sk_reuseport: SK_REUSEPORT,
  sched_cls: SCHED_CLS,
};

const KERNEL = {
  socket_filter: "BPF_PROG_TYPE_SOCKET_FILTER",
  sk_reuseport: "BPF_PROG_TYPE_SK_REUSEPORT",
  sched_cls: "BPF_PROG_TYPE_SCHED_CLS",
} as const;

const NO_MEMORY = "the engine's programs and maps take all there is: raise its option 'bpfBytes', or close some";

/** Those of the engine that a thread's sockets are of. */
export const bpfOf = ({ sendsItself, table }: { sendsItself: boolean; table: SocketTable }): BpfObjects =>
  new BpfObjects(sendsItself ? table : null);

/** Programs and maps of one engine, from one thread. `table` null: its sockets are the kernel's. */
export class BpfObjects {
  private readonly table: SocketTable | null;

  constructor(table: SocketTable | null) {
    this.table = table;
  }

  /**
   * Verifies a program and makes it known to every thread. Throws SysError: EINVAL, EACCES or E2BIG with the instruction and the
   * verifier's reason, EBADF for a map that is not there, ENOMEM; SyntaxError for text that is no program.
   */
  load({ type, instructions: given }: ProgramSource): LoadedProgram {
    const { table } = this;
    const instructions = typeof given === "string" ? parseExtended(given) : given;
    if (table === null) {
      const program = Program.load(instructions, { type: KERNEL[type] });
      return new LoadedProgram(program.fd, () => program.close());
    }
    const maps = this.mapsOf(instructions);
    const verified = verifyExtended(instructions, { type, maps });
    const stored = {
      type: STORED[type],
      code: instructions,
      text: source(verified),
      charge: extendedCharge(instructions.length / 8),
      maps: maps.map(({ fd }) => fd),
    };
    const handle = table.mutex.hold(() => {
      const { bpf } = table;
      const slots = stored.maps.map((fd) => bpf.mapOf(fd));
      const gone = slots.find((slot) => slot < 0);
      if (gone !== undefined) return gone;
      const slot = bpf.addProgram({ ...stored, maps: slots }, table.version());
      return slot < 0 ? slot : bpf.open(slot);
    });
    if (handle < 0) throw new SysError(-handle, "load of a BPF program", NO_MEMORY);
    return new LoadedProgram(handle, () => this.closeHandle(handle));
  }

  /**
   * Makes a map in the engine's memory; every thread may open it by its `fd`, and programs name it so. Per-CPU values have a copy
   * for each CPU of the machine unless `cpus` says otherwise. Throws RangeError for sizes that do not suit the type, SysError
   * ENOMEM.
   */
  createMap<Type extends SharedMapOptions["type"]>(
    options: Omit<SharedMapOptions, "fd"> & { readonly type: Type },
  ): MapOf<Type> {
    const table = this.own("createMap");
    const cpus = options.cpus ?? (options.type === "percpu_array" ? navigator.hardwareConcurrency : 1);
    const full = completeOptions({ name: options.type, ...options, cpus });
    const bytes = sharedMapBytes(full);
    const fd = table.mutex.hold(() => {
      const slot = table.bpf.addMap(full, bytes, table.version());
      return slot < 0 ? slot : table.bpf.open(slot);
    });
    if (fd < 0) throw new SysError(-fd, "creation of a BPF map", NO_MEMORY);
    return this.openMap(fd) as MapOf<Type>;
  }

  /** Opens a map that any thread has made. Throws SysError EBADF. */
  openMap(fd: number): SharedMap {
    const table = this.own("openMap");
    const slot = table.bpf.mapOf(fd);
    if (slot < 0) throw new SysError(ERRNO.EBADF, "opening of a BPF map", `no map is open as ${fd}`);
    return openSharedMap(table.bpf.describe(slot), registryOf(table));
  }

  /** Closes a map; programs that use it keep it. What threads have opened must not be used any more. Throws SysError EBADF. */
  closeMap({ fd }: SharedMap): void {
    this.own("closeMap");
    if (this.closeHandle(fd) < 0) throw new SysError(ERRNO.EBADF, "closing of a BPF map", `no map is open as ${fd}`);
  }

  private closeHandle(handle: number): number {
    const { table } = this;
    return table === null ? sys.close(handle) : table.mutex.hold(() => table.bpf.close(handle, table.version()));
  }

  private own(call: string): SocketTable {
    if (this.table !== null) return this.table;
    throw new SysError(
      ERRNO.EOPNOTSUPP,
      call,
      "with kernel sockets maps are the kernel's: createMap() of af-xdp-bindings makes them",
    );
  }

  /** The maps that a program names, each once. What names none the verifier refuses with the instruction. */
  private mapsOf(instructions: Uint8Array): SharedMap[] {
    const wide = decodeExtended(instructions).filter(({ opcode, src }) => isWide(opcode) && src !== 0);
    const fds = [...new Set(wide.map(({ immediate }) => immediate))];
    const table = this.own("load");
    const maps = fds.filter((fd) => table.bpf.mapOf(fd) >= 0).map((fd) => this.openMap(fd));
    if (maps.length > MAPS_MAX) {
      throw new SysError(ERRNO.E2BIG, "BPF program", `names ${maps.length} maps: at most ${MAPS_MAX}`);
    }
    return maps;
  }
}
