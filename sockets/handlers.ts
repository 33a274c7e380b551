/**
 * Handlers of the sockets that an lcore reads, by number: a million sockets are two megabytes to the packet path and not
 * a million objects.
 */
import type { Handler } from "./udp-socket.ts";

/** What a number in `of` can name. */
const HANDLERS_MAX = 65535;

export class Handlers {
  /** Handler number per socket id: 0 for none, for sockets of other threads, and for those with a filter. */
  readonly of: Uint16Array;
  /** Handler number per socket id, whether or not it has a filter. */
  readonly all: Uint16Array;
  private readonly filtered = new Set<number>();
  /** Handlers by number. */
  readonly list: (Handler | null)[] = [null];
  private readonly numbers = new Map<Handler, number>();
  private readonly users: number[] = [0];
  private readonly free: number[] = [];

  constructor(sockets: number) {
    this.of = new Uint16Array(sockets);
    this.all = new Uint16Array(sockets);
  }

  /** Gives a socket a handler, or none. Throws RangeError when the lcore has HANDLERS_MAX different ones. */
  set(socket: number, handler: Handler | null): void {
    this.release(this.all[socket]);
    this.all[socket] = 0;
    this.of[socket] = 0;
    if (handler !== null) this.all[socket] = this.number(handler);
    if (!this.filtered.has(socket)) this.of[socket] = this.all[socket];
  }

  /** Whether a socket has a filter: then its datagrams go to the handler by way of that. */
  setFiltered(socket: number, has: boolean): void {
    if (has) this.filtered.add(socket);
    else this.filtered.delete(socket);
    this.of[socket] = has ? 0 : this.all[socket];
  }

  /** The number of a handler, a new one if no socket has it yet. */
  private number(handler: Handler): number {
    const known = this.numbers.get(handler);
    if (known !== undefined) {
      this.users[known]++;
      return known;
    }
    const number = this.free.pop() ?? this.list.length;
    if (number > HANDLERS_MAX) {
      throw new RangeError(
        `more than ${HANDLERS_MAX} handlers on one lcore: let sockets share a function (d.socketId tells)`,
      );
    }
    this.list[number] = handler;
    this.users[number] = 1;
    this.numbers.set(handler, number);
    return number;
  }

  private release(number: number): void {
    if (number === 0 || --this.users[number] > 0) return;
    this.numbers.delete(this.list[number] as Handler);
    this.list[number] = null;
    this.free.push(number);
  }
}
