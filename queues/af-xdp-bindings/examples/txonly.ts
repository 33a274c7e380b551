/** Sends one frame over and over, as fast as it goes: `bun examples/txonly.ts eth0 --dst 02:00:5e:00:53:01`. */
import { args } from "./arguments.ts";
import { CHUNKS, openSocket, run } from "./common.ts";

const xsk = openSocket(false);
const { tx, completion, umem } = xsk;
const { batch, length, dst } = args;

// The local experimental EtherType (IEEE 802), after the destination and a locally administered source.
const frame = new Uint8Array(length);
frame.set(Uint8Array.from(dst.split(":"), (byte) => Number.parseInt(byte, 16)));
frame.set([0x02, 0, 0, 0, 0, 0x02, 0x88, 0xb5], 6);

/** Chunks that are neither in the TX ring nor on their way back from it. */
const free = new Int32Array(CHUNKS);
let freeCount = CHUNKS;
for (let chunk = 0; chunk < CHUNKS; chunk++) {
  free[chunk] = chunk * umem.chunkSize;
  umem.memory.set(frame, free[chunk]);
}

await run(xsk, () => {
  const done = completion.available(batch);
  for (let i = 0; i < done; i++) free[freeCount++] = completion.address(i);
  if (done > 0) completion.release(done);

  const n = Math.min(tx.reserve(batch), freeCount);
  for (let i = 0; i < n; i++) tx.set(i, free[--freeCount], length, 0);
  if (n > 0) tx.submit(n);
  // EAGAIN and ENOBUFS mean "again later", and the next step comes soon.
  if (tx.needsWakeup()) xsk.kickTx();
  return done;
});
