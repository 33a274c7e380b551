/** What a comparison says of the numbers compared, in the branch taken and in the other. */
import { opcodes } from "af-xdp-bindings";
import {
  both,
  extendSign,
  isConstant,
  isShort,
  type Scalar,
  settle,
  shortened,
  truncate,
  withSmax,
  withSmin,
  withUmax,
  withUmin,
} from "./scalar.ts";

const { JMP_OP } = opcodes;

/** The operation that holds where this one does not; the opposite of "a bit in common" is JSET with `taken` false. */
const OPPOSITE = new Map<number, number>([
  [JMP_OP.jeq, JMP_OP.jne],
  [JMP_OP.jne, JMP_OP.jeq],
  [JMP_OP.jgt, JMP_OP.jle],
  [JMP_OP.jle, JMP_OP.jgt],
  [JMP_OP.jge, JMP_OP.jlt],
  [JMP_OP.jlt, JMP_OP.jge],
  [JMP_OP.jsgt, JMP_OP.jsle],
  [JMP_OP.jsle, JMP_OP.jsgt],
  [JMP_OP.jsge, JMP_OP.jslt],
  [JMP_OP.jslt, JMP_OP.jsge],
]);

/** Both operands, narrowed; null where the branch is never gone. */
export type Narrowed = readonly [Scalar, Scalar] | null;

/** After `a operation b` was true, or false. */
export function narrow(operation: number, a: Scalar, b: Scalar, taken: boolean): Narrowed {
  if (operation === JMP_OP.jset) return taken ? someBit(a, b) : noBit(a, b);
  return holds(taken ? operation : (OPPOSITE.get(operation) as number), a, b);
}

/** The same of the low halves; where an operand's upper half may be anything, nothing new is known of it. */
export function narrow32(operation: number, a: Scalar, b: Scalar, taken: boolean): Narrowed {
  const signed =
    operation === JMP_OP.jsgt || operation === JMP_OP.jsge || operation === JMP_OP.jslt || operation === JMP_OP.jsle;
  const view = (x: Scalar): Scalar => (signed ? extendSign(truncate(x), 32) : truncate(x));
  const narrowed = narrow(operation, view(a), view(b), taken);
  if (narrowed === null) return null;
  const back = (x: Scalar, low: Scalar): Scalar => (isShort(x) ? (both(x, signed ? shortened(low) : low) ?? x) : x);
  return [back(a, narrowed[0]), back(b, narrowed[1])];
}

function holds(operation: number, a: Scalar, b: Scalar): Narrowed {
  switch (operation) {
    case JMP_OP.jeq: {
      const same = both(a, b);
      return same && [same, same];
    }
    case JMP_OP.jne:
      return pair(without(a, b), without(b, a));
    case JMP_OP.jgt:
      return pair(withUmin(a, b.umin + 1n), withUmax(b, a.umax - 1n));
    case JMP_OP.jge:
      return pair(withUmin(a, b.umin), withUmax(b, a.umax));
    case JMP_OP.jlt:
      return pair(withUmax(a, b.umax - 1n), withUmin(b, a.umin + 1n));
    case JMP_OP.jle:
      return pair(withUmax(a, b.umax), withUmin(b, a.umin));
    case JMP_OP.jsgt:
      return pair(withSmin(a, b.smin + 1n), withSmax(b, a.smax - 1n));
    case JMP_OP.jsge:
      return pair(withSmin(a, b.smin), withSmax(b, a.smax));
    case JMP_OP.jslt:
      return pair(withSmax(a, b.smax - 1n), withSmin(b, a.smin + 1n));
    default:
      // JSLE, the last of ten.
      return pair(withSmax(a, b.smax), withSmin(b, a.smin));
  }
}

function pair(a: Scalar | null, b: Scalar | null): Narrowed {
  return a === null || b === null ? null : [a, b];
}

/** `a` less the value that `b` is, if it is one alone: only the ends of a range can go. */
function without(a: Scalar, b: Scalar): Scalar | null {
  if (!isConstant(b)) return a;
  const { umin, umax, smin, smax } = a;
  return settle({
    ...a,
    umin: umin === b.umin ? umin + 1n : umin,
    umax: umax === b.umin ? umax - 1n : umax,
    smin: smin === b.smin ? smin + 1n : smin,
    smax: smax === b.smin ? smax - 1n : smax,
  });
}

function someBit(a: Scalar, b: Scalar): Narrowed {
  const possible = (a.value | a.mask) & (b.value | b.mask);
  return possible === 0n ? null : [a, b];
}

function noBit(a: Scalar, b: Scalar): Narrowed {
  if ((a.value & b.value) !== 0n) return null;
  return pair(clear(a, b.value), clear(b, a.value));
}

/** `a` with these bits known to be 0. */
function clear(a: Scalar, bits: bigint): Scalar | null {
  return settle({ ...a, mask: a.mask & ~bits });
}
