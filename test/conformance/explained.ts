/** Differences from the kernel that have a reason. A reason that no difference needs any more fails the run. */

export interface Explanation {
  /** Sides it holds for. */
  readonly sides: readonly string[];
  readonly scenario: RegExp;
  /** The kernel's line and ours. */
  readonly kernel: RegExp;
  readonly ours: RegExp;
  /** As it stands in docs/socket7.md. */
  readonly reason: string;
}

export const EXPLAINED: readonly Explanation[] = [
  {
    sides: ["kernel files"],
    scenario: /: a queued signal$/,
    kernel: /^signals: .*true/,
    ours: /^signals: .*false/,
    reason: "signals for a descriptor of the kernel come from the kernel, and name the kernel's descriptor",
  },
];
