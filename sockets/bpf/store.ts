/**
 * Programs and maps of one engine, in shared memory of a size fixed at its start: every thread sees the same ones, and names
 * them by *handles*, as descriptors name the kernel's.
 *
 * A slot holds a program or a map as long as its handle is open, or sockets, groups or programs use it. A handle carries the
 * generation of its slot, so that one closed earlier names nothing. Programs lie here as instructions (which SO_GET_FILTER
 * tells) and as the text that the verifier's thread has compiled them to: lcores make functions of it, without verifying anew.
 *
 * Writers: whoever holds the socket table's mutex; values of maps: anybody, as map and program say. `seen` words: each lcore.
 */
import { ERRNO } from "af-xdp-bindings";
import { openSharedMap, type SocketArrayMap } from "./maps/index.ts";
import type { SharedMapDescriptor, SharedMapOptions, SharedMapType } from "./maps/shared-map.ts";

/** What is attached: classic programs answer with a length or an index; extended ones as their type says. */
export const CLASSIC = 1;
export const SOCKET_FILTER = 2;
export const SK_REUSEPORT = 3;
/** Of no use to sockets: refused where it is attached. */
export const SCHED_CLS = 4;
export type StoredType = typeof CLASSIC | typeof SOCKET_FILTER | typeof SK_REUSEPORT | typeof SCHED_CLS;

const MAP_TYPES: readonly SharedMapType[] = ["array", "percpu_array", "hash", "reuseport_sockarray"];

/** Bytes of the store unless the engine is asked for another size: hundreds of programs of common length. */
export const STORE_BYTES = 1 << 20;
export const STORE_BYTES_MIN = 1 << 16;
/** Programs and maps at once, those given up that an lcore may still use included. */
export const SLOTS_MAX = 512;
/** Maps one program may name; the kernel's MAX_USED_MAPS is 64. */
export const MAPS_MAX = 16;
/** Lcores, the control thread or the host protocols' among them. */
const THREADS_MAX = 66;

const SLOT_BITS = 9;
/** Generations before a slot's begin again: handles stay positive int32 and above every descriptor of a common process. */
const GENERATIONS = 1 << 20;
const UNIT = 64;

const HEADER_WORDS = 128;
const SEEN = 32;

const SLOT_WORDS = 64;
const KIND = 0;
const GENERATION = 1;
const REFERENCES = 2;
const OPEN = 3;
const AT = 4;
const BYTES = 5;
const TYPE = 6;
/** Of a map, the version of the socket table when it was given up: its memory is used anew once every lcore has seen that. */
const GONE_AT = 7;
/** Of programs: bytes of instructions, then of text behind them; what it is charged; maps and their slots. */
const CODE_BYTES = 8;
const TEXT_BYTES = 9;
const CHARGE = 10;
const MAP_COUNT = 11;
const MAPS = 12;
/** Of maps. */
const KEY_SIZE = 8;
const VALUE_SIZE = 9;
const MAX_ENTRIES = 10;
const CPUS = 11;
const NAME_LENGTH = 12;
const NAME = 13;
/** Whether a program has named it, which an lcore may run still. */
const USED = 40;
/** Of programs: how many of the uses are of no record of the socket table. */
const APART = 41;
const NAME_MAX = 15;

const FREE = 0;
const PROGRAM = 1;
const MAP = 2;
const GONE = 3;

export interface StoredProgram {
  readonly type: StoredType;
  /** struct sock_filter or struct bpf_insn, in this machine's order. */
  readonly code: Uint8Array;
  /** The body of a function that returns the program; ASCII. */
  readonly text: string;
  /** Bytes a socket is charged for it (bpf_prog_size), of net.core.optmem_max. */
  readonly charge: number;
  /** Slots of the maps it names. */
  readonly maps: readonly number[];
}

export class BpfStore {
  readonly buffer: SharedArrayBuffer;
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;

  static create(bytes = STORE_BYTES): BpfStore {
    return new BpfStore(new SharedArrayBuffer((HEADER_WORDS + SLOTS_MAX * SLOT_WORDS) * 4 + bytes));
  }

  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer);
    this.bytes = new Uint8Array(buffer);
  }

  /** An lcore has taken over all changes of the socket table up to `version`: it runs no program that was given up before. */
  markSeen(lcore: number, version: number): void {
    Atomics.store(this.words, SEEN + lcore, version + 1);
  }

  /** Puts a program there. Returns its slot, nobody's yet, or -ENOMEM. Mutex held; `version` is the socket table's. */
  addProgram({ type, code, text, charge, maps }: StoredProgram, version: number): number {
    const slot = this.allocate(code.length + text.length, version);
    if (slot < 0) return slot;
    const { words } = this;
    const base = slotBase(slot);
    words[base + KIND] = PROGRAM;
    words[base + TYPE] = type;
    words[base + CODE_BYTES] = code.length;
    words[base + TEXT_BYTES] = text.length;
    words[base + CHARGE] = charge;
    words[base + MAP_COUNT] = maps.length;
    maps.forEach((map, i) => {
      words[base + MAPS + i] = map;
      words[slotBase(map) + USED] = 1;
      this.hold(map);
    });
    const at = words[base + AT];
    this.bytes.set(code, at);
    for (let i = 0; i < text.length; i++) this.bytes[at + code.length + i] = text.charCodeAt(i);
    return slot;
  }

  /** Room for a map of so many bytes, zero. Returns its slot, nobody's yet, or -ENOMEM. Mutex held. */
  addMap(options: Required<SharedMapOptions>, bytes: number, version: number): number {
    const slot = this.allocate(bytes, version);
    if (slot < 0) return slot;
    const { words } = this;
    const base = slotBase(slot);
    words[base + KIND] = MAP;
    words[base + TYPE] = MAP_TYPES.indexOf(options.type);
    words[base + KEY_SIZE] = options.keySize;
    words[base + VALUE_SIZE] = options.valueSize;
    words[base + MAX_ENTRIES] = options.maxEntries;
    words[base + CPUS] = options.cpus;
    const name = options.name.slice(0, NAME_MAX);
    words[base + NAME_LENGTH] = name.length;
    for (let i = 0; i < name.length; i++) words[base + NAME + i] = name.charCodeAt(i);
    const at = words[base + AT];
    this.bytes.fill(0, at, at + bytes);
    return slot;
  }

  /** Opens a handle to what is in the slot. */
  open(slot: number): number {
    this.words[slotBase(slot) + OPEN] = 1;
    this.hold(slot);
    return this.handle(slot);
  }

  handle(slot: number): number {
    return (this.words[slotBase(slot) + GENERATION] << SLOT_BITS) | slot;
  }

  /** Slot of the program with this handle; -EBADF: none is open. */
  programOf(handle: number): number {
    return this.slotOf(handle, PROGRAM);
  }

  mapOf(handle: number): number {
    return this.slotOf(handle, MAP);
  }

  /** Closes a handle of either kind. Returns 0 or -EBADF. Mutex held. */
  close(handle: number, version: number): number {
    const program = this.programOf(handle);
    const slot = program < 0 ? this.mapOf(handle) : program;
    if (slot < 0) return slot;
    this.words[slotBase(slot) + OPEN] = 0;
    this.release(slot, version);
    return 0;
  }

  /** So many of a program's uses more are, or are not, of what is no record of the socket table: of TCP connections. Mutex held. */
  setApart(slot: number, change: 1 | -1): void {
    this.words[slotBase(slot) + APART] += change;
  }

  /** One user more. */
  hold(slot: number): void {
    this.words[slotBase(slot) + REFERENCES]++;
  }

  /**
   * One user less; with the last it is given up, and the maps of a program lose a user. Mutex held. `version` is the socket
   * table's after the change that ended the use.
   */
  release(slot: number, version: number): void {
    const { words } = this;
    const base = slotBase(slot);
    if (--words[base + REFERENCES] > 0) return;
    const isProgram = words[base + KIND] === PROGRAM;
    const maps = isProgram ? words[base + MAP_COUNT] : 0;
    // Lcores run functions of their own, made of a program's text; but the values of maps are the shared ones.
    words[base + KIND] = isProgram || words[base + USED] === 0 ? FREE : GONE;
    words[base + GONE_AT] = version;
    for (let i = 0; i < maps; i++) this.release(words[base + MAPS + i], version);
  }

  generation(slot: number): number {
    return this.words[slotBase(slot) + GENERATION];
  }

  typeOf(slot: number): StoredType {
    return this.words[slotBase(slot) + TYPE] as StoredType;
  }

  chargeOf(slot: number): number {
    return this.words[slotBase(slot) + CHARGE];
  }

  /** A copy of a program's instructions. */
  codeOf(slot: number): Uint8Array {
    const base = slotBase(slot);
    const at = this.words[base + AT];
    return this.bytes.slice(at, at + this.words[base + CODE_BYTES]);
  }

  textOf(slot: number): string {
    const base = slotBase(slot);
    const at = this.words[base + AT] + this.words[base + CODE_BYTES];
    return new TextDecoder().decode(this.bytes.slice(at, at + this.words[base + TEXT_BYTES]));
  }

  mapsOf(slot: number): number[] {
    const base = slotBase(slot);
    return [...this.words.subarray(base + MAPS, base + MAPS + this.words[base + MAP_COUNT])];
  }

  /** What opens the map in this thread; its `fd` is its handle. */
  describe(slot: number): SharedMapDescriptor {
    const { words } = this;
    const base = slotBase(slot);
    const name = words.subarray(base + NAME, base + NAME + words[base + NAME_LENGTH]);
    return {
      type: MAP_TYPES[words[base + TYPE]],
      keySize: words[base + KEY_SIZE],
      valueSize: words[base + VALUE_SIZE],
      maxEntries: words[base + MAX_ENTRIES],
      cpus: words[base + CPUS],
      fd: this.handle(slot),
      name: String.fromCharCode(...name),
      buffer: this.buffer,
      at: words[base + AT],
      bytes: words[base + BYTES],
    };
  }

  /** Whether the map that has, or had, this handle is still there: a program may use it though the handle is closed. */
  hasMap(handle: number): boolean {
    const slot = handle & (SLOTS_MAX - 1);
    return this.words[slotBase(slot) + KIND] === MAP && handle === this.handle(slot);
  }

  /** Takes a socket out of a map of sockets, if that is still there. */
  clearSocket(handle: number, id: number): void {
    if (!this.hasMap(handle)) return;
    const map = openSharedMap(this.describe(handle & (SLOTS_MAX - 1))) as SocketArrayMap;
    for (let i = 0; i < map.maxEntries; i++) if (map.socketAt(i) === id) map.write(i, -1);
  }

  /**
   * After the death of whoever was changing it: counts users anew, and gives up what has none. Mutex held.
   * @param uses by records and groups, by slot
   */
  repair(uses: ReadonlyMap<number, number>, version: number): void {
    const { words } = this;
    const counts = new Int32Array(SLOTS_MAX);
    for (let slot = 0; slot < SLOTS_MAX; slot++) {
      const base = slotBase(slot);
      counts[slot] =
        (uses.get(slot) ?? 0) + words[base + OPEN] + (words[base + KIND] === PROGRAM ? words[base + APART] : 0);
    }
    for (let slot = 0; slot < SLOTS_MAX; slot++) {
      const base = slotBase(slot);
      if (words[base + KIND] !== PROGRAM) continue;
      words[base + REFERENCES] = counts[slot];
      if (counts[slot] === 0) words[base + KIND] = FREE;
      else for (const map of this.mapsOf(slot)) counts[map]++;
    }
    for (let slot = 0; slot < SLOTS_MAX; slot++) {
      const base = slotBase(slot);
      if (words[base + KIND] !== MAP) continue;
      words[base + REFERENCES] = counts[slot];
      if (counts[slot] > 0) continue;
      words[base + KIND] = words[base + USED] === 0 ? FREE : GONE;
      words[base + GONE_AT] = version;
    }
  }

  /** Takes those sockets out of maps of sockets for which `belongs` does not hold. */
  keepSockets(belongs: (handle: number, id: number) => boolean): void {
    for (let slot = 0; slot < SLOTS_MAX; slot++) {
      const base = slotBase(slot);
      if (this.words[base + KIND] !== MAP || MAP_TYPES[this.words[base + TYPE]] !== "reuseport_sockarray") continue;
      const map = openSharedMap(this.describe(slot)) as SocketArrayMap;
      for (let i = 0; i < map.maxEntries; i++) {
        const id = map.socketAt(i);
        if (id >= 0 && !belongs(this.handle(slot), id)) map.write(i, -1);
      }
    }
  }

  /** Whether a socket is in a map of sockets. */
  hasSocket(handle: number, id: number): boolean {
    if (!this.hasMap(handle)) return false;
    const map = openSharedMap(this.describe(handle & (SLOTS_MAX - 1))) as SocketArrayMap;
    for (let i = 0; i < map.maxEntries; i++) if (map.socketAt(i) === id) return true;
    return false;
  }

  private slotOf(handle: number, kind: number): number {
    const slot = handle & (SLOTS_MAX - 1);
    const base = slotBase(slot);
    const { words } = this;
    const isOpen = words[base + KIND] === kind && words[base + OPEN] === 1;
    return isOpen && handle === this.handle(slot) ? slot : -ERRNO.EBADF;
  }

  /** A slot with so many bytes of memory, the first that fit; or -ENOMEM. */
  private allocate(bytes: number, version: number): number {
    this.reclaim(version);
    const { words } = this;
    let slot = 0;
    while (slot < SLOTS_MAX && words[slotBase(slot) + KIND] !== FREE) slot++;
    const size = Math.max(Math.ceil(bytes / UNIT), 1) * UNIT;
    const at = slot === SLOTS_MAX ? -1 : this.firstFit(size);
    if (at < 0) return -ERRNO.ENOMEM;
    const base = slotBase(slot);
    const generation = (words[base + GENERATION] % (GENERATIONS - 2)) + 1;
    words.fill(0, base, base + SLOT_WORDS);
    words[base + GENERATION] = Math.max(generation, 2);
    words[base + AT] = at;
    words[base + BYTES] = size;
    return slot;
  }

  private firstFit(size: number): number {
    const { words } = this;
    const used: [at: number, end: number][] = [];
    for (let slot = 0; slot < SLOTS_MAX; slot++) {
      const base = slotBase(slot);
      if (words[base + KIND] !== FREE) used.push([words[base + AT], words[base + AT] + words[base + BYTES]]);
    }
    used.sort(([a], [b]) => a - b);
    let at = slotBase(SLOTS_MAX) * 4;
    for (const [start, end] of used) {
      if (start - at >= size) return at;
      at = end;
    }
    return this.buffer.byteLength - at >= size ? at : -1;
  }

  /** Frees what was given up before the last change that every lcore has seen. */
  private reclaim(version: number): void {
    const { words } = this;
    let seen = version;
    for (let lcore = 0; lcore < THREADS_MAX; lcore++) {
      const word = Atomics.load(words, SEEN + lcore);
      if (word !== 0 && ((word - 1 - seen) | 0) < 0) seen = word - 1;
    }
    for (let slot = 0; slot < SLOTS_MAX; slot++) {
      const base = slotBase(slot);
      if (words[base + KIND] === GONE && ((seen - words[base + GONE_AT]) | 0) >= 0) words[base + KIND] = FREE;
    }
  }
}

const slotBase = (slot: number): number => HEADER_WORDS + slot * SLOT_WORDS;
