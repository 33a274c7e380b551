/** Circular doubly linked lists through numbered things, each in at most one list at a time. */

const NOWHERE = -1;

export class IdLists {
  private readonly ids: number;
  /** Of the things and, from `ids` on, of the lists' heads. */
  private readonly next: Int32Array;
  private readonly previous: Int32Array;

  /** @param ids things are 0..ids - 1, lists 0..lists - 1, all empty */
  constructor(ids: number, lists: number) {
    this.ids = ids;
    this.next = new Int32Array(ids + lists).fill(NOWHERE);
    this.previous = new Int32Array(ids + lists).fill(NOWHERE);
    for (let head = ids; head < ids + lists; head++) {
      this.next[head] = head;
      this.previous[head] = head;
    }
  }

  /** The first of a list, or -1. */
  first(list: number): number {
    return this.or(this.next[this.ids + list]);
  }

  /** The one after `id` in its list, or -1. */
  after(id: number): number {
    return this.or(this.next[id]);
  }

  /** Puts `id`, which is in no list, at the end of one. */
  append(list: number, id: number): void {
    const head = this.ids + list;
    const last = this.previous[head];
    this.next[last] = id;
    this.previous[id] = last;
    this.next[id] = head;
    this.previous[head] = id;
  }

  /** Takes `id` out of the list it is in. */
  remove(id: number): void {
    this.next[this.previous[id]] = this.next[id];
    this.previous[this.next[id]] = this.previous[id];
    this.next[id] = NOWHERE;
  }

  private or(id: number): number {
    return id < this.ids ? id : NOWHERE;
  }
}
