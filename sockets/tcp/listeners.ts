/** Listeners of a Tcp that nobody else chooses for: by port, one of the segment's address before one that takes all. */
import { ERRNO } from "af-xdp-bindings";
import type { ListenerChooser, Tcp } from "./core.ts";
import type { Listener } from "./listen.ts";
import { F_V6, FLAGS, LOCAL, PORTS } from "./tcb.ts";

export class ListenersByPort implements ListenerChooser {
  private readonly byPort = new Map<number, Listener[]>();

  add(t: Tcp, listener: Listener): number {
    const others = this.byPort.get(listener.port) ?? [];
    if (others.some((other) => collide(t, other, listener))) return -ERRNO.EADDRINUSE;
    // The latest is looked at first.
    this.byPort.set(listener.port, [listener, ...others]);
    return 0;
  }

  remove(_t: Tcp, listener: Listener): void {
    const left = (this.byPort.get(listener.port) ?? []).filter((other) => other !== listener);
    if (left.length === 0) this.byPort.delete(listener.port);
    else this.byPort.set(listener.port, left);
  }

  find(t: Tcp, c: number): Listener | null {
    const { w } = t;
    const there = this.byPort.get(w[c + PORTS] >>> 16);
    if (there === undefined) return null;
    const v6 = (w[c + FLAGS] & F_V6) !== 0;
    let best: Listener | null = null;
    for (const listener of there) {
      if (listener.v6 === v6) {
        if (listener.any) best = listener;
        else if (sameAddress(w, listener.c, c)) return listener;
      } else if (listener.v6 && listener.any && !listener.v6only && best === null) best = listener;
    }
    return best;
  }
}

function collide(t: Tcp, a: Listener, b: Listener): boolean {
  if (a.v6 !== b.v6) return takesBoth(a) || takesBoth(b);
  return a.any || b.any ? a.any === b.any : sameAddress(t.w, a.c, b.c);
}

const takesBoth = (listener: Listener): boolean => listener.v6 && listener.any && !listener.v6only;

function sameAddress(w: Int32Array, a: number, b: number): boolean {
  for (let i = 0; i < 4; i++) if (w[a + LOCAL + i] !== w[b + LOCAL + i]) return false;
  return true;
}
