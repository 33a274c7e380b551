/** What reassembly keeps its state in, each against a plain model over random operations. */
import { expect, test } from "bun:test";
import { Random } from "../../queues/random.ts";
import {
  BLOCK_BYTES,
  COVERED_NOT,
  COVERED_PARTLY,
  COVERED_WHOLLY,
  FragmentStore,
} from "../../sockets/host/fragment-store.ts";
import { IdLists } from "../../sockets/host/id-lists.ts";
import { KeyTable } from "../../sockets/host/key-table.ts";
import { pattern } from "./packets.ts";

test("KeyTable: a map of bounded size, whose ids are used again", () => {
  const random = new Random(1);
  const table = new KeyTable(3, 40, 7);
  const model = new Map<string, number>();
  let full = 0;
  for (let i = 0; i < 20_000; i++) {
    const key = [random.below(3), random.below(3) * 0x10000, random.below(8) - 4];
    table.key.set(key);
    const known = model.get(key.join());
    expect(table.find()).toBe(known ?? -1);
    if (known !== undefined && random.below(2) === 0) {
      table.remove(known);
      model.delete(key.join());
    } else if (known === undefined) {
      const id = table.add();
      if (model.size === 40) full++;
      expect(id < 0).toBe(model.size === 40);
      if (id < 0) continue;
      expect([...model.values()]).not.toContain(id);
      expect(id).toBeLessThan(40);
      model.set(key.join(), id);
    }
    expect(table.count).toBe(model.size);
  }
  expect(full).toBeGreaterThan(50);
});

test("IdLists: each id in one list at most, in the order of arrival", () => {
  const random = new Random(2);
  const lists = new IdLists(20, 3);
  const model: number[][] = [[], [], []];
  for (let i = 0; i < 20_000; i++) {
    const id = random.below(20);
    const list = model.find((ids) => ids.includes(id));
    if (list !== undefined) {
      lists.remove(id);
      list.splice(list.indexOf(id), 1);
    } else {
      const to = random.below(3);
      lists.append(to, id);
      model[to].push(id);
    }
    for (const [number, ids] of model.entries()) {
      const walked: number[] = [];
      for (let at = lists.first(number); at >= 0; at = lists.after(at)) walked.push(at);
      expect(walked).toEqual(ids);
    }
  }
});

test("FragmentStore: what was put is there, what is there is known, and nothing of what was before", () => {
  const random = new Random(3);
  const store = new FragmentStore(40, 3);
  const LENGTH = 6 * BLOCK_BYTES;
  const data = Array.from({ length: 3 }, () => new Uint8Array(LENGTH));
  const there = Array.from({ length: 3 }, () => new Uint8Array(LENGTH));
  const seen = new Map<number, number>();
  let copied = 0;
  for (let i = 0; i < 5000; i++) {
    const id = random.below(3);
    // Half of the time into the first hole.
    const hole = random.below(2) === 0 ? there[id].indexOf(0) : -1;
    const from = hole < 0 ? random.below(LENGTH / 8) * 8 : hole;
    const next = hole < 0 ? -1 : there[id].indexOf(1, hole);
    const to = Math.min(from + (1 + random.below(100)) * 8, next < 0 ? LENGTH : next);
    const bytes = there[id].subarray(from, to);
    const count = bytes.filter((byte) => byte !== 0).length;
    const coverage = count === 0 ? COVERED_NOT : count === bytes.length ? COVERED_WHOLLY : COVERED_PARTLY;
    seen.set(coverage, (seen.get(coverage) ?? 0) + 1);
    expect(store.coverage(id, from, to)).toBe(coverage);
    if (coverage !== COVERED_NOT) continue;
    const blocks = new Set<number>();
    for (let at = from; at < to; at += 8) blocks.add(at >> 11);
    const missing = [...blocks].filter((block) => {
      return there[id].subarray(block << 11, (block + 1) << 11).every((byte) => byte === 0);
    });
    expect(store.missing(id, from, to)).toBe(missing.length);
    if (missing.length > store.free) continue;
    const piece = pattern(to - from + 5, i);
    store.put(id, from, piece, 5, to - from, random.below(2) === 0);
    data[id].set(piece.subarray(5), from);
    there[id].fill(1, from, to);
    // What is there from the beginning on can be copied out.
    const prefix = there[id].indexOf(0);
    const length = prefix < 0 ? LENGTH : prefix;
    const copy = new Uint8Array(length);
    store.copy(id, length, copy, 0);
    expect(Buffer.compare(copy, data[id].subarray(0, length))).toBe(0);
    copied += length;
    if (prefix >= 0 && random.below(50) !== 0) continue;
    store.release(id);
    there[id].fill(0);
    expect(store.held[id]).toBe(0);
  }
  for (const what of [COVERED_NOT, COVERED_PARTLY, COVERED_WHOLLY]) expect(seen.get(what)).toBeGreaterThan(100);
  expect(copied).toBeGreaterThan(100 * LENGTH);
  for (let id = 0; id < 3; id++) store.release(id);
  expect(store.free).toBe(40);
});

test("FragmentStore: runs", () => {
  const store = new FragmentStore(40, 1);
  const bytes = new Uint8Array(8192);
  store.put(0, 0, bytes, 0, 1000, true);
  store.put(0, 1000, bytes, 0, 1400, false);
  store.put(0, 4096, bytes, 0, 8, true);
  store.put(0, 2400, bytes, 0, 1696, true);
  expect([store.isOneRun(0, 0, 2400), store.isOneRun(0, 992, 1008), store.isOneRun(0, 2400, 4096)]).toEqual([
    true,
    true,
    true,
  ]);
  expect([store.isOneRun(0, 2392, 2408), store.isOneRun(0, 0, 4104), store.isOneRun(0, 4088, 4104)]).toEqual([
    false,
    false,
    false,
  ]);
  expect(store.isOneRun(0, 4096, 4104)).toBe(true);
});
