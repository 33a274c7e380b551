import { afterAll, describe, expect, test } from "bun:test";
import { Umem } from "af-xdp-bindings";
import { makeHosts, requires } from "../../support/hosts.ts";
import type { Task } from "./rx-worker.ts";
import { Cleanup, complete, Endpoint, flush, frame, openXsk, receive, redirectTo, send, stock } from "./support.ts";

describe.skipIf(requires("netns", "veth", "af_xdp", "bpf") !== "")("UMEM and rings in other threads", () => {
  const cleanup = new Cleanup();
  afterAll(() => cleanup.run());

  test("a worker receives through views of the rings, while this thread sends", async () => {
    const FRAMES = 500;
    const hosts = cleanup.add(makeHosts({ ipv6: false }));
    const a = new Endpoint(cleanup, hosts.a);
    // Fewer chunks than frames: the worker has to hand them back.
    const b = new Endpoint(cleanup, hosts.b, { chunks: 64 });
    redirectTo(cleanup, hosts.b, [b.xsk], "native");
    stock(b.xsk, 0, 64);
    const worker = new Worker(new URL("./rx-worker.ts", import.meta.url).href);
    const next = () =>
      new Promise<MessageEvent>((resolve) => worker.addEventListener("message", resolve, { once: true }));
    const ready = next();
    const { memory, chunkMask } = b.umem;
    const progress = new Int32Array(new SharedArrayBuffer(4));
    const task: Task = { rx: b.xsk.rx.memory, fill: b.xsk.fill.memory, memory, chunkMask, frames: FRAMES, progress };
    worker.postMessage(task);
    expect((await ready).data).toBe("ready");
    const done = next();
    let sum = 0;
    for (let i = 0; i < FRAMES; i++) {
      const bytes = frame(hosts.a, hosts.b, 60 + (i % 100), i);
      sum += bytes[bytes.length - 1];
      // The worker may be behind by fewer frames than there are chunks.
      for (let wait = 0; i - Atomics.load(progress, 0) >= 64 && wait < 1000; wait++) await Bun.sleep(1);
      send(a.xsk, i % 200, [bytes]);
      expect(complete(a.xsk, 1).length).toBe(1);
    }
    expect((await done).data).toEqual({ seen: FRAMES, sum });
    expect(b.xsk.statistics()).toMatchObject({ rxDropped: 0, rxRingFull: 0 });
  });

  test("registeredAt: a socket opened elsewhere on the same memory joins the registration", () => {
    const hosts = cleanup.add(makeHosts({ queues: 2, ipv6: false }));
    const owner = new Endpoint(cleanup, hosts.b);
    const { buffer } = owner.umem.memory;
    const umem = cleanup.add(new Umem({ chunks: 256, buffer, registeredAt: owner.xsk.fd }));
    const guest = openXsk(cleanup, hosts.b, umem, { queue: 1 });
    // On the owner's own queue the guest brings no fill or completion ring: the queue has them.
    const sender = openXsk(cleanup, hosts.b, umem, { fillSize: 0, completionSize: 0, rxSize: 0 });
    redirectTo(cleanup, hosts.b, [owner.xsk, guest], "native");
    stock(guest, 0, 8);
    const peer = cleanup.add(new Umem({ chunks: 16 }));
    const from = [0, 1].map((queue) => openXsk(cleanup, hosts.a, peer, { queue }));
    redirectTo(cleanup, hosts.a, from, "native");
    stock(from[0], 8, 8);
    const there = frame(hosts.a, hosts.b, 99, 1);
    send(from[1], 0, [there]);
    const [received] = receive(guest, 1);
    expect(received.bytes).toEqual(there);
    sender.tx.set(0, received.addresses[0], 99, 0);
    sender.tx.submit(1);
    flush(sender);
    expect(receive(from[0], 1).map((f) => f.bytes)).toEqual([there]);
    expect(complete(owner.xsk, 1)).toEqual(received.addresses);
  });
});
