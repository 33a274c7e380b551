/** When onError is called: whatever a send finds out, nobody is called before it has returned. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ERRNO, type SysError } from "af-xdp-bindings";
import type { EngineOptions } from "../../engine/config.ts";
import { getAffinity, setAffinity } from "../../engine/host/affinity.ts";
import { RTN_PROHIBIT } from "../../engine/host/rtnetlink-uapi.ts";
import type { UdpSocket } from "../../sockets/udp-socket.ts";
import { ip } from "../../sockets/wire/address.ts";
import type { LateErrorData } from "../engine/modules/late-error.ts";
import type { RefusedData } from "../engine/modules/refused.ts";
import { EngineCaller, KernelCaller, wantErrors } from "../options/errors.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";
import { Bed, ends, missingFor, module, PROVIDERS, wildcard } from "./bed.ts";

setDefaultTimeout(15_000);

const PORT = 9000;
/** Nobody listens there. */
const CLOSED = 9;
/** Has no neighbour: no ICMP comes of what is sent there. */
const NOBODY = "198.18.0.77";
/** As many as leave together, and some. */
const MANY = 100;

describe.each(PROVIDERS)("provider %s", (provider) => {
  const beds: Bed[] = [];
  const cpus = getAffinity(0);
  const start = async (options: Partial<EngineOptions> = {}): Promise<Bed> => {
    const bed = await Bed.start(provider, options);
    beds.push(bed);
    return bed;
  };
  afterEach(async () => {
    setAffinity(0, cpus);
    for (const bed of beds.splice(0)) await bed.close();
  });

  describe.skipIf(missingFor(provider) !== "")("", () => {
    /** Keeps this thread on one CPU: what it sends goes to the other namespace and back there, one after the other. */
    const stay = (): void => setAffinity(0, cpus.slice(0, 1));

    /** Waits until what was sent has been refused: something that was sent after it has. */
    async function settle({ hosts }: Bed, family: 4 | 6): Promise<void> {
      const { client } = ends(hosts, family);
      const other = new KernelUdp(hosts.b.ns, { address: wildcard(family) });
      other.connect(client, CLOSED);
      await until("a refusal", () => other.send("x", client, CLOSED) === -ERRNO.ECONNREFUSED);
      other.close();
    }

    /** A socket whose datagrams are refused, and what it has heard: whether in the middle of a send. */
    function refused(bed: Bed): { socket: UdpSocket; heard: boolean[]; send: () => number } {
      const socket = bed.engine.udp();
      socket.connect(CLOSED, ends(bed.hosts, 4).client);
      const heard: boolean[] = [];
      let sending = false;
      socket.onError = (errno) => {
        expect(errno).toBe(ERRNO.ECONNREFUSED);
        heard.push(sending);
      };
      const send = (): number => {
        sending = true;
        const result = socket.send("x");
        sending = false;
        return result;
      };
      return { socket, heard, send };
    }

    test("a thread: not in a send, not in takeError, not in close; but soon", async () => {
      const bed = await start();
      const { socket, heard, send } = refused(bed);
      const other = refused(bed);
      const results = new Set<number>();
      // Within one turn of the event loop. On kernel sockets batches leave meanwhile, and are refused on this host at once.
      for (let i = 0; i < MANY; i++) {
        results.add(send());
        results.add(other.send());
      }
      if (provider === "kernel") expect([...results].toSorted()).toEqual([-ERRNO.ECONNREFUSED, 1]);
      const error = socket.takeError();
      expect([0, ERRNO.ECONNREFUSED]).toContain(error);
      expect([...heard, ...other.heard]).toEqual([]);
      await until("the errors", () => {
        if (heard.length === 0) send();
        if (other.heard.length === 0) other.send();
        return heard.length > 0 && other.heard.length > 0;
      });
      expect([...heard, ...other.heard]).not.toContain(true);
      const before = heard.length;
      for (let i = 0; i < MANY; i++) send();
      socket.close();
      // What a socket would have heard, nobody hears when it is closed.
      await new Promise((resolve) => setImmediate(resolve));
      expect(heard.length).toBe(before);
    });

    test("onError that sends again, and is refused again, is not called in itself", async () => {
      const bed = await start();
      const { socket, send } = refused(bed);
      let depth = 0;
      let deepest = 0;
      let calls = 0;
      socket.onError = () => {
        calls++;
        deepest = Math.max(deepest, ++depth);
        for (let i = 0; i < MANY && calls < 20; i++) send();
        depth--;
      };
      await until("twenty calls", () => {
        send();
        return calls >= 20;
      });
      expect(deepest).toBe(1);
    });

    test.each(["adaptive", "interrupt"] as const)("an lcore, poll %s: the same", async (poll) => {
      const words = new Int32Array(new SharedArrayBuffer(12));
      const data: RefusedData = { port: PORT, address: "198.18.0.1", closed: CLOSED, words };
      const bed = await start({ poll, spinUs: 20, module: module("refused"), data });
      const { client, server } = ends(bed.hosts, 4);
      expect(client).toBe(data.address);
      const peer = bed.peer(client);
      await until("the errors", () => {
        peer.send("go", server, PORT);
        return words[0] > 0;
      });
      expect(words[1]).toBe(0);
      if (provider === "kernel") expect(words[2]).toBeGreaterThan(0);
    });

    // The engine's own sends do not fail later: what no lcore can send the kernel is asked to, at once.
    if (provider === "engine") return;
    // Each longer than those before it, so that it leaves by itself and its sender hears what the kernel says.
    test.each([
      [4, false],
      [4, true],
      [6, false],
      [6, true],
    ] as const)("IPv%i, RECVERR %p: refusals are told as by a socket of the kernel", async (family, queued) => {
      const bed = await start();
      const { b } = bed.hosts;
      const { client } = ends(bed.hosts, family);
      stay();
      const told: string[][] = [];
      for (const caller of [
        new KernelCaller(b.ns, family),
        new EngineCaller(bed.engine.udp({ address: wildcard(family) })),
      ]) {
        if (queued) wantErrors(caller, family);
        caller.connect(client, CLOSED);
        const said: string[] = [];
        for (const after of [[], ["soError"], ["receive"], ["readError", "readError", "soError"]] as const) {
          for (let i = 0; i < 3; i++) {
            said.push(caller.send(new Uint8Array(said.length + 1)));
            await settle(bed, family);
          }
          for (const call of after) said.push(caller[call]());
        }
        said.push(caller.soError(), caller.soError(), caller.send(new Uint8Array(1000)));
        told.push(said);
        caller.close();
      }
      expect(told[1]).toEqual(told[0]);
      expect(told[0].filter((word) => word === "ECONNREFUSED").length).toBeGreaterThan(4);
    });

    test("segments to a closed port: each second call fails, as with the kernel", async () => {
      const bed = await start();
      stay();
      const { socket } = refused(bed);
      socket.onError = null;
      const results: number[] = [];
      for (let i = 0; i < 4; i++) {
        results.push(socket.sendSegments(new Uint8Array(20), 10));
        await settle(bed, 4);
      }
      expect(results).toEqual([20, -ERRNO.ECONNREFUSED, 20, -ERRNO.ECONNREFUSED]);
    });

    test("an lcore does not sleep over a call that is due", async () => {
      const words = new Int32Array(new SharedArrayBuffer(16));
      const data: LateErrorData = { port: PORT, address: NOBODY, words };
      const bed = await start({ poll: "interrupt", module: module("late-error"), data });
      const { b } = bed.hosts;
      const { client, server } = ends(bed.hosts, 4);
      const peer = bed.peer(client);
      peer.send("go", server, PORT);
      await until("the first", () => words[3] === 1);
      b.rtnl.addRoute({ destination: ip(NOBODY), prefixLength: 32, type: RTN_PROHIBIT });
      // Asleep it would be told after half a second, each time.
      for (let calls = 1; calls === 1 || words[1] > 250_000; calls++) {
        peer.send("go", server, PORT);
        await until("the call", () => words[2] === calls);
      }
      expect([words[0], words[2]]).toEqual([ERRNO.EACCES, words[3] - 1]);
    });

    test.each(["receive", "receiveBlocking"] as const)(
      "%s hears of what its own flush could not send",
      async (call) => {
        const bed = await start();
        const { b } = bed.hosts;
        const { client } = ends(bed.hosts, 4);
        const socket = bed.engine.udp();
        expect(socket.send("reached", 7, client)).toBe(7);
        b.rtnl.setLink(b.ifindex, { up: false });
        const heard: number[] = [];
        socket.onError = (errno) => {
          heard.push(errno);
          socket.close();
        };
        // Gathered, and lost by the flush before the wait.
        expect(socket.send("lost", 7, client)).toBe(4);
        const code =
          call === "receive"
            ? await socket.receive().then(
                () => "",
                (error: SysError) => error.code,
              )
            : codeOf(() => socket.receiveBlocking(10_000));
        expect([code, heard]).toEqual(["EBADF", [ERRNO.ENETUNREACH]]);
        expect(bed.engine.counters().UdpOutErrors).toBe(1);
      },
    );
  });
});

function codeOf(action: () => unknown): string {
  try {
    action();
    return "";
  } catch (error) {
    return (error as SysError).code;
  }
}
