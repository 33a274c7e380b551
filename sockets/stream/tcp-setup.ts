/** What an lcore's TCP is made of. */
import { LARGE_AREA } from "../../queues/large.ts";
import type { RssWiring } from "./reply-queue.ts";

/** Where what lies behind the frames of an lcore's memory of `bytes` bytes begins: buffers, scratch, packets longer than a frame. */
export function tcpLayout(bytes: number, bufferBytes: number): { buffers: number; scratch: number; large: number } {
  const large = bytes - LARGE_AREA;
  const scratch = large - TCP_SCRATCH_BYTES;
  return { buffers: scratch - bufferBytes, scratch, large };
}

/** Bytes behind the buffers in an lcore's memory, through which applications' bytes come and go. */
export const TCP_SCRATCH_BYTES = 65_536;

export interface TcpSetup {
  /** Four random words, the same on every lcore. */
  readonly secret: Int32Array;
  readonly seed: number;
  /** Raw sockets for packets whose way only the kernel knows, -1 where there is none. */
  readonly raw4: number;
  readonly raw6: number;
  /** How the interface spreads what it receives, null where that is not known. */
  readonly rss: RssWiring | null;
}
