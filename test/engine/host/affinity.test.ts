import { describe, expect, test } from "bun:test";
import { sys } from "af-xdp-bindings";
import {
  currentCpu,
  getAffinity,
  moveThreadsOff,
  setAffinity,
  threadCpuTimeNs,
  threads,
  threadTimes,
} from "../../../engine/host/affinity.ts";

const self = sys.gettid();
const all = getAffinity();
const spin = (ms: number): void => {
  const end = performance.now() + ms;
  while (performance.now() < end);
};

test("this thread is among those of the process, by id and name", () => {
  const own = threads().find((thread) => thread.tid === self);
  expect(own?.name.length).toBeGreaterThan(0);
  expect(threads().length).toBeGreaterThan(1);
});

test("CPU time grows while spinning; the kernel's file agrees", () => {
  const before = threadCpuTimeNs();
  spin(20);
  const ran = threadCpuTimeNs() - before;
  expect(ran).toBeGreaterThan(1e6);
  expect(ran).toBeLessThan(2e9);
  const times = threadTimes(self);
  // schedstat is as fresh as the last scheduler tick (at most 10 ms).
  expect(Math.abs((times?.runNs as number) - threadCpuTimeNs())).toBeLessThan(2e7);
  expect(threadTimes(2 ** 22)).toBeNull();
});

describe.skipIf(all.length < 2)("with two CPUs", () => {
  const [first, second] = all as [number, number];

  test("a thread goes where it is put", () => {
    try {
      for (const cpu of [first, second]) {
        setAffinity(0, [cpu]);
        expect(getAffinity(self)).toEqual([cpu]);
        expect(currentCpu()).toBe(cpu);
      }
    } finally {
      setAffinity(0, all);
    }
    expect(getAffinity()).toEqual(all);
    expect(() => setAffinity(0, [])).toThrow("EINVAL");
    expect(() => setAffinity(0, [1e6])).toThrow(RangeError);
    expect(() => getAffinity(2 ** 22)).toThrow("ESRCH");
  });

  test("helper threads leave a CPU, kept ones stay", () => {
    const helpers = threads().filter((thread) => thread.tid !== self);
    const before = new Map(helpers.map(({ tid }) => [tid, getAffinity(tid)]));
    const pinned = helpers[0] as (typeof helpers)[0];
    try {
      // One that knows no other CPU, as a helper born of a pinned lcore.
      setAffinity(pinned.tid, [first]);
      const moved = moveThreadsOff([first], new Set([self]), all);
      expect(moved.map((thread) => thread.tid)).toContain(pinned.tid);
      expect(moved.map((thread) => thread.tid)).not.toContain(self);
      for (const { tid } of helpers) expect(getAffinity(tid)).not.toContain(first);
      expect(getAffinity(self)).toEqual(all);
      expect(moveThreadsOff([first], new Set([self]), all)).toEqual([]);
      expect(() => moveThreadsOff([second], new Set([self]), [second])).toThrow("no CPU left");
    } finally {
      for (const [tid, cpus] of before) setAffinity(tid, cpus);
    }
  });
});
