import { expect, test } from "bun:test";
import { Random } from "../../queues/random.ts";

test("a seed fixes the sequence; other seeds give others", () => {
  const sequence = (seed: number) => {
    const random = new Random(seed);
    return Array.from({ length: 20 }, () => random.int32());
  };
  expect(sequence(1)).toEqual(sequence(1));
  expect(sequence(1)).not.toEqual(sequence(2));
  expect(sequence(0)).not.toEqual(sequence(-1));
});

test("sfc32's step", () => {
  // The same generator in 32-bit unsigned arithmetic of BigInt, written from its definition.
  const mask = 0xffffffffn;
  const state = { a: 42n, b: 0x9e3779b9n, c: 0x243f6a88n, counter: 1n };
  const next = () => {
    const out = (state.a + state.b + state.counter) & mask;
    state.counter = (state.counter + 1n) & mask;
    state.a = state.b ^ (state.b >> 9n);
    state.b = (state.c + (state.c << 3n)) & mask;
    state.c = ((((state.c << 21n) | (state.c >> 11n)) & mask) + out) & mask;
    return Number(out);
  };
  for (let i = 0; i < 16; i++) next();
  const random = new Random(42);
  for (let i = 0; i < 1000; i++) expect(random.int32() >>> 0).toBe(next());
});

test("numbers are evenly spread", () => {
  const random = new Random(7);
  const draws = 100_000;
  let sum = 0;
  const faces = new Array<number>(6).fill(0);
  const bits = new Array<number>(32).fill(0);
  for (let i = 0; i < draws; i++) {
    const unit = random.unit();
    if (unit < 0 || unit >= 1) throw new Error(`unit ${unit}`);
    sum += unit;
    faces[random.below(6)] += 1;
    const word = random.int32();
    for (let bit = 0; bit < 32; bit++) bits[bit] += (word >>> bit) & 1;
  }
  // Five standard deviations.
  expect(Math.abs(sum / draws - 0.5)).toBeLessThan(5 * Math.sqrt(1 / 12 / draws));
  for (const count of faces) expect(Math.abs(count - draws / 6)).toBeLessThan(5 * Math.sqrt((draws * 5) / 36));
  for (const count of bits) expect(Math.abs(count - draws / 2)).toBeLessThan(5 * Math.sqrt(draws / 4));
});
