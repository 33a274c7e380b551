/** Programs: what the verifier says, what the kernel tells of them, and running them on given frames. */
import { describe, expect, test } from "bun:test";
import {
  Assembler,
  BPF_F_XDP_HAS_FRAGS,
  loadXdp,
  Program,
  ProgramLoadError,
  r0,
  r1,
  r2,
  r3,
  r6,
  r10,
  SysError,
  testRunSocketFilter,
  testRunXdp,
  XDP_DROP,
  XDP_MD,
  XDP_PASS,
  XDP_TX,
} from "af-xdp-bindings";
import { makeHosts, requires } from "../../support/hosts.ts";
import { BpfFs } from "./bpffs.ts";

const FRAME = new Uint8Array(60).map((_, i) => i);

function loadFailure(code: Assembler, license?: string): ProgramLoadError {
  try {
    loadXdp(code, { license }).close();
  } catch (error) {
    if (error instanceof ProgramLoadError) return error;
    throw error;
  }
  throw new Error("the program loaded");
}

describe.skipIf(requires("bpf") !== "")("loading", () => {
  test("the kernel's description", () => {
    using program = loadXdp(new Assembler().mov(r0, XDP_PASS).exit(), { name: "pass_all" });
    expect(program.info).toMatchObject({ type: 6, name: "pass_all" });
    expect(program.info.tag).toMatch(/^[0-9a-f]{16}$/);
    using other = loadXdp(new Assembler().mov(r0, XDP_DROP).exit(), { name: "drop_all" });
    expect(other.info.id).not.toBe(program.info.id);
    expect(other.info.tag).not.toBe(program.info.tag);
  });

  test("a refused program carries the verifier's log and its own listing", () => {
    const code = new Assembler().load32(r2, r1, XDP_MD.data).label("read").load8(r0, r2, 0).exit();
    const error = loadFailure(code);
    expect(error).toBeInstanceOf(SysError);
    expect(error).toMatchObject({ code: "EACCES", syscall: "bpf(BPF_PROG_LOAD)" });
    expect(error.log).toContain("invalid access to packet");
    expect(error.message).toContain("invalid access to packet");
    expect(error.listing).toContain("read:\n    1: r0 = *(u8 *)(r2 + 0)");
  });

  test("a log longer than the first buffer arrives whole", () => {
    const code = new Assembler().mov(r0, 0);
    for (let i = 0; i < 4000; i++) code.add(r0, 1);
    const error = loadFailure(code.load8(r0, r10, 8).exit());
    expect(error.log.length).toBeGreaterThan(64 << 10);
    expect(error.log).toContain("0: (b7) r0 = 0");
    expect(error.log).toContain("processed 4002 insns");
    // The message holds the end, where the reason is.
    expect(error.message.length).toBeLessThan(4096);
    expect(error.message).toContain("processed 4002 insns");
  });

  test("the licence decides over helpers", () => {
    const code = new Assembler().mov(r1, 0).mov(r2, 0).call("trace_printk").mov(r0, 0).exit();
    expect(loadFailure(code, "Proprietary").log).toContain("GPL");
  });

  test("flags reach the kernel", () => {
    const code = new Assembler().mov(r0, XDP_PASS).exit();
    Program.load(code, { type: "BPF_PROG_TYPE_XDP", flags: BPF_F_XDP_HAS_FRAGS }).close();
    expect(() => Program.load(code, { type: "BPF_PROG_TYPE_XDP", flags: 1 << 30 })).toThrow("EINVAL");
    expect(() => loadXdp(code, { name: "sixteen_letters_" })).toThrow("at most 15");
  });

  test("pins", () => {
    using fs = new BpfFs();
    using program = loadXdp(new Assembler().mov(r0, XDP_TX).exit());
    program.pin(fs.path("program"));
    using opened = Program.open(fs.path("program"));
    expect(opened.info).toEqual(program.info);
    expect(testRunXdp(opened, FRAME).action).toBe(XDP_TX);
  });

  test("a socket filter", () => {
    // struct __sk_buff begins with u32 len.
    using program = Program.load(new Assembler().load32(r0, r1, 0).exit(), { type: "BPF_PROG_TYPE_SOCKET_FILTER" });
    expect(testRunSocketFilter(program, FRAME)).toBe(FRAME.length - 14);
  });
});

describe.skipIf(requires("bpf") !== "")("test runs", () => {
  /** Stores a field of the context in the frame's first bytes. */
  const reads = (field: number): Program =>
    loadXdp(
      new Assembler()
        .load32(r6, r1, field)
        .load32(r2, r1, XDP_MD.data)
        .load32(r3, r1, XDP_MD.data_end)
        .mov(r0, r2)
        .add(r0, 4)
        .jgt(r0, r3, "out")
        .store32(r2, 0, r6)
        .label("out")
        .mov(r0, XDP_PASS)
        .exit(),
    );
  const first = (data: Uint8Array): number => new DataView(data.buffer).getUint32(0, true);

  test("the frame goes in and comes out, changed by the program", () => {
    using program = reads(XDP_MD.rx_queue_index);
    const { action, data, metadata } = testRunXdp(program, FRAME);
    expect(action).toBe(XDP_PASS);
    expect(metadata).toBe(0);
    expect(data).toEqual(Uint8Array.from([0, 0, 0, 0, ...FRAME.subarray(4)]));
  });

  test("growth at both ends", () => {
    const code = new Assembler()
      .mov(r6, r1)
      .mov(r2, -8)
      .call("xdp_adjust_head")
      .mov(r1, r6)
      .mov(r2, 100)
      .call("xdp_adjust_tail")
      .mov(r0, XDP_TX)
      .exit();
    using program = loadXdp(code);
    const { data } = testRunXdp(program, FRAME);
    expect(data.length).toBe(8 + 60 + 100);
    expect(data.slice(8, 68)).toEqual(FRAME);
  });

  test("metadata in and out", () => {
    const code = new Assembler().mov(r2, -4).call("xdp_adjust_meta").mov(r0, XDP_PASS).exit();
    using program = loadXdp(code);
    const { data, metadata } = testRunXdp(program, FRAME, { metadata: 8 });
    expect(metadata).toBe(12);
    expect(data.slice(4)).toEqual(FRAME);
  });

  test("repetition sees what it wrote and tells the time", () => {
    const code = new Assembler()
      .load32(r2, r1, XDP_MD.data)
      .load32(r3, r1, XDP_MD.data_end)
      .mov(r0, r2)
      .add(r0, 4)
      .jgt(r0, r3, "out")
      .load32(r3, r2, 0)
      .add(r3, 1)
      .store32(r2, 0, r3)
      .label("out")
      .mov(r0, XDP_PASS)
      .exit();
    using program = loadXdp(code);
    const { data, durationNs } = testRunXdp(program, new Uint8Array(60), { repeat: 10_000 });
    expect(first(data)).toBe(10_000);
    expect(durationNs).toBeGreaterThan(0);
    expect(durationNs).toBeLessThan(100_000);
  });

  test("a frame too short is refused", () => {
    using program = reads(XDP_MD.rx_queue_index);
    expect(() => testRunXdp(program, new Uint8Array(13))).toThrow("14 bytes or more");
  });

  test.skipIf(requires("veth") !== "")("interface and queue of the context", () => {
    const hosts = makeHosts({ queues: 2, ipv6: false });
    try {
      using queue = reads(XDP_MD.rx_queue_index);
      using ifindex = reads(XDP_MD.ingress_ifindex);
      hosts.a.ns.run(() => {
        const options = { ingressIfindex: hosts.a.ifindex, rxQueueIndex: 1 };
        expect(first(testRunXdp(queue, FRAME, options).data)).toBe(1);
        expect(first(testRunXdp(ifindex, FRAME, options).data)).toBe(hosts.a.ifindex);
        expect(() => testRunXdp(queue, FRAME, { ...options, rxQueueIndex: 2 })).toThrow("EINVAL");
        expect(() => testRunXdp(queue, FRAME, { ingressIfindex: 999 })).toThrow("no such interface");
      });
    } finally {
      hosts.close();
    }
  });
});
