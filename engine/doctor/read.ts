/** Reading what may not be there: files of /proc and /sys, and calls that a kernel or driver may not know. */
import { readdirSync, readFileSync } from "node:fs";
import { SysError } from "af-xdp-bindings";
import { parseCpuList } from "../host/cpu-list.ts";
import type { Outcome } from "./facts.ts";

/** A file's text without the last newline, or null where it cannot be read. */
export function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trimEnd();
  } catch {
    return null;
  }
}

/** A file's number, or null where there is none. */
export function readNumber(path: string): number | null {
  const text = readText(path);
  return text === null || text === "" || Number.isNaN(Number(text)) ? null : Number(text);
}

/** A file's CPU list; empty where there is none. */
export function readCpus(path: string): number[] {
  try {
    return parseCpuList(readText(path) ?? "");
  } catch {
    // Some files say "(null)" for no CPU.
    return [];
  }
}

/** Names in a directory; none where it cannot be read. */
export function readNames(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** What `read` returns, or `missing` where the kernel, the driver or a permission refuses it. */
export function readable<T, M>(read: () => T, missing: M): T | M {
  try {
    return read();
  } catch (error) {
    if (error instanceof SysError || (error as NodeJS.ErrnoException).code !== undefined) return missing;
    throw error;
  }
}

/** Tries something that the kernel may refuse. What it throws otherwise is a bug and passes through. */
export function attempt(act: () => void): Outcome {
  try {
    act();
    return { state: "works" };
  } catch (error) {
    if (error instanceof SysError) return { state: "refused", code: error.code, message: error.message };
    throw error;
  }
}

export const untried = (why: string): Outcome => ({ state: "untried", why });
