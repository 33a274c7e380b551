/** Exchanges over a carrier that the test is: who is asked when, and what counts as what. */
import { describe, expect, test } from "bun:test";
import { G, LoadBoard } from "../../engine/measure/board.ts";
import { type Carrier, type ExchangeOptions, Exchanges } from "../../engine/measure/exchanges.ts";

const OPTIONS: ExchangeOptions = { way: "rr", connections: 2, size: 16, timeoutMs: 1000 };

class Rig implements Carrier {
  readonly board = new LoadBoard();
  readonly exchanges: Exchanges;
  readonly connecting: number[] = [];
  readonly dropped: number[] = [];
  /** What was written and not answered, by slot. */
  readonly asked = new Map<number, Uint8Array[]>();
  /** Bytes that a write takes at most. */
  room = 1000;

  constructor(options: Partial<ExchangeOptions> = {}) {
    this.exchanges = new Exchanges(this.board, this, { ...OPTIONS, ...options });
  }

  connect(slot: number): void {
    this.connecting.push(slot);
  }

  write(slot: number, bytes: Uint8Array, offset: number, length: number): number {
    const count = Math.min(length, this.room);
    if (count > 0) this.asked.set(slot, [...(this.asked.get(slot) ?? []), bytes.slice(offset, offset + count)]);
    return count;
  }

  drop(slot: number): void {
    this.dropped.push(slot);
    this.asked.delete(slot);
  }

  open(): void {
    for (let slot = this.connecting.pop(); slot !== undefined; slot = this.connecting.pop())
      this.exchanges.opened(slot);
  }

  /** Answers what a slot has asked, in pieces as they were written; `change` has the last word. */
  answer(slot: number, change: (bytes: Uint8Array) => void = () => {}): void {
    const pieces = this.asked.get(slot) ?? [];
    this.asked.delete(slot);
    for (const piece of pieces) {
      change(piece);
      this.exchanges.data(slot, piece, 0, piece.length);
    }
  }

  count(...names: (keyof typeof G)[]): number[] {
    return names.map((name) => this.board.counters[G[name]]);
  }
}

describe("lasting connections", () => {
  test("one request under way on each; the next when it is answered", () => {
    const rig = new Rig();
    rig.exchanges.send(true, 0);
    rig.exchanges.turn();
    expect(rig.connecting.toSorted()).toEqual([0, 1]);
    rig.open();
    rig.exchanges.turn();
    expect(rig.asked.size).toBe(2);
    rig.exchanges.turn();
    rig.answer(1);
    rig.exchanges.turn();
    expect(rig.count("sent", "received")).toEqual([3, 1]);
    expect(rig.board.latency.counts.reduce((sum, count) => sum + count)).toBe(1);
  });

  test("a request that is taken in parts, and an answer that comes in parts", () => {
    const rig = new Rig({ connections: 1 });
    rig.room = 5;
    rig.exchanges.send(true, 0);
    rig.exchanges.turn();
    rig.open();
    rig.exchanges.turn();
    for (let i = 0; i < 5; i++) rig.exchanges.writable(0);
    expect(rig.asked.get(0)?.map((piece) => piece.length)).toEqual([5, 5, 5, 1]);
    rig.answer(0);
    expect(rig.count("received", "wrong")).toEqual([1, 0]);
  });

  test("wrong bytes, the number of another request, and bytes that nobody asked for", () => {
    const rig = new Rig({ connections: 1 });
    rig.exchanges.send(true, 0);
    rig.exchanges.turn();
    rig.open();
    for (const at of [0, 15]) {
      rig.exchanges.turn();
      rig.answer(0, (bytes) => {
        bytes[at] ^= 1;
      });
    }
    rig.exchanges.data(0, new Uint8Array(16), 0, 16);
    expect(rig.count("sent", "received", "wrong", "duplicated")).toEqual([2, 0, 2, 1]);
  });

  test("a connection that ends takes its request with it, and is opened again", async () => {
    const rig = new Rig({ connections: 1, timeoutMs: 8 });
    rig.exchanges.send(true, 0);
    rig.exchanges.turn();
    rig.open();
    rig.exchanges.turn();
    rig.exchanges.closed(0);
    expect(rig.count("sent", "lost")).toEqual([1, 1]);
    expect(rig.dropped).toEqual([0]);
    await Bun.sleep(3);
    rig.exchanges.turn();
    expect(rig.connecting).toEqual([0]);
  });
});

describe("by schedule", () => {
  test("requests wait for a connection, and those that were due while the load was away are its own fault", async () => {
    const rig = new Rig({ connections: 1 });
    rig.exchanges.turn();
    rig.open();
    rig.exchanges.send(true, 1000);
    while (rig.count("sent")[0] === 0) rig.exchanges.turn();
    await Bun.sleep(30);
    rig.exchanges.turn();
    const [behind] = rig.count("behind");
    expect(behind).toBeGreaterThanOrEqual(29);
    expect(rig.count("sent", "skipped")).toEqual([1, 0]);
    rig.answer(0);
    while (rig.count("sent")[0] === 1) rig.exchanges.turn();
    expect(rig.count("received")).toEqual([1]);
  });
});

describe("a connection each", () => {
  test("opened, asked, and dropped with its answer; refused, it is lost", () => {
    const rig = new Rig({ way: "crr" });
    rig.exchanges.send(true, 0);
    rig.exchanges.turn();
    expect(rig.connecting.length).toBe(2);
    rig.connecting.length = 0;
    rig.exchanges.opened(0);
    rig.exchanges.closed(1);
    rig.answer(0);
    expect(rig.dropped.toSorted()).toEqual([0, 1]);
    expect(rig.count("sent", "received", "lost")).toEqual([2, 1, 1]);
  });
});

test("one way: pieces as long as they are taken", () => {
  const rig = new Rig({ way: "stream", connections: 1 });
  rig.exchanges.send(true, 0);
  rig.exchanges.turn();
  rig.room = 16;
  let left = 3;
  rig.write = () => (left-- > 0 ? 16 : 0);
  rig.open();
  expect(rig.count("bytes")).toEqual([48]);
});
