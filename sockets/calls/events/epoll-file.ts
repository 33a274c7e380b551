/**
 * An epoll instance (epoll(7)) over files of the thread, as fs/eventpoll.c: level and edge triggered, one-shot, exclusive, nested.
 *
 * Descriptors of the kernel are watched by an instance of the kernel inside, which does for them what is done here for the others.
 */
import { ERRNO, sys } from "af-xdp-bindings";
import { Epoll } from "../../kernel/epoll.ts";
import {
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLLET,
  EPOLLEXCLUSIVE,
  EPOLLONESHOT,
  EPOLLWAKEUP,
  F_DUPFD_CLOEXEC,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
  POLLRDNORM,
} from "../constants.ts";
import { File } from "../file.ts";
import { KernelFile } from "../kernel-file.ts";
import type { EpollEvent } from "../socket-calls.ts";
import type { Waker } from "../wait-queue.ts";
import type { KernelWatch } from "./kernel-watch.ts";
import { NewsSources } from "./news-sources.ts";

/** Bits that say how, not what: EP_PRIVATE_BITS. */
const PRIVATE = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE;
/** What may stand beside EPOLLEXCLUSIVE: EPOLLEXCLUSIVE_OK_BITS. */
const EXCLUSIVE_OK = POLLIN | POLLOUT | POLLERR | POLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
/** Instances that may watch one another in a row: EP_MAX_NESTS, and the first one. */
const ROW_MAX = 5;

/** A descriptor and the file it stood for when it was added: closed and used again, it is another's. */
class Item {
  readonly fd: number;
  readonly file: File;
  events: number;
  data: number;
  waker: Waker | null = null;
  /** A duplicate of the kernel's descriptor, which its instance knows: two descriptors of a file are two items. */
  kernelFd = -1;

  constructor(fd: number, file: File, events: number, data: number) {
    this.fd = fd;
    this.file = file;
    this.events = events;
    this.data = data;
  }
}

export class EpollFile extends File {
  private readonly items = new Map<File, Map<number, Item>>();
  /** Instances among the files. */
  private readonly inside = new Set<EpollFile>();
  private readonly sources = new NewsSources();
  /** Items that may have something to tell, in the order in which they came to. */
  private readonly ready = new Set<Item>();
  /** Items of the kernel's instance, by their descriptors. */
  private readonly kernelItems = new Map<number, Item>();
  private kernelEpoll: Epoll | null = null;
  /** Calls that wait for it now: an exclusive item wakes an instance that somebody waits for. */
  waiting = 0;

  private readonly watch: KernelWatch;

  constructor(watch: KernelWatch) {
    super();
    this.watch = watch;
    instances.set(this.forget, this);
  }

  /** The kernel's instance inside, and inside those that it watches: readable when they have events. */
  override get kernelFds(): readonly number[] {
    const own = this.kernelEpoll === null ? [] : [this.kernelEpoll.fd];
    return own.concat(...[...this.inside].map((file) => file.kernelFds));
  }

  /** epoll_ctl(2) once the descriptor is found. Returns 0 or -errno. */
  control(operation: number, fd: number, file: File, event: EpollEvent): number {
    if (file === this) return -ERRNO.EINVAL;
    const { events } = event;
    if (operation !== EPOLL_CTL_DEL && (events & EPOLLEXCLUSIVE) !== 0) {
      if (operation === EPOLL_CTL_MOD) return -ERRNO.EINVAL;
      if (operation === EPOLL_CTL_ADD && (file instanceof EpollFile || (events & ~EXCLUSIVE_OK) !== 0)) {
        return -ERRNO.EINVAL;
      }
    }
    if (operation === EPOLL_CTL_ADD && file instanceof EpollFile) {
      if (file.reaches(this) || file.depth() + this.height() > ROW_MAX) return -ERRNO.ELOOP;
    }
    const item = this.items.get(file)?.get(fd);
    switch (operation) {
      case EPOLL_CTL_ADD:
        return item === undefined ? this.insert(new Item(fd, file, events, event.data)) : -ERRNO.EEXIST;
      case EPOLL_CTL_DEL:
        if (item === undefined) return -ERRNO.ENOENT;
        this.remove(item);
        return 0;
      case EPOLL_CTL_MOD:
        if (item === undefined) return -ERRNO.ENOENT;
        return (item.events & EPOLLEXCLUSIVE) !== 0 ? -ERRNO.EINVAL : this.modify(item, events, event.data);
      default:
        return -ERRNO.EINVAL;
    }
  }

  /** Takes up to `events.length` events that are there. Returns how many. */
  take(events: readonly EpollEvent[]): number {
    let count = 0;
    const again: Item[] = [];
    this.lookInside();
    for (const item of this.ready) {
      if (count === events.length) break;
      this.ready.delete(item);
      const revents = item.file.pollNow() & item.events & ~PRIVATE;
      if (revents === 0) continue;
      events[count].events = revents;
      events[count].data = item.data;
      count++;
      if ((item.events & EPOLLONESHOT) !== 0) item.events &= PRIVATE;
      else if ((item.events & EPOLLET) === 0) again.push(item);
    }
    for (const item of again) this.ready.add(item);
    return count + this.takeFromKernel(events, count);
  }

  override poll(): number {
    this.lookInside();
    for (const item of this.ready) {
      if ((item.file.pollNow() & item.events & ~PRIVATE) !== 0) return POLLIN | POLLRDNORM;
      this.ready.delete(item);
    }
    return this.kernelEpoll?.hasEvents() ? POLLIN | POLLRDNORM : 0;
  }

  override refresh(): void {
    for (const file of this.sources.files()) file.refresh();
  }

  override get newsFrom(): this {
    return this;
  }

  override seek(): number {
    return 0;
  }

  protected override release(): void {
    for (const items of [...this.items.values()]) for (const item of [...items.values()]) this.remove(item);
    if (this.kernelEpoll === null) return;
    this.watch.remove(this.kernelEpoll.fd);
    this.kernelEpoll.close();
    this.kernelEpoll = null;
  }

  private insert(item: Item): number {
    if (item.file instanceof KernelFile && item.file.isTheKernels) return this.insertInKernel(item, item.file.fd);
    item.events |= POLLERR | POLLHUP;
    const exclusive = (item.events & EPOLLEXCLUSIVE) !== 0;
    item.waker = (events) => this.changed(item, events, exclusive);
    item.file.queue.add(item.waker, exclusive);
    this.remember(item);
    this.look(item);
    return 0;
  }

  private modify(item: Item, events: number, data: number): number {
    item.data = data;
    if (item.waker === null) {
      const result = this.kernelControl(EPOLL_CTL_MOD, item, events);
      if (result === 0) item.events = events;
      return result;
    }
    item.events = events | POLLERR | POLLHUP;
    this.look(item);
    return 0;
  }

  private remove(item: Item): void {
    if (item.waker === null) {
      this.kernelControl(EPOLL_CTL_DEL, item, 0);
      this.kernelItems.delete(item.kernelFd);
      sys.close(item.kernelFd);
    } else {
      item.file.queue.remove(item.waker);
    }
    this.ready.delete(item);
    const items = this.items.get(item.file);
    items?.delete(item.fd);
    if (items?.size !== 0) return;
    this.items.delete(item.file);
    this.sources.remove(item.file);
    if (item.file instanceof EpollFile) this.inside.delete(item.file);
    item.file.watchers.delete(this.forget);
  }

  private remember(item: Item): void {
    let items = this.items.get(item.file);
    if (items === undefined) {
      items = new Map();
      this.items.set(item.file, items);
      this.sources.add(item.file);
      if (item.file instanceof EpollFile) this.inside.add(item.file);
      item.file.watchers.add(this.forget);
    }
    items.set(item.fd, item);
  }

  /** The file's last descriptor is closed. */
  private readonly forget = (file: File): void => {
    for (const item of [...(this.items.get(file)?.values() ?? [])]) this.remove(item);
  };

  /** Notes the item if there is something already. */
  private look(item: Item): void {
    if ((item.file.pollNow() & item.events & ~PRIVATE) === 0) return;
    this.ready.add(item);
    this.queue.wake(POLLIN | POLLRDNORM);
  }

  /** As ep_poll_callback(): returns whether somebody who waits has been woken. */
  private changed(item: Item, events: number, exclusive: boolean): boolean {
    if ((item.events & ~PRIVATE) === 0) return false;
    if (events !== 0 && (events & item.events) === 0) return false;
    this.ready.add(item);
    this.queue.wake(POLLIN | POLLRDNORM);
    return !exclusive || this.waiting > 0;
  }

  // ---- descriptors of the kernel ----

  private insertInKernel(item: Item, fd: number): number {
    if (this.kernelEpoll === null) {
      this.kernelEpoll = new Epoll();
      // Whoever waits already does not know it yet.
      if (!this.queue.empty) this.watched();
    }
    item.kernelFd = sys.sys3(sys.SYS.fcntl, fd, F_DUPFD_CLOEXEC, 0);
    if (item.kernelFd < 0) return item.kernelFd;
    const result = this.kernelControl(EPOLL_CTL_ADD, item, item.events);
    if (result < 0) {
      sys.close(item.kernelFd);
      return result;
    }
    this.kernelItems.set(item.kernelFd, item);
    this.remember(item);
    if (this.kernelEpoll.hasEvents()) this.queue.wake(POLLIN | POLLRDNORM);
    return 0;
  }

  private kernelControl(operation: number, item: Item, events: number): number {
    return this.kernelEpoll?.control(operation, item.kernelFd, events, item.kernelFd) ?? -ERRNO.ENOENT;
  }

  override watched(): void {
    for (const fd of this.kernelFds) this.watch.add(fd, this);
    for (const file of this.sources.files()) file.watched();
  }

  override get sleepLimitMs(): number {
    let least = Number.POSITIVE_INFINITY;
    for (const file of this.sources.files()) least = Math.min(least, file.sleepLimitMs);
    return least;
  }

  private takeFromKernel(events: readonly EpollEvent[], from: number): number {
    const epoll = this.kernelEpoll;
    if (epoll === null || from === events.length) return 0;
    const count = Math.max(epoll.wait(0, events.length - from), 0);
    for (let i = 0; i < count; i++) {
      events[from + i].events = epoll.event(i);
      events[from + i].data = this.kernelItems.get(epoll.data(i))?.data ?? 0;
    }
    return count;
  }

  // ---- instances in instances ----

  /** What the kernel has to tell to an instance inside nobody was woken for. */
  private lookInside(): void {
    for (const file of this.inside) {
      if (file.kernelFds.length === 0 || file.poll() === 0) continue;
      for (const item of this.items.get(file)?.values() ?? []) this.ready.add(item);
    }
  }

  /** Whether it watches the other one, by others too. */
  private reaches(other: EpollFile): boolean {
    if (this === other) return true;
    return [...this.inside].some((file) => file.reaches(other));
  }

  /** Instances in a row from this one down. */
  private depth(): number {
    return 1 + Math.max(0, ...[...this.inside].map((file) => file.depth()));
  }

  /** Instances in a row from this one up. */
  private height(): number {
    return 1 + Math.max(0, ...this.watchedBy.map((file) => file.height()));
  }

  /** Instances that watch this one. */
  private get watchedBy(): EpollFile[] {
    return [...this.watchers].flatMap((watcher) => instances.get(watcher) ?? []);
  }
}

/** Whose a watcher is: for the count of instances in a row. */
const instances = new WeakMap<(file: File) => void, EpollFile>();
