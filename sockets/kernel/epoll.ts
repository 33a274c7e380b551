/** An epoll instance (epoll(7)) whose events are told by descriptor. */
import { check, ERRNO, sys } from "af-xdp-bindings";

export const EPOLLIN = 1;
export const EPOLLOUT = 4;
export const EPOLLERR = 8;
/** One event, then none until it is set anew. */
export const EPOLLONESHOT = 1 << 30;

const EPOLL_CLOEXEC = 0x80000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
/** Events taken at once. */
const EVENTS_MAX = 64;
/** struct epoll_event is packed on x86-64 and aligned on arm64: the data word lies at 4 or 8. */
const EVENT_WORDS = process.arch === "x64" ? 3 : 4;
const DATA = process.arch === "x64" ? 1 : 2;

export class Epoll {
  readonly fd: number;
  private readonly events = new Int32Array(EVENTS_MAX * EVENT_WORDS);
  private readonly eventsAddress = sys.addressOf(this.events);
  private readonly change = new Int32Array(4);
  private readonly changeAddress = sys.addressOf(this.change);
  /** struct pollfd { i32 fd; i16 events; i16 revents }, and a struct timespec of 0. */
  private readonly polled = new Int32Array(2);
  private readonly polledAddress = sys.addressOf(this.polled);
  private readonly noTime = new Int32Array(4);
  private readonly noTimeAddress = sys.addressOf(this.noTime);

  /** @param fd an instance that somebody else closes; default one of its own. Throws SysError. */
  constructor(fd = -1) {
    this.fd = fd >= 0 ? fd : check(sys.sys3(sys.SYS.epoll_create1, EPOLL_CLOEXEC, 0, 0), "epoll_create1");
  }

  /** Watches a descriptor for `events`, instead of those so far; for none it is taken out. `data` comes with its events. */
  watch(fd: number, before: number, events: number, data = fd): void {
    const operation = events === 0 ? EPOLL_CTL_DEL : before === 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    const result = this.control(operation, fd, events, data);
    // ENOSPC: /proc/sys/fs/epoll/max_user_watches.
    if (result < 0 && result !== -ERRNO.ENOENT) check(result, "epoll_ctl");
  }

  /** epoll_ctl(2). Returns 0 or -errno. */
  control(operation: number, fd: number, events: number, data: number): number {
    this.change[0] = events;
    this.change[DATA] = data;
    return sys.sys6(sys.SYS.epoll_ctl, this.fd, operation, fd, this.changeAddress, 0, 0);
  }

  /** Takes up to `most` events that are there, waiting for one up to `timeoutMs`. Returns how many, or -errno. */
  wait(timeoutMs: number, most = EVENTS_MAX): number {
    const count = Math.min(most, EVENTS_MAX);
    return sys.sys6(sys.SYS.epoll_pwait, this.fd, this.eventsAddress, count, timeoutMs, 0, 8);
  }

  /** Whether there are events. None is taken. */
  hasEvents(): boolean {
    this.polled[0] = this.fd;
    this.polled[1] = EPOLLIN;
    return sys.ppoll(this.polledAddress, 1, this.noTimeAddress) > 0;
  }

  /** Event i of the last wait(). */
  event(i: number): number {
    return this.events[i * EVENT_WORDS];
  }

  data(i: number): number {
    return this.events[i * EVENT_WORDS + DATA];
  }

  close(): void {
    sys.close(this.fd);
  }
}
