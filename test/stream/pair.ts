/** Two engines on a wire in memory, and what tests of TCP sockets on application threads do with them. */
import { ERRNO } from "af-xdp-bindings";
import type { EngineOptions } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";
import { getAffinity } from "../../engine/host/affinity.ts";
import { createMemoryWire } from "../../queues/memory.ts";
import type { TcpConnectOptions } from "../../sockets/stream/tcp-open.ts";
import type { TcpHandlers, TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import { FREE, LISTEN, STATE, TCB_WORDS, TIME_WAIT } from "../../sockets/tcp/tcb.ts";

const CPUS = getAffinity(0);
export const SERVER = "198.18.0.1";
export const SERVER6 = "2001:db8::1";

const mac = (n: number): Uint8Array => Uint8Array.of(2, 0, 0, 0, 0, n);

/** Server and client, with as many lcores each as `queues` says and there are CPUs for. */
export async function enginePair(
  queues: [server: number, client: number] = [1, 1],
  options: Partial<EngineOptions> = {},
  ofServer: Partial<EngineOptions> = {},
): Promise<[server: Engine, client: Engine]> {
  const counts = queues.map((count) => Math.min(count, CPUS.length)) as [number, number];
  const wire = createMemoryWire({ queues: counts, slots: 1024 });
  const start = (side: 0 | 1): Promise<Engine> => {
    const link = {
      wire,
      side,
      mac: mac(side + 1),
      addresses: [`198.18.0.${side + 1}/24`, `2001:db8::${side + 1}/64`],
      neighbours: [
        { address: `198.18.0.${2 - side}`, mac: mac(2 - side) },
        { address: `2001:db8::${2 - side}`, mac: mac(2 - side) },
      ],
    };
    const cpus = side === 0 ? CPUS.slice(0, counts[0]) : CPUS.slice(-counts[1]);
    return Engine.start({ memory: link, cpus, isolate: false, ...options, ...(side === 0 ? ofServer : {}) });
  };
  const server = await start(0);
  try {
    return [server, await start(1)];
  } catch (error) {
    await server.close();
    throw error;
  }
}

/** Handlers of a server that sends everything back, by whatever way `how` says, and closes when its peer has. */
export function echoHandlers(how: "echo" | "write" | "read" = "echo"): TcpHandlers {
  const into = new Uint8Array(3000);
  const back = (socket: TcpSocket): void => {
    for (let count = socket.peek(); count > 0; count = socket.peek()) {
      let taken: number;
      if (how === "echo") taken = socket.echo(count);
      else if (how === "write") {
        taken = socket.write(socket.peekedBytes, socket.peekedOffset, count);
        if (taken > 0) socket.consume(taken);
      } else {
        const read = socket.read(into, 0, into.length, 2);
        taken = socket.write(into, 0, read);
        if (taken > 0 && socket.read(into, 0, taken) !== taken) throw new Error("read less than was there");
        count = read;
      }
      if (taken < 0 && taken !== -ERRNO.EAGAIN) return;
      if (taken < count) return;
    }
    if (socket.endTold) socket.shutdown(1);
  };
  return { open: () => {}, readable: back, writable: back, ended: back, closed: (socket) => socket.close() };
}

/** The byte at a place of a client's stream. */
export const streamByte = (seed: number, at: number): number => (seed * 31 + at * 7 + (at >> 8) * 13) & 0xff;

export interface Outcome {
  errno: number;
  received: number;
}

/** Connects, writes `bytes` bytes in writes of at most `most`, shuts down, and reads all back; throws for a wrong byte. */
export function echoClient(
  engine: Pick<Engine, "connect">,
  options: TcpConnectOptions,
  bytes: number,
  most = 1 << 16,
): Promise<Outcome> {
  const seed = bytes & 0xff;
  const payload = Uint8Array.from({ length: bytes }, (_, i) => streamByte(seed, i));
  const into = new Uint8Array(10_000);
  let sent = 0;
  let received = 0;
  return new Promise((resolve, reject) => {
    const push = (socket: TcpSocket): void => {
      while (sent < bytes) {
        const taken = socket.write(payload, sent, Math.min(most, bytes - sent));
        if (taken === -ERRNO.EAGAIN) return;
        if (taken < 0) return;
        sent += taken;
      }
      socket.shutdown(1);
    };
    engine.connect(options, {
      open: push,
      writable: push,
      readable: (socket) => {
        for (let count = socket.read(into); count > 0; count = socket.read(into)) {
          for (let i = 0; i < count; i++)
            if (into[i] !== streamByte(seed, received + i)) {
              reject(new Error(`byte ${received + i} of ${bytes} is another`));
              return;
            }
          received += count;
        }
      },
      closed: (socket, errno) => {
        socket.close();
        resolve({ errno, received });
      },
    });
  });
}

/** Records in use on all lcores of an engine that are no listener's and do not wait out their time. */
export function connectionsOf(engine: Engine): number {
  let count = 0;
  for (const buffer of engine.descriptor().wiring.tcbs) {
    const w = new Int32Array(buffer);
    for (let c = STATE; c < 4096 * TCB_WORDS; c += TCB_WORDS)
      if (w[c] !== FREE && w[c] !== LISTEN && w[c] !== TIME_WAIT) count++;
  }
  return count;
}
