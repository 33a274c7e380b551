import { expect, test } from "bun:test";
import { Preemption } from "../../engine/preemption.ts";

test("turns that take microseconds are nobody's", () => {
  const preemption = new Preemption();
  for (let t = 0; t < 100; t += 0.5) expect(preemption.spun(t, t + 0.5)).toBe(false);
  expect(preemption.isShared(100)).toBe(false);
});

test("a gap of a time slice: the CPU is shared for a while, from the start on", () => {
  const preemption = new Preemption();
  expect(preemption.spun(10, 14)).toBe(true);
  expect(preemption.isShared(14)).toBe(true);
  expect(preemption.isShared(263)).toBe(true);
  expect(preemption.isShared(264)).toBe(false);
});

test("who is still there when it spins again is given twice as long, up to 4 s", () => {
  const preemption = new Preemption();
  let now = 0;
  for (const expected of [250, 500, 1000, 2000, 4000, 4000]) {
    now += 4;
    expect(preemption.spun(now - 4, now)).toBe(true);
    // Gaps meanwhile change nothing.
    expect(preemption.spun(now, now + 4)).toBe(true);
    expect(preemption.isShared(now + expected - 1)).toBe(true);
    expect(preemption.isShared(now + expected)).toBe(false);
    now += expected;
  }
});

test("who was gone for as long begins anew", () => {
  const preemption = new Preemption();
  preemption.spun(0, 4);
  preemption.spun(255, 259);
  // Until 759, for 500 ms.
  expect(preemption.isShared(758)).toBe(true);
  expect(preemption.isShared(759)).toBe(false);
  expect(preemption.spun(1260, 1264)).toBe(true);
  expect(preemption.isShared(1513)).toBe(true);
  expect(preemption.isShared(1514)).toBe(false);
});
