/** The worker of a KernelWatch: see there. */
import { Epoll } from "../../kernel/epoll.ts";
import { E_BELL, E_HEAD, E_STOP, E_TAIL, EVENT_SLOTS, EVENTS_AT, type WatchStart } from "./kernel-watch-ring.ts";

declare const self: Worker;

const FOR_EVER = -1;

self.onmessage = ({ data }: MessageEvent<WatchStart>): void => {
  const { words } = data;
  const epoll = new Epoll(data.epoll);
  while (Atomics.load(words, E_STOP) === 0) {
    const count = epoll.wait(FOR_EVER);
    for (let i = 0; i < count; i++) {
      const head = words[E_HEAD];
      let tail = Atomics.load(words, E_TAIL);
      while (((head - tail) | 0) === EVENT_SLOTS && Atomics.load(words, E_STOP) === 0) {
        Atomics.wait(words, E_TAIL, tail);
        tail = Atomics.load(words, E_TAIL);
      }
      const at = EVENTS_AT + 2 * (head & (EVENT_SLOTS - 1));
      words[at] = epoll.data(i);
      words[at + 1] = epoll.event(i);
      Atomics.store(words, E_HEAD, (head + 1) | 0);
    }
    Atomics.add(words, E_BELL, 1);
    Atomics.notify(words, E_BELL);
  }
  self.postMessage("ended");
};
