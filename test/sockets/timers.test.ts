import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { TIMEOUT_MS_MAX, Timers } from "../../sockets/timers.ts";

const expired = new Int32Array(64);

/** Everything that fires on the way to `nowMs`. */
function fired(timers: Timers, nowMs: number): number[] {
  const ids: number[] = [];
  for (;;) {
    const count = timers.advance(nowMs, expired);
    ids.push(...expired.subarray(0, count));
    if (count < expired.length) return ids;
  }
}

test("fires at its deadline, not before, and once", () => {
  const timers = new Timers(4, 1000);
  timers.schedule(2, 1005);
  expect([timers.isSet(2), timers.isSet(1), timers.count]).toEqual([true, false, 1]);
  expect(fired(timers, 1004)).toEqual([]);
  expect(fired(timers, 1005)).toEqual([2]);
  expect([timers.isSet(2), timers.count]).toEqual([false, 0]);
  expect(fired(timers, 1006)).toEqual([]);
});

test("fractions of a millisecond never make it early", () => {
  const timers = new Timers(1, 10.75);
  timers.schedule(0, 12.25);
  expect(fired(timers, 12.99)).toEqual([]);
  expect(fired(timers, 13)).toEqual([0]);
});

test("a deadline in the past fires at the next advance, at whatever time", () => {
  const timers = new Timers(2, 1000);
  timers.schedule(0, 3);
  timers.schedule(1, 1000);
  expect(timers.nextMs()).toBe(1000);
  expect(fired(timers, 500)).toEqual([0, 1]);
});

test("moved and cancelled", () => {
  const timers = new Timers(3, 0);
  timers.schedule(0, 10);
  timers.schedule(1, 10);
  timers.schedule(2, 500);
  timers.schedule(0, 700);
  timers.schedule(2, 20);
  expect(timers.cancel(1)).toBe(true);
  expect(timers.cancel(1)).toBe(false);
  expect(fired(timers, 699)).toEqual([2]);
  expect(fired(timers, 700)).toEqual([0]);
  expect(timers.nextMs()).toBe(Number.POSITIVE_INFINITY);
  timers.schedule(1, 900);
  timers.cancel(1);
  expect(timers.nextMs()).toBe(Number.POSITIVE_INFINITY);
});

test("in the order of deadlines, and of setting where they are the same", () => {
  const timers = new Timers(6, 0);
  [5000, 17, 5000, 16, 300000, 17].forEach((deadline, id) => {
    timers.schedule(id, deadline);
  });
  expect(fired(timers, 1e6)).toEqual([3, 1, 5, 0, 2, 4]);
});

test("what is due waits when the array is full, and can still be cancelled or moved", () => {
  const timers = new Timers(10, 0);
  for (let id = 0; id < 10; id++) timers.schedule(id, 10 + (id >> 1));
  const three = new Int32Array(3);
  expect(timers.advance(100, three)).toBe(3);
  expect([...three]).toEqual([0, 1, 2]);
  expect(timers.cancel(3)).toBe(true);
  timers.schedule(4, 50);
  timers.schedule(5, 200);
  expect(timers.count).toBe(6);
  expect(timers.advance(100, three)).toBe(3);
  expect([...three]).toEqual([6, 7, 8]);
  expect(timers.advance(100, three)).toBe(2);
  expect([...three.subarray(0, 2)]).toEqual([9, 4]);
  expect(timers.advance(100, three)).toBe(0);
  expect(fired(timers, 200)).toEqual([5]);
});

describe("clock jumps", () => {
  test("back: nothing fires, nothing is lost", () => {
    const timers = new Timers(1, 1000);
    timers.schedule(0, 1100);
    expect(fired(timers, 1050)).toEqual([]);
    expect(fired(timers, 10)).toEqual([]);
    expect(fired(timers, 1099)).toEqual([]);
    expect(fired(timers, 1100)).toEqual([0]);
  });

  test("ahead by a thousand years: everything fires, in order, at once", () => {
    const timers = new Timers(1000, 0);
    for (let id = 0; id < 1000; id++) timers.schedule(id, (999 - id) * 1_000_003);
    const ids = fired(timers, 3.2e13);
    expect(ids).toEqual(Array.from({ length: 1000 }, (_, i) => 999 - i));
    timers.schedule(0, 3.2e13 + 5);
    expect(fired(timers, 3.2e13 + 4)).toEqual([]);
    expect(fired(timers, 3.2e13 + 5)).toEqual([0]);
  });
});

test("a deadline beyond the maximum fires at the maximum", () => {
  const timers = new Timers(2, 7);
  timers.schedule(0, Number.POSITIVE_INFINITY);
  timers.schedule(1, 7 + TIMEOUT_MS_MAX);
  expect(fired(timers, 6 + TIMEOUT_MS_MAX)).toEqual([]);
  expect(fired(timers, 7 + TIMEOUT_MS_MAX)).toEqual([0, 1]);
});

test("against a sorted list, from times on both sides of a tick's wrap", () => {
  const ids = 40;
  const ahead = fc.oneof(
    fc.integer({ min: -5, max: 40 }),
    fc.integer({ min: 0, max: 5000 }),
    fc.integer({ min: 0, max: TIMEOUT_MS_MAX }),
  );
  const command = fc.record({
    op: fc.constantFrom("schedule", "schedule", "schedule", "cancel", "advance"),
    id: fc.nat(ids - 1),
    ahead,
  });
  const start = fc.constantFrom(0, 2 ** 31 - 20, 2 ** 32 - 3000, 2 ** 32 - 1, 5 * 2 ** 32 + 2 ** 28 - 7, 123456789);
  fc.assert(
    fc.property(start, fc.array(command, { maxLength: 150, size: "max" }), (from, commands) => {
      const timers = new Timers(ids, from);
      const model = new Map<number, number>();
      let now = from;
      for (const { op, id, ahead } of commands) {
        if (op === "schedule") {
          timers.schedule(id, now + ahead);
          model.set(id, Math.max(now + ahead, now));
        } else if (op === "cancel") expect(timers.cancel(id)).toBe(model.delete(id));
        else {
          now = Math.max(now, now + ahead);
          const due = [...model].filter(([, deadline]) => deadline <= now);
          const got = fired(timers, now);
          expect([...got].sort((a, b) => a - b)).toEqual(due.map(([id]) => id).sort((a, b) => a - b));
          const deadlines = got.map((id) => model.get(id) as number);
          expect(deadlines).toEqual([...deadlines].sort((a, b) => a - b));
          for (const id of got) model.delete(id);
        }
        expect(timers.count).toBe(model.size);
        expect(timers.isSet(id)).toBe(model.has(id));
        expect(timers.nextMs()).toBeLessThanOrEqual(Math.min(Number.POSITIVE_INFINITY, ...model.values()));
      }
    }),
    { numRuns: 300 },
  );
});

test("sleeping until nextMs() wakes at most eight times for one timer", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 33 }), fc.integer({ min: 1, max: TIMEOUT_MS_MAX }), (from, ahead) => {
      const timers = new Timers(1, from);
      timers.schedule(0, from + ahead);
      let now = from;
      let wakeups = 0;
      while (timers.isSet(0)) {
        const next = timers.nextMs();
        expect(next).toBeGreaterThan(now);
        now = next;
        wakeups++;
        fired(timers, now);
      }
      expect(now).toBe(from + ahead);
      expect(wakeups).toBeLessThanOrEqual(8);
    }),
  );
});

test("what cannot be a capacity is refused", () => {
  expect(() => new Timers(0, 0)).toThrow("0 timers");
  expect(() => new Timers(1.5, 0)).toThrow("1.5 timers");
});
