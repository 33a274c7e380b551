/**
 * When a comparison may end: at looks, whose distances grow with the pairs that are there. Each look may be wrong with a
 * share of the whole error allowed, and the shares add up to 1 (a union bound, so that nothing is assumed about how the
 * looks hang together); the last one, when the time is over, takes what no look before it has had.
 *
 * A clear change is to end as soon as its signs can tell, which is after 10 pairs for a share of 0.4 of 0.25 %, because
 * 2^-10 is 0.1 %. Equal shares would need 12 pairs; a t-test on launches 5, but then a single launch of an unusual kind
 * decides.
 */

/** Pairs at each look: 4/3 of the one before. */
const LOOKS = [6, 10, 13, 17, 23, 31, 41, 55, 73, 97, 130, 173, 231, 308];
/** Shares of the error "different, though the same". None at 6 pairs, which could not show it: 2^-6 is 1.6 %. */
const DIFFERENT = [0, 0.4, 0.2, 0.1, 0.08, 0.06, 0.04, 0.03, 0.02, 0.01];
/** Shares of the error "no worse, though worse by the minimum". */
const SAME = [0.32, 0.2, 0.12, 0.1, 0.07, 0.05, 0.04, 0.03, 0.02, 0.01];
/** Pairs at most. */
export const PAIRS_MAX = 400;

export interface Shares {
  readonly different: number;
  readonly same: number;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/**
 * The shares of the errors that may be spent at `pairs`; null where there is no look.
 *
 * @param last whether no pair will follow
 */
export function sharesAt(pairs: number, last: boolean): Shares | null {
  const look = LOOKS.indexOf(pairs);
  if (last) {
    const before = LOOKS.filter((count) => count < pairs).length;
    return { different: 1 - sum(DIFFERENT.slice(0, before)), same: 1 - sum(SAME.slice(0, before)) };
  }
  return look < 0 ? null : { different: DIFFERENT[look] ?? 0, same: SAME[look] ?? 0 };
}

/** The first look at `pairs` or more. */
export function lookFrom(pairs: number): number {
  return LOOKS.find((look) => look >= pairs) ?? Math.ceil(pairs);
}
