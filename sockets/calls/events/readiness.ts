/** poll(2), select(2) and epoll(7) on the files of a thread. */
import { ERRNO } from "af-xdp-bindings";
import { EPOLL_CLOEXEC, EPOLL_CTL_DEL, POLLERR, POLLHUP, POLLNVAL } from "../constants.ts";
import type { File } from "../file.ts";
import type { FileTable } from "../file-table.ts";
import { KernelCalls } from "../kernel-calls.ts";
import { KernelFile } from "../kernel-file.ts";
import type { Sleeper, Wait } from "../process.ts";
import type { EpollEvent, PollEntry } from "../socket-calls.ts";
import { EpollFile } from "./epoll-file.ts";
import type { KernelWatch } from "./kernel-watch.ts";
import { NewsSources } from "./news-sources.ts";
import { type DescriptorSet, isSelected, putSelected, selectEntries } from "./select.ts";

/** Always told, whether asked for or not. */
const ALWAYS = POLLERR | POLLHUP;
/** As EP_MAX_EVENTS: INT_MAX over the size of an event. */
const EVENTS_MAX = 178956970;

const kernel = new KernelCalls();

function eventsOf({ fd, events }: PollEntry, file: File | null): number {
  if (fd < 0) return 0;
  return file === null ? POLLNVAL : file.pollNow() & (events | ALWAYS);
}

export class Readiness {
  private readonly descriptors: FileTable;
  private readonly sleeper: Sleeper;

  private readonly watch: KernelWatch;

  constructor(descriptors: FileTable, sleeper: Sleeper, watch: KernelWatch) {
    this.descriptors = descriptors;
    this.sleeper = sleeper;
    this.watch = watch;
  }

  poll(entries: readonly PollEntry[], timeoutMs: number): number {
    return this.until(timeoutMs, entries, () => this.pollAll(entries));
  }

  select(count: number, read: DescriptorSet, write: DescriptorSet, except: DescriptorSet, timeoutMs: number): number {
    if (count < 0) return -ERRNO.EINVAL;
    const isOpen = (fd: number): boolean => this.descriptors.get(fd) !== null;
    const entries = selectEntries(count, read, write, except, isOpen);
    if (typeof entries === "number") return entries;
    this.until(timeoutMs, entries, () => {
      this.pollAll(entries);
      return entries.filter(isSelected).length;
    });
    return putSelected(entries, count, read, write, except);
  }

  /** The file of epoll_create1(2), or -errno. */
  createEpoll(flags: number): EpollFile | number {
    return (flags & ~EPOLL_CLOEXEC) !== 0 ? -ERRNO.EINVAL : new EpollFile(this.watch);
  }

  control(epoll: number, operation: number, fd: number, event: EpollEvent | null): number {
    const instance = this.descriptors.get(epoll);
    const file = this.descriptors.get(fd);
    if (operation !== EPOLL_CTL_DEL && event === null) return -ERRNO.EFAULT;
    if (instance === null || file === null) return -ERRNO.EBADF;
    if (!(instance instanceof EpollFile)) return -ERRNO.EINVAL;
    return instance.control(operation, fd, file, event ?? { events: 0, data: 0 });
  }

  wait(epoll: number, events: readonly EpollEvent[], timeoutMs: number): number {
    if (events.length === 0 || events.length > EVENTS_MAX) return -ERRNO.EINVAL;
    const file = this.descriptors.get(epoll);
    if (file === null) return -ERRNO.EBADF;
    if (!(file instanceof EpollFile)) return -ERRNO.EINVAL;
    const attempt = (): number => {
      file.refresh();
      return file.take(events);
    };
    file.waiting++;
    try {
      return this.until(timeoutMs, [{ fd: epoll, events: 1 }], attempt);
    } finally {
      file.waiting--;
    }
  }

  /** Fills `revents`. Returns how many have some. News are fetched once from each source, and the kernel is asked once. */
  private pollAll(entries: readonly PollEntry[]): number {
    const files = entries.map(({ fd }) => (fd < 0 ? null : this.descriptors.get(fd)));
    const sources = new NewsSources();
    for (const file of files) if (file !== null) sources.add(file);
    for (const file of sources.files()) file.refresh();
    const ofKernel: { entry: PollEntry; asked: PollEntry }[] = [];
    entries.forEach((entry, i) => {
      const file = files[i];
      if (file instanceof KernelFile && file.isTheKernels) {
        ofKernel.push({ entry, asked: { fd: file.fd, events: entry.events, revents: 0 } });
      } else {
        entry.revents = eventsOf(entry, file);
      }
    });
    if (ofKernel.length > 0)
      kernel.poll(
        ofKernel.map(({ asked }) => asked),
        0,
      );
    for (const { entry, asked } of ofKernel) entry.revents = asked.revents;
    let ready = 0;
    for (const { revents } of entries) if (revents !== 0) ready++;
    return ready;
  }

  /** Looks until there is something, or the time (negative: none) is over. */
  private until(timeoutMs: number, watched: readonly { fd: number; events: number }[], look: () => number): number {
    const deadline = timeoutMs < 0 ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
    for (;;) {
      this.sleeper.progress();
      const found = look();
      const left = deadline - performance.now();
      if (found !== 0 || left <= 0) return found;
      const waits = this.waits(watched);
      let limit = left;
      for (const { file } of waits) limit = Math.min(limit, file.sleepLimitMs);
      this.sleeper.sleep(waits, limit);
    }
  }

  private waits(watched: readonly { fd: number; events: number }[]): Wait[] {
    return watched.flatMap(({ fd, events }) => {
      const file = fd < 0 ? null : this.descriptors.get(fd);
      return file === null ? [] : [{ file, events }];
    });
  }
}
