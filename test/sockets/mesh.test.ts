/** The mesh: rings between every pair that needs one, thread numbers, bells. */
import { describe, expect, test } from "bun:test";
import { sys } from "af-xdp-bindings";
import { Mesh } from "../../sockets/mesh.ts";
import { MESSAGE_WORDS } from "../../sockets/message.ts";

const EFD_NONBLOCK_CLOEXEC = 0x80800;

describe("rings", () => {
  test("each ordered pair with an lcore has its own", () => {
    const mesh = Mesh.create(2, 2, 64);
    const pairs = [0, 1, 2, 3].flatMap((from) => [0, 1, 2, 3].map((to) => [from, to]));
    const valid = pairs.filter(([from, to]) => from !== to && (from < 2 || to < 2));
    const rings = valid.map(([from, to]) => ({ from, to, ring: mesh.producer(from, to) }));
    for (const [i, { ring }] of rings.entries()) {
      for (let slot = 0; slot < 64; slot++) ring.words.fill(i + 1, slot * MESSAGE_WORDS, (slot + 1) * MESSAGE_WORDS);
      for (let slot = 0; slot < 64; slot++) ring.claim();
      expect(ring.claim()).toBe(-1);
      ring.publish();
    }
    // Another thread's view of the same memory.
    const other = new Mesh(mesh.descriptor());
    for (const [i, { from, to }] of rings.entries()) {
      const consumer = other.consumer(from, to);
      for (let slot = 0; slot < 64; slot++) {
        const at = consumer.peek();
        expect([consumer.words[at], consumer.words[at + MESSAGE_WORDS - 1]]).toEqual([i + 1, i + 1]);
        consumer.next();
      }
      expect(consumer.peek()).toBe(-1);
    }
    expect(() => mesh.producer(2, 3)).toThrow(RangeError);
  });
});

describe("threads", () => {
  test("take the lowest free number, and the bound of those ever taken only grows", () => {
    const mesh = Mesh.create(2, 3, 64);
    expect(mesh.activeThreads()).toBe(2);
    expect([mesh.takeThread(), mesh.takeThread(), mesh.takeThread(), mesh.takeThread()]).toEqual([2, 3, 4, -1]);
    mesh.leaveThread(3);
    expect([mesh.isTaken(1), mesh.isTaken(2), mesh.isTaken(3)]).toEqual([true, true, false]);
    expect(new Mesh(mesh.descriptor()).takeThread()).toBe(3);
    mesh.leaveThread(4);
    expect(mesh.activeThreads()).toBe(5);
  });
});

describe("bells", () => {
  test("a thread that waits on a count that has moved does not sleep", async () => {
    const mesh = Mesh.create(1, 1, 64);
    const count = mesh.bellCount(1);
    mesh.ring(1);
    const start = performance.now();
    mesh.wait(1, count, 10_000);
    await mesh.waitAsync(1, count);
    expect(performance.now() - start).toBeLessThan(5000);
    const later = mesh.waitAsync(1, mesh.bellCount(1));
    mesh.ring(1);
    await later;
  });

  test("an eventfd gets its one whatever the collector has done in between", () => {
    const mesh = Mesh.create(1, 1, 64);
    const fd = sys.eventfd(0, EFD_NONBLOCK_CLOEXEC);
    mesh.setEventfd(0, fd);
    const value = new BigUint64Array(1);
    for (let i = 0; i < 200; i++) {
      // Small arrays, such as take the place of one that was collected.
      for (let n = 0; n < 200; n++) new BigUint64Array(1);
      if (i % 10 === 0) Bun.gc(true);
      mesh.ring(0);
      value[0] = 0n;
      expect([sys.read(fd, sys.addressOf(value), 8), value[0]]).toEqual([8, 1n]);
    }
    mesh.setEventfd(0, -1);
    mesh.ring(0);
    expect(sys.read(fd, sys.addressOf(value), 8)).toBe(-11);
    sys.close(fd);
  });

  test("stop reaches everybody, once and for all", () => {
    const mesh = Mesh.create(1, 2, 64);
    const counts = [0, 1, 2].map((thread) => mesh.bellCount(thread));
    expect(mesh.isStopped()).toBe(false);
    mesh.stop();
    expect(new Mesh(mesh.descriptor()).isStopped()).toBe(true);
    for (const [thread, count] of counts.entries()) expect(mesh.bellCount(thread)).toBe(count + 1);
  });
});
