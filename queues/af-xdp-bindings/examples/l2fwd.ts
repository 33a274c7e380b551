/** Sends every frame of a queue back where it came from, MAC addresses swapped: `bun examples/l2fwd.ts eth0`. */
import { args } from "./arguments.ts";
import { CHUNKS, openSocket, run } from "./common.ts";

const xsk = openSocket(true);
const { rx, tx, fill, completion, umem } = xsk;
const { batch, busyPoll } = args;

// Half of the chunks start out in the fill ring; from there they circulate: fill, RX, TX, completion, fill.
const room = fill.reserve(CHUNKS / 2);
for (let i = 0; i < room; i++) fill.set(i, i * umem.chunkSize);
fill.submit(room);

/** Frame memory in 16-bit words: received data starts at an even offset. */
const words = new Uint16Array(umem.memory.buffer, umem.memory.byteOffset, umem.memory.byteLength >> 1);

function swapAddresses(address: number): void {
  const at = address >> 1;
  for (let i = at; i < at + 3; i++) {
    const word = words[i];
    words[i] = words[i + 3];
    words[i + 3] = word;
  }
}

await run(xsk, () => {
  const done = completion.available(batch);
  if (done > 0) {
    fill.reserve(done);
    for (let i = 0; i < done; i++) fill.set(i, completion.address(i) & umem.chunkMask);
    completion.release(done);
    fill.submit(done);
  }

  const n = tx.reserve(rx.available(batch));
  for (let i = 0; i < n; i++) {
    const address = rx.address(i);
    swapAddresses(address);
    tx.set(i, address, rx.length(i), rx.options(i));
  }
  if (n > 0) {
    rx.release(n);
    tx.submit(n);
  }
  // With busy polling either call drives the queue; without, each is made only when there is something to do.
  if (tx.needsWakeup() && tx.pending() > 0) xsk.kickTx();
  else if (busyPoll > 0 || fill.needsWakeup()) xsk.kickRx();
  return n;
});
