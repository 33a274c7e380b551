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
/** Bit i: the word SW_OPTIONS + i has been set, else the lcore's own default holds; SET_BITS: SW_FLAGS and SW_LOCKS have been. */
export const SW_SET = 1;
/** INHERITED_FLAGS of the FLAGS of a connection's record, INHERITED_LOCKS of its LOCKS. */
export const SW_FLAGS = 2;
export const SW_LOCKS = 3;
/** From here on the words of a connection's record that STREAM_OPTIONS names, in its order. */
export const SW_OPTIONS = 4;
export const STREAM_OPTIONS: readonly number[] = INHERITED;
export const SET_BITS = 1 << 30;

/** Sets the word of an option by its place in a connection's record (sockets/tcp/tcb.ts). False: it is none of them. */
export function setStreamOption(stream: Int32Array, id: number, field: number, value: number): boolean {
  const option = STREAM_OPTIONS.indexOf(field);
  if (option < 0) return false;
  const base = id * STREAM_WORDS;
  stream[base + SW_OPTIONS + option] = value;
  stream[base + SW_SET] |= 1 << option;
  return true;
}

/** Takes all options of the record at `c` of `w` into the plane's words of socket `id`. */
export function storeStream(stream: Int32Array, id: number, w: Int32Array, c: number): void {
  const base = id * STREAM_WORDS;
  for (let i = 0; i < STREAM_OPTIONS.length; i++) stream[base + SW_OPTIONS + i] = w[c + STREAM_OPTIONS[i]];
  stream[base + SW_FLAGS] = w[c + FLAGS] & INHERITED_FLAGS;
  stream[base + SW_LOCKS] = w[c + LOCKS] & INHERITED_LOCKS;
  stream[base + SW_SET] = ((1 << STREAM_OPTIONS.length) - 1) | SET_BITS;
}

/** Gives the record at `c` of `w` those options of socket `id` that have been set. */
export function loadStream(stream: Int32Array, id: number, w: Int32Array, c: number): void {
  const base = id * STREAM_WORDS;
  const set = stream[base + SW_SET];
  for (let i = 0; i < STREAM_OPTIONS.length; i++)
    if ((set & (1 << i)) !== 0) w[c + STREAM_OPTIONS[i]] = stream[base + SW_OPTIONS + i];
  if ((set & SET_BITS) === 0) return;
  w[c + FLAGS] = (w[c + FLAGS] & ~INHERITED_FLAGS) | (stream[base + SW_FLAGS] & INHERITED_FLAGS);
  w[c + LOCKS] = (w[c + LOCKS] & ~INHERITED_LOCKS) | (stream[base + SW_LOCKS] & INHERITED_LOCKS);
}
