/**
 * What SO_ATTACH_FILTER and its kin do on sockets of the engine, with the kernel's rules and errnos (sk_attach_filter and those
 * beside it in net/core/filter.c, reuseport_attach_prog in net/core/sock_reuseport.c, Linux 6.18). Each returns 0 or -errno.
 *
 * A change holds for whatever arrives after the call: it is in the table's change log before the call returns.
 */
import { check, ERRNO, sys } from "af-xdp-bindings";
import {
  F_FILTER_LOCKED,
  F_LISTEN,
  F_REUSEPORT,
  FAMILY,
  FILTER,
  FLAGS,
  FREE,
  GROUP,
  IPPROTO_TCP,
  OPEN,
  PROTOCOL,
  SOCKARRAY,
  type SocketTable,
  STATE,
} from "../table.ts";
import { classicCharge } from "./charge.ts";
import { decodeClassic, faultOf } from "./classic.ts";
import { classicSource } from "./compile.ts";
import type { SocketArrayMap, SocketRegistry } from "./maps/array-map.ts";
import { openSharedMap } from "./maps/index.ts";
import { CLASSIC, SK_REUSEPORT, SOCKET_FILTER, type StoredProgram } from "./store.ts";

const F_GETFD = 1;

/** A socket, as the one that has a filter: a record of the table, or a TCP socket, whose filter its connection has. */
export interface FilterPlace {
  readonly table: SocketTable;
  /** SO_LOCK_FILTER. */
  readonly isLocked: boolean;
  /** Slot of the filter + 1, 0 for none. */
  readonly filter: number;
  /** Puts another in its place, of which the caller gives a use away; 0: none. Of a record: mutex held. */
  put(filter: number): void;
}

/** The place of a record of the table. */
export const recordPlace = (table: SocketTable, id: number): FilterPlace => ({
  table,
  get isLocked() {
    return isLocked(table, id);
  },
  get filter() {
    return table.get(id, FILTER);
  },
  put(filter) {
    const old = table.get(id, FILTER);
    table.set(id, FILTER, filter);
    table.changed(id);
    table.releaseProgram(old);
  },
});

/** Attaches a classic program, an array of struct sock_filter. `optmem`: net.core.optmem_max, bytes. */
export function attachClassic(table: SocketTable, id: number, code: Uint8Array, optmem: number): number {
  const program = classicProgram(code);
  if (typeof program === "number") return program;
  return attachToRecord(table, id, (place) => chooseClassic(place, program, optmem));
}

/** Attaches the program with a handle. */
export function attachHandle(table: SocketTable, id: number, handle: number, optmem: number): number {
  return attachToRecord(table, id, (place) => chooseHandle(place, handle, optmem));
}

export function detachFilter(table: SocketTable, id: number): number {
  return attachToRecord(table, id, detachable);
}

/** attachClassic(), attachHandle() and detachFilter() of a TCP socket. */
export function attachClassicTo(place: FilterPlace, code: Uint8Array, optmem: number): number {
  const program = classicProgram(code);
  return typeof program === "number" ? program : attachTo(place, () => chooseClassic(place, program, optmem));
}

export function attachHandleTo(place: FilterPlace, handle: number, optmem: number): number {
  return attachTo(place, () => chooseHandle(place, handle, optmem));
}

export function detachFrom(place: FilterPlace): number {
  return attachTo(place, () => detachable(place));
}

/** Attaches a classic program to the socket's reuseport group. */
export function attachGroupClassic(table: SocketTable, id: number, code: Uint8Array, optmem: number): number {
  const program = classicProgram(code);
  return typeof program === "number" ? program : attachToGroup(table, id, () => store(table, program), optmem);
}

export function attachGroupHandle(table: SocketTable, id: number, handle: number, optmem: number): number {
  return attachToGroup(table, id, () => held(table, handle, SOCKET_FILTER, SK_REUSEPORT), optmem);
}

export function detachGroupProgram(table: SocketTable, id: number): number {
  return table.mutex.hold(() => {
    const group = table.get(id, GROUP);
    if (group < 0) return (table.get(id, FLAGS) & F_REUSEPORT) === 0 ? -ERRNO.EINVAL : -ERRNO.ENOENT;
    const old = table.groups.program(group);
    if (old === 0) return -ERRNO.ENOENT;
    table.groups.setProgram(group, 0);
    table.changed(id);
    table.releaseProgram(old);
    return 0;
  });
}

/** SO_LOCK_FILTER. */
export function lockFilter(table: SocketTable, id: number, on: boolean): number {
  return table.mutex.hold(() => {
    if (isLocked(table, id)) return on ? 0 : -ERRNO.EPERM;
    if (on) table.set(id, FLAGS, table.get(id, FLAGS) | F_FILTER_LOCKED);
    return 0;
  });
}

export const isLocked = (table: SocketTable, id: number): boolean => (table.get(id, FLAGS) & F_FILTER_LOCKED) !== 0;

/** Bytes of optmem_max that a socket's filter takes. */
export function filterCharge({ filter, table }: FilterPlace): number {
  return filter === 0 ? 0 : table.bpf.chargeOf(filter - 1);
}

/** SO_GET_FILTER: the classic program that is attached; empty for none, -EACCES where it is an extended one. */
export function filterOf(place: FilterPlace): Uint8Array | number {
  const { table } = place;
  return table.mutex.hold(() => {
    const { filter } = place;
    if (filter === 0) return new Uint8Array(0);
    return table.bpf.typeOf(filter - 1) === CLASSIC ? table.bpf.codeOf(filter - 1) : -ERRNO.EACCES;
  });
}

/** A flow has its parent's filter, as a socket from accept(2) has that of the listening one. Mutex held. */
export function inheritFilter(table: SocketTable, parent: number, child: number): void {
  const filter = table.get(parent, FILTER);
  table.set(child, FILTER, filter);
  if (filter !== 0) table.bpf.hold(filter - 1);
}

/** Which sockets a map of sockets takes, and may give (kernel/bpf/reuseport_array.c; bpf_sk_select_reuseport). */
export const registryOf = (table: SocketTable): SocketRegistry => ({
  place(handle, index, id) {
    check(
      table.mutex.hold(() => place(table, handle, index, id)),
      `map update of index ${index}`,
      {
        EBADF: "the map is gone",
        EBUSY: "a socket is in one place of one map at most",
        EINVAL: "the socket is of no reuseport group: open it with reusePort",
        ENOENT: "there is no socket there",
      },
    );
  },
  mismatch(id, group) {
    const other = table.get(id, GROUP);
    // What closes leaves the map before.
    if (other === group) return 0;
    if (table.get(id, STATE) === FREE || other < 0) return -ERRNO.ENOENT;
    const member = table.groups.member(group, 0);
    if (table.get(member, PROTOCOL) !== table.get(id, PROTOCOL)) return -ERRNO.EPROTOTYPE;
    return table.get(member, FAMILY) === table.get(id, FAMILY) ? -ERRNO.EBADFD : -ERRNO.EAFNOSUPPORT;
  },
});

function place(table: SocketTable, handle: number, index: number, id: number): number {
  const { bpf } = table;
  const slot = bpf.mapOf(handle);
  if (slot < 0) return slot;
  const map = openSharedMap(bpf.describe(slot)) as SocketArrayMap;
  const before = map.socketAt(index);
  if (id < 0) {
    if (before < 0) return -ERRNO.ENOENT;
  } else {
    const state = table.get(id, STATE);
    if (state === FREE || !isHashed(table, id) || table.get(id, GROUP) < 0) return -ERRNO.EINVAL;
    if (bpf.hasMap(table.get(id, SOCKARRAY))) return -ERRNO.EBUSY;
    table.set(id, SOCKARRAY, handle);
  }
  if (before >= 0) table.set(before, SOCKARRAY, 0);
  map.write(index, id);
  return 0;
}

/** A classic program, checked and compiled; or -EINVAL. */
function classicProgram(code: Uint8Array): StoredProgram | number {
  const program = decodeClassic(code);
  if (faultOf(program) !== null) return -ERRNO.EINVAL;
  const charge = classicCharge(program);
  if (charge < 0) return -ERRNO.EINVAL;
  return { type: CLASSIC, code, text: classicSource(program), charge, maps: [] };
}

/** Slot of a program just stored, with one user; or -ENOMEM. */
function store(table: SocketTable, program: StoredProgram): number {
  const slot = table.bpf.addProgram(program, table.version());
  if (slot >= 0) table.bpf.hold(slot);
  return slot;
}

/** Slot of the program with a handle, with one user more; or -EBADF, or -EINVAL where it is of another type. */
function held(table: SocketTable, handle: number, ...types: number[]): number {
  const slot = table.bpf.programOf(handle);
  // A map, or a descriptor of whatever else: there is something, but no program to be run here (bpf_prog_get).
  if (slot < 0) return table.bpf.mapOf(handle) >= 0 || isDescriptor(handle) ? -ERRNO.EINVAL : slot;
  if (!types.includes(table.bpf.typeOf(slot))) return -ERRNO.EINVAL;
  table.bpf.hold(slot);
  return slot;
}

/** Whether it is where look-ups find it (sk_hashed): a bound socket, of TCP one that listens. */
const isHashed = (table: SocketTable, id: number): boolean =>
  table.get(id, PROTOCOL) === IPPROTO_TCP ? (table.get(id, FLAGS) & F_LISTEN) !== 0 : table.get(id, STATE) !== OPEN;

const isDescriptor = (fd: number): boolean => sys.sys3(sys.SYS.fcntl, fd, F_GETFD, 0) >= 0;

function attachToRecord(table: SocketTable, id: number, choose: (place: FilterPlace) => number): number {
  return table.mutex.hold(() => {
    const place = recordPlace(table, id);
    const filter = choose(place);
    if (filter >= 0) place.put(filter);
    return Math.min(filter, 0);
  });
}

function attachTo(place: FilterPlace, choose: () => number): number {
  const { bpf, mutex } = place.table;
  const filter = mutex.hold(() => {
    const chosen = choose();
    if (chosen > 0) bpf.setApart(chosen - 1, 1);
    return chosen;
  });
  if (filter >= 0) place.put(filter);
  return Math.min(filter, 0);
}

function chooseClassic(place: FilterPlace, program: StoredProgram, optmem: number): number {
  return place.isLocked ? -ERRNO.EPERM : charged(place, store(place.table, program), optmem);
}

function chooseHandle(place: FilterPlace, handle: number, optmem: number): number {
  return place.isLocked ? -ERRNO.EPERM : charged(place, held(place.table, handle, SOCKET_FILTER), optmem);
}

/** 0, where there is something to detach; or -errno. */
function detachable({ filter, isLocked }: FilterPlace): number {
  if (isLocked) return -ERRNO.EPERM;
  return filter === 0 ? -ERRNO.ENOENT : 0;
}

/** The filter that a slot is, a use of which is the caller's, where optmem_max allows for it. Mutex held. */
function charged(place: FilterPlace, slot: number, optmem: number): number {
  if (slot < 0) return slot;
  const { table } = place;
  const charge = table.bpf.chargeOf(slot);
  // The one before is charged until the new one is there (__sk_attach_prog).
  if (charge <= optmem && filterCharge(place) + charge < optmem) return slot + 1;
  table.releaseProgram(slot + 1);
  return -ERRNO.ENOMEM;
}

/**
 * What is not bound yet, or of TCP does not listen yet, may have a program for the group that it will be in
 * (reuseport_attach_prog). Returns 0 or -errno.
 */
function haveGroup(table: SocketTable, id: number): number {
  const has = table.get(id, GROUP) >= 0;
  if (isHashed(table, id) ? !has : (table.get(id, FLAGS) & F_REUSEPORT) === 0) return -ERRNO.EINVAL;
  if (has) return 0;
  return table.beginGroupLocked(id) < 0 ? -ERRNO.ENOMEM : 0;
}

function attachToGroup(table: SocketTable, id: number, take: () => number, optmem: number): number {
  return table.mutex.hold(() => {
    if (isLocked(table, id)) return -ERRNO.EPERM;
    const slot = take();
    if (slot < 0) return slot;
    const { bpf } = table;
    const isLarge = bpf.typeOf(slot) !== SK_REUSEPORT && bpf.chargeOf(slot) > optmem;
    const fault = isLarge ? -ERRNO.ENOMEM : haveGroup(table, id);
    if (fault < 0) {
      table.releaseProgram(slot + 1);
      return fault;
    }
    const group = table.get(id, GROUP);
    const old = table.groups.program(group);
    table.groups.setProgram(group, slot + 1);
    table.changed(id);
    table.releaseProgram(old);
    return 0;
  });
}
