import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { abi, PAGE_SIZE, SysError, sys, Umem, Xsk } from "af-xdp-bindings";
import { makeHosts, requires, type VethPair } from "../../support/hosts.ts";
import { Cleanup, complete, Endpoint, flush, frame, openXsk, receive, redirectTo, send, stock } from "./support.ts";

describe.skipIf(requires("netns", "veth", "af_xdp", "bpf") !== "")("XSK over veth", () => {
  const cleanup = new Cleanup();
  let hosts: VethPair;

  beforeAll(() => {
    hosts = makeHosts({ queues: 2, ipv6: false });
  });
  afterEach(() => cleanup.run());
  afterAll(() => hosts.close());

  for (const mode of ["native", "skb"] as const) {
    test(`frames arrive unchanged in both directions: ${mode}`, () => {
      const a = new Endpoint(cleanup, hosts.a);
      const b = new Endpoint(cleanup, hosts.b);
      redirectTo(cleanup, hosts.a, [a.xsk], mode);
      redirectTo(cleanup, hosts.b, [b.xsk], mode);
      stock(a.xsk, 0, 128);
      stock(b.xsk, 0, 128);
      const there = [60, 61, 64, 1514, 1000].map((length, i) => frame(hosts.a, hosts.b, length, i));
      const back = [1514, 60, 777].map((length, i) => frame(hosts.b, hosts.a, length, 100 + i));

      send(a.xsk, 128, there);
      expect(receive(b.xsk, 5).map((f) => f.bytes)).toEqual(there);
      send(b.xsk, 128, back);
      expect(receive(a.xsk, 3).map((f) => f.bytes)).toEqual(back);

      expect(complete(a.xsk, 5)).toEqual([128, 129, 130, 131, 132].map((chunk) => chunk * 2048));
      expect(complete(b.xsk, 3)).toEqual([128, 129, 130].map((chunk) => chunk * 2048));
    });
  }

  test("veth has no zero copy: auto ends in copy mode and says so, zerocopy fails with a hint", () => {
    const auto = new Endpoint(cleanup, hosts.a);
    expect(auto.xsk.zeroCopy).toBe(false);
    const error = errorOf(() => new Endpoint(cleanup, hosts.b, { mode: "zerocopy" }));
    expect(error.code).toBe("EOPNOTSUPP");
    expect(error.syscall).toBe("bind(AF_XDP)");
    expect(error.hint).toContain('mode "auto" or "copy"');
    expect(new Endpoint(cleanup, hosts.b, { mode: "copy" }).xsk.zeroCopy).toBe(false);
  });

  test("a received frame lies headroom + 256 bytes into its chunk, and frameRoom is what fits", () => {
    const a = new Endpoint(cleanup, hosts.a);
    const b = new Endpoint(cleanup, hosts.b, { headroom: 640 });
    redirectTo(cleanup, hosts.b, [b.xsk], "skb");
    stock(b.xsk, 0, 8);
    expect(b.umem.frameRoom).toBe(2048 - 640 - 256);
    send(
      a.xsk,
      0,
      [1152, 1153].map((length) => frame(hosts.a, hosts.b, length, 1)),
    );
    const [received, ...rest] = receive(b.xsk, 2, 50);
    expect(received.addresses[0] - received.chunks[0]).toBe(640 + 256);
    expect(received.bytes.length).toBe(1152);
    expect(rest).toEqual([]);
    expect(b.xsk.statistics().rxDropped).toBe(1);
  });

  test("unaligned chunks: any size, any start; TX from anywhere", () => {
    const a = new Endpoint(cleanup, hosts.a, { unaligned: true, chunkSize: 3000, chunks: 64 });
    const b = new Endpoint(cleanup, hosts.b, { unaligned: true, chunkSize: 2500, chunks: 64, headroom: 10 });
    redirectTo(cleanup, hosts.b, [b.xsk], "skb");
    const starts = [1, 2502, 70_001, 5003];
    starts.forEach((start, i) => {
      b.xsk.fill.set(i, start);
    });
    b.xsk.fill.submit(starts.length);
    const frames = [60, 1514, 900, 61].map((length, i) => frame(hosts.a, hosts.b, length, i));
    send(a.xsk, 0, frames, 13);
    const received = receive(b.xsk, 4);
    expect(received.map((f) => f.bytes)).toEqual(frames);
    expect(received.map((f) => f.chunks[0])).toEqual(starts);
    expect(received.map((f) => f.addresses[0])).toEqual(starts.map((start) => start + 10 + 256));
  });

  test("odd TX addresses lose bit 0 in the completion ring, as CompletionRing.address says", () => {
    const a = new Endpoint(cleanup, hosts.a);
    send(a.xsk, 3, [frame(hosts.a, hosts.b, 60, 0)], 101);
    expect(complete(a.xsk, 1)[0] & ~1).toBe(3 * 2048 + 100);
  });

  test("need_wakeup: copy mode always asks for a TX kick, nothing leaves without", () => {
    const a = new Endpoint(cleanup, hosts.a);
    const b = new Endpoint(cleanup, hosts.b);
    redirectTo(cleanup, hosts.b, [b.xsk], "native");
    stock(b.xsk, 0, 8);
    a.umem.memory.set(frame(hosts.a, hosts.b, 60, 0));
    expect(a.xsk.tx.reserve(1)).toBe(1);
    a.xsk.tx.set(0, 0, 60, 0);
    a.xsk.tx.submit(1);
    expect(a.xsk.tx.needsWakeup()).toBe(true);
    expect(receive(b.xsk, 1, 20)).toEqual([]);
    expect(a.xsk.tx.pending()).toBe(1);
    expect(a.xsk.kickTx()).toBe(0);
    expect(receive(b.xsk, 1).length).toBe(1);
    expect(a.xsk.tx.pending()).toBe(0);
    // Copy mode takes chunks from the fill ring as frames come in: there is nobody to wake.
    expect(b.xsk.fill.needsWakeup()).toBe(false);
  });

  test("one kick sends at most the TX budget, then says EAGAIN", () => {
    for (const [maxTxBudget, sent] of [
      [undefined, 32],
      [100, 100],
    ]) {
      const a = new Endpoint(cleanup, hosts.a, {}, { maxTxBudget });
      for (let i = 0; i < 128; i++) a.xsk.tx.set(i, i * 2048, 60, 0);
      a.xsk.tx.submit(128);
      expect(a.xsk.kickTx()).toBe(-11);
      expect(128 - a.xsk.tx.pending()).toBe(sent as number);
      flush(a.xsk);
      cleanup.run();
    }
  });

  test("statistics: RX ring full, fill ring empty, invalid descriptors on either side", () => {
    const a = new Endpoint(cleanup, hosts.a);
    const b = new Endpoint(cleanup, hosts.b, {}, { rxSize: 4 });
    redirectTo(cleanup, hosts.b, [b.xsk], "skb");
    stock(b.xsk, 0, 16);
    const frames = Array.from({ length: 6 }, (_, i) => frame(hosts.a, hosts.b, 60, i));
    send(a.xsk, 0, frames);
    expect(receive(b.xsk, 6, 50).length).toBe(4);
    expect(b.xsk.statistics().rxRingFull).toBe(2);

    const none = new Endpoint(cleanup, hosts.b, {}, { queue: 1 });
    expect(none.xsk.statistics()).toEqual({
      rxDropped: 0,
      rxInvalidDescs: 0,
      txInvalidDescs: 0,
      rxRingFull: 0,
      rxFillRingEmptyDescs: 0,
      txRingEmptyDescs: 0,
    });

    // Outside the UMEM, beyond the chunk's end, unknown option.
    a.xsk.tx.set(0, 256 * 2048, 60, 0);
    a.xsk.tx.set(1, 2048 - 59, 60, 0);
    a.xsk.tx.set(2, 0, 60, 1 << 7);
    a.xsk.tx.submit(3);
    flush(a.xsk);
    expect(a.xsk.statistics().txInvalidDescs).toBe(3);
  });

  test("statistics: an empty fill ring drops, an entry outside the UMEM is skipped", () => {
    const a = new Endpoint(cleanup, hosts.a);
    const b = new Endpoint(cleanup, hosts.b);
    redirectTo(cleanup, hosts.b, [b.xsk], "skb");
    send(a.xsk, 0, [frame(hosts.a, hosts.b, 60, 0)]);
    expect(receive(b.xsk, 1, 20)).toEqual([]);
    expect(b.xsk.statistics()).toMatchObject({ rxDropped: 1, rxInvalidDescs: 0 });
    expect(b.xsk.statistics().rxFillRingEmptyDescs).toBeGreaterThan(0);
    stock(b.xsk, 256, 1);
    stock(b.xsk, 7, 1);
    send(a.xsk, 0, [frame(hosts.a, hosts.b, 60, 0), frame(hosts.a, hosts.b, 60, 1)]);
    expect(receive(b.xsk, 1, 50).map((f) => f.chunks)).toEqual([[7 * 2048]]);
  });

  test("busy polling: the three options are set, changed and turned off, and frames arrive throughout", () => {
    const a = new Endpoint(cleanup, hosts.a);
    const b = new Endpoint(cleanup, hosts.b, {}, { busyPoll: { usecs: 20, budget: 64 } });
    redirectTo(cleanup, hosts.b, [b.xsk], "native");
    stock(b.xsk, 0, 64);
    send(a.xsk, 0, [frame(hosts.a, hosts.b, 60, 0)]);
    expect(receive(b.xsk, 1).length).toBe(1);
    expect(busyPollOptions(b.xsk)).toEqual([1, 20]);
    b.xsk.setBusyPoll({ usecs: 0, budget: 8, prefer: false });
    expect(busyPollOptions(b.xsk)).toEqual([0, 0]);
    send(a.xsk, 0, [frame(hosts.a, hosts.b, 60, 0)]);
    expect(receive(b.xsk, 1).length).toBe(1);
  });

  test("one UMEM on two queues: each has its own four rings, frames may move between them", () => {
    const umem = cleanup.add(new Umem({ chunks: 256 }));
    const zero = openXsk(cleanup, hosts.b, umem, { queue: 0 });
    const one = openXsk(cleanup, hosts.b, umem, { queue: 1 });
    expect(umem.users.length).toBe(2);
    expect(one.fill).not.toBe(zero.fill);
    redirectTo(cleanup, hosts.b, [zero, one], "native");
    stock(zero, 0, 8);
    stock(one, 8, 8);
    // A veth's TX queue n feeds its peer's RX queue n.
    const a = cleanup.add(new Umem({ chunks: 64 }));
    const senders = [0, 1].map((queue) => openXsk(cleanup, hosts.a, a, { queue }));
    const frames = [0, 1].map((queue) => frame(hosts.a, hosts.b, 100, queue));
    for (const xsk of senders) send(xsk, xsk.queue, [frames[xsk.queue]]);
    const received = [zero, one].map((xsk) => receive(xsk, 1)[0]);
    expect(received.map((f) => f.bytes)).toEqual(frames);
    expect(received[0].chunks[0]).toBeLessThan(8 * 2048);
    expect(received[1].chunks[0]).toBeGreaterThanOrEqual(8 * 2048);
    // Zero copy between queues: what came in on queue 1 goes out by queue 0.
    const forwarded = received[1];
    zero.tx.set(0, forwarded.addresses[0], 100, 0);
    zero.tx.submit(1);
    flush(zero);
    expect(complete(zero, 1)).toEqual(forwarded.addresses);
  });

  test("two sockets on one queue share fill and completion ring; the first may leave", () => {
    const umem = cleanup.add(new Umem({ chunks: 64 }));
    const first = openXsk(cleanup, hosts.a, umem);
    const second = openXsk(cleanup, hosts.a, umem, { rxSize: 0 });
    expect(second.fill).toBe(first.fill);
    expect(second.completion).toBe(first.completion);
    expect(second.rx.available(64)).toBe(0);
    const b = new Endpoint(cleanup, hosts.b);
    redirectTo(cleanup, hosts.b, [b.xsk], "native");
    stock(b.xsk, 0, 32);
    const frames = [0, 1].map((i) => frame(hosts.a, hosts.b, 60, i));
    send(first, 0, [frames[0]]);
    send(second, 1, [frames[1]]);
    expect(receive(b.xsk, 2).map((f) => f.bytes)).toEqual(frames);
    expect(complete(first, 2)).toEqual([0, 2048]);
    first.close();
    send(second, 2, [frames[0]]);
    expect(receive(b.xsk, 1).length).toBe(1);
    expect(complete(second, 1)).toEqual([4096]);
    // Others may come by way of the second, on its queue or another, but one on its queue brings no fill ring.
    const other = openXsk(cleanup, hosts.a, umem, { queue: 1 });
    expect(openXsk(cleanup, hosts.a, umem, { queue: 1 }).fill).toBe(other.fill);
    expect(() => openXsk(cleanup, hosts.a, umem, { fillSize: 64 })).toThrow("are shared");
  });

  test("multi-buffer: a jumbo frame spans descriptors, both ways", () => {
    const jumbo = makeHosts({ mtu: 9000, ipv6: false });
    try {
      const a = new Endpoint(cleanup, jumbo.a, { multiBuffer: true });
      const b = new Endpoint(cleanup, jumbo.b, { multiBuffer: true });
      redirectTo(cleanup, jumbo.b, [b.xsk], "native", true);
      stock(b.xsk, 0, 64);
      const bytes = frame(jumbo.a, jumbo.b, 9014, 5);
      const pieces: number[] = [];
      for (let at = 0, i = 0; at < bytes.length; at += 2000, i++) {
        const piece = bytes.subarray(at, at + 2000);
        a.umem.memory.set(piece, i * 2048);
        a.xsk.tx.set(i, i * 2048, piece.length, at + 2000 < bytes.length ? 1 : 0);
        pieces.push(i * 2048);
      }
      a.xsk.tx.submit(pieces.length);
      flush(a.xsk);
      const [received] = receive(b.xsk, 1);
      expect(received.bytes).toEqual(bytes);
      expect(received.chunks.length).toBe(Math.ceil(9014 / b.umem.frameRoom));
      expect(complete(a.xsk, 5)).toEqual(pieces);
    } finally {
      cleanup.run();
      jumbo.close();
    }
  });

  test("without multi-buffer a frame longer than a chunk is dropped and counted", () => {
    const jumbo = makeHosts({ mtu: 3000, ipv6: false });
    try {
      const a = new Endpoint(cleanup, jumbo.a, { chunkSize: 4096, chunks: 8 });
      const b = new Endpoint(cleanup, jumbo.b);
      redirectTo(cleanup, jumbo.b, [b.xsk], "skb");
      stock(b.xsk, 0, 64);
      send(a.xsk, 0, [frame(jumbo.a, jumbo.b, 1793, 0), frame(jumbo.a, jumbo.b, 1792, 0)]);
      expect(receive(b.xsk, 2, 50).map((f) => f.bytes.length)).toEqual([1792]);
      expect(b.xsk.statistics().rxDropped).toBe(1);
    } finally {
      cleanup.run();
      jumbo.close();
    }
  });

  test("a held queue: EBUSY after the bounded time, with a hint; free again after close", () => {
    const holder = new Endpoint(cleanup, hosts.a);
    const umem = cleanup.add(new Umem({ chunks: 64 }));
    const xsk = hosts.a.ns.run(() => cleanup.add(new Xsk(umem, { ifindex: hosts.a.ifindex })));
    const start = performance.now();
    const error = errorOf(() => xsk.bind(50));
    expect(performance.now() - start).toBeGreaterThan(45);
    expect(error.code).toBe("EBUSY");
    expect(error.hint).toContain("another socket holds queue 0");
    holder.xsk.close();
    xsk.bind();
    expect(xsk.zeroCopy).toBe(false);
  });

  test("the queue of a socket just closed can be had at once", () => {
    for (let i = 0; i < 5; i++) {
      new Endpoint(cleanup, hosts.a);
      cleanup.run();
    }
  });

  test("errors name the call and what to do", () => {
    const umem = cleanup.add(new Umem({ chunks: 16 }));
    const noQueue = errorOf(() => openXsk(cleanup, hosts.a, umem, { queue: 7 }));
    expect([noQueue.code, noQueue.syscall]).toEqual(["EINVAL", "bind(AF_XDP)"]);
    expect(noQueue.hint).toContain("no queue 7");
    cleanup.run();
    const gone = errorOf(() => new Endpoint(cleanup, hosts.a, {}, { ifindex: 9999 }));
    expect([gone.code, gone.hint]).toEqual(["ENODEV", "no interface has index 9999 in this network namespace"]);
  });

  test("an interface that is down: kicks say ENETDOWN and nothing throws", () => {
    const a = new Endpoint(cleanup, hosts.a);
    hosts.a.rtnl.setLink(hosts.a.ifindex, { up: false });
    try {
      expect(a.xsk.kickTx()).toBe(-100);
      expect(a.xsk.kickRx()).toBe(-100);
    } finally {
      hosts.a.rtnl.setLink(hosts.a.ifindex, { up: true });
    }
  });

  test("a closed socket's rings are absent and its kicks fail, instead of touching foreign memory", () => {
    const { xsk, umem } = new Endpoint(cleanup, hosts.a);
    stock(xsk, 0, 8);
    umem.memory.fill(7);
    xsk.close();
    expect([xsk.rx.available(8), xsk.tx.reserve(8), xsk.fill.reserve(8), xsk.completion.available(8)]).toEqual([
      0, 0, 0, 0,
    ]);
    expect([xsk.kickTx(), xsk.kickRx()]).toEqual([-9, -9]);
    xsk.close();
    expect(umem.memory[umem.memory.length - 1]).toBe(7);
    umem.close();
    expect(umem.memory[umem.memory.length - 1]).toBe(0);
  });

  test("close leaves no kernel memory mapped, also when opening fails half-way", () => {
    const mapped = () =>
      readFileSync("/proc/self/maps", "utf8")
        .split("\n")
        .filter((line) => line.includes("socket:"));
    const a = new Endpoint(cleanup, hosts.a);
    expect(mapped().length).toBe(4);
    // RX and TX ring are mapped by the time this one is refused.
    expect(() => openXsk(cleanup, hosts.a, a.umem, { fillSize: 64 })).toThrow("are shared");
    expect(mapped().length).toBe(4);
    a.xsk.close();
    expect(mapped()).toEqual([]);
  });

  test("a UMEM in use cannot be closed; its first socket is bound before the second is opened", () => {
    const { umem } = new Endpoint(cleanup, hosts.a);
    expect(() => umem.close()).toThrow("1 sockets are still open");
    const other = cleanup.add(new Umem({ chunks: 16 }));
    hosts.b.ns.run(() => {
      cleanup.add(new Xsk(other, { ifindex: hosts.b.ifindex }));
      expect(() => new Xsk(other, { ifindex: hosts.b.ifindex, queue: 1 })).toThrow("bind its first socket");
    });
  });

  test("memory given from outside is used from its first page boundary", () => {
    const buffer = new SharedArrayBuffer(64 * PAGE_SIZE);
    const b = new Endpoint(cleanup, hosts.b, { buffer, chunks: 32 });
    const a = new Endpoint(cleanup, hosts.a);
    redirectTo(cleanup, hosts.b, [b.xsk], "native");
    stock(b.xsk, 0, 8);
    const bytes = frame(hosts.a, hosts.b, 60, 3);
    send(a.xsk, 0, [bytes]);
    const [{ addresses }] = receive(b.xsk, 1);
    const start = b.umem.memory.byteOffset + addresses[0];
    expect(
      Buffer.from(buffer)
        .subarray(start, start + 60)
        .equals(bytes),
    ).toBe(true);
  });
});

/** SO_PREFER_BUSY_POLL and SO_BUSY_POLL; the kernel does not tell SO_BUSY_POLL_BUDGET. */
function busyPollOptions(xsk: Xsk): number[] {
  return [abi.SO_PREFER_BUSY_POLL, abi.SO_BUSY_POLL].map((option) => {
    const value = new Int32Array(1);
    expect(sys.getsockoptInt(xsk.fd, abi.SOL_SOCKET, option, value)).toBe(0);
    return value[0];
  });
}

function errorOf(action: () => unknown): SysError {
  try {
    action();
  } catch (error) {
    if (error instanceof SysError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}
