/** Ten thousand connections at once over veth, with the kernel's TCP at the other end. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { linesOf } from "../../engine/cli/connections.ts";
import type { TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import { requires } from "../support/hosts.ts";
import { until } from "../support/kernel-udp.ts";
import { Bed, ECHO } from "./peers.ts";

setDefaultTimeout(60_000);

const PORT = 7000;
const EACH = 5000;
/** Descriptors that this machine lets a process have: each of ours holds one for its port as well. */
const FILES = Number(Bun.spawnSync(["sh", "-c", "ulimit -n"]).stdout.toString());
const OUTGOING = Math.min(10_000, FILES - 1000);
/** Handshakes at a time: fewer than the server's queue takes, because Linux forgets what it has no room for. */
const CONNECTING = 500;
/** Sockets in the engine's namespace that hold no port of ours, at most. */
const HELD_BESIDES = 50;
const missing = Bun.which("python3") === null ? "python3" : requires("veth", "af_xdp", "bpf");
const python = (name: string, ...args: (string | number)[]): string[] => [
  "python3",
  new URL(`./${name}.py`, import.meta.url).pathname,
  ...args.map(String),
];

describe.skipIf(missing !== "")(`connections at once${missing && `: ${missing}`}`, () => {
  let bed: Bed;
  beforeAll(async () => {
    bed = await Bed.make({ module: ECHO, data: { port: PORT } });
  });
  afterAll(() => bed.close());

  /** Sockets of the kernel in the engine's namespace: those that hold its ports, and what watches the host. */
  const held = (): number =>
    bed.hosts.b.ns.run(() => Number(/used (\d+)/.exec(readFileSync("/proc/thread-self/net/sockstat", "utf8"))?.[1]));

  /** A program that prints a word after each step, and goes on when it is told to. */
  function steps(command: string[]) {
    const { ns } = bed.hosts.a;
    const child = ns.run(() => Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "pipe" }));
    const lines = linesOf(child.stdout);
    return {
      child,
      async hear(word: string): Promise<void> {
        const { value } = await lines.next();
        if (value === undefined) throw new Error(await child.stderr.text());
        expect(value).toBe(word);
      },
      go(): void {
        child.stdin.write("\n");
        child.stdin.flush();
      },
    };
  }

  test("10,000 of the kernel's, half of them over IPv6: all hold, all are answered, all close, nothing is left", async () => {
    const before = held();
    const { ipv4Text, ipv6Text } = bed.hosts.b;
    const client = steps(python("many-clients", ipv4Text, PORT, EACH, ipv6Text, PORT, EACH));
    try {
      await client.hear("open");
      const open = await bed.connections("state=established");
      expect(open).toHaveLength(2 * EACH);
      expect(new Set(open.map(({ peer }) => `${peer.address} ${peer.port}`)).size).toBe(2 * EACH);
      client.go();
      await client.hear("answered");
      client.go();
      await client.hear("closed");
      expect(await client.child.exited).toBe(0);
      await bed.untilEmpty();
      // The peer has closed first: it is the one that waits.
      expect((await bed.connections()).map(({ state }) => state)).toEqual(["LISTEN", "LISTEN"]);
      expect(held()).toBeLessThanOrEqual(before);
      const counters = bed.engine.counters(0);
      expect(counters.TcpPassiveOpens).toBe(2 * EACH);
      expect([counters.TcpEstabResets, counters.TcpListenDrops]).toEqual([0, 0]);
    } finally {
      client.child.kill("SIGKILL");
    }
  });

  test.each(["ipv4Text", "ipv6Text"] as const)(
    `${OUTGOING} of a thread's to a server of the kernel's, %s`,
    async (family) => {
      const before = held();
      const address = bed.hosts.a[family];
      const server = steps(python("many-servers", address, PORT, OUTGOING));
      try {
        await server.hear("listening");
        let answered = 0;
        let closed = 0;
        let failed = 0;
        // More at once than the lcore lends frames for: the rest is told of room.
        const write = (socket: TcpSocket, i: number): number => socket.write(new TextEncoder().encode(`message ${i}`));
        const left = new Set<number>();
        const sockets: TcpSocket[] = [];
        const connect = (): void => {
          const i = sockets.length;
          if (i === OUTGOING) return;
          sockets[i] = bed.engine.connect(
            { address, port: PORT },
            {
              open: connect,
              readable(socket) {
                const text = new Uint8Array(100);
                const count = socket.read(text);
                if (new TextDecoder().decode(text.subarray(0, count)) === `message ${i}`) answered++;
              },
              writable(socket) {
                if (left.has(i) && write(socket, i) > 0) left.delete(i);
              },
              ended: (socket) => socket.close(),
              closed: (_, errno) => {
                closed++;
                if (errno !== 0) failed++;
              },
            },
          );
        };
        for (let i = 0; i < CONNECTING; i++) connect();
        await server.hear("open");
        for (const [i, socket] of sockets.entries()) if (write(socket, i) < 0) left.add(i);
        await server.hear("closed");
        await until("every answer", () => answered === OUTGOING);
        expect([failed, closed]).toEqual([0, 0]);
        await bed.untilEmpty();
        // Ports stay held for the next that connect, of either family.
        expect(held() - before).toBeLessThanOrEqual(OUTGOING);
        expect(held()).toBeLessThan(OUTGOING + HELD_BESIDES);
      } finally {
        server.child.kill("SIGKILL");
      }
    },
  );
});
