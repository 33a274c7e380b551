/** Ephemeral ports (RFC 6056, section 3.3.4): from a place that only who knows the secret can tell, one after another. */
import { ERRNO } from "af-xdp-bindings";
import type { PortSource, Tcp } from "./core.ts";
import { HASH_PORT, hashFlow } from "./isn.ts";
import { finish } from "./states.ts";
import { F_ORPHAN, F_TS, FLAGS, PORTS, STATE, TIME_WAIT, TS_RECENT_MS } from "./tcb.ts";

/** TIME_WAIT gives its port to a new connection after this time, ms (tcp_twsk_unique). */
const REUSE_MS = 1000;
/** Ports that are looked at before others are asked for, and how many of those. */
const TRIES = 64;

/** Every port of a range is there to be had. */
export class PortRange implements PortSource {
  readonly count: number;
  private readonly first: number;

  /** Both included. */
  constructor(first: number, last: number) {
    this.first = first;
    this.count = last - first + 1;
  }

  at(number: number): number {
    return this.first + number;
  }

  /** One that a listener has is left to it. */
  suits(t: Tcp, c: number, _must: boolean): boolean {
    return t.chooser.find(t, c) === null;
  }

  more(): boolean {
    return false;
  }
}

/** Gives record `c`, whose remote end is set, a port of its own. 0, or -EADDRNOTAVAIL. */
export function choosePort(t: Tcp, c: number): number {
  if (tryPorts(t, c, false) || tryPorts(t, c, true)) return 0;
  t.w[c + PORTS] &= 0xffff;
  return -ERRNO.EADDRNOTAVAIL;
}

function tryPorts(t: Tcp, c: number, must: boolean): boolean {
  const { ports, w } = t;
  w[c + PORTS] &= 0xffff;
  const start = (hashFlow(t, c, HASH_PORT, 0, 0) >>> 0) + t.portSteps;
  // One more is sooner had than one that is free found among very many.
  const count = ports.count;
  const tries = must ? count : Math.min(count, TRIES);
  for (let i = 0; i < tries; i++) {
    if (!takePort(t, c, ports.at((start + i) % count), must)) continue;
    t.portSteps += i + 1;
    return true;
  }
  for (let i = 0; i < TRIES && ports.more(); i++) if (takePort(t, c, ports.at(ports.count - 1), must)) return true;
  return false;
}

function takePort(t: Tcp, c: number, port: number, must: boolean): boolean {
  const { w } = t;
  w[c + PORTS] = (port << 16) | (w[c + PORTS] & 0xffff);
  if (!t.ports.suits(t, c, must)) return false;
  const other = t.findLike(c);
  return other < 0 || mayTake(t, other);
}

/** Ends a TIME_WAIT whose timestamps tell its segments from the new connection's. False: the port is in use. */
function mayTake(t: Tcp, c: number): boolean {
  const { w } = t;
  if (!t.config.timeWaitReuse || w[c + STATE] !== TIME_WAIT) return false;
  if ((w[c + FLAGS] & (F_TS | F_ORPHAN)) !== (F_TS | F_ORPHAN)) return false;
  if (((t.ms - w[c + TS_RECENT_MS]) | 0) <= REUSE_MS) return false;
  finish(t, c, 0);
  return true;
}
