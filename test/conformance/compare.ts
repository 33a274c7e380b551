/** Comparing the traces of one scenario. */
import type { Explanation } from "./explained.ts";

export interface Difference {
  readonly side: string;
  readonly scenario: string;
  /** What the kernel gave, and what the side did; empty where one of them has no such line. */
  readonly kernel: string;
  readonly ours: string;
  /** Why, or null. */
  readonly because: Explanation | null;
}

/** Lines that differ. After a call is missing on one side the rest cannot be told apart, and counts as one difference. */
export function differences(
  side: string,
  scenario: string,
  kernel: readonly string[],
  ours: readonly string[],
  explanations: readonly Explanation[],
): Difference[] {
  const found: Difference[] = [];
  for (let i = 0; i < Math.max(kernel.length, ours.length); i++) {
    const expected = kernel[i] ?? "";
    const got = ours[i] ?? "";
    if (expected === got) continue;
    const because =
      explanations.find(
        (each) =>
          each.sides.includes(side) &&
          each.scenario.test(scenario) &&
          each.kernel.test(expected) &&
          each.ours.test(got),
      ) ?? null;
    found.push({ side, scenario, kernel: expected, ours: got, because });
    if (callOf(expected) !== callOf(got)) break;
  }
  return found;
}

/** "a bind(as1" of a line. */
const callOf = (line: string): string => line.slice(0, line.indexOf("(") + 1);
