/**
 * SO_REUSEPORT groups in shared memory: members in the order of bind, and the program that chooses among them. Written with the
 * socket table's mutex held; lcores read single words without it.
 */
import { ERRNO } from "af-xdp-bindings";

/** Reuseport groups, and members a group. Linux allows 65,535 members; ours is bounded by memory set aside at start. */
export const GROUPS_MAX = 1024;
export const GROUP_MEMBERS_MAX = 256;
const GROUP_WORDS = GROUP_MEMBERS_MAX + 16;
const COUNT = 0;
/** Members that ask for a CPU or a NAPI ID, or are connected, and one for a program: while 0, the hash alone decides. */
const PREFERENCES = 1;
/** SO_ATTACH_REUSEPORT_CBPF, _EBPF: slot of the program + 1, 0 for none. */
const PROGRAM = 2;
const MEMBERS = 16;

/** Words that the groups take. */
export const REUSEPORT_WORDS = GROUPS_MAX * GROUP_WORDS;

export class ReuseportGroups {
  private readonly words: Int32Array;

  constructor(words: Int32Array) {
    this.words = words;
  }

  /** Members of a group, and the member with an index. */
  count(group: number): number {
    return this.words[group * GROUP_WORDS + COUNT];
  }

  member(group: number, index: number): number {
    return this.words[group * GROUP_WORDS + MEMBERS + index];
  }

  /** True while no member of the group asks for a CPU or NAPI ID, or is connected, and it has no program. */
  isPlain(group: number): boolean {
    return this.words[group * GROUP_WORDS + PREFERENCES] === 0;
  }

  /** Slot + 1 of the group's program, 0 for none. */
  program(group: number): number {
    return this.words[group * GROUP_WORDS + PROGRAM];
  }

  /** The caller logs the change. */
  setProgram(group: number, program: number): void {
    this.words[group * GROUP_WORDS + PROGRAM] = program;
  }

  /** Counts those for whom `prefers` holds. */
  countPreferences(group: number, prefers: (id: number) => boolean): void {
    let count = this.program(group) === 0 ? 0 : 1;
    for (let i = 0; i < this.count(group); i++) if (prefers(this.member(group, i))) count++;
    this.words[group * GROUP_WORDS + PREFERENCES] = count;
  }

  /** A group without members, -ENOSPC when all have some. */
  allocate(): number {
    for (let group = 0; group < GROUPS_MAX; group++) if (this.count(group) === 0) return group;
    return -ERRNO.ENOSPC;
  }

  /** Adds a member at the end. Returns 0 or -ENOSPC. */
  add(group: number, id: number): number {
    const count = this.count(group);
    if (count === GROUP_MEMBERS_MAX) return -ERRNO.ENOSPC;
    const base = group * GROUP_WORDS;
    this.words[base + MEMBERS + count] = id;
    this.words[base + COUNT] = count + 1;
    return 0;
  }

  /**
   * Takes a member out; the last moves into the hole, as socket(7) says. Returns the slot + 1 of a program that nobody is left
   * to use, else 0.
   */
  remove(group: number, id: number): number {
    const { words } = this;
    const base = group * GROUP_WORDS;
    const last = this.count(group) - 1;
    for (let i = 0; i <= last; i++) {
      if (words[base + MEMBERS + i] !== id) continue;
      words[base + MEMBERS + i] = words[base + MEMBERS + last];
      words[base + COUNT] = last;
      break;
    }
    if (last > 0) return 0;
    const program = this.program(group);
    words[base + PROGRAM] = 0;
    return program;
  }

  /** Calls `visit` with the slot + 1 of each group's program. */
  eachProgram(visit: (program: number) => void): void {
    for (let group = 0; group < GROUPS_MAX; group++) if (this.program(group) !== 0) visit(this.program(group));
  }

  /**
   * After the death of whoever was changing a group: leaves each socket for which `isOpen` holds in one place of one group.
   * Returns the groups by socket.
   */
  repair(isOpen: (id: number) => boolean): Map<number, number> {
    const groupOf = new Map<number, number>();
    for (let group = 0; group < GROUPS_MAX; group++) {
      const base = group * GROUP_WORDS;
      const count = this.count(group);
      let kept = 0;
      for (let i = 0; i < count; i++) {
        const id = this.member(group, i);
        if (!isOpen(id) || groupOf.has(id)) continue;
        groupOf.set(id, group);
        this.words[base + MEMBERS + kept++] = id;
      }
      this.words[base + COUNT] = kept;
      if (kept === 0) this.words[base + PROGRAM] = 0;
    }
    return groupOf;
  }
}
