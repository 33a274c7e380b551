/**
 * What the socket table makes of its records when a thread has died in the middle of a change: all that follows from them is
 * made anew. The record that it was changing is left as one of its sockets, which is closed as the others are.
 *
 * Each change writes its words in an order that lets this be told: a socket is in its port's chain before its state says that
 * it is bound, and out of it before it is free; it is in its group's list before the record names the group.
 */
import type { SocketTable } from "./table.ts";
import {
  BOUND,
  F_CHILD,
  FAMILY,
  FILTER,
  FLAGS,
  FREE,
  GROUP,
  LOCAL_PORT,
  NEXT,
  OPEN,
  ORDER,
  PLACEHOLDER,
  PROTOCOL,
  SOCKARRAY,
  STATE,
} from "./table-fields.ts";

/** First free record, and how many are not. */
interface Repaired {
  readonly free: number;
  readonly open: number;
}

/**
 * @param heads of the chains of ports
 * @param headOf which of them is a port's
 */
export function repairTable(
  table: SocketTable,
  heads: Int32Array,
  headOf: (protocol: number, port: number) => number,
): Repaired {
  const isOpen = (id: number): boolean => table.get(id, STATE) !== FREE;
  const groupOf = table.groups.repair((id) => id < table.highWater && isOpen(id));
  for (let id = 0; id < table.highWater; id++) if (!isOpen(id) && hasPlaceholder(table, id)) table.set(id, STATE, OPEN);
  let free = -1;
  let open = 0;
  const chains = new Chains(table, heads, headOf);
  chains.mend();
  for (let id = table.highWater - 1; id >= 0; id--) {
    if (isOpen(id)) {
      open++;
      table.set(id, GROUP, groupOf.get(id) ?? -1);
      continue;
    }
    table.set(id, GROUP, -1);
    table.set(id, FILTER, 0);
    table.set(id, SOCKARRAY, 0);
    table.set(id, NEXT, free);
    free = id;
  }
  repairPrograms(table);
  return { free, open };
}

/** Of a free record: it was being closed, and its placeholder was not given up. As one of its thread's sockets it is closed again. */
function hasPlaceholder(table: SocketTable, id: number): boolean {
  return table.get(id, FAMILY) !== 0 && (table.get(id, FLAGS) & F_CHILD) === 0 && table.get(id, PLACEHOLDER) >= 0;
}

/** Who uses which program, and which sockets are in maps of sockets. */
function repairPrograms(table: SocketTable): void {
  const uses = new Map<number, number>();
  const use = (program: number): void => {
    if (program > 0) uses.set(program - 1, (uses.get(program - 1) ?? 0) + 1);
  };
  for (let id = 0; id < table.highWater; id++) use(table.get(id, FILTER));
  table.groups.eachProgram(use);
  table.bpf.repair(uses, table.version());
  table.bpf.keepSockets((handle, id) => table.get(id, SOCKARRAY) === handle);
  for (let id = 0; id < table.highWater; id++) {
    const handle = table.get(id, SOCKARRAY);
    if (handle !== 0 && !table.bpf.hasSocket(handle, id)) table.set(id, SOCKARRAY, 0);
  }
}

/** The chains of sockets bound to a port each. */
class Chains {
  private readonly table: SocketTable;
  private readonly heads: Int32Array;
  private readonly headOf: (protocol: number, port: number) => number;
  private readonly isLinked: Uint8Array;

  constructor(table: SocketTable, heads: Int32Array, headOf: (protocol: number, port: number) => number) {
    this.table = table;
    this.heads = heads;
    this.headOf = headOf;
    this.isLinked = new Uint8Array(table.highWater);
  }

  /** Takes out who does not belong there, and puts in who is missing, where a socket that is bound now would come. */
  mend(): void {
    const { heads, table } = this;
    for (let head = 0; head < heads.length; head++) if (heads[head] >= 0) this.mendOne(head);
    const missing: number[] = [];
    for (let id = 0; id < table.highWater; id++) if (this.isBound(id) && this.isLinked[id] === 0) missing.push(id);
    missing.sort((a, b) => Math.abs(table.get(a, ORDER)) - Math.abs(table.get(b, ORDER)));
    for (const id of missing) this.put(id);
  }

  private mendOne(head: number): void {
    const { heads, isLinked, table } = this;
    const members: number[] = [];
    const met = new Set<number>();
    for (let id = heads[head]; id >= 0 && id < table.highWater && !met.has(id); id = table.get(id, NEXT)) {
      met.add(id);
      if (!this.isBound(id) || this.headAt(id) !== head || isLinked[id] === 1) continue;
      isLinked[id] = 1;
      members.push(id);
    }
    this.write(head, members);
  }

  private put(id: number): void {
    const { heads, table } = this;
    const head = this.headAt(id);
    const members: number[] = [];
    for (let at = heads[head]; at >= 0; at = table.get(at, NEXT)) members.push(at);
    if (table.get(id, ORDER) < 0) members.push(id);
    else members.unshift(id);
    this.write(head, members);
  }

  private write(head: number, members: readonly number[]): void {
    this.heads[head] = members[0] ?? -1;
    for (let i = 0; i < members.length; i++) this.table.set(members[i], NEXT, members[i + 1] ?? -1);
  }

  private headAt(id: number): number {
    return this.headOf(this.table.get(id, PROTOCOL), this.table.get(id, LOCAL_PORT));
  }

  private isBound(id: number): boolean {
    const { table } = this;
    const isOwn = (table.get(id, FLAGS) & F_CHILD) === 0;
    return isOwn && table.get(id, STATE) >= BOUND && table.get(id, LOCAL_PORT) !== 0;
  }
}
