/** How a thread without an engine waits: for descriptors of the kernel, or for time to pass. */
import { sys } from "af-xdp-bindings";
import type { Sleeper, Wait } from "./process.ts";

/** struct pollfd { i32 fd; i16 events; i16 revents }. */
const POLLFD_BYTES = 8;
/** The longest sleep without looking around, milliseconds: any. */
const LONG_MS = 1 << 30;

/**
 * ppoll(2) over the files' descriptors of the kernel, and `also`, which is waited for to be readable.
 * @param also a descriptor, or -1
 */
export function sleepOnKernel(waits: readonly Wait[], also: number, timeoutMs: number): void {
  const watched = waits.flatMap(({ file, events }) => file.kernelFds.map((fd) => ({ fd, events })));
  const view = new DataView(new ArrayBuffer((watched.length + 1) * POLLFD_BYTES));
  watched.forEach(({ fd, events }, i) => {
    view.setInt32(i * POLLFD_BYTES, fd, true);
    view.setInt16(i * POLLFD_BYTES + 4, events, true);
  });
  view.setInt32(watched.length * POLLFD_BYTES, also, true);
  view.setInt16(watched.length * POLLFD_BYTES + 4, 1, true);
  const ms = Math.min(timeoutMs, LONG_MS);
  const time = BigInt64Array.of(BigInt(Math.floor(ms / 1000)), BigInt(Math.ceil((ms % 1000) * 1e6)));
  sys.ppoll(sys.addressOf(view), watched.length + 1, sys.addressOf(time));
}

export const plainSleeper: Sleeper = {
  progress() {},
  sleep(waits, timeoutMs) {
    sleepOnKernel(waits, -1, timeoutMs);
  },
};
