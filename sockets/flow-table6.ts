/**
 * FlowTable over IPv6. A slot is a cache line: both addresses, ports, protocol with value, and six words unused.
 *
 * The addresses of a key are too many for arguments: they are loaded into `key` first, and every call is about that key.
 *
 * Measured as FlowTable, loadKey() included: 34 ns with 1,000 flows, 180 ns with 1,000,000 (256 MiB of slots).
 */
import { hashKeys, mix } from "./flow-hash.ts";
import { checkFlows, slotsFor } from "./flow-table.ts";
import { readInt32 } from "./wire/views.ts";

const SLOT_WORDS = 16;
const ADDRESS_WORDS = 8;
const PORTS = 8;
const META = 9;
const EMPTY = -1;

/** IPv6 flows. Ports are 0..65535, protocols 0..254, values as in FlowTable. */
export class FlowTable6 {
  /** Flows in the table. */
  count = 0;
  /** Inserts refused because the table held flowsMax. */
  full = 0;
  readonly flowsMax: number;
  /** Addresses of the key: four words local, four remote. */
  readonly key = new Int32Array(ADDRESS_WORDS);
  private words: Int32Array;
  private mask: number;
  private growAt: number;
  private readonly keys: Int32Array;

  /** As FlowTable's. */
  constructor(flows: number, flowsMax: number, seed: number) {
    checkFlows(flows, flowsMax);
    const slots = slotsFor(flows);
    this.flowsMax = flowsMax;
    this.words = new Int32Array(slots * SLOT_WORDS).fill(EMPTY);
    this.mask = slots - 1;
    this.growAt = Math.floor((slots * 3) / 8);
    this.keys = hashKeys(seed, ADDRESS_WORDS + 1);
  }

  /** Loads the key from two addresses of 16 bytes; of a received packet, the local one is the destination. */
  loadKey(local: Uint8Array, localOffset: number, remote: Uint8Array, remoteOffset: number): void {
    for (let i = 0; i < 4; i++) {
      this.key[i] = readInt32(local, localOffset + 4 * i);
      this.key[4 + i] = readInt32(remote, remoteOffset + 4 * i);
    }
  }

  /** The slot at which a search begins for the addresses at words[at] and the ports. */
  private home(words: Int32Array, at: number, ports: number): number {
    const keys = this.keys;
    let hash = 0;
    for (let i = 0; i < ADDRESS_WORDS; i++) hash = mix(hash, words[at + i], keys[2 * i], keys[2 * i + 1]);
    hash = mix(hash, ports, keys[2 * ADDRESS_WORDS], keys[2 * ADDRESS_WORDS + 1]);
    return (hash ^ (hash >>> 13)) & this.mask;
  }

  /** The first word of the slot of `key`, or of the empty slot where it would be. */
  private find(protocol: number, ports: number): number {
    const words = this.words;
    let slot = this.home(this.key, 0, ports);
    for (;;) {
      const at = slot * SLOT_WORDS;
      const meta = words[at + META];
      if (meta === EMPTY) return at;
      if (words[at + PORTS] === ports && meta >>> 24 === protocol && this.hasKey(at)) return at;
      slot = (slot + 1) & this.mask;
    }
  }

  private hasKey(at: number): boolean {
    for (let i = 0; i < ADDRESS_WORDS; i++) if (this.words[at + i] !== this.key[i]) return false;
    return true;
  }

  /** The value of the flow with the addresses in `key`, or -1. */
  lookup(protocol: number, localPort: number, remotePort: number): number {
    const meta = this.words[this.find(protocol, (localPort << 16) | remotePort) + META];
    return meta === EMPTY ? -1 : meta & 0xffffff;
  }

  /** Adds the flow with the addresses in `key`, or gives it a new value. False: the table is full. */
  insert(protocol: number, localPort: number, remotePort: number, value: number): boolean {
    const ports = (localPort << 16) | remotePort;
    let at = this.find(protocol, ports);
    if (this.words[at + META] === EMPTY) {
      if (this.count === this.flowsMax) {
        this.full++;
        return false;
      }
      if (this.count === this.growAt) {
        this.grow();
        at = this.find(protocol, ports);
      }
      this.words.set(this.key, at);
      this.words[at + PORTS] = ports;
      this.count++;
    }
    this.words[at + META] = (protocol << 24) | value;
    return true;
  }

  /** Removes the flow with the addresses in `key`. False: it was not there. */
  remove(protocol: number, localPort: number, remotePort: number): boolean {
    const words = this.words;
    const at = this.find(protocol, (localPort << 16) | remotePort);
    if (words[at + META] === EMPTY) return false;
    let hole = at / SLOT_WORDS;
    for (let slot = (hole + 1) & this.mask; ; slot = (slot + 1) & this.mask) {
      const from = slot * SLOT_WORDS;
      if (words[from + META] === EMPTY) break;
      const home = this.home(words, from, words[from + PORTS]);
      if (((slot - home) & this.mask) < ((slot - hole) & this.mask)) continue;
      for (let i = 0; i <= META; i++) words[hole * SLOT_WORDS + i] = words[from + i];
      hole = slot;
    }
    words[hole * SLOT_WORDS + META] = EMPTY;
    this.count--;
    return true;
  }

  private grow(): void {
    const old = this.words;
    const slots = (this.mask + 1) * 2;
    this.words = new Int32Array(slots * SLOT_WORDS).fill(EMPTY);
    this.mask = slots - 1;
    this.growAt = Math.floor((slots * 3) / 8);
    for (let from = 0; from < old.length; from += SLOT_WORDS) {
      if (old[from + META] === EMPTY) continue;
      let slot = this.home(old, from, old[from + PORTS]);
      while (this.words[slot * SLOT_WORDS + META] !== EMPTY) slot = (slot + 1) & this.mask;
      for (let i = 0; i <= META; i++) this.words[slot * SLOT_WORDS + i] = old[from + i];
    }
  }
}
