/** Threads by their ids in the kernel: what tells those that have died from those that are slow. */
import { existsSync } from "node:fs";
import { sys } from "af-xdp-bindings";

/** This thread's id; 0 before it was asked for. */
let own = 0;

/** gettid(2) of the calling thread. */
export function ownThreadId(): number {
  if (own === 0) own = sys.gettid();
  return own;
}

/** Whether a thread of this process has ended, all of it. */
export function isThreadGone(tid: number): boolean {
  return !existsSync(`/proc/self/task/${tid}`);
}
