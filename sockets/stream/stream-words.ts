/**
 * What the socket table holds of a TCP socket besides its record there: the options that its connections begin with, and
 * its backlog. STREAM_WORDS int32 words a socket in the table's plane `stream`, written by the socket's home thread with
 * the table's mutex held; the lcores read them when the change log names the socket.
 */
import { INHERITED, INHERITED_FLAGS, INHERITED_LOCKS } from "../tcp/inherited.ts";
import { FLAGS, LOCKS } from "../tcp/tcb.ts";

export const STREAM_WORDS = 24;

/** Of listen(2): connections that may wait, 0 to 2^31 - 1, not yet bounded by somaxconn. */
export const SW_BACKLOG = 0;
/** 1: the words behind have been stored, else the lcore's own defaults hold. */
const SW_STORED = 1;
/** INHERITED_FLAGS of the FLAGS of a connection's record, INHERITED_LOCKS of its LOCKS. */
const SW_FLAGS = 2;
const SW_LOCKS = 3;
/** From here on the words of a connection's record that STREAM_OPTIONS names, in its order. */
const SW_OPTIONS = 4;
export const STREAM_OPTIONS: readonly number[] = INHERITED;

/** Takes all options of the record at `c` of `w` into the plane's words of socket `id`. */
export function storeStream(stream: Int32Array, id: number, w: Int32Array, c: number): void {
  const base = id * STREAM_WORDS;
  for (let i = 0; i < STREAM_OPTIONS.length; i++) stream[base + SW_OPTIONS + i] = w[c + STREAM_OPTIONS[i]];
  stream[base + SW_FLAGS] = w[c + FLAGS] & INHERITED_FLAGS;
  stream[base + SW_LOCKS] = w[c + LOCKS] & INHERITED_LOCKS;
  stream[base + SW_STORED] = 1;
}

/** Gives the record at `c` of `w` the options of socket `id`, where any have been stored. */
export function loadStream(stream: Int32Array, id: number, w: Int32Array, c: number): void {
  const base = id * STREAM_WORDS;
  if (stream[base + SW_STORED] === 0) return;
  for (let i = 0; i < STREAM_OPTIONS.length; i++) w[c + STREAM_OPTIONS[i]] = stream[base + SW_OPTIONS + i];
  w[c + FLAGS] = (w[c + FLAGS] & ~INHERITED_FLAGS) | (stream[base + SW_FLAGS] & INHERITED_FLAGS);
  w[c + LOCKS] = (w[c + LOCKS] & ~INHERITED_LOCKS) | (stream[base + SW_LOCKS] & INHERITED_LOCKS);
}
