/** The other thread of worker.test.ts: receives through views of the rings, and keeps the fill ring stocked. */
import { FillRing, type RingMemory, RxRing } from "af-xdp-bindings";

declare const self: Worker;

export interface Task {
  rx: RingMemory;
  fill: RingMemory;
  memory: Uint8Array<SharedArrayBuffer>;
  chunkMask: number;
  frames: number;
  /** One word: frames received so far, written by the worker. */
  progress: Int32Array<SharedArrayBuffer>;
}

self.onmessage = ({ data }: MessageEvent<Task>) => {
  const { memory, frames } = data;
  const rx = new RxRing(data.rx, data.chunkMask);
  const fill = new FillRing(data.fill);
  self.postMessage("ready");
  let seen = 0;
  let sum = 0;
  const deadline = performance.now() + 3000;
  while (seen < frames && performance.now() < deadline) {
    const n = rx.available(16);
    for (let i = 0; i < n; i++) sum += memory[rx.address(i) + rx.length(i) - 1];
    if (fill.reserve(n) < n) throw new Error("the fill ring has fewer slots than chunks came out of it");
    for (let i = 0; i < n; i++) fill.set(i, rx.chunk(i));
    rx.release(n);
    fill.submit(n);
    seen += n;
    Atomics.store(data.progress, 0, seen);
  }
  self.postMessage({ seen, sum });
};
