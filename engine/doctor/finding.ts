/** What `lcore doctor` has to say: one finding a matter, in words, with the command that mends it. */
import type { Change, ShellLine } from "./change.ts";

/**
 * ok: as it should be. info: a fact to know, nothing to mend. warn: it costs speed, latency or datagrams. fail: the
 * engine cannot run so.
 */
export type Level = "ok" | "info" | "warn" | "fail";

export interface Finding {
  /** Stable: scripts and the document name it. */
  readonly id: string;
  readonly level: Level;
  readonly found: string;
  /** What it costs, or what follows from it; "" where nothing does. */
  readonly cost: string;
  /** What mends it and `lcore tune` applies. */
  readonly changes: readonly Change[];
  /** What mends it by hand. */
  readonly byHand: readonly ShellLine[];
  /** Why no command mends it, "" where one does or nothing is to be mended. */
  readonly noCommand: string;
}

/** How a finding is mended: by changes, by hand, or (a string) not by a command, and why. */
export type Mend = { readonly changes: readonly Change[] } | { readonly byHand: readonly ShellLine[] } | string;

export function ok(id: string, found: string): Finding {
  return { id, level: "ok", found, cost: "", changes: [], byHand: [], noCommand: "" };
}

export function info(id: string, found: string, cost = ""): Finding {
  return { ...ok(id, found), level: "info", cost };
}

export function warn(id: string, found: string, cost: string, mend: Mend): Finding {
  return mended({ ...info(id, found, cost), level: "warn" }, mend);
}

export function fail(id: string, found: string, cost: string, mend: Mend): Finding {
  return mended({ ...info(id, found, cost), level: "fail" }, mend);
}

function mended(finding: Finding, mend: Mend): Finding {
  if (typeof mend === "string") return { ...finding, noCommand: mend };
  return { ...finding, ...mend };
}

/** Shell lines that need no namespace. */
export const onHost = (...lines: string[]): Mend => ({ byHand: lines.map((line) => ({ line, scope: "host" })) });

/** Shell lines for the interface's network namespace. */
export const inNetns = (...lines: string[]): Mend => ({ byHand: lines.map((line) => ({ line, scope: "net" })) });

/** "1 queue", "2 queues". */
export const count = (number: number, noun: string): string =>
  `${number.toLocaleString("en-US")} ${noun}${number === 1 ? "" : "s"}`;

/** "a", "a and b", "a, b and c". */
export function list(words: readonly string[]): string {
  return words.length < 2 ? words.join() : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** Sysctls with their values: "net.core.rmem_max 212992"; those that are the initial namespace's are not seen in others. */
export function sysctlValues(sysctls: Readonly<Record<string, number | null>>, ...names: readonly string[]): string {
  return names.map((name) => `${name} ${sysctls[name] ?? "not seen in this namespace"}`).join(", ");
}
