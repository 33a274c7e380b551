/** Directories of a user's own for sockets and state that end with the machine's run. */
import { lstatSync, mkdirSync } from "node:fs";

const MODE = 0o700;

/** Whether a directory is this user's and closed to others: in a shared place someone else may have made it first. */
export function isPrivate(directory: string): boolean {
  try {
    const stat = lstatSync(directory);
    return stat.isDirectory() && stat.uid === process.geteuid?.() && (stat.mode & 0o077) === 0;
  } catch {
    return false;
  }
}

/** Makes a directory where there is none. Whether there is a private one now. */
export function makePrivate(directory: string): boolean {
  try {
    mkdirSync(directory, { mode: MODE });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") return false;
  }
  return isPrivate(directory);
}
