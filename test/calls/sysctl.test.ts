/** The values of net.core that an engine has: the host's, set, seen by other threads, and obeyed. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { ERRNO } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import { createMemoryWire } from "../../queues/memory.ts";
import { AF_INET, SOCK_DGRAM } from "../../sockets/calls/constants.ts";
import { controlInt } from "../../sockets/calls/control.ts";
import { KernelCalls } from "../../sockets/calls/kernel-calls.ts";
import { messageOf, nameOf } from "../../sockets/calls/message.ts";
import { encodeAddress } from "../../sockets/calls/sockaddr.ts";
import type { SocketCalls } from "../../sockets/calls/socket-calls.ts";
import { SO_RCVBUF, SO_SNDBUF, SOL_SOCKET } from "../../sockets/options.ts";
import type { SYSCTLS } from "../../sockets/sysctl.ts";
import { CleanUp, startOnWire } from "../own/support.ts";
import { makeHosts, requires } from "../support/hosts.ts";

setDefaultTimeout(30_000);

const cleanUp = new CleanUp();
afterEach(() => cleanUp.run());

const onWire = (): Promise<Engine> => startOnWire(createMemoryWire(), 0, cleanUp);

async function besideKernel(): Promise<Engine> {
  const hosts = makeHosts();
  cleanUp.add(() => hosts.close());
  const engine = await Engine.start({ interface: hosts.a.name, netns: hosts.a.ns.path });
  cleanUp.add(() => engine.close());
  return engine;
}

function buffer(calls: SocketCalls, fd: number, name: number): number {
  const value = new Int32Array(1);
  expect(calls.getsockopt(fd, SOL_SOCKET, name, new Uint8Array(value.buffer))).toBe(4);
  return value[0];
}

/** SO_RCVBUF and SO_SNDBUF of a new socket, and after more was asked for than there is. */
function buffers(calls: SocketCalls): number[] {
  const fd = calls.socket(AF_INET, SOCK_DGRAM, 0);
  const found = [SO_RCVBUF, SO_SNDBUF].map((name) => buffer(calls, fd, name));
  for (const name of [SO_RCVBUF, SO_SNDBUF]) {
    expect(calls.setsockopt(fd, SOL_SOCKET, name, controlInt(2 ** 30))).toBe(0);
    found.push(buffer(calls, fd, name));
  }
  calls.close(fd);
  return found;
}

const cases: [string, () => Promise<Engine>][] = [["on a wire in memory", onWire]];
if (requires("veth", "af_xdp", "bpf") === "") cases.push(["beside the kernel", besideKernel]);

describe.each(cases)("%s", (_, start) => {
  test("are the host's at first, and sockets as the kernel's", async () => {
    const engine = await start();
    for (const name of ["rmem_default", "rmem_max", "wmem_default", "wmem_max", "optmem_max"] as const) {
      expect(engine.sysctl.get(name)).toBe(Number(readFileSync(`/proc/sys/net/core/${name}`, "utf8")));
    }
    expect(buffers(engine.calls())).toEqual(buffers(new KernelCalls()));
  });

  test("new sockets have the defaults that are set, and no more than the most", async () => {
    const engine = await start();
    const other = Engine.attach(engine.descriptor());
    cleanUp.add(() => other.detach());
    engine.sysctl.set("rmem_default", 100_000);
    engine.sysctl.set("wmem_default", 50_000);
    engine.sysctl.set("rmem_max", 300_000);
    other.sysctl.set("wmem_max", 200_000);
    for (const each of [engine, other]) {
      expect(buffers(each.calls())).toEqual([100_000, 50_000, 600_000, 400_000]);
      expect(each.udp().getsockopt(SOL_SOCKET, SO_RCVBUF)).toBe(100_000);
    }
    // Above what the host allows.
    const most = 2 * engine.sysctl.host("rmem_max");
    engine.sysctl.set("rmem_max", most);
    expect(buffers(engine.calls())[2]).toBe(2 * most);
  });

  test("optmem_max bounds the control messages of a send", async () => {
    const engine = await start();
    const calls = engine.calls();
    const fd = calls.socket(AF_INET, SOCK_DGRAM, 0);
    const name = nameOf(encodeAddress({ family: AF_INET, address: "198.18.0.2", port: 9 }));
    // Of a level that nobody reads.
    const send = (bytes: number): number => {
      const control = new Uint8Array(bytes);
      new DataView(control.buffer).setUint32(0, bytes, true);
      control[8] = 99;
      return calls.sendmsg(fd, { ...messageOf(Uint8Array.of(1)), name, control, controlLength: bytes }, 0);
    };
    engine.sysctl.set("optmem_max", 200);
    expect([send(36), send(192), send(200), send(2000)]).toEqual([1, 1, -ERRNO.ENOBUFS, -ERRNO.ENOBUFS]);
  });
});

test("what the kernel refuses is refused, what only it obeys is not taken", async () => {
  const { sysctl } = await onWire();
  const code = (name: (typeof SYSCTLS)[number], value: number): string => {
    try {
      sysctl.set(name, value);
      return "ok";
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  // As writing to /proc/sys/net/core does.
  expect([code("rmem_default", 2303), code("rmem_max", 2303), code("rmem_default", 2304)]).toEqual([
    "EINVAL",
    "EINVAL",
    "ok",
  ]);
  expect([code("wmem_default", 4607), code("wmem_max", 4607), code("wmem_max", 4608)]).toEqual([
    "EINVAL",
    "EINVAL",
    "ok",
  ]);
  expect([code("optmem_max", -1), code("optmem_max", 0), code("rmem_max", 2 ** 31)]).toEqual([
    "EINVAL",
    "ok",
    "EINVAL",
  ]);
  for (const name of ["message_cost", "message_burst", "netdev_max_backlog"] as const) {
    expect(code(name, 1)).toBe("EOPNOTSUPP");
    expect(sysctl.get(name)).toBeGreaterThan(0);
  }
});
