/** Receives every frame of a queue, counts it and drops it: `bun examples/rxdrop.ts eth0 --queue 1`. */
import { args } from "./arguments.ts";
import { CHUNKS, openSocket, run } from "./common.ts";

const xsk = openSocket(true);
const { rx, fill, umem } = xsk;
const { batch, busyPoll } = args;

const room = fill.reserve(CHUNKS);
for (let i = 0; i < room; i++) fill.set(i, i * umem.chunkSize);
fill.submit(room);

await run(xsk, () => {
  // Every chunk is in the fill ring or the RX ring, so there is always room to give back what came.
  const n = rx.available(batch);
  if (n > 0) {
    fill.reserve(n);
    for (let i = 0; i < n; i++) fill.set(i, rx.chunk(i));
    rx.release(n);
    fill.submit(n);
  }
  // With busy polling this call is what receives; without, the kernel asks for it where it ran out of chunks.
  if (busyPoll > 0 || fill.needsWakeup()) xsk.kickRx();
  return n;
});
