/** Forms that many options of TCP sockets have. */
import { ERRNO } from "af-xdp-bindings";
import { type NumberRule, number, type Option, option, readInt } from "./rules.ts";
import type { StreamOption, StreamPart, StreamTarget } from "./stream-target.ts";

const INT_BYTES = 4;

export const streamOption =
  (level: number) =>
  (name: number, label: string, ...parts: StreamPart[]): StreamOption =>
    option(level, name, label, { word: "engine" }, ...parts);

/** Tells the connection, by a number of OPTIONS. */
export const toCore = (core: number): StreamPart => ({
  effect(target, value) {
    target.setCore(core, value);
  },
});

/**
 * What the kernel does and nothing here can: the initial value may be set again, another is refused with EOPNOTSUPP, after the
 * kernel's own checks.
 */
export const asInitial = (rule: NumberRule<StreamTarget> = {}): StreamPart => ({
  ...number(rule),
  set(this: Option<StreamTarget>, target, bytes) {
    const short = this.level === 0 ? (rule.least ?? 0) : (rule.least ?? INT_BYTES);
    if (bytes.length < short) return -ERRNO.EINVAL;
    const given = readInt(bytes, this.level);
    const verdict = rule.check?.(given, target) ?? 0;
    if (verdict < 0) return verdict;
    const value = rule.normal?.(given, target) ?? given;
    return value === this.initial ? 0 : -ERRNO.EOPNOTSUPP;
  },
});

/** On or off: never on. */
export const neverOn: StreamPart = asInitial({ normal: (value) => (value === 0 ? 0 : 1) });

/** Of these levels it may be set by nobody, and told to nobody. */
export const untaken = (set: number, get: number): StreamPart => ({ set: () => -set, get: () => -get });
