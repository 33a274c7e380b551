/** The event scenarios on the kernel's sockets, on files of the kernel in a process, and on the process's own sockets. */
import { afterAll, describe, expect, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import { AsyncCalls } from "../../sockets/calls/async-calls.ts";
import { AF_UNIX, EPOLL_CTL_ADD, POLLIN, SOCK_STREAM } from "../../sockets/calls/constants.ts";
import { KernelWatch } from "../../sockets/calls/events/kernel-watch.ts";
import { raisePipe } from "../../sockets/calls/events/signals.ts";
import { KernelCalls } from "../../sockets/calls/kernel-calls.ts";
import { KernelFamily, KernelFile } from "../../sockets/calls/kernel-file.ts";
import { SocketProcess } from "../../sockets/calls/process.ts";
import { plainSleeper } from "../../sockets/calls/sleep.ts";
import type { SocketCalls } from "../../sockets/calls/socket-calls.ts";
import { UnixFamily } from "../../sockets/calls/unix/family.ts";
import { EVENT_SCENARIOS, type LocalScenario } from "./event-scenarios.ts";
import { SIGNAL_SCENARIOS } from "./signal-scenarios.ts";

const watch = new KernelWatch();
afterAll(() => watch.close());

function played({ play }: LocalScenario, calls: SocketCalls): [string, unknown][] {
  const notes: [string, unknown][] = [];
  play(calls, (what, value) => notes.push([what, value]));
  return notes;
}

describe("events", () => {
  test.each(EVENT_SCENARIOS.map((scenario) => [scenario.name, scenario] as const))(
    "%s: files of the kernel",
    (_, scenario) => {
      const process = new SocketProcess(
        new Map([[AF_UNIX, new KernelFamily(AF_UNIX, watch)]]),
        plainSleeper,
        raisePipe,
      );
      expect(played(scenario, process)).toEqual(played(scenario, new KernelCalls()));
      process.exit();
    },
  );
});

describe("events of the process's own sockets", () => {
  test.each([...EVENT_SCENARIOS, ...SIGNAL_SCENARIOS].map((scenario) => [scenario.name, scenario] as const))(
    "%s",
    (_, scenario) => {
      const process = new SocketProcess(new Map([[AF_UNIX, new UnixFamily()]]), plainSleeper, raisePipe);
      expect(played(scenario, process)).toEqual(played(scenario, new KernelCalls()));
      process.exit();
    },
  );
});

describe("waiting", () => {
  const process = new SocketProcess(new Map([[AF_UNIX, new KernelFamily(AF_UNIX, watch)]]), plainSleeper, raisePipe);
  const awaited = new AsyncCalls(process);
  const kernel = new KernelCalls();
  /** One end in the process, the other one the kernel's own. */
  function pair(): { inside: number; outside: number } {
    const out = new Int32Array(2);
    kernel.socketpair(AF_UNIX, SOCK_STREAM, 0, out);
    return { inside: process.adopt(new KernelFile(out[0], watch)), outside: out[1] };
  }

  test("in the event loop: what comes, what never comes, and a descriptor that is closed meanwhile", async () => {
    const { inside, outside } = pair();
    setTimeout(() => kernel.write(outside, Uint8Array.of(9)), 5);
    const into = new Uint8Array(4);
    expect(await awaited.recvfrom(inside, into)).toBe(1);
    expect(into[0]).toBe(9);
    expect(await awaited.poll(inside, POLLIN, 10)).toBe(0);
    const closed = awaited.recvfrom(inside, into);
    setTimeout(() => process.close(inside), 5);
    // Nothing more happens there: the wait ends with the descriptor.
    expect(await closed).toBe(-ERRNO.EBADF);
    kernel.close(outside);
  });

  test("in the event loop, on an epoll instance in another one", async () => {
    const { inside, outside } = pair();
    const inner = process.epollCreate(0);
    const outer = process.epollCreate(0);
    process.epollControl(outer, EPOLL_CTL_ADD, inner, { events: POLLIN, data: 1 });
    const events = [{ events: 0, data: 0 }];
    expect(await awaited.epollWait(outer, events, 5)).toBe(0);
    const found = awaited.epollWait(outer, events);
    process.epollControl(inner, EPOLL_CTL_ADD, inside, { events: POLLIN, data: 2 });
    setTimeout(() => kernel.write(outside, Uint8Array.of(9)), 5);
    expect(await found).toBe(1);
    expect(events).toEqual([{ events: POLLIN, data: 1 }]);
    expect(await awaited.epollWait(inner, events)).toBe(1);
    expect(events).toEqual([{ events: POLLIN, data: 2 }]);
    for (const fd of [inside, inner, outer]) process.close(fd);
    kernel.close(outside);
  });

  test("with the thread blocked: another thread writes", () => {
    const { inside, outside } = pair();
    const writer = new Worker(
      URL.createObjectURL(
        new Blob([`import { writeSync } from "node:fs"; setTimeout(() => writeSync(${outside}, "x"), 5);`]),
      ),
    );
    expect(process.read(inside, new Uint8Array(4))).toBe(1);
    const epoll = process.epollCreate(0);
    process.epollControl(epoll, EPOLL_CTL_ADD, inside, { events: POLLIN, data: 2 });
    const started = performance.now();
    expect(process.epollWait(epoll, [{ events: 0, data: 0 }], 20)).toBe(0);
    expect(performance.now() - started).toBeGreaterThan(18);
    writer.terminate();
    for (const fd of [inside, epoll]) process.close(fd);
    kernel.close(outside);
  });
});
