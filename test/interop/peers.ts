/** What these tests share: an engine on one host of a veth pair, programs on the other, and its connections from outside. */
import { readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ConnectionLine } from "../../engine/connections.ts";
import { Engine, type EngineThread } from "../../engine/engine.ts";
import type { TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import { type Host, makeHosts, type VethPair } from "../support/hosts.ts";
import { until } from "../support/kernel-udp.ts";

export const sha256 = (bytes: Uint8Array): string => new Bun.CryptoHasher("sha256").update(bytes).digest("hex");

/** Bytes without a period that a segment or a buffer could have. */
export function payload(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let i = 0, x = 1; i < length; i++) {
    x = (Math.imul(x, 1_103_515_245) + 12_345) | 0;
    bytes[i] = x >>> 16;
  }
  return bytes;
}

export const ECHO = new URL("../stream/modules/tcp-echo.ts", import.meta.url);

/** Two hosts, an engine on `b`, and who can be asked for its connections. */
export class Bed {
  readonly hosts: VethPair;
  readonly engine: Engine;
  /** Where programs run: the other host, or one further off. */
  peer: Host;
  private readonly path: string;

  private constructor(hosts: VethPair, engine: Engine) {
    this.hosts = hosts;
    this.engine = engine;
    this.peer = hosts.a;
    this.path = join(tmpdir(), `lcore-interop-${process.pid}-${performance.now()}.sock`);
    engine.serveStats(this.path);
  }

  static async make(
    options: Partial<Parameters<typeof Engine.start>[0]> = {},
    veth: Parameters<typeof makeHosts>[0] = {},
  ): Promise<Bed> {
    const hosts = makeHosts(veth);
    try {
      const { name, ns } = hosts.b;
      return new Bed(hosts, await Engine.start({ interface: name, netns: ns.path, poll: "adaptive", ...options }));
    } catch (error) {
      hosts.close();
      throw error;
    }
  }

  /** A program on the other host. */
  spawn(command: string[], input: Uint8Array = new Uint8Array(0)): Bun.Subprocess<Uint8Array, "pipe", "pipe"> {
    return this.peer.ns.run(() => Bun.spawn(command, { stdin: input, stdout: "pipe", stderr: "pipe" }));
  }

  /** What a program on the other host prints, once it has ended. Throws what it complains of where its status is not 0. */
  async run(command: string[], input?: Uint8Array): Promise<Buffer> {
    const child = this.spawn(command, input);
    try {
      const [output, complaint] = await Promise.all([child.stdout.bytes(), child.stderr.text(), child.exited]);
      if (child.exitCode !== 0) throw new Error(`${command.join(" ")}: ${child.exitCode}: ${complaint}`);
      return Buffer.from(output);
    } finally {
      child.kill("SIGKILL");
    }
  }

  /** Waits until a program on the other host listens on the port. */
  async untilListening(port: number): Promise<void> {
    // The local port, a remote end that is none, and the state: TCP_LISTEN.
    const listens = new RegExp(`:${port.toString(16).toUpperCase().padStart(4, "0")} 0+:0000 0A `);
    const isOpen = (file: string): boolean =>
      listens.test(this.peer.ns.run(() => readFileSync(`/proc/thread-self/net/${file}`, "utf8")));
    await until(`a listener on port ${port}`, () => isOpen("tcp") || isOpen("tcp6"));
  }

  /** Connections of the engine, by the filters of `lcore stats --tcp`. */
  async connections(filters = "state=all"): Promise<ConnectionLine[]> {
    const text = await (await fetch(`http://lcore/tcp?${filters}`, { unix: this.path })).text();
    const lines = text.trim().split("\n");
    return lines.slice(0, -1).map((line) => JSON.parse(line) as ConnectionLine);
  }

  /** Waits until the engine has no connection but listeners and those in TIME-WAIT. */
  async untilEmpty(): Promise<void> {
    const deadline = performance.now() + 20_000;
    for (;;) {
      const left = (await this.connections()).filter(({ state }) => state !== "LISTEN" && state !== "TIME-WAIT");
      if (left.length === 0) return;
      if (performance.now() > deadline) throw new Error(`${left.length} are left, as ${JSON.stringify(left[0])}`);
      await Bun.sleep(5);
    }
  }

  async close(): Promise<void> {
    await this.engine.close();
    rmSync(this.path, { force: true });
    this.hosts.close();
  }
}

/** Sends all of `bytes` over a new connection and reads to the end, both at once. What has come. */
export function exchange(
  engine: EngineThread,
  to: { address: string; port: number },
  bytes: Uint8Array,
): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const chunks: Buffer[] = [];
  let written = 0;
  const write = (socket: TcpSocket): void => {
    while (written < bytes.length) {
      const taken = socket.write(bytes, written);
      if (taken <= 0) return;
      written += taken;
    }
    socket.shutdown(1);
  };
  engine.connect(to, {
    open: write,
    writable: write,
    readable(socket) {
      for (let count = socket.peek(); count > 0; count = socket.peek()) {
        const from = socket.peekedOffset;
        chunks.push(Buffer.from(socket.peekedBytes.slice(from, from + count)));
        socket.consume(count);
      }
    },
    closed(socket, errno) {
      socket.close();
      if (errno === 0) resolve(Buffer.concat(chunks));
      else reject(new Error(`errno ${errno} after ${written} bytes`));
    },
  });
  return promise;
}
