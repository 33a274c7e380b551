/** Which TCP is an engine's: what is not on its interface is the kernel's from its first segment on. */
import { addressWords, type Fib } from "../sockets/fib.ts";
import { ip } from "../sockets/wire/address.ts";

const LOOPBACK_NET = 127;

/** Whether a listener on the address hears what arrives on the interface: the wildcards, and its own addresses. */
export function canListen(fib: Fib, ifindex: number, address: string): boolean {
  const words = wordsOf(fib, address);
  return words !== null && (isWildcard(words) || fib.interfaceOf(words[0], words[1], words[2], words[3]) === ifindex);
}

/** Whether the way to an address leads over the interface. To this host's own, whosever interface they are of, none does. */
export function canConnect(fib: Fib, ifindex: number, address: string): boolean {
  const words = wordsOf(fib, address);
  if (words === null || isWildcard(words) || isLoopback(words)) return false;
  const [w0, w1, w2, w3] = words;
  const route = fib.isLocal(w0, w1, w2, w3) ? -1 : fib.findRoute(w0, w1, w2, w3);
  return route >= 0 && fib.route[route + 5] === ifindex;
}

/** Null for one that is of a zone: link-local addresses are the kernel's. */
function wordsOf(fib: Fib, address: string): Int32Array | null {
  if (address.includes("%")) return null;
  if (fib.isStale()) fib.refresh();
  return addressWords(ip(address));
}

const isMapped = (words: Int32Array): boolean => words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
const isZero = (words: Int32Array): boolean => words[0] === 0 && words[1] === 0 && words[2] === 0;
const isWildcard = (words: Int32Array): boolean => words[3] === 0 && (isZero(words) || isMapped(words));
const isLoopback = (words: Int32Array): boolean =>
  isMapped(words) ? words[3] >>> 24 === LOOPBACK_NET : isZero(words) && words[3] === 1;
