/** BPF_PROG_TEST_RUN: a program run in the kernel on a frame given here, with its verdict, output and time. */
import type { ErrnoName } from "../errno.ts";
import { Attr, bpf, checkBpf } from "./call.ts";
import type { Program } from "./program.ts";
import { TEST_RUN, XDP_MD, XDP_MD_SIZE } from "./uapi.ts";

export interface XdpTestOptions {
  /** Bytes at the front of `frame` that are metadata, before the packet: a multiple of 4 below 256; default 0. */
  readonly metadata?: number;
  /** Interface of this network namespace the frame came in by; default 0, loopback with queue 0. */
  readonly ingressIfindex?: number;
  readonly rxQueueIndex?: number;
  /** Runs, all on the same buffer: later ones see what earlier ones wrote. Default 1. */
  readonly repeat?: number;
}

export interface XdpTestResult {
  /** Return value of the last run: an XDP_* action. */
  readonly action: number;
  /** Metadata and packet as the program left them. */
  readonly data: Uint8Array;
  /** Bytes of `data` that are metadata. */
  readonly metadata: number;
  /** Nanoseconds a run, the mean rounded down. */
  readonly durationNs: number;
}

/** Room for what a program may put in front (XDP_PACKET_HEADROOM) or, within a page, behind. */
const GROWTH = 4096;

const HINTS: Partial<Record<ErrnoName, string>> = {
  EINVAL: "a frame has 14 bytes or more and fits in the kernel's buffers; the interface must have such a queue",
  ENODEV: "no such interface in this network namespace",
};

/** Runs an XDP program on a frame of at least 14 bytes. Redirections are decided and reported, not carried out. */
export function testRunXdp(program: Program, frame: Uint8Array, options: XdpTestOptions = {}): XdpTestResult {
  const data = new Uint8Array(frame.length + GROWTH);
  const context = new DataView(new ArrayBuffer(XDP_MD_SIZE));
  context.setUint32(XDP_MD.data, options.metadata ?? 0, true);
  context.setUint32(XDP_MD.data_end, frame.length, true);
  context.setUint32(XDP_MD.ingress_ifindex, options.ingressIfindex ?? 0, true);
  context.setUint32(XDP_MD.rx_queue_index, options.rxQueueIndex ?? 0, true);
  const attr = testAttr(program, frame, data, options.repeat ?? 1)
    .u32(TEST_RUN.ctx_size_in, XDP_MD_SIZE)
    .pointer(TEST_RUN.ctx_in, context)
    .u32(TEST_RUN.ctx_size_out, XDP_MD_SIZE)
    .pointer(TEST_RUN.ctx_out, context);
  checkBpf(bpf("BPF_PROG_TEST_RUN", attr), "BPF_PROG_TEST_RUN", HINTS);
  return {
    action: attr.getU32(TEST_RUN.retval),
    data: data.subarray(0, attr.getU32(TEST_RUN.data_size_out)),
    metadata: context.getUint32(XDP_MD.data, true),
    durationNs: attr.getU32(TEST_RUN.duration),
  };
}

/**
 * Runs a socket filter on a frame of at least 14 bytes; r1 is a `struct __sk_buff` whose packet starts behind the
 * Ethernet header. Returns what the filter returned: how many bytes of the packet it lets through.
 */
export function testRunSocketFilter(program: Program, frame: Uint8Array): number {
  const data = new Uint8Array(frame.length + GROWTH);
  const attr = testAttr(program, frame, data, 1);
  checkBpf(bpf("BPF_PROG_TEST_RUN", attr), "BPF_PROG_TEST_RUN", HINTS);
  return attr.getU32(TEST_RUN.retval);
}

function testAttr(program: Program, input: Uint8Array, output: Uint8Array, repeat: number): Attr {
  return new Attr()
    .u32(TEST_RUN.prog_fd, program.fd)
    .u32(TEST_RUN.data_size_in, input.length)
    .pointer(TEST_RUN.data_in, input)
    .u32(TEST_RUN.data_size_out, output.length)
    .pointer(TEST_RUN.data_out, output)
    .u32(TEST_RUN.repeat, repeat);
}
