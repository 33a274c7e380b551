/**
 * Classic BPF programs: socket filters, reuseport selection, capture filters (struct sock_filter; net/core/filter.c).
 *
 *   const program = decodeClassic(text);        // bpf_asm, tcpdump -d, -dd, -ddd, or arrays
 *   verifyClassic(program);                     // as the kernel does, EINVAL with a reason
 *   const filter = compileClassic(program);     // a JavaScript function
 *   const keep = filter(bytes, offset, length); // 0: no match
 */
import { sys } from "af-xdp-bindings";
import { compile } from "./compile.ts";
import type { SockFilter } from "./opcodes.ts";
import type { PacketContext } from "./packet-context.ts";
import { parseClassic } from "./text/classic-text.ts";
import { verifyClassic } from "./verifier.ts";

export type { SockFilter } from "./opcodes.ts";
export { PacketContext } from "./packet-context.ts";
export { formatClassic } from "./text/classic-text.ts";
export { faultOf, verifyClassic } from "./verifier.ts";

/**
 * A compiled program. `bytes[offset .. offset + length)` is the packet; it may lie anywhere. Loads beyond it end the
 * program with 0, and so does a division by an X of 0. The context answers SKF_AD loads and those relative to a header;
 * without one they find a packet of which nothing is known.
 *
 * @returns u32. To a socket filter: bytes to keep, perhaps more than there are, 0 to drop. To a reuseport program: an index.
 */
export type ClassicFilter = (bytes: Uint8Array, offset: number, length: number, context?: PacketContext) => number;

/** Verifies a program and compiles it. Throws SysError EINVAL. */
export function compileClassic(program: readonly SockFilter[]): ClassicFilter {
  verifyClassic(program);
  return compile(program);
}

/** Bytes of a struct sock_filter. */
export const SOCK_FILTER_BYTES = 8;

/**
 * A program from what programs come as:
 *   text    in the syntax of bpf_asm, or as tcpdump writes it with -d, -dd or -ddd: see text/classic-text.ts
 *   arrays  [code, jt, jf, k] each
 *   bytes   an array of struct sock_filter in this machine's order (what SO_ATTACH_FILTER points to)
 * Throws SyntaxError where the form is wrong; what the instructions mean is for verifyClassic().
 */
export function decodeClassic(program: string | Uint8Array | readonly (readonly number[])[]): SockFilter[] {
  if (typeof program === "string") return parseClassic(program);
  if (program instanceof Uint8Array) return decodeBytes(program);
  return program.map((fields) => instruction(fields, fields.join()));
}

/** The program as an array of struct sock_filter. */
export function encodeClassic(program: readonly SockFilter[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(program.length * SOCK_FILTER_BYTES);
  const view = new DataView(bytes.buffer);
  program.forEach(({ code, jt, jf, k }, i) => {
    const at = i * SOCK_FILTER_BYTES;
    view.setUint16(at, code, true);
    view.setUint8(at + 2, jt);
    view.setUint8(at + 3, jf);
    view.setUint32(at + 4, k, true);
  });
  return bytes;
}

/** Instructions that a struct sock_fprog points to, reachable as long as it is. */
const pointees = new WeakMap<Uint8Array, Uint8Array>();

/**
 * The value of SO_ATTACH_FILTER and SO_ATTACH_REUSEPORT_CBPF, a struct sock_fprog: the number of instructions, and the address
 * of an array of them, which stays where it is as long as the returned bytes are reachable. The same bytes are right for a
 * socket of the kernel in this process. Takes what decodeClassic() takes, or instructions. Throws SyntaxError.
 */
export function sockFprog(program: Parameters<typeof decodeClassic>[0] | readonly SockFilter[]): Uint8Array {
  const isDecoded = Array.isArray(program) && (program.length === 0 || !Array.isArray(program[0]));
  const code = encodeClassic(
    isDecoded ? (program as readonly SockFilter[]) : decodeClassic(program as Parameters<typeof decodeClassic>[0]),
  );
  if (code.length / SOCK_FILTER_BYTES > 0xffff)
    throw new RangeError("a struct sock_fprog has at most 65535 instructions");
  const fprog = new DataView(new ArrayBuffer(16));
  fprog.setUint16(0, code.length / SOCK_FILTER_BYTES, true);
  fprog.setBigUint64(8, BigInt(sys.addressOf(code)), true);
  const bytes = new Uint8Array(fprog.buffer);
  pointees.set(bytes, code);
  return bytes;
}

function decodeBytes(bytes: Uint8Array): SockFilter[] {
  if (bytes.length % SOCK_FILTER_BYTES !== 0) {
    throw new SyntaxError(`BPF program of ${bytes.length} bytes: not a multiple of ${SOCK_FILTER_BYTES}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / SOCK_FILTER_BYTES }, (_, i) => {
    const at = i * SOCK_FILTER_BYTES;
    return {
      code: view.getUint16(at, true),
      jt: view.getUint8(at + 2),
      jf: view.getUint8(at + 3),
      k: view.getUint32(at + 4, true),
    };
  });
}

function instruction(fields: readonly number[], text: string): SockFilter {
  const [code, jt, jf, k] = fields;
  if (fields.length !== 4 || !fields.every(Number.isInteger)) {
    throw new SyntaxError(`BPF program: "${text}" is not "code jt jf k"`);
  }
  return { code, jt, jf, k: k < 0 ? k + 2 ** 32 : k };
}
