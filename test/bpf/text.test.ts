/** Programs as text: every form that tools write is read, what is written is read back the same, and errors say where. */
import { describe, expect, test } from "bun:test";
import { disassemble, opcodes } from "af-xdp-bindings";
import fc from "fast-check";
import { Random } from "../../queues/random.ts";
import { decodeClassic, encodeClassic, formatClassic, type SockFilter } from "../../sockets/bpf/classic.ts";
import { parseExtended } from "../../sockets/bpf/text/extended-text.ts";
import { validProgram } from "./programs.ts";

const error = (read: () => unknown): string => {
  try {
    read();
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return thrown.message;
    throw thrown;
  }
  return "none";
};

/** An instruction without what its code does not look at. */
function meant({ code, jt, jf, k }: SockFilter): SockFilter {
  const kind = code & 7;
  const isJump = kind === 5 && (code & 0xf0) !== 0;
  const usesX = (kind === 4 || kind === 5) && (code & 8) !== 0;
  const noK = usesX || code === 0x84 || code === 0x16 || kind === 7 || (kind < 2 && (code & 0xe0) === 0x80);
  return { code, jt: isJump ? jt : 0, jf: isJump ? jf : 0, k: noK ? 0 : k };
}

describe("classic", () => {
  /** `ip and udp port 53` over Ethernet, as tcpdump 4.99 writes it. */
  const LISTING = `(000) ldh      [12]
(001) jeq      #0x800           jt 2\tjf 12
(002) ldb      [23]
(003) jeq      #0x11            jt 4\tjf 12
(004) ldh      [20]
(005) jset     #0x1fff          jt 12\tjf 6
(006) ldxb     4*([14]&0xf)
(007) ldh      [x + 14]
(008) jeq      #0x35            jt 11\tjf 9
(009) ldh      [x + 16]
(010) jeq      #0x35            jt 11\tjf 12
(011) ret      #262144
(012) ret      #0`;
  const BRACES = `{ 0x28, 0, 0, 0x0000000c },
{ 0x15, 0, 10, 0x00000800 },
{ 0x30, 0, 0, 0x00000017 },
{ 0x15, 0, 8, 0x00000011 },
{ 0x28, 0, 0, 0x00000014 },
{ 0x45, 6, 0, 0x00001fff },
{ 0xb1, 0, 0, 0x0000000e },
{ 0x48, 0, 0, 0x0000000e },
{ 0x15, 2, 0, 0x00000035 },
{ 0x48, 0, 0, 0x00000010 },
{ 0x15, 0, 1, 0x00000035 },
{ 0x6, 0, 0, 0x00040000 },
{ 0x6, 0, 0, 0x00000000 },`;
  const DECIMAL =
    "13,40 0 0 12,21 0 10 2048,48 0 0 23,21 0 8 17,40 0 0 20,69 6 0 8191,177 0 0 14,72 0 0 14,21 2 0 53,72 0 0 16," +
    "21 0 1 53,6 0 0 262144,6 0 0 0";

  test("tcpdump -d, -dd, -ddd", () => {
    const program = decodeClassic(DECIMAL);
    expect(decodeClassic(DECIMAL.replaceAll(",", "\n"))).toEqual(program);
    expect(decodeClassic(LISTING)).toEqual(program);
    expect(decodeClassic(BRACES)).toEqual(program);
    expect(decodeClassic(formatClassic(program))).toEqual(program);
  });

  test("what tcpdump -d writes of Linux's own loads, lengths and returns of the accumulator", () => {
    const text = `(000) ldh      [type]
(001) jeq      #0x4             jt 5\tjf 2
(002) ld       #pktlen
(003) jgt      #0x64            jt 5\tjf 4
(004) ret
(005) ret      #0`;
    expect(encodeClassic(decodeClassic(text)).toHex()).toBe(
      "2800000004f0ffff1500030004000000800000000000000025000100640000001600000000000000" + "0600000000000000",
    );
  });

  test("the examples of filter.rst", () => {
    const arp = `
      ldh [12]
      jne #0x806, drop
      ret #-1
      drop: ret #0`;
    expect(decodeClassic(arp)).toEqual(decodeClassic("4,40 0 0 12,21 0 1 2054,6 0 0 4294967295,6 0 0 0"));
    const tcp4 = `
      ldh [12]
      jne #0x800, drop
      ldb [23]
      jneq #6, drop
      ret #-1
      drop: ret #0`;
    expect(decodeClassic(tcp4)).toEqual(
      decodeClassic("6,40 0 0 12,21 0 3 2048,48 0 0 23,21 0 1 6,6 0 0 4294967295,6 0 0 0"),
    );
    const vlan = `
      ld vlan_tci
      jneq #10, drop
      ret #-1
      drop: ret #0`;
    expect(decodeClassic(vlan)[0]).toEqual({ code: 0x20, jt: 0, jf: 0, k: 0xfffff02c });
    const sampling = `
      ldh [12]
      jne #0x800, drop
      ldb [23]
      jneq #1, drop
      ld rand
      mod #4
      jneq #1, drop
      ret #-1
      drop: ret #0`;
    expect(decodeClassic(sampling).map(({ code }) => code)).toEqual([0x28, 0x15, 0x30, 0x15, 0x20, 0x94, 0x15, 6, 6]);
    const seccomp = `
      ld [4]                  /* offsetof(struct seccomp_data, arch) */
      jne #0xc000003e, bad    /* AUDIT_ARCH_X86_64 */
      ld [0]                  ; the call's number
      jeq #15, good
      jeq #231, good
      bad: ret #0
      good: ret #0x7fff0000`;
    expect(decodeClassic(seccomp).map(({ jt, jf }) => [jt, jf])).toEqual([
      [0, 0],
      [0, 3],
      [0, 0],
      [2, 0],
      [1, 0],
      [0, 0],
      [0, 0],
    ]);
  });

  test("every way to write an operand", () => {
    const pairs: [text: string, row: number[]][] = [
      ["ld #0x10", [0x00, 16]],
      ["ldi 020", [0x00, 16]],
      ["ldi #-1", [0x00, 0xffffffff]],
      ["ld len", [0x80, 0]],
      ["ld #len", [0x80, 0]],
      ["ldx len", [0x81, 0]],
      ["ldxi #7", [0x01, 7]],
      ["ld M[3]", [0x60, 3]],
      ["ldx M[ 15 ]", [0x61, 15]],
      ["ldb [x+2]", [0x50, 2]],
      ["ldh [%x + 0x2]", [0x48, 2]],
      ["ld [x]", [0x40, 0]],
      ["ldb [x - 2]", [0x50, 0xfffffffe]],
      ["ldb [-4096]", [0x30, 0xfffff000]],
      ["ldb [0xfffff000]", [0x30, 0xfffff000]],
      ["ldx 4*([0]&0xf)", [0xb1, 0]],
      ["ld proto", [0x20, 0xfffff000]],
      ["ld #cpu", [0x20, 0xfffff024]],
      ["st M[1]", [0x02, 1]],
      ["stx M[2]", [0x03, 2]],
      ["add x", [0x0c, 0]],
      ["sub #1", [0x14, 1]],
      ["mul %x", [0x2c, 0]],
      ["neg", [0x84, 0]],
      ["tax", [0x07, 0]],
      ["txa", [0x87, 0]],
      ["ret a", [0x16, 0]],
      ["ret %a", [0x16, 0]],
    ];
    for (const [text, [code, k]] of pairs)
      expect([text, decodeClassic(text)]).toEqual([text, [{ code, jt: 0, jf: 0, k }]]);
    const jumps = ["jlt #9, l", "jge #9, n, l", "jle x, l", "jgt x, n, l"].map((jump) =>
      decodeClassic(`${jump}\nn: neg\nl: ret a`),
    );
    expect(jumps[0]).toEqual(jumps[1]);
    expect(jumps[2]).toEqual(jumps[3]);
  });

  test("what is written is read back the same", () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 60 }), (seed, length) => {
        const program = validProgram(new Random(seed), length).map(meant);
        expect(decodeClassic(formatClassic(program))).toEqual(program);
      }),
      { numRuns: 500 },
    );
  });

  test.each([
    ["udp", 'line 1, column 1: "udp" is no instruction'],
    ["\n  ldh [12\n", 'line 2, column 10: "]" expected, there is the end of the line'],
    ["ldh 12", 'line 1, column 5: "[" expected, there is "12"'],
    ["ld foo", 'line 1, column 4: "foo" is nothing that can be loaded'],
    ["ret #0x1ffffffff", "line 1, column 6: 0x1ffffffff is not from -2147483648 to 4294967295"],
    ["ret #0 0", 'line 1, column 8: the end of the line expected, there is "0"'],
    ["jeq #1, there\nret #0", 'line 1, column 9: label "there" is nowhere'],
    ["back: ld len\njeq #1, back\nret a", 'line 2, column 9: "back" is not ahead'],
    ["a: ld len\na: ret a", 'line 2, column 1: label "a" is there already'],
    ["(001) ret #0", "line 1, column 1: this is instruction 0"],
    ["{ 0x6, 0, 256, 0 },", "line 1, column 11: 256 is not from 0 to 255"],
    [`jeq #1, l\n${"neg\n".repeat(256)}l: ret a`, "256 instructions ahead, at most 255"],
    ["/* nothing */", "there are no instructions"],
    ["2\n6 0 0 0", "2 instructions announced, there are 1"],
    ["1\n6 0 0", 'line 2: "6 0 0" is not "code jt jf k"'],
  ])("%j: %s", (text, words) => expect(error(() => decodeClassic(text))).toContain(words));
});

describe("extended", () => {
  const hex = (text: string): string => parseExtended(text).toHex();

  test.each([
    ["r0 = 1", "b700000001000000"],
    ["w1 = -1", "b4010000ffffffff"],
    ["r6 = r1", "bf16000000000000"],
    ["r1 = (s8)r2", "bf21080000000000"],
    ["r2 += -4", "07020000fcffffff"],
    ["r1 s/= r2", "3f21010000000000"],
    ["w1 s%= w2", "9c21010000000000"],
    ["r1 s>>= 63", "c70100003f000000"],
    ["r1 = -r1", "8701000000000000"],
    ["r4 = be16 r4", "dc04000010000000"],
    ["r4 = bswap32 r4", "d704000020000000"],
    ["r2 = *(u32 *)(r1 + 4)", "6112040000000000"],
    ["r1 = *(s16 *)(r2 + 0)", "8921000000000000"],
    ["*(u8 *)(r10 - 1) = 7", "720affff07000000"],
    ["*(u64 *)(r10 - 8) = r1", "7b1af8ff00000000"],
    ["lock *(u32 *)(r1 + 4) += r2", "c321040000000000"],
    ["r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)", "db21000001000000"],
    ["r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)", "db21000001000000"],
    ["r2 = xchg_64(r1 + 0, r2)", "db210000e1000000"],
    ["r0 = cmpxchg_64(r1 + 0, r0, r2)", "db210000f1000000"],
    ["r1 = 0x1122334455667788 ll", "18010000887766550000000044332211"],
    ["r1 = map fd 5", "18110000050000000000000000000000"],
    ["ld_pseudo r1, 1, 5", "18110000050000000000000000000000"],
    ["w0 = cmpxchg32_32(r10 - 64, w0, w9)", "c39ac0fff1000000"],
    ["r1 = map fd 5 value + 8", "18210000050000000000000008000000"],
    ["call 1", "8500000001000000"],
    ["call map_lookup_elem", "8500000001000000"],
    ["call bpf_map_lookup_elem#1", "8500000001000000"],
    ["r0 = *(u8 *)skb[12]", "300000000c000000"],
    ["r0 = *(u16 *)skb[r1 + 4]", "4810000004000000"],
    ["if r0 == 0 goto +2", "1500020000000000"],
    ["if w1 s> w2 goto -3", "6e21fdff00000000"],
    ["if r1 & 4 goto pc+1", "4501010004000000"],
    ["goto +1 <out>", "0500010000000000"],
    ["gotol -2", "06000000feffffff"],
    ["exit", "9500000000000000"],
  ])("%s", (text, bytes) => expect(hex(text)).toBe(bytes));

  test("labels, slots, comments; the same program as llvm-objdump and bpftool write it", () => {
    const plain = `
        r0 = *(u32 *)(r1 + 16)   ; protocol
        if r0 == 8 goto out
        r0 = 0
        exit
      out:
        r0 = 0x10 ll
        exit`;
    const llvm = `
       0:	61 10 10 00 00 00 00 00	r0 = *(u32 *)(r1 + 0x10)
       1:	15 00 02 00 08 00 00 00	if r0 == 0x8 goto +0x2 <out>
       2:	b7 00 00 00 00 00 00 00	r0 = 0x0
       3:	95 00 00 00 00 00 00 00	exit
       4:	18 00 00 00 10 00 00 00 00 00 00 00 00 00 00 00	r0 = 0x10 ll
       6:	95 00 00 00 00 00 00 00	exit`;
    const bpftool = `
       0: (61) r0 = *(u32 *)(r1 +16)
       1: (15) if r0 == 0x8 goto pc+2
       2: (b7) r0 = 0
       3: (95) exit
       4: (18) r0 = 0x10 ll
       6: (95) exit`;
    expect(hex(llvm)).toBe(hex(plain));
    expect(hex(bpftool)).toBe(hex(plain));
  });

  /** One instruction of any kind that there is, its unused fields 0. */
  const anyInstruction = fc
    .record({
      opcode: fc.nat(255),
      dst: fc.nat(10),
      src: fc.nat(10),
      offset: fc.integer({ min: -32768, max: 32767 }),
      immediate: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      atomic: fc.constantFrom(...Object.values(opcodes.ATOMIC_OP).flatMap((op) => [op, op | opcodes.BPF_FETCH])),
      bits: fc.constantFrom(16, 32, 64),
      sign: fc.constantFrom(0, 8, 16, 32),
    })
    .map(({ opcode, dst, src, offset, immediate, atomic, bits, sign }) => {
      const kind = opcode & 7;
      const operation = opcode & 0xf0;
      const isX = (opcode & 8) !== 0;
      if (kind === opcodes.BPF_ALU || kind === opcodes.BPF_ALU64) {
        if (operation === opcodes.ALU_OP.end) return [kind === opcodes.BPF_ALU ? opcode : opcode & ~8, dst, 0, 0, bits];
        if (operation === opcodes.ALU_OP.neg) return [opcode & ~8, dst, 0, 0, 0];
        const divides = operation === opcodes.ALU_OP.div || operation === opcodes.ALU_OP.mod;
        const more = divides ? sign & 1 : operation === opcodes.ALU_OP.mov && isX ? sign : 0;
        return [opcode, dst, isX ? src : 0, divides && sign > 0 ? 1 : more, isX ? 0 : immediate];
      }
      if (kind === opcodes.BPF_JMP || kind === opcodes.BPF_JMP32) {
        if (operation === opcodes.JMP_OP.exit) return [opcodes.BPF_JMP | operation, 0, 0, 0, 0];
        if (operation === opcodes.JMP_OP.call) return [opcodes.BPF_JMP | operation, 0, 0, 0, immediate & 0xff];
        if (operation === opcodes.JMP_OP.ja)
          return kind === opcodes.BPF_JMP ? [opcode & ~8, 0, 0, offset, 0] : [opcode & ~8, 0, 0, 0, immediate];
        return [opcode, dst, isX ? src : 0, offset, isX ? 0 : immediate];
      }
      const mode = opcode & 0xe0;
      if (kind === opcodes.BPF_LD) {
        if (mode === opcodes.BPF_ABS) return [opcode, 0, 0, 0, immediate];
        if (mode === opcodes.BPF_IND) return [opcode, 0, src, 0, immediate];
        return [opcodes.BPF_LD | opcodes.BPF_DW, dst, 0, 0, immediate];
      }
      if (kind === opcodes.BPF_LDX) return [opcode, dst, src, offset, 0];
      if (kind === opcodes.BPF_ST) return [opcode, dst, 0, offset, immediate];
      return [opcode, dst, src, offset, mode === opcodes.BPF_ATOMIC ? atomic : 0];
    });

  test("what is written is read back the same", () => {
    let written = 0;
    fc.assert(
      fc.property(anyInstruction, ([opcode, dst, src, offset, immediate]) => {
        const isWide = opcode === (opcodes.BPF_LD | opcodes.BPF_DW);
        const bytes = new Uint8Array(isWide ? 16 : 8);
        const view = new DataView(bytes.buffer);
        view.setUint8(0, opcode);
        view.setUint8(1, dst | (src << 4));
        view.setInt16(2, offset, true);
        view.setInt32(4, immediate, true);
        if (isWide) view.setInt32(12, immediate ^ 0x5a5a5a5a, true);
        const text = disassemble(bytes);
        // What is no instruction has no text to be read.
        if (text.includes(".insn")) return;
        written++;
        expect([text, parseExtended(text).toHex()]).toEqual([text, bytes.toHex()]);
      }),
      { numRuns: 4000 },
    );
    expect(written).toBeGreaterThan(1000);
  });

  test.each([
    ["r0 = 1\nr16 = 2", "line 2, column 1: there is no register r16"],
    ["r0 <> 1", 'line 1, column 4: "=" expected, there is "<>"'],
    ["if r0 == w1 goto +1", "line 1, column 10: an r register expected"],
    ["if r0 == 1 exit", 'line 1, column 12: "goto" expected'],
    ["goto out", 'line 1, column 6: label "out" is nowhere'],
    ["r0 = *(u24 *)(r1 + 0)", '"(u32 *)" or the like expected'],
    ["r0 = *(u8 *)(r1 + 40000)", "line 1, column 19: 40000 is not from -32768 to 32767"],
    ["call nobody", 'line 1, column 6: no helper is called "nobody"'],
    ["3: exit", "line 1, column 1: this is slot 0"],
    ["exit exit", "line 1, column 6: the end of the line expected"],
  ])("%j: %s", (text, words) => expect(error(() => parseExtended(text))).toContain(words));
});
