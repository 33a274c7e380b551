/** A load of datagrams on kernel sockets, one a flow, which spins on one epoll instance. */
import { check, ERRNO, sys } from "af-xdp-bindings";
import { EPOLLIN, Epoll } from "../../sockets/kernel/epoll.ts";
import { G, type LoadBoard, SLACK_NS } from "./board.ts";
import type { Load } from "./load-worker.ts";
import { Slots } from "./slots.ts";

const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
/** Datagrams sent in a turn at most. */
const BURST = 64;
const BUFFER_BYTES = 65_536;
/** Bytes that name slot and use, each followed by its complement, as the generator on bare queues has them. */
const NAME_BYTES = 8;

export interface DatagramOptions {
  readonly flows: number;
  readonly size: number;
  readonly window: number;
  readonly timeoutMs: number;
}

/** Opens its sockets in the thread's network namespace. */
export function kernelUdp(
  board: LoadBoard,
  { flows, size, window, timeoutMs }: DatagramOptions,
  family: number,
  sockaddr: Uint8Array,
): Load {
  const { counters } = board;
  const slots = new Slots(board, window, timeoutMs);
  const epoll = new Epoll();
  const fds = Array.from({ length: flows }, () => {
    const fd = check(sys.socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
    check(sys.connect(fd, sockaddr), "connect");
    epoll.watch(fd, 0, EPOLLIN);
    return fd;
  });
  const out = Uint8Array.from({ length: size }, (_, i) => i);
  const name = new Uint16Array(out.buffer, 0, NAME_BYTES / 2);
  const outAddress = sys.addressOf(out);
  const buffer = new Uint8Array(BUFFER_BYTES);
  const heard = new Uint16Array(buffer.buffer, 0, NAME_BYTES / 2);
  const address = sys.addressOf(buffer);
  let sending = false;
  let intervalNs = 0;
  let dueNs = 0;
  let flow = 0;

  const receive = (fd: number): void => {
    const length = sys.recvfrom(fd, address, BUFFER_BYTES, 0, 0, 0);
    // ECONNREFUSED is the answer to an earlier datagram: it will be lost.
    if (length < 0) return;
    const named = length >= NAME_BYTES && heard[2] === (heard[0] ^ 0xffff) && heard[3] === (heard[1] ^ 0xffff);
    if (!named) {
      counters[G.wrong]++;
      return;
    }
    const right = length === size && (size === NAME_BYTES || buffer[size - 1] === ((size - 1) & 0xff));
    slots.answer(heard[0], heard[1], Bun.nanoseconds(), right);
  };

  /** False when the kernel has no room for it now. */
  const push = (due: number): boolean => {
    const slot = slots.next;
    const use = slots.use(slot);
    name[0] = slot;
    name[1] = use;
    name[2] = ~slot;
    name[3] = ~use;
    const result = sys.sendto(fds[flow], outAddress, size, 0, 0, 0);
    if (result === -ERRNO.EAGAIN || result === -ERRNO.ENOBUFS) {
      counters[G.txFull]++;
      return false;
    }
    if (result < 0 && result !== -ERRNO.ECONNREFUSED) check(result, "send");
    flow = flow + 1 === flows ? 0 : flow + 1;
    counters[G.sent]++;
    slots.take(due);
    return true;
  };

  const transmit = (now: number): number => {
    let count = 0;
    if (intervalNs === 0) {
      while (count < BURST && slots.free > 0 && push(now)) count++;
      return count;
    }
    while (count < BURST && dueNs <= now) {
      if (now - dueNs > SLACK_NS) counters[G.behind]++;
      else if (slots.free === 0) counters[G.skipped]++;
      else if (!push(dueNs)) break;
      board.lag.record(now - dueNs);
      dueNs += intervalNs;
      count++;
    }
    return count;
  };

  return {
    send: (on, rate) => {
      if (on && !sending) {
        dueNs = Bun.nanoseconds();
        intervalNs = rate === 0 ? 0 : 1e9 / rate;
      }
      sending = on;
    },
    turn: () => {
      const count = epoll.wait(0);
      for (let i = 0; i < count; i++) receive(epoll.data(i));
      const now = Bun.nanoseconds();
      slots.expire(now);
      counters[G.turns]++;
      return Math.max(count, 0) + (sending ? transmit(now) : 0);
    },
    close: () => {
      for (const fd of fds) sys.close(fd);
      epoll.close();
    },
  };
}
