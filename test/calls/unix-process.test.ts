/** What sockets of AF_UNIX do that no comparison shows: who waits is woken, files of the kernel go along, circles are collected. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import { AsyncCalls } from "../../sockets/calls/async-calls.ts";
import {
  AF_UNIX,
  AF_UNSPEC,
  MSG_DONTWAIT,
  POLLHUP,
  POLLOUT,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
} from "../../sockets/calls/constants.ts";
import { KernelWatch } from "../../sockets/calls/events/kernel-watch.ts";
import { raisePipe } from "../../sockets/calls/events/signals.ts";
import { KernelCalls } from "../../sockets/calls/kernel-calls.ts";
import { KernelFile } from "../../sockets/calls/kernel-file.ts";
import { SocketProcess } from "../../sockets/calls/process.ts";
import { plainSleeper } from "../../sockets/calls/sleep.ts";
import { UnixFamily } from "../../sockets/calls/unix/family.ts";
import { SO_PASSPIDFD, SO_RCVTIMEO, SOL_SOCKET } from "../../sockets/options.ts";
import { openIn } from "./unix/compare.ts";
import {
  abstractName,
  bytes,
  closeAll,
  connection,
  pairOf,
  pollOf,
  rights,
  send,
  setOption,
  shownTake,
  socketOf,
  take,
} from "./unix/tools.ts";

setDefaultTimeout(60_000);

const watch = new KernelWatch();
afterAll(() => watch.close());
const newProcess = (): SocketProcess =>
  new SocketProcess(new Map([[AF_UNIX, new UnixFamily(watch)]]), plainSleeper, raisePipe, watch);

/** A call that waits: pending until `act` has been done. */
async function waitsFor<T>(call: Promise<T>, act: () => unknown): Promise<T> {
  let done = false;
  void call.then(() => {
    done = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(done).toBe(false);
  act();
  return call;
}

describe("who waits in the event loop is woken", () => {
  const calls = newProcess();
  const awaited = new AsyncCalls(calls);
  const full = (fd: number, size = 3000): number => {
    let count = 0;
    while (calls.sendto(fd, new Uint8Array(size), MSG_DONTWAIT, null) === size) count++;
    return count;
  };

  for (const [label, type] of [
    ["stream", SOCK_STREAM],
    ["dgram", SOCK_DGRAM],
    ["seqpacket", SOCK_SEQPACKET],
  ] as const) {
    test(`${label}: by what is sent, by room, by the end`, async () => {
      const [a, b] = pairOf(calls, type);
      const into = new Uint8Array(8);
      expect(await waitsFor(awaited.recvfrom(b, into), () => send(calls, a, bytes(1, 2)))).toBe(2);
      const count = full(a);
      const drain = (): void => {
        for (let i = 0; i <= count; i++) calls.recvfrom(b, new Uint8Array(3000), MSG_DONTWAIT, null);
      };
      expect(await waitsFor(awaited.sendto(a, bytes(7)), drain)).toBe(1);
      calls.recvfrom(b, into, MSG_DONTWAIT, null);
      expect(await waitsFor(awaited.recvfrom(b, into), () => calls.shutdown(b, SHUT_RD))).toBe(0);
      expect(await waitsFor(awaited.recvfrom(a, into), () => calls.close(a))).toBe(-ERRNO.EBADF);
      closeAll(calls, b);
    });
  }

  test("by a peer that closes, with and without something unread", async () => {
    for (const unread of [0, 1]) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      if (unread > 0) send(calls, a, bytes(1));
      const result = await waitsFor(awaited.recvfrom(a, new Uint8Array(4)), () => calls.close(b));
      expect(result).toBe(unread > 0 ? -ERRNO.ECONNRESET : 0);
      closeAll(calls, a);
    }
  });

  test("by room in a queue that is not its peer's: connected, and sending to a name", async () => {
    const receiver = socketOf(calls, SOCK_DGRAM);
    calls.bind(receiver, abstractName("crowd"));
    const [x, y] = [socketOf(calls, SOCK_DGRAM), socketOf(calls, SOCK_DGRAM)];
    calls.connect(x, abstractName("crowd"));
    expect(full(x, 1)).toBe(11);
    const read = (): number => calls.recvfrom(receiver, new Uint8Array(4), MSG_DONTWAIT, null);
    expect(await waitsFor(awaited.sendto(x, bytes(1)), read)).toBe(1);
    expect(await waitsFor(awaited.sendto(y, bytes(1), 0, abstractName("crowd")), read)).toBe(1);
    expect(await waitsFor(awaited.poll(x, POLLOUT), read)).toBe(POLLOUT);
    expect(
      await waitsFor(
        awaited.sendto(y, bytes(1), 0, abstractName("crowd")).then(() => awaited.sendto(x, bytes(1))),
        () => calls.close(receiver),
      ),
    ).toBe(-ERRNO.ECONNREFUSED);
    closeAll(calls, x, y);
  });

  test("by a connection, and by room for one", async () => {
    const listener = socketOf(calls, SOCK_STREAM);
    calls.bind(listener, abstractName("door"));
    calls.listen(listener, 0);
    const clients = [0, 1].map(() => socketOf(calls, SOCK_STREAM));
    const accepted = await waitsFor(awaited.accept4(listener), () => calls.connect(clients[0], abstractName("door")));
    expect(accepted).toBeGreaterThan(0);
    const third = socketOf(calls, SOCK_STREAM);
    expect(calls.connect(clients[1], abstractName("door"))).toBe(0);
    let second = -1;
    const accept = (): void => {
      second = calls.accept4(listener, null, 0);
    };
    expect(await waitsFor(awaited.connect(third, abstractName("door")), accept)).toBe(0);
    const last = socketOf(calls, SOCK_STREAM);
    expect(await waitsFor(awaited.connect(last, abstractName("door")), () => calls.close(listener))).toBe(
      -ERRNO.ECONNREFUSED,
    );
    closeAll(calls, ...clients, third, last, accepted, second);
  });

  test("by a listener that is shut down, and a longer backlog", async () => {
    const listener = socketOf(calls, SOCK_SEQPACKET);
    calls.bind(listener, abstractName("door"));
    calls.listen(listener, 0);
    const [first, second] = [socketOf(calls, SOCK_SEQPACKET), socketOf(calls, SOCK_SEQPACKET)];
    calls.connect(first, abstractName("door"));
    expect(await waitsFor(awaited.connect(second, abstractName("door")), () => calls.listen(listener, 5))).toBe(0);
    closeAll(calls, calls.accept4(listener, null, 0), calls.accept4(listener, null, 0));
    expect(await waitsFor(awaited.accept4(listener), () => calls.shutdown(listener, SHUT_RDWR))).toBe(-ERRNO.EINVAL);
    closeAll(calls, listener, first, second);
  });

  test("by datagrams that are thrown away, and the error of it", async () => {
    const [a, b] = pairOf(calls, SOCK_DGRAM);
    send(calls, a, bytes(1));
    expect(await waitsFor(awaited.recvfrom(a, new Uint8Array(4)), () => calls.connect(b, bytes(AF_UNSPEC, 0)))).toBe(
      -ERRNO.ECONNRESET,
    );
    closeAll(calls, a, b);
  });

  test("not longer than SO_RCVTIMEO, and not at all by what cannot concern it", async () => {
    const [a, b] = pairOf(calls, SOCK_STREAM);
    calls.setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, new Uint8Array(BigInt64Array.of(0n, 8000n).buffer));
    expect(await awaited.recvfrom(b, new Uint8Array(4))).toBe(-ERRNO.EAGAIN);
    calls.shutdown(a, SHUT_WR);
    expect(await awaited.recvfrom(b, new Uint8Array(4))).toBe(0);
    closeAll(calls, a, b);
  });

  test("nothing is left open", () => expect(openIn(calls)).toBe(0));
});

describe("files in flight", () => {
  test("descriptors of the kernel, epoll instances and processes", () => {
    const calls = newProcess();
    const kernel = new KernelCalls();
    const out = new Int32Array(2);
    kernel.socketpair(AF_UNIX, SOCK_STREAM, 0, out);
    const inside = calls.adopt(new KernelFile(out[0], watch));
    const epoll = calls.epollCreate(0);
    const [a, b] = pairOf(calls, SOCK_DGRAM);
    setOption(calls, b, SO_PASSPIDFD, 1);
    send(calls, a, bytes(1), { control: [rights(inside, epoll)] });
    closeAll(calls, inside, epoll);
    const { fds } = take(calls, b);
    expect(fds).toHaveLength(3);
    expect(calls.write(fds[0], bytes(5))).toBe(1);
    expect(kernel.read(out[1], new Uint8Array(4))).toBe(1);
    // This process goes on, so nothing is told of its end.
    expect(pollOf(calls, fds[2])).toBe(0);
    closeAll(calls, a, b, ...fds);
    expect(kernel.read(out[1], new Uint8Array(4))).toBe(0);
    kernel.close(out[1]);
    calls.exit();
  });

  /** Whether the other end of what the circle held hears that it is gone. */
  const isCollected = (circle: (calls: SocketProcess, held: number) => void): boolean => {
    const calls = newProcess();
    const [held, outside] = pairOf(calls, SOCK_STREAM);
    circle(calls, held);
    calls.close(held);
    const gone = (pollOf(calls, outside) & POLLHUP) !== 0;
    calls.close(outside);
    expect(openIn(calls)).toBe(0);
    return gone;
  };

  test("a socket in its own queue", () => {
    const circle = (calls: SocketProcess, held: number): void => {
      const [a, b] = pairOf(calls, SOCK_DGRAM);
      send(calls, a, bytes(1), { control: [rights(b, held)] });
      closeAll(calls, a, b);
    };
    expect(isCollected(circle)).toBe(true);
  });

  test("rings of sockets, each in the next one's queue", () => {
    for (const size of [2, 3, 50]) {
      const circle = (calls: SocketProcess, held: number): void => {
        const pairs = Array.from({ length: size }, () => pairOf(calls, SOCK_STREAM));
        pairs.forEach(([, inner], i) => {
          const [sender] = pairs[(i + 1) % size];
          send(calls, sender, bytes(1), { control: [i === 0 ? rights(inner, held) : rights(inner)] });
        });
        closeAll(calls, ...pairs.flat());
      };
      expect(isCollected(circle)).toBe(true);
    }
  });

  test("a connection that is not accepted holds what was sent over it", () => {
    const circle = (calls: SocketProcess, held: number): void => {
      const listener = socketOf(calls, SOCK_STREAM);
      calls.bind(listener, abstractName("ring"));
      calls.listen(listener, 4);
      const client = socketOf(calls, SOCK_STREAM);
      calls.connect(client, abstractName("ring"));
      send(calls, client, bytes(1), { control: [rights(listener, client, held)] });
      closeAll(calls, listener, client);
    };
    expect(isCollected(circle)).toBe(true);
  });

  test("what somebody still has a descriptor of stays, and all that it leads to", () => {
    const calls = newProcess();
    const [held, outside] = pairOf(calls, SOCK_STREAM);
    const [listener, client, accepted] = connection(calls, SOCK_SEQPACKET, "kept");
    const [a, b] = pairOf(calls, SOCK_DGRAM);
    send(calls, client, bytes(1), { control: [rights(b)] });
    send(calls, a, bytes(2), { control: [rights(accepted, held)] });
    closeAll(calls, held, a, b);
    expect(pollOf(calls, outside) & POLLHUP).toBe(0);
    const first = take(calls, accepted);
    const second = take(calls, first.fds[0]);
    expect(second.fds).toHaveLength(2);
    closeAll(calls, ...first.fds, ...second.fds, listener, client, accepted);
    expect(pollOf(calls, outside) & POLLHUP).toBe(POLLHUP);
    calls.close(outside);
    expect(openIn(calls)).toBe(0);
  });

  test("a chain of any length", () => {
    const calls = newProcess();
    const [held, outside] = pairOf(calls, SOCK_STREAM);
    let inner = held;
    for (let i = 0; i < 5000; i++) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      send(calls, a, bytes(1), { control: [rights(inner)] });
      closeAll(calls, a, inner);
      inner = b;
    }
    expect(pollOf(calls, outside)).toBe(POLLOUT | 0x300);
    calls.close(inner);
    expect(pollOf(calls, outside) & POLLHUP).toBe(POLLHUP);
    calls.close(outside);
    expect(openIn(calls)).toBe(0);
  });
});

describe("within a thread", () => {
  test("names are of one family: two processes with it share them, others do not", () => {
    const family = new UnixFamily(watch);
    const [one, two, other] = [family, family, new UnixFamily(watch)].map(
      (of) => new SocketProcess(new Map([[AF_UNIX, of]]), plainSleeper, raisePipe),
    );
    const receiver = socketOf(one, SOCK_DGRAM);
    expect(one.bind(receiver, abstractName("shared"))).toBe(0);
    const sender = socketOf(two, SOCK_DGRAM);
    expect(send(two, sender, bytes(1), { to: abstractName("shared") })).toBe(1);
    expect(shownTake(one, receiver)).toMatchObject({ result: 1 });
    const stranger = socketOf(other, SOCK_DGRAM);
    expect(send(other, stranger, bytes(1), { to: abstractName("shared") })).toBe(-ERRNO.ECONNREFUSED);
    for (const each of [one, two, other]) each.exit();
  });

  test("the end of a process closes what it has", () => {
    const family = new UnixFamily(watch);
    const calls = new SocketProcess(new Map([[AF_UNIX, family]]), plainSleeper, raisePipe);
    const fd = socketOf(calls, SOCK_STREAM);
    calls.bind(fd, abstractName("ends"));
    calls.listen(fd, 1);
    calls.exit();
    const again = new SocketProcess(new Map([[AF_UNIX, family]]), plainSleeper, raisePipe);
    expect(again.bind(socketOf(again, SOCK_STREAM), abstractName("ends"))).toBe(0);
    again.exit();
  });
});
