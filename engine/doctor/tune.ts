/** Applying what mends findings, and taking it back. */
import { SysError } from "af-xdp-bindings";
import type { Change, Target, Value } from "./change.ts";
import type { Finding } from "./finding.ts";
import { same } from "./hands.ts";
import type { Entry, StateFile } from "./tune-state.ts";

/** What reads and sets values: settings.ts on a host, made up in tests. Both throw SysError. */
export interface Settings {
  read(target: Target, like: Value): Value;
  write(target: Target, value: Value): void;
}

/** A change, and the finding that it mends. */
export interface Planned {
  readonly change: Change;
  readonly finding: string;
}

export type Result =
  /** As it was to be, now. */
  | "done"
  /** It was so before. */
  | "already"
  /** It could not be set, or not to this value: `detail` has why. */
  | "failed"
  /** Somebody else has changed it since: left alone. */
  | "foreign";

export interface Step {
  readonly target: Target;
  /** What it is set to. */
  readonly value: Value;
  readonly finding: string;
  readonly result: Result;
  /** What was there before; of a failure, why. */
  readonly detail: string;
}

/** What resets a device comes before what the reset would undo. */
const ORDER: readonly Target["kind"][] = ["channels", "rings", "features", "hash", "setting", "irq", "cpu", "sysctl"];

/** The changes that mend findings of level warn and fail, each target once, in the order of application. */
export function planOf(findings: readonly Finding[]): Planned[] {
  const planned = new Map<string, Planned>();
  for (const { id, changes } of findings) {
    for (const change of changes) planned.set(JSON.stringify(change.target), { change, finding: id });
  }
  const rank = ({ change }: Planned): number => ORDER.indexOf(change.target.kind);
  return [...planned.values()].sort((a, b) => rank(a) - rank(b));
}

/** Makes the changes; one that fails does not keep the others from being made. `tell` hears of each. */
export function apply(
  planned: readonly Planned[],
  settings: Settings,
  file: StateFile,
  tell: (step: Step) => void,
): void {
  let entries = file.load();
  for (const { change, finding } of planned) {
    const { target, value } = change;
    const step = (result: Result, detail: string): void => tell({ target, value, finding, result, detail });
    try {
      const before = settings.read(target, value);
      if (same(before, value)) {
        step("already", "");
        continue;
      }
      file.save([...entries, { target, before, after: value, finding }]);
      const after = setTo(settings, target, value, () => file.save(entries));
      entries = [...entries, { target, before, after, finding }];
      file.save(entries);
      step(same(after, value) ? "done" : "failed", same(after, value) ? text(before) : `it is now ${text(after)}`);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      step("failed", error.message);
    }
  }
}

/** Sets it and returns what it is then. Where nothing was set, `undo` is called before the error goes on. */
function setTo(settings: Settings, target: Target, value: Value, undo: () => void): Value {
  try {
    settings.write(target, value);
  } catch (error) {
    undo();
    throw error;
  }
  return settings.read(target, value);
}

/**
 * Puts back what apply() changed, the last first. What could not be put back, or was left to somebody else, stays in
 * the file. With `force` a value of somebody else's is overwritten too.
 */
export function undo(settings: Settings, file: StateFile, force: boolean, tell: (step: Step) => void): void {
  const left: Entry[] = [];
  const entries = [...file.load()];
  for (let entry = entries.pop(); entry !== undefined; entry = entries.pop()) {
    const step = undoOne(entry, settings, force);
    if (step.result === "failed" || step.result === "foreign") left.unshift(entry);
    file.save([...entries, ...left]);
    tell(step);
  }
  file.save(left);
}

function undoOne({ target, before, after, finding }: Entry, settings: Settings, force: boolean): Step {
  const step = (result: Result, detail: string): Step => ({ target, value: before, finding, result, detail });
  try {
    const now = settings.read(target, before);
    if (same(now, before)) return step("already", "");
    if (!same(now, after) && !force) return step("foreign", `${text(now)}, not ${text(after)} as it was left`);
    settings.write(target, before);
    const back = settings.read(target, before);
    return same(back, before) ? step("done", text(now)) : step("failed", `it is now ${text(back)}`);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    return step("failed", error.message);
  }
}

/** A value in words: "on" and "off" for switches. */
export function text(value: Value): string {
  if (typeof value === "string") return value === "" ? "empty" : value;
  const words = Object.entries(value).map(([name, v]) => `${name} ${v === true ? "on" : v === false ? "off" : v}`);
  return words.join(", ");
}
