/** A load of TCP exchanges on kernel sockets, which spins on one epoll instance. */
import { check, ERRNO, sys } from "af-xdp-bindings";
import { EPOLLERR, EPOLLIN, EPOLLOUT, Epoll } from "../../sockets/kernel/epoll.ts";
import type { LoadBoard } from "./board.ts";
import { type Carrier, type ExchangeOptions, Exchanges } from "./exchanges.ts";
import type { Load } from "./load-worker.ts";

const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const SO_LINGER = 13;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const MSG_NOSIGNAL = 0x4000;
const EPOLLHUP = 16;
const READ_BYTES = 1 << 18;

/** Opens its sockets in the thread's network namespace. */
export function kernelTcp(board: LoadBoard, options: ExchangeOptions, family: number, sockaddr: Uint8Array): Load {
  const epoll = new Epoll();
  const fds = new Int32Array(options.connections).fill(-1);
  /** Events each slot is watched for; 0: it is not connected yet. */
  const watched = new Int32Array(options.connections);
  const connected = new Uint8Array(options.connections);
  const buffer = new Uint8Array(READ_BYTES);
  const address = sys.addressOf(buffer);
  const outBox: { bytes: Uint8Array | null; address: number } = { bytes: null, address: 0 };
  const error = new Int32Array(1);
  /** struct linger: on, for no time: a reset, so that no port waits in TIME_WAIT. */
  const linger = Int32Array.of(1, 0);
  const refused: number[] = [];

  const watch = (slot: number, events: number): void => {
    if (watched[slot] === events) return;
    epoll.watch(fds[slot], watched[slot], events, slot);
    watched[slot] = events;
  };
  const carrier: Carrier = {
    connect: (slot) => {
      const fd = check(sys.socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
      sys.setsockoptInt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
      sys.setsockopt(fd, SOL_SOCKET, SO_LINGER, linger);
      fds[slot] = fd;
      watched[slot] = 0;
      connected[slot] = 0;
      const result = sys.connect(fd, sockaddr);
      if (result < 0 && result !== -ERRNO.EINPROGRESS) refused.push(slot);
      else watch(slot, EPOLLIN | EPOLLOUT);
    },
    write: (slot, bytes, offset, length) => {
      // One buffer for all requests: its address is asked for once.
      if (outBox.bytes !== bytes) {
        outBox.bytes = bytes;
        outBox.address = sys.addressOf(bytes);
      }
      const taken = sys.sendto(fds[slot], outBox.address + offset, length, MSG_NOSIGNAL, 0, 0);
      watch(slot, taken < length ? EPOLLIN | EPOLLOUT : EPOLLIN);
      return taken;
    },
    drop: (slot) => {
      // Closing takes it out of the epoll instance.
      if (fds[slot] >= 0) sys.close(fds[slot]);
      fds[slot] = -1;
      watched[slot] = 0;
    },
  };
  const exchanges = new Exchanges(board, carrier, options);

  const ready = (slot: number, events: number): void => {
    if (fds[slot] < 0) return;
    if (connected[slot] === 0) {
      sys.getsockoptInt(fds[slot], SOL_SOCKET, SO_ERROR, error);
      if (error[0] !== 0 || (events & (EPOLLERR | EPOLLHUP)) !== 0) {
        exchanges.closed(slot);
        return;
      }
      connected[slot] = 1;
      watch(slot, EPOLLIN);
      exchanges.opened(slot);
      return;
    }
    if ((events & EPOLLOUT) !== 0) exchanges.writable(slot);
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) === 0 || fds[slot] < 0) return;
    const count = sys.recvfrom(fds[slot], address, READ_BYTES, 0, 0, 0);
    if (count > 0) exchanges.data(slot, buffer, 0, count);
    else if (count !== -ERRNO.EAGAIN) exchanges.closed(slot);
  };
  return {
    send: (on, rate) => exchanges.send(on, rate),
    turn: () => {
      for (let slot = refused.pop(); slot !== undefined; slot = refused.pop()) exchanges.closed(slot);
      const count = epoll.wait(0);
      for (let i = 0; i < count; i++) ready(epoll.data(i), epoll.event(i));
      return exchanges.turn() + Math.max(count, 0);
    },
    close: () => {
      for (const fd of fds) if (fd >= 0) sys.close(fd);
      epoll.close();
    },
  };
}
