/** What the verifier found of each instruction that the compiler builds on: it holds however the instruction is reached. */
import { ERRNO } from "af-xdp-bindings";
import { refuse } from "./flow.ts";
import { isShortRegister, KIND_NAMES, MAP_VALUE, type Register } from "./state.ts";

/** Memory that an instruction reaches: what kind of address, of which map, and whether it is known to be aligned. */
export interface Place {
  readonly kind: number;
  readonly map: number;
  aligned: boolean;
}

export class Fact {
  /** Whether the instruction is ever run. */
  seen = false;
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
