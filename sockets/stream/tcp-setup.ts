/** What an lcore's TCP is made of. */
import { LARGE_AREA } from "../../queues/large.ts";
import type { RssWiring } from "./reply-queue.ts";

/** Bytes through which what an application reads passes where it has to. */
export const TCP_PASSING_BYTES = 65_536;
/** Bytes for the headers of a packet of many segments: TCP's and those before it. */
export const TCP_HEADERS_BYTES = 128;
/** Bytes behind the buffers in an lcore's memory for both. */
export const TCP_SCRATCH_BYTES = TCP_PASSING_BYTES + TCP_HEADERS_BYTES;

/** Where what lies behind the frames of an lcore's memory begins. */
export interface TcpLayout {
  readonly buffers: number;
  readonly passing: number;
  readonly headers: number;
  /** Packets longer than a frame. */
  readonly large: number;
}

/** The layout of a memory of `bytes` bytes. */
export function tcpLayout(bytes: number, bufferBytes: number): TcpLayout {
  const large = bytes - LARGE_AREA;
  const headers = large - TCP_HEADERS_BYTES;
  const passing = headers - TCP_PASSING_BYTES;
  return { buffers: passing - bufferBytes, passing, headers, large };
}

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
