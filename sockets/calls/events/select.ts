/** select(2) upon poll: which bits make a descriptor readable, writable and exceptional, as fs/select.c. */
import { ERRNO } from "af-xdp-bindings";
import {
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
  POLLPRI,
  POLLRDBAND,
  POLLRDNORM,
  POLLWRBAND,
  POLLWRNORM,
} from "../constants.ts";
import type { PollEntry } from "../socket-calls.ts";

const READABLE = POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR;
const WRITABLE = POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR;
const EXCEPTIONAL = POLLPRI;

/** fd_set: bit fd % 8 of byte fd / 8. */
export type DescriptorSet = Uint8Array | null;

const has = (set: DescriptorSet, fd: number): boolean => set !== null && ((set[fd >> 3] >> (fd & 7)) & 1) !== 0;

/**
 * The entries to poll for the descriptors below `count` that are in a set. -EBADF where one is not open.
 * @param isOpen whether a descriptor is
 */
export function selectEntries(
  count: number,
  read: DescriptorSet,
  write: DescriptorSet,
  except: DescriptorSet,
  isOpen: (fd: number) => boolean,
): PollEntry[] | number {
  const entries: PollEntry[] = [];
  for (let fd = 0; fd < count; fd++) {
    const events =
      (has(read, fd) ? READABLE : 0) | (has(write, fd) ? WRITABLE : 0) | (has(except, fd) ? EXCEPTIONAL : 0);
    if (events === 0) continue;
    if (!isOpen(fd)) return -ERRNO.EBADF;
    entries.push({ fd, events, revents: 0 });
  }
  return entries;
}

/** Whether select() would return for what an entry has: POLLHUP and POLLERR count where they were asked for alone. */
export const isSelected = ({ events, revents }: PollEntry): boolean => (events & revents) !== 0;

/** Leaves in the sets what is ready. Returns how many bits those are. */
export function putSelected(
  entries: readonly PollEntry[],
  count: number,
  read: DescriptorSet,
  write: DescriptorSet,
  except: DescriptorSet,
): number {
  let ready = 0;
  for (const [set, wanted] of [
    [read, READABLE],
    [write, WRITABLE],
    [except, EXCEPTIONAL],
  ] as const) {
    if (set === null) continue;
    const asked = set.slice();
    set.fill(0, 0, (count + 7) >> 3);
    for (const { fd, revents } of entries) {
      if (!has(asked, fd) || (revents & wanted) === 0) continue;
      set[fd >> 3] |= 1 << (fd & 7);
      ready++;
    }
  }
  return ready;
}
