/**
 * Tells files of the kernel, while the event loop runs, that something has happened there: a worker sleeps in epoll_wait(2) on all of
 * them and wakes this thread. It starts with the first file that is waited for, and holds no process.
 */
import { check, sys } from "af-xdp-bindings";
import { Epoll } from "../../kernel/epoll.ts";
import { EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLET, POLLIN, POLLOUT, POLLPRI, POLLRDHUP } from "../constants.ts";
import type { File } from "../file.ts";
import { E_BELL, E_HEAD, E_STOP, E_TAIL, EVENT_SLOTS, EVENTS_AT, type WatchStart } from "./kernel-watch-ring.ts";

const EFD_NONBLOCK_CLOEXEC = 0x80800;
/** The worker's own descriptor among those of files. */
const STOP = -1;
/** Any long time. */
const HOLD_MS = 1 << 30;

export class KernelWatch {
  /** Who is woken by a descriptor's events. */
  private readonly files = new Map<number, Set<File>>();
  private running: Running | null = null;
  /** Files that somebody waits for. */
  private readonly active = new Set<File>();
  private hold: ReturnType<typeof setInterval> | null = null;

  /** The file's queue is woken from now on when something happens at the descriptor. */
  add(fd: number, file: File): void {
    this.active.add(file);
    if (this.running === null) {
      this.running = this.start();
      void this.listen(this.running);
    }
    this.holdLoop();
    const files = this.files.get(fd);
    if (files !== undefined) {
      files.add(file);
      return;
    }
    this.files.set(fd, new Set([file]));
    const events = POLLIN | POLLPRI | POLLOUT | POLLRDHUP | EPOLLET;
    check(this.running.epoll.control(EPOLL_CTL_ADD, fd, events, fd), "epoll_ctl");
  }

  /** Before the descriptor is closed. */
  remove(fd: number): void {
    const files = this.files.get(fd);
    if (files === undefined) return;
    for (const file of files) this.active.delete(file);
    this.files.delete(fd);
    this.running?.epoll.control(EPOLL_CTL_DEL, fd, 0, 0);
    this.holdLoop();
  }

  /** Ends the worker. Files wake nobody from then on. */
  close(): void {
    const { running } = this;
    this.running = null;
    this.files.clear();
    this.active.clear();
    this.holdLoop();
    if (running === null) return;
    Atomics.store(running.words, E_STOP, 1);
    sys.write(running.stop, sys.addressOf(running.one), 8);
    Atomics.add(running.words, E_BELL, 1);
    Atomics.notify(running.words, E_BELL);
  }

  private start(): Running {
    const epoll = new Epoll();
    const stop = check(sys.eventfd(0, EFD_NONBLOCK_CLOEXEC), "eventfd2");
    check(epoll.control(EPOLL_CTL_ADD, stop, POLLIN, STOP), "epoll_ctl");
    const words = new Int32Array(new SharedArrayBuffer((EVENTS_AT + 2 * EVENT_SLOTS) * 4));
    const start: WatchStart = { epoll: epoll.fd, words };
    const worker = new Worker(new URL("./kernel-watch-worker.ts", import.meta.url).href);
    worker.addEventListener("message", () => {
      epoll.close();
      sys.close(stop);
    });
    worker.postMessage(start);
    worker.unref();
    return { epoll, stop, words, one: Int32Array.of(1, 0) };
  }

  private async listen({ words }: Running): Promise<void> {
    while (this.running?.words === words) {
      const bell = Atomics.load(words, E_BELL);
      this.drain(words);
      const result = Atomics.waitAsync(words, E_BELL, bell);
      if (result.async) await result.value;
    }
  }

  private drain(words: Int32Array): void {
    let tail = Atomics.load(words, E_TAIL);
    while (tail !== Atomics.load(words, E_HEAD)) {
      const at = EVENTS_AT + 2 * (tail & (EVENT_SLOTS - 1));
      const fd = words[at];
      const events = words[at + 1];
      tail = (tail + 1) | 0;
      Atomics.store(words, E_TAIL, tail);
      for (const file of this.files.get(fd) ?? []) file.queue.wake(events);
    }
    Atomics.notify(words, E_TAIL);
    this.holdLoop();
  }

  /** A pending Atomics.waitAsync does not hold the event loop (Bun 1.4.5): a timer does while somebody waits. */
  private holdLoop(): void {
    for (const file of this.active) if (file.queue.empty) this.active.delete(file);
    const wanted = this.active.size > 0;
    if (wanted === (this.hold !== null)) return;
    if (this.hold !== null) clearInterval(this.hold);
    this.hold = wanted ? setInterval(() => {}, HOLD_MS) : null;
  }
}

interface Running {
  readonly epoll: Epoll;
  /** An eventfd that ends the worker's wait. */
  readonly stop: number;
  readonly words: Int32Array;
  /** The 64-bit number that is written to it. */
  readonly one: Int32Array;
}
