/** What KernelWatch and its worker share: events on their way, (descriptor, POLL bits) each, and the bell. */

/** Words: the bell, counted up and notified by the worker; what the worker has written; what the thread has read; 1 to end. */
export const E_BELL = 0;
export const E_HEAD = 1;
export const E_TAIL = 2;
export const E_STOP = 3;
export const EVENTS_AT = 16;
/** Events on their way at most, a power of two: the worker waits for room. */
export const EVENT_SLOTS = 1024;

export interface WatchStart {
  readonly epoll: number;
  readonly words: Int32Array;
}
