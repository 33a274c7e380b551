/** Applying and taking back, on settings that are made up: what fails, what somebody else changes, what a crash leaves. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ERRNO, SysError } from "af-xdp-bindings";
import {
  type Change,
  setChannels,
  setFeatures,
  setSetting,
  setSysctl,
  type Target,
  type Value,
} from "../../engine/doctor/change.ts";
import { info, warn } from "../../engine/doctor/finding.ts";
import { apply, type Planned, planOf, type Settings, type Step, undo } from "../../engine/doctor/tune.ts";
import { StateFile } from "../../engine/doctor/tune-state.ts";
import { NetNs } from "../../engine/host/netns.ts";

const BACKLOG = setSysctl("net.core.netdev_max_backlog", 4096);
const FLUSH = setSetting("eth1", "gro_flush_timeout", 200_000);
const MERGE = setFeatures("eth1", { "rx-lro": false });
const QUEUES = setChannels("eth1", { combined: 4 });

/** Settings of a host in memory. */
class FakeSettings implements Settings {
  readonly values = new Map<string, Value>();
  /** Targets that refuse to be written, and those that take another value than they are given. */
  readonly refusing = new Set<string>();
  readonly bending = new Map<string, Value>();
  readonly written: string[] = [];

  constructor(...values: [Change, Value][]) {
    for (const [{ target }, value] of values) this.values.set(JSON.stringify(target), value);
  }

  read(target: Target): Value {
    const value = this.values.get(JSON.stringify(target));
    if (value === undefined) throw new SysError(ERRNO.ENODEV, "read");
    return value;
  }

  write(target: Target, value: Value): void {
    const key = JSON.stringify(target);
    this.written.push(target.kind);
    if (this.refusing.has(key)) throw new SysError(ERRNO.EROFS, "write", "mounted read-only");
    this.values.set(key, this.bending.get(key) ?? value);
  }

  set({ target }: Change, value: Value): void {
    this.values.set(JSON.stringify(target), value);
  }

  refuse({ target }: Change, refuse = true): void {
    if (refuse) this.refusing.add(JSON.stringify(target));
    else this.refusing.delete(JSON.stringify(target));
  }
}

const fresh = (): FakeSettings =>
  new FakeSettings([BACKLOG, "1000"], [FLUSH, "0"], [MERGE, { "rx-lro": true }], [QUEUES, { combined: 2 }]);
const all: Planned[] = [QUEUES, MERGE, FLUSH, BACKLOG].map((change) => ({ change, finding: "f" }));

describe("apply and undo", () => {
  let directory: string;
  let ns: NetNs;
  let settings: FakeSettings;
  const file = (ifindex = 7): StateFile => new StateFile(ns, "eth1", ifindex, [directory]);

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "lcore-tune-"));
    ns = NetNs.current();
    settings = fresh();
  });
  afterEach(() => {
    ns.close();
    rmSync(directory, { recursive: true });
  });

  const applied = (planned = all): Step[] => {
    const steps: Step[] = [];
    apply(planned, settings, file(), (step) => steps.push(step));
    return steps;
  };
  const undone = (force = false, ifindex = 7): Step[] => {
    const steps: Step[] = [];
    undo(settings, file(ifindex), force, (step) => steps.push(step));
    return steps;
  };
  const results = (steps: Step[]): string[] => steps.map(({ result }) => result);

  test("all is changed, then all is as before, in reverse order, and no file is left", () => {
    const before = new Map(settings.values);
    expect(results(applied())).toEqual(["done", "done", "done", "done"]);
    expect(settings.values).not.toEqual(before);
    settings.written.length = 0;
    expect(results(undone())).toEqual(["done", "done", "done", "done"]);
    expect(settings.written).toEqual(["sysctl", "setting", "features", "channels"]);
    expect(settings.values).toEqual(before);
    expect(readdirSync(directory)).toEqual([]);
  });

  test("what is as wanted already is not touched, and not undone", () => {
    settings.set(FLUSH, "200000");
    expect(results(applied([{ change: FLUSH, finding: "f" }]))).toEqual(["already"]);
    expect([settings.written, readdirSync(directory)]).toEqual([[], []]);
  });

  test("one that fails does not keep the others; the file knows what was done", () => {
    settings.refuse(FLUSH);
    const steps = applied();
    expect(results(steps)).toEqual(["done", "done", "failed", "done"]);
    expect(steps[2].detail).toContain("EROFS: mounted read-only");
    expect(
      file()
        .load()
        .map(({ target }) => target.kind),
    ).toEqual(["channels", "features", "sysctl"]);
    expect(results(undone())).toEqual(["done", "done", "done"]);
    expect(settings.values).toEqual(fresh().values);
  });

  test("a device that takes another value is told of, and put back", () => {
    settings.bending.set(JSON.stringify(QUEUES.target), { combined: 3 });
    const [step] = applied([{ change: QUEUES, finding: "f" }]);
    expect([step.result, step.detail]).toEqual(["failed", "it is now combined 3"]);
    settings.bending.clear();
    expect(results(undone())).toEqual(["done"]);
    expect(settings.values).toEqual(fresh().values);
  });

  test("what somebody else changed since is left, unless forced", () => {
    applied();
    settings.set(FLUSH, "50000");
    const steps = undone();
    expect(results(steps)).toEqual(["done", "foreign", "done", "done"]);
    expect(steps[1].detail).toBe("50000, not 200000 as it was left");
    expect(settings.read(FLUSH.target)).toBe("50000");
    expect(
      file()
        .load()
        .map(({ target }) => target.kind),
    ).toEqual(["setting"]);
    expect(results(undone(true))).toEqual(["done"]);
    expect(settings.values).toEqual(fresh().values);
    expect(readdirSync(directory)).toEqual([]);
  });

  test("what somebody else has put back is fine", () => {
    applied([{ change: FLUSH, finding: "f" }]);
    settings.set(FLUSH, "0");
    expect(results(undone())).toEqual(["already"]);
    expect(readdirSync(directory)).toEqual([]);
  });

  test("what cannot be put back stays in the file, for another time", () => {
    applied();
    settings.refuse(MERGE);
    expect(results(undone())).toEqual(["done", "done", "failed", "done"]);
    settings.refuse(MERGE, false);
    expect(results(undone())).toEqual(["done"]);
    expect(settings.values).toEqual(fresh().values);
  });

  test("a second tuning adds to the first, and one undo takes back both", () => {
    applied([{ change: FLUSH, finding: "f" }]);
    applied([{ change: setSetting("eth1", "gro_flush_timeout", 300_000), finding: "f" }]);
    expect(results(undone())).toEqual(["done", "done"]);
    expect(settings.read(FLUSH.target)).toBe("0");
  });

  test("killed between record and change: undo finds that nothing was changed", () => {
    const { target, value } = FLUSH;
    file().save([{ target, before: "0", after: value, finding: "f" }]);
    expect(results(undone())).toEqual(["already"]);
    expect(readdirSync(directory)).toEqual([]);
  });

  test("killed between change and record of its outcome: undo puts it back", () => {
    // What apply() has written before it calls the kernel.
    const record = file();
    const crash = {
      read: settings.read.bind(settings),
      write: () => {
        throw new Error("killed");
      },
    };
    expect(() => apply([{ change: FLUSH, finding: "f" }], crash, record, () => {})).toThrow("killed");
    settings.set(FLUSH, "200000");
    record.save([{ target: FLUSH.target, before: "0", after: "200000", finding: "f" }]);
    expect(results(undone())).toEqual(["done"]);
    expect(settings.read(FLUSH.target)).toBe("0");
  });

  test("the interface was deleted since: only what is not its own is put back", () => {
    applied();
    settings.written.length = 0;
    expect(results(undone(false, 9))).toEqual(["done"]);
    expect(settings.written).toEqual(["sysctl"]);
    expect(readdirSync(directory)).toEqual([]);
  });

  test("the file is this user's alone, and whole at any time", () => {
    const state = file();
    applied();
    expect(statSync(state.path).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(state.path, "utf8"))).toMatchObject({ version: 1, interface: "eth1", ifindex: 7 });
    expect(readdirSync(directory)).toEqual([state.path.slice(directory.length + 1)]);
  });

  test("a file that tune did not write is refused, and nothing is written", () => {
    const state = file();
    applied();
    const text = readFileSync(state.path, "utf8");
    const bad = [
      "{",
      "[]",
      text.replace('"version": 1', '"version": 2'),
      text.replace("net.core.netdev_max_backlog", "../../../etc/passwd"),
      text.replace("gro_flush_timeout", "../../../../etc/passwd"),
      text.replace("sysctl", "file"),
    ];
    settings.written.length = 0;
    for (const damaged of bad) {
      expect(damaged).not.toBe(text);
      writeFileSync(state.path, damaged);
      expect(() => undone()).toThrow(state.path);
    }
    expect(settings.written).toEqual([]);
  });

  test("a directory that others may write is not used", () => {
    chmodSync(directory, 0o777);
    expect(() => file()).toThrow("could not be put back");
    expect(existsSync(join(directory, "x"))).toBe(false);
  });
});

test("a plan: findings in need alone, what resets the device first, each target once", () => {
  const mend = (...changes: Change[]) => ({ changes });
  const planned = planOf([
    info("a", "nothing to mend"),
    warn("b", "found", "cost", mend(BACKLOG, FLUSH)),
    warn("c", "found", "cost", mend(QUEUES, MERGE)),
    warn("d", "found", "cost", mend(FLUSH)),
    warn("e", "found", "cost", "no command"),
  ]);
  expect(planned.map(({ change, finding }) => `${finding} ${change.target.kind}`)).toEqual([
    "c channels",
    "c features",
    "d setting",
    "b sysctl",
  ]);
});
