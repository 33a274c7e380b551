/** Ephemeral ports (RFC 6056, section 3.3.4): from a place that only who knows the secret can tell, one after another. */
import { ERRNO } from "af-xdp-bindings";
import type { Tcp } from "./core.ts";
import { HASH_PORT, hashFlow } from "./isn.ts";
import { finish } from "./states.ts";
import { F_ORPHAN, F_TS, FLAGS, PORTS, STATE, TIME_WAIT, TS_RECENT_MS } from "./tcb.ts";

/** TIME_WAIT gives its port to a new connection after this time, ms (tcp_twsk_unique). */
const REUSE_MS = 1000;

/** Gives record `c`, whose remote end is set, a port of its own. 0, or -EADDRNOTAVAIL. */
export function choosePort(t: Tcp, c: number): number {
  const { w, config } = t;
  const range = config.portLast - config.portFirst + 1;
  w[c + PORTS] &= 0xffff;
  const start = (hashFlow(t, c, HASH_PORT, 0, 0) >>> 0) + t.portSteps;
  for (let i = 0; i < range; i++) {
    const port = config.portFirst + ((start + i) % range);
    // One that a listener has is left to it.
    if (t.listenersAt[port] >= 0) continue;
    w[c + PORTS] = (port << 16) | (w[c + PORTS] & 0xffff);
    const other = t.findLike(c);
    if (other >= 0 && !mayTake(t, other)) continue;
    t.portSteps += i + 1;
    return 0;
  }
  w[c + PORTS] &= 0xffff;
  return -ERRNO.EADDRNOTAVAIL;
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
