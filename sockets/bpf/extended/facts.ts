/** What the verifier found of each instruction that the compiler builds on: it holds however the instruction is reached. */
import { ERRNO } from "af-xdp-bindings";
import { refuse } from "./flow.ts";
import { isShortRegister, KIND_NAMES, MAP_VALUE, MAP_VALUE_OR_NULL, NUMBER, type Register } from "./state.ts";

/** Memory that an instruction reaches: what kind of address, of which map, and whether it is known to be aligned. */
export interface Place {
  readonly kind: number;
  readonly map: number;
  aligned: boolean;
}

export class Fact {
  /** Whether the instruction is ever run. */
  seen = false;
  /** Of a branch: whether it is ever taken, and ever not. */
  takes = false;
  falls = false;
  /** Of a comparison for equality: whether that is ever of an address whose number here may be 0, and ever of anything else. */
  private ofAddress = false;
  private ofOther = false;
  /** Whether the upper halves of destination and source are always 0 before it. */
  dstShort = true;
  srcShort = true;
  /** Memory of a load or store; of a call, that of the arguments in r2 and on. */
  readonly places: (Place | undefined)[] = [];
  /** Of a call: the map in r1 or r2, -1 for none. */
  map = -1;

  note(dst: Register, src: Register): void {
    this.seen = true;
    if (!isShortRegister(dst)) this.dstShort = false;
    if (!isShortRegister(src)) this.srcShort = false;
  }

  /**
   * A comparison for equality, with 0 if of an address. An address is never null, but the number that stands for it here may be 0 (the context's is): such
   * branches are decided beforehand. Throws SysError EACCES where the same instruction compares other things as well.
   */
  noteNull(slot: number, { kind, number, offset }: Register): void {
    const isOffset = kind > NUMBER && kind !== MAP_VALUE_OR_NULL;
    if (isOffset && !(kind === MAP_VALUE && offset >= 0 && number.smin >= 0n)) this.ofAddress = true;
    else this.ofOther = true;
    if (this.ofAddress && this.ofOther) {
      refuse(ERRNO.EACCES, slot, `compares ${KIND_NAMES[kind]} with 0 on one way and something else on another`);
    }
  }

  /** Throws SysError EACCES where the instruction was found to reach another kind of memory before. */
  notePlace(slot: number, index: number, { kind, map }: Register, aligned: boolean): void {
    const before = this.places[index];
    if (before === undefined) {
      this.places[index] = { kind, map, aligned };
      return;
    }
    if (before.kind !== kind || before.map !== map) {
      const other = kind === MAP_VALUE && before.kind === kind ? "a value of another map" : KIND_NAMES[kind];
      refuse(ERRNO.EACCES, slot, `reaches ${KIND_NAMES[before.kind]} on one way and ${other} on another`);
    }
    before.aligned &&= aligned;
  }

  noteMap(slot: number, map: number): void {
    if (this.map >= 0 && this.map !== map)
      refuse(ERRNO.EACCES, slot, "takes one map on one way and another on another");
    this.map = map;
  }
}
