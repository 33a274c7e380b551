/**
 * How long scenarios wait for what nobody is told of: some milliseconds, which a loaded machine may need for something else.
 * A scenario that gives a difference is played again with more patience, and counts as it is then.
 */
let times = 1;

/** Plays with `factor` times the patience. */
export function patiently<T>(factor: number, play: () => T): T {
  times = factor;
  try {
    return play();
  } finally {
    times = 1;
  }
}

/** Waits `ms` milliseconds, times the patience. */
export function pauseFor(ms: number): void {
  Bun.sleepSync(ms * times);
}
