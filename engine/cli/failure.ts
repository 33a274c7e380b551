/** How commands end: exit status, and one line that says what to do. */

/** Bad arguments. */
export const EXIT_USAGE = 2;
/** The command could not do what it was asked to. */
export const EXIT_FAILURE = 1;
/** Interrupted before it was done: 128 + SIGINT, as shells have it. */
export const EXIT_INTERRUPTED = 130;

/** A failure whose message is written for the user. */
export class CliError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode = EXIT_FAILURE) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Exit status of an error. RangeErrors are what the engine says of options that it cannot take. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CliError) return error.exitCode;
  return error instanceof RangeError ? EXIT_USAGE : EXIT_FAILURE;
}

/** Characters of a line at most. The verifier's log of a program would fill pages. */
const LINE_MAX = 500;

/** An error's message on one line. What is too long loses its middle: the call stands first, the advice last. */
export function oneLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const line = message.trim().replace(/\s*\n\s*/g, " ");
  if (line.length <= LINE_MAX) return line;
  return `${line.slice(0, LINE_MAX / 2)} … ${line.slice(-LINE_MAX / 2)}`;
}
