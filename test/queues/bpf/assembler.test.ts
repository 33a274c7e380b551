/** Encodings against bytes from RFC 9669's tables and the kernel's documentation, and what the assembler refuses. */
import { describe, expect, test } from "bun:test";
import { Assembler, r0, r1, r2, r3, r4, r6, r9, r10 } from "af-xdp-bindings";

/** The instruction's bytes: opcode, dst | src << 4, offset (2), immediate (4), little-endian. */
const encode = (build: (code: Assembler) => Assembler): string => build(new Assembler()).assemble().toHex();

describe("encodings", () => {
  const cases: [name: string, build: (code: Assembler) => Assembler, hex: string][] = [
    ["mov imm", (c) => c.mov(r0, 1), "b700000001000000"],
    ["mov reg", (c) => c.mov(r6, r1), "bf16000000000000"],
    ["mov32 imm", (c) => c.mov32(r1, -1), "b4010000ffffffff"],
    ["mov32 reg", (c) => c.mov32(r1, r2), "bc21000000000000"],
    ["movsx 8", (c) => c.movsx(r1, r2, 8), "bf21080000000000"],
    ["movsx32 16", (c) => c.movsx32(r1, r2, 16), "bc21100000000000"],
    ["add imm", (c) => c.add(r2, -4), "07020000fcffffff"],
    ["add reg", (c) => c.add(r2, r3), "0f32000000000000"],
    ["add32", (c) => c.add32(r2, r3), "0c32000000000000"],
    ["sub", (c) => c.sub(r9, 5), "1709000005000000"],
    ["mul", (c) => c.mul(r1, r2), "2f21000000000000"],
    ["div", (c) => c.div(r1, 3), "3701000003000000"],
    ["sdiv", (c) => c.sdiv(r1, r2), "3f21010000000000"],
    ["or", (c) => c.or(r1, 0x10), "4701000010000000"],
    ["and", (c) => c.and(r1, 0xff), "57010000ff000000"],
    ["lsh", (c) => c.lsh(r1, 32), "6701000020000000"],
    ["rsh", (c) => c.rsh(r1, 32), "7701000020000000"],
    ["neg", (c) => c.neg(r1), "8701000000000000"],
    ["neg32", (c) => c.neg32(r1), "8401000000000000"],
    ["mod", (c) => c.mod(r1, r2), "9f21000000000000"],
    ["smod32", (c) => c.smod32(r1, r2), "9c21010000000000"],
    ["xor", (c) => c.xor(r1, r1), "af11000000000000"],
    ["arsh", (c) => c.arsh(r1, 63), "c70100003f000000"],
    ["be16", (c) => c.be(r4, 16), "dc04000010000000"],
    ["le64", (c) => c.le(r4, 64), "d404000040000000"],
    ["bswap32", (c) => c.bswap(r4, 32), "d704000020000000"],
    ["load8", (c) => c.load8(r1, r2, 12), "71210c0000000000"],
    ["load16", (c) => c.load16(r1, r2, 12), "69210c0000000000"],
    ["load32", (c) => c.load32(r2, r1, 4), "6112040000000000"],
    ["load64", (c) => c.load64(r1, r10, -8), "79a1f8ff00000000"],
    ["loadSigned8", (c) => c.loadSigned8(r1, r2), "9121000000000000"],
    ["loadSigned16", (c) => c.loadSigned16(r1, r2), "8921000000000000"],
    ["loadSigned32", (c) => c.loadSigned32(r1, r2), "8121000000000000"],
    ["store8 imm", (c) => c.store8(r10, -1, 7), "720affff07000000"],
    ["store16 reg", (c) => c.store16(r10, -2, r1), "6b1afeff00000000"],
    ["store32 imm", (c) => c.store32(r10, -4, 0xffff0000), "620afcff0000ffff"],
    ["store64 reg", (c) => c.store64(r10, -8, r1), "7b1af8ff00000000"],
    ["atomicAdd32", (c) => c.atomicAdd32(r1, 4, r2), "c321040000000000"],
    ["atomicAdd64", (c) => c.atomicAdd64(r1, 0, r2), "db21000000000000"],
    ["atomicFetchAdd64", (c) => c.atomicFetchAdd64(r1, 0, r2), "db21000001000000"],
    ["atomicOr64", (c) => c.atomicOr64(r1, 0, r2), "db21000040000000"],
    ["atomicFetchAnd32", (c) => c.atomicFetchAnd32(r1, 0, r2), "c321000051000000"],
    ["atomicXor32", (c) => c.atomicXor32(r1, 0, r2), "c3210000a0000000"],
    ["xchg64", (c) => c.xchg64(r1, 0, r2), "db210000e1000000"],
    ["cmpxchg64", (c) => c.cmpxchg64(r1, 0, r2), "db210000f1000000"],
    ["loadImm64", (c) => c.loadImm64(r1, 0x1122334455667788n), "18010000887766550000000044332211"],
    ["loadImm64, negative", (c) => c.loadImm64(r1, -2), "18010000feffffff00000000ffffffff"],
    ["mapFd", (c) => c.mapFd(r1, { fd: 5 }), "18110000050000000000000000000000"],
    ["mapValue", (c) => c.mapValue(r1, { fd: 5 }, 8), "18210000050000000000000008000000"],
    ["call", (c) => c.call("redirect_map"), "8500000033000000"],
    ["call by number", (c) => c.call(7), "8500000007000000"],
    ["exit", (c) => c.exit(), "9500000000000000"],
  ];
  test.each(cases)("%s", (_name, build, hex) => expect(encode(build)).toBe(hex));

  const jumps: [name: string, build: (code: Assembler) => Assembler, hex: string][] = [
    ["jump", (c) => c.jump("end"), "0500010000000000"],
    ["jumpLong", (c) => c.jumpLong("end"), "0600000001000000"],
    ["callLocal", (c) => c.callLocal("end"), "8510000001000000"],
    ["jeq", (c) => c.jeq(r1, 8, "end"), "1501010008000000"],
    ["jeq reg", (c) => c.jeq(r1, r2, "end"), "1d21010000000000"],
    ["jeq32", (c) => c.jeq32(r1, 0xffffffff, "end"), "16010100ffffffff"],
    ["jgt", (c) => c.jgt(r1, r2, "end"), "2d21010000000000"],
    ["jge", (c) => c.jge(r1, 1, "end"), "3501010001000000"],
    ["jset", (c) => c.jset(r1, 4, "end"), "4501010004000000"],
    ["jne", (c) => c.jne(r1, 0, "end"), "5501010000000000"],
    ["jsgt", (c) => c.jsgt(r1, -1, "end"), "65010100ffffffff"],
    ["jsge", (c) => c.jsge(r1, 0, "end"), "7501010000000000"],
    ["jlt", (c) => c.jlt(r1, 1, "end"), "a501010001000000"],
    ["jle", (c) => c.jle(r1, 1, "end"), "b501010001000000"],
    ["jslt", (c) => c.jslt(r1, 1, "end"), "c501010001000000"],
    ["jsle32", (c) => c.jsle32(r1, r2, "end"), "de21010000000000"],
  ];
  test.each(jumps)("%s over one instruction", (_name, build, hex) => {
    const code = build(new Assembler()).mov(r0, 0).label("end").exit();
    expect(code.assemble().subarray(0, 8).toHex()).toBe(hex);
  });

  test("a jump counts slots, of which ld_imm64 has two, and goes backwards too", () => {
    const code = new Assembler().label("top").jump("end").loadImm64(r1, 1).jump("top").label("end").exit();
    expect(code.length).toBe(5);
    expect(code.assemble().toHex()).toBe(
      "0500030000000000" + "18010000010000000000000000000000" + "0500fcff00000000" + "9500000000000000",
    );
  });
});

describe("refusals", () => {
  const tooFar = (count: number): Assembler => {
    const code = new Assembler().jump("end");
    for (let i = 0; i < count; i++) code.mov(r0, 0);
    return code.label("end").exit();
  };

  test("labels: missing, twice, behind the end", () => {
    expect(() => new Assembler().jump("nowhere").exit().assemble()).toThrow('no label "nowhere" (jump at 0)');
    expect(() => new Assembler().label("a").exit().label("a")).toThrow('"a" is defined twice');
    expect(() => new Assembler().jump("end").exit().label("end").assemble()).toThrow("behind the last instruction");
  });

  test("a jump reaches 32767 slots and no further", () => {
    expect(tooFar(32767).assemble().subarray(0, 4).toHex()).toBe("0500ff7f");
    expect(() => tooFar(32768).assemble()).toThrow("use jumpLong");
  });

  test("immediates: 64-bit operations sign-extend theirs, 32-bit ones take both readings", () => {
    expect(encode((c) => c.and32(r1, 0x80000000))).toBe("5401000000000080");
    expect(encode((c) => c.and(r1, -0x80000000))).toBe("5701000000000080");
    for (const value of [0x80000000, 2 ** 32, 0.5, Number.NaN]) {
      expect(() => new Assembler().and(r1, value)).toThrow(RangeError);
    }
    expect(() => new Assembler().mov32(r1, 2 ** 32)).toThrow(RangeError);
    expect(() => new Assembler().store64(r10, -8, 0xffffffff)).toThrow(RangeError);
    expect(() => new Assembler().loadImm64(r1, 1n << 64n)).toThrow("does not fit in 64 bits");
  });

  test("offsets are 16 bits", () => {
    expect(encode((c) => c.load8(r1, r2, -32768))).toBe("7121008000000000");
    expect(() => new Assembler().load8(r1, r2, 32768)).toThrow("signed 16-bit");
    expect(() => new Assembler().store8(r1, -32769, 0)).toThrow("signed 16-bit");
    expect(() => new Assembler().atomicAdd64(r1, 40000, r2)).toThrow("signed 16-bit");
  });
});

test("the listing reads as the verifier's log does, with the labels", () => {
  const code = new Assembler()
    .load32(r2, r1, 16)
    .jsgt32(r2, -3, "far")
    .mapFd(r1, { fd: 9 })
    .mapValue(r3, { fd: 9 }, 4)
    .loadImm64(r4, 2 ** 40)
    .sdiv(r4, r2)
    .movsx(r4, r2, 8)
    .arsh32(r4, 2)
    .neg(r4)
    .be(r4, 16)
    .bswap(r4, 64)
    .loadSigned16(r6, r10, -2)
    .store64(r10, -8, r4)
    .store8(r10, -9, 1)
    .atomicFetchAdd64(r10, -8, r4)
    .cmpxchg32(r10, -8, r4)
    .call("redirect_map")
    .label("far")
    .mov(r0, 2)
    .exit();
  expect(code.listing().split("\n")).toEqual([
    "    0: r2 = *(u32 *)(r1 + 16)",
    "    1: if w2 s> -3 goto +18 <far>",
    "    2: r1 = map fd 9",
    "    4: r3 = map fd 9 value + 4",
    "    6: r4 = 0x10000000000 ll",
    "    8: r4 s/= r2",
    "    9: r4 = (s8)r2",
    "   10: w4 s>>= 2",
    "   11: r4 = -r4",
    "   12: r4 = be16 r4",
    "   13: r4 = bswap64 r4",
    "   14: r6 = *(s16 *)(r10 - 2)",
    "   15: *(u64 *)(r10 - 8) = r4",
    "   16: *(u8 *)(r10 - 9) = 1",
    "   17: atomic_fetch_add *(u64 *)(r10 - 8), r4",
    "   18: atomic_cmpxchg *(u32 *)(r10 - 8), r4",
    "   19: call redirect_map",
    "far:",
    "   20: r0 = 2",
    "   21: exit",
  ]);
});
