/** On which lcore the answers to a connection will arrive, where the NIC's hash is known. */
import { RSS_INDIRECTION, RSS_KEY_SYMMETRIC, Toeplitz } from "../../queues/rss.ts";
import { F_V6, FLAGS, LOCAL, PORTS, REMOTE } from "../tcp/tcb.ts";
import { writeInt32, writeUint16 } from "../wire/views.ts";

/** How an interface spreads what it receives. */
export interface RssWiring {
  /** Key of the Toeplitz hash, 40 bytes. */
  readonly key: Uint8Array;
  /** lcore of each entry of the indirection table, -1: of a queue that none has. A power of two of them. */
  readonly lcores: readonly number[];
}

/** Of a wire in memory, whose queues are dealt out as `queues` says. */
export function memoryRss(queues: readonly (readonly number[])[]): RssWiring {
  const count = queues.flat().length;
  const lcores = Array.from({ length: RSS_INDIRECTION }, (_, i) => lcoreOf(queues, i % count));
  return { key: RSS_KEY_SYMMETRIC, lcores };
}

/** Of a device with an indirection table. Null: its hash is not one that is known here. */
export function deviceRss(
  table: readonly number[],
  key: Uint8Array,
  queues: readonly (readonly number[])[],
): RssWiring | null {
  const isPower = table.length > 0 && (table.length & (table.length - 1)) === 0;
  if (!isPower || key.length < KEY_BYTES) return null;
  return { key: key.slice(0, KEY_BYTES), lcores: table.map((queue) => lcoreOf(queues, queue)) };
}

const KEY_BYTES = 40;
const lcoreOf = (queues: readonly (readonly number[])[], queue: number): number =>
  queues.findIndex((own) => own.includes(queue));

export class ReplyQueue {
  private readonly toeplitz: Toeplitz;
  private readonly lcores: Int8Array;
  /** Source and destination of an answer, then their ports. */
  private readonly input = new Uint8Array(36);

  constructor({ key, lcores }: RssWiring) {
    this.toeplitz = new Toeplitz(key);
    this.lcores = Int8Array.from(lcores);
  }

  /** The lcore that gets the answers to the connection in record `c`, or -1. */
  of(w: Int32Array, c: number): number {
    const { input } = this;
    const words = (w[c + FLAGS] & F_V6) !== 0 ? 4 : 1;
    const skip = 4 - words;
    for (let i = 0; i < words; i++) {
      writeInt32(input, 4 * i, w[c + REMOTE + skip + i]);
      writeInt32(input, 4 * (words + i), w[c + LOCAL + skip + i]);
    }
    writeUint16(input, 8 * words, w[c + PORTS] & 0xffff);
    writeUint16(input, 8 * words + 2, w[c + PORTS] >>> 16);
    const hash = this.toeplitz.add(0, input, 0, 8 * words + 4, 0);
    return this.lcores[hash & (this.lcores.length - 1)];
  }
}
