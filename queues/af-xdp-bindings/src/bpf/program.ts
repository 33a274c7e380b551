/** BPF programs: loaded through the verifier, described, run on test data. */
import { ERRNO, type ErrnoName, errnoName, SysError } from "../errno.ts";
import * as sys from "../sys.ts";
import type { Assembler } from "./assembler.ts";
import { Attr, bpf, checkBpf, decodeName } from "./call.ts";
import { disassemble } from "./disassembler.ts";
import { INSN_SIZE } from "./opcodes.ts";
import { getObject, pinObject } from "./pin.ts";
import { BPF_F_XDP_HAS_FRAGS, INFO, INFO_SIZE, PROG_INFO, PROG_LOAD, PROG_TYPE } from "./uapi.ts";

export type ProgramTypeName = keyof typeof PROG_TYPE;

export interface ProgramOptions {
  readonly type: ProgramTypeName;
  /** At most 15 of A-Z a-z 0-9 _ . */
  readonly name?: string;
  /** Decides which helpers may be called; default "Dual MIT/GPL", which allows all. */
  readonly license?: string;
  /** BPF_F_*; default 0. */
  readonly flags?: number;
  readonly expectedAttachType?: number;
}

/** What the kernel says of a program: struct bpf_prog_info. */
export interface ProgramInfo {
  readonly type: number;
  readonly id: number;
  readonly name: string;
  /** SHA of the instructions, 16 hex digits. */
  readonly tag: string;
  /** Bytes of machine code; 0 when the program is interpreted. */
  readonly jitedBytes: number;
}

/** A program the kernel refused: `log` is the verifier's, `listing` the program as it was given. */
export class ProgramLoadError extends SysError {
  readonly log: string;
  readonly listing: string;

  constructor(errno: number, hint: string, log: string, listing: string) {
    super(errno, "bpf(BPF_PROG_LOAD)", hint, lastLines(log, 12));
    this.log = log;
    this.listing = listing;
  }
}

/** First and largest size of the verifier's log, in bytes; UINT_MAX >> 2 is the kernel's own limit. */
const LOG_SIZE = 64 << 10;
const LOG_SIZE_MAX = 16 << 20;

const LOAD_HINTS: Partial<Record<ErrnoName, string>> = {
  EINVAL:
    "the verifier refused the program (see the log); without a log this kernel does not know an option or instruction",
  EACCES: "the verifier refused the program: see the log",
  EPERM:
    "needs CAP_BPF and CAP_NET_ADMIN (run as root, or setcap cap_bpf,cap_net_admin+ep), or a verifier rule for the " +
    "unprivileged was broken: see the log if there is one",
  E2BIG: "the program is too long or too complex for the verifier",
};

/**
 * Further tries where the verifier gave up because a signal was pending (EAGAIN, bpf_check in kernel/bpf/verifier.c): a
 * profiler sends one each millisecond (`bun --cpu-prof`). libbpf tries five times in all.
 */
const LOAD_ATTEMPTS = 100;

export class Program {
  readonly fd: number;
  #closed = false;

  /** Takes over a descriptor: `close` closes it. */
  constructor(fd: number) {
    this.fd = fd;
  }

  /** Throws ProgramLoadError with the verifier's log. */
  static load(code: Assembler | Uint8Array, options: ProgramOptions): Program {
    const instructions = code instanceof Uint8Array ? code : code.assemble();
    const attr = loadAttr(instructions, options);
    let result = bpf("BPF_PROG_LOAD", attr);
    for (let again = 0; again < LOAD_ATTEMPTS && result === -ERRNO.EAGAIN; again++) result = bpf("BPF_PROG_LOAD", attr);
    if (result >= 0) return new Program(result);
    const log = verifierLog(attr);
    const listing = code instanceof Uint8Array ? disassemble(code) : code.listing();
    throw new ProgramLoadError(-result, LOAD_HINTS[errnoName(-result) as ErrnoName] ?? "", log, listing);
  }

  /** Opens a program pinned in a BPF file system. */
  static open(path: string): Program {
    return new Program(getObject(path));
  }

  get info(): ProgramInfo {
    return programInfo(this.fd);
  }

  pin(path: string): void {
    pinObject(this.fd, path);
  }

  /** The kernel keeps the program while it is attached or pinned. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    sys.close(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export interface XdpOptions {
  readonly name?: string;
  readonly license?: string;
  /** The program may see frames in several buffers, of which it reads the first directly; Linux 5.18. */
  readonly frags?: boolean;
}

/** Loads an XDP program. */
export function loadXdp(code: Assembler | Uint8Array, options: XdpOptions = {}): Program {
  return Program.load(code, {
    type: "BPF_PROG_TYPE_XDP",
    name: options.name,
    license: options.license,
    flags: options.frags ? BPF_F_XDP_HAS_FRAGS : 0,
  });
}

/** What the kernel says of the program behind a descriptor. */
export function programInfo(fd: number): ProgramInfo {
  const info = new DataView(new ArrayBuffer(INFO_SIZE));
  const attr = new Attr().u32(INFO.bpf_fd, fd).u32(INFO.info_len, INFO_SIZE).pointer(INFO.info, info);
  checkBpf(bpf("BPF_OBJ_GET_INFO_BY_FD", attr), "BPF_OBJ_GET_INFO_BY_FD");
  return {
    type: info.getUint32(PROG_INFO.type, true),
    id: info.getUint32(PROG_INFO.id, true),
    name: decodeName(new Uint8Array(info.buffer, PROG_INFO.name, 16)),
    tag: new Uint8Array(info.buffer, PROG_INFO.tag, 8).toHex(),
    jitedBytes: info.getUint32(PROG_INFO.jited_prog_len, true),
  };
}

function loadAttr(instructions: Uint8Array, options: ProgramOptions): Attr {
  return new Attr()
    .u32(PROG_LOAD.prog_type, PROG_TYPE[options.type])
    .u32(PROG_LOAD.insn_cnt, instructions.length / INSN_SIZE)
    .pointer(PROG_LOAD.insns, instructions)
    .text(PROG_LOAD.license, options.license ?? "Dual MIT/GPL")
    .u32(PROG_LOAD.prog_flags, options.flags ?? 0)
    .name(PROG_LOAD.prog_name, options.name ?? "")
    .u32(PROG_LOAD.expected_attach_type, options.expectedAttachType ?? 0);
}

/** Loads once more for the log, in a buffer that grows while the kernel says ENOSPC: a good load pays for no log. */
function verifierLog(attr: Attr): string {
  for (let size = LOG_SIZE; ; size *= 4) {
    const buffer = new Uint8Array(size);
    attr.u32(PROG_LOAD.log_level, 1).u32(PROG_LOAD.log_size, size).pointer(PROG_LOAD.log_buf, buffer);
    const result = bpf("BPF_PROG_LOAD", attr);
    if (result >= 0) sys.close(result);
    if (result !== -ERRNO.ENOSPC || size >= LOG_SIZE_MAX) return decodeName(buffer).trimEnd();
  }
}

function lastLines(text: string, count: number): string {
  return text.split("\n").slice(-count).join("\n");
}
