/** A value of the `ports` map, under change: PORT in layout.ts says what is where. */
import { type Family, NO_V4, NO_V6, PORT, STAMP, V4_ADDRESS, V4_ANY, V6_ADDRESS, V6_ANY } from "./layout.ts";

/** Flags a caller may give a port; V4_ADDRESS and V6_ADDRESS follow from bound addresses. */
const WILDCARD_FLAGS = V4_ANY | V6_ANY | STAMP;

export class PortEntry {
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  /** Works on `bytes` in place. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, PORT.size);
  }

  get flags(): number {
    return this.#view.getUint32(PORT.flags, true);
  }

  setWildcard(flags: number): void {
    if (flags & ~WILDCARD_FLAGS) throw new RangeError(`port flags ${flags}: V4_ANY, V6_ANY and STAMP only`);
    this.#setFlags((this.flags & ~WILDCARD_FLAGS) | flags);
  }

  /** Counts a bound address (16 bytes) if it is new, and gives it the slot if that is free and `flags` 0. */
  bind(family: Family, address: Uint8Array, flags: number, isNew: boolean): void {
    if (this.#count(family) === 0) this.#emptySlot(family);
    if (isNew) this.#addCount(family, 1);
    if (flags !== 0) this.#vacate(family, address);
    else if (this.#isSlotEmpty(family)) this.#fillSlot(family, address);
  }

  /** Takes back a `bind`. The slot, if it was this address's, stays free until the next. */
  unbind(family: Family, address: Uint8Array): void {
    this.#addCount(family, -1);
    this.#vacate(family, address);
  }

  #setFlags(flags: number): void {
    this.#view.setUint32(PORT.flags, flags, true);
  }

  #count(family: Family): number {
    return this.#view.getUint16(family === 4 ? PORT.bound_v4 : PORT.bound_v6, true);
  }

  #addCount(family: Family, change: number): void {
    const count = this.#count(family) + change;
    // BOUND_MAX is 65536: more at one port and family than u16 counts is refused, not wrapped.
    if (count > 0xffff) throw new RangeError("65535 addresses are bound at this port already");
    this.#view.setUint16(family === 4 ? PORT.bound_v4 : PORT.bound_v6, count, true);
    const flag = family === 4 ? V4_ADDRESS : V6_ADDRESS;
    this.#setFlags(count > 0 ? this.flags | flag : this.flags & ~flag);
  }

  #slot(family: Family): Uint8Array {
    return family === 4 ? this.bytes.subarray(PORT.v4, PORT.v4 + 8) : this.bytes.subarray(PORT.v6, PORT.v6 + 16);
  }

  #isSlotEmpty(family: Family): boolean {
    return this.#slot(family).toHex() === emptySlot(family).toHex();
  }

  #emptySlot(family: Family): void {
    this.#slot(family).set(emptySlot(family));
  }

  #fillSlot(family: Family, address: Uint8Array): void {
    this.#slot(family).set(slotValue(family, address));
  }

  #vacate(family: Family, address: Uint8Array): void {
    if (this.#slot(family).toHex() === slotValue(family, address).toHex()) this.#emptySlot(family);
  }
}

/** An address (16 bytes) as a slot holds it: IPv4 as u64 whose low half is the address in network order. */
export function slotValue(family: Family, address: Uint8Array): Uint8Array {
  if (family === 6) return address;
  const value = new Uint8Array(8);
  value.set(address.subarray(12));
  return value;
}

/** What a slot without an address holds. */
export function emptySlot(family: Family): Uint8Array {
  return family === 6 ? NO_V6 : new Uint8Array(BigUint64Array.of(BigInt(NO_V4)).buffer);
}
