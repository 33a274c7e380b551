/** Answers come where ReplyQueue says: the hash of the frame that carries them, as a NIC or the wire in memory takes it. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  RSS_INDIRECTION,
  RSS_KEY_MICROSOFT,
  RSS_KEY_SYMMETRIC,
  rssHash,
  rssQueue,
  Toeplitz,
} from "../../queues/rss.ts";
import { deviceRss, memoryRss, ReplyQueue } from "../../sockets/stream/reply-queue.ts";
import { F_V6, FLAGS, LOCAL, PORTS, REMOTE, TCB_WORDS } from "../../sockets/tcp/tcb.ts";
import { writeInt32, writeUint16 } from "../../sockets/wire/views.ts";

const QUEUES = [[0, 2], [1]];

/** An Ethernet frame of TCP from `remote` to `local`, as far as the hash looks. */
function answer(v6: boolean, local: number[], remote: number[], localPort: number, remotePort: number): Uint8Array {
  const header = v6 ? 40 : 20;
  const bytes = new Uint8Array(14 + header + 20);
  writeUint16(bytes, 12, v6 ? 0x86dd : 0x0800);
  bytes[14] = v6 ? 0x60 : 0x45;
  writeUint16(bytes, v6 ? 18 : 16, v6 ? 20 : 40);
  bytes[v6 ? 20 : 23] = 6;
  const at = v6 ? 22 : 26;
  const words = v6 ? 4 : 1;
  for (let i = 0; i < words; i++) {
    writeInt32(bytes, at + 4 * i, remote[4 - words + i]);
    writeInt32(bytes, at + 4 * (words + i), local[4 - words + i]);
  }
  writeUint16(bytes, 14 + header, remotePort);
  writeUint16(bytes, 14 + header + 2, localPort);
  return bytes;
}

const words = fc.array(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), { minLength: 4, maxLength: 4 });
const port = fc.integer({ min: 1, max: 65535 });

test.each([
  ["a wire in memory", memoryRss(QUEUES), RSS_KEY_SYMMETRIC],
  [
    "a device with Microsoft's key",
    deviceRss(
      Array.from({ length: RSS_INDIRECTION }, (_, i) => i % 3),
      RSS_KEY_MICROSOFT,
      QUEUES,
    ),
    RSS_KEY_MICROSOFT,
  ],
] as const)("%s", (_, rss, key) => {
  if (rss === null) throw new Error("not known");
  const replies = new ReplyQueue(rss);
  const toeplitz = new Toeplitz(key);
  const w = new Int32Array(TCB_WORDS);
  fc.assert(
    fc.property(fc.boolean(), words, words, port, port, (v6, local, remote, localPort, remotePort) => {
      w[FLAGS] = v6 ? F_V6 : 0;
      w.set(local, LOCAL);
      w.set(remote, REMOTE);
      w[PORTS] = (localPort << 16) | remotePort;
      const frame = answer(v6, local, remote, localPort, remotePort);
      const queue = rssQueue(rssHash(toeplitz, frame, 0, frame.length), 3);
      expect(replies.of(w, 0)).toBe(queue === 1 ? 1 : 0);
    }),
  );
});

test("a table that is none, a short key: not known", () => {
  expect(deviceRss([], RSS_KEY_MICROSOFT, QUEUES)).toBeNull();
  expect(deviceRss([0, 1, 2], RSS_KEY_MICROSOFT, QUEUES)).toBeNull();
  expect(deviceRss([0, 1], new Uint8Array(10), QUEUES)).toBeNull();
});
