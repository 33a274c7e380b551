/**
 * The BPF link that keeps the steering program on its interface, as a word of the engine's state: its descriptor, 0
 * before the first, -1 after the last. The starting thread puts the first there and takes the last; between, the thread
 * that looks after the program may change it. Whoever takes a descriptor out closes it.
 */
import { type Link, sys } from "af-xdp-bindings";
import { LINK_WORD } from "./wiring.ts";

const ENDED = -1;

/** The descriptor, or 0 or below where there is none. */
export const linkFd = (state: Int32Array): number => Atomics.load(state, LINK_WORD);

/** Puts a link in the place of the one whose descriptor is `before` (0: the first). Closes it where that has changed. */
export function putLink(state: Int32Array, before: number, link: Link): void {
  const was = Atomics.compareExchange(state, LINK_WORD, before, link.fd);
  if (was !== before) link.close();
  else if (before > 0) sys.close(before);
}

/** Detaches the program for good. */
export function endLink(state: Int32Array): void {
  const fd = Atomics.exchange(state, LINK_WORD, ENDED);
  if (fd > 0) sys.close(fd);
}
