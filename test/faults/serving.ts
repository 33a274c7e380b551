/** An engine that echoes on one end of a veth pair, and what is asked of it from the other while something goes wrong. */
import { afterEach } from "bun:test";
import type { EngineOptions } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";
import type { UdpSocket } from "../../sockets/udp-socket.ts";
import { type Host, makeHosts, type VethPair } from "../support/hosts.ts";
import { KernelUdp } from "../support/kernel-udp.ts";

export const PORT = 9100;
/** Tries before a question counts as unanswered. */
const TRIES = 400;
/** Between two tries of a question whose answer may need a neighbour, a carrier or a route to come back. */
export const RETRY_MS = 50;

export async function until(what: string, done: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; !(await done()); i++) {
    if (i === TRIES) throw new Error(`not seen: ${what}`);
    await Bun.sleep(RETRY_MS);
  }
}

export interface Serving {
  pair: VethPair;
  a: Host;
  b: Host;
  engine: Engine;
  socket: UdpSocket;
}

/** What a test of this directory sets up, and takes down after each. */
export interface Scene {
  /** Called after the test, the last first. */
  readonly cleanUp: (() => unknown)[];
  hosts(queues?: number): VethPair;
  /** An engine on b that echoes at PORT. */
  serve(queues?: number, options?: Partial<EngineOptions>): Promise<Serving>;
  answered(from: Host, address: string, text: string): Promise<void>;
  silent(from: Host, address: string): Promise<void>;
}

/** Runs a program in a host's namespace. Throws with what it said where its status is not 0. */
export function run(host: Host, ...words: string[]): string {
  const command = ["nsenter", `--net=${host.ns.path}`, ...words];
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { stderr: "pipe" });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
  return stdout.toString();
}

/** Runs ip(8) in a host's namespace. */
export const ip = (host: Host, ...words: string[]): string => run(host, "ip", ...words);

export const inViaQueue = (engine: Engine): number => engine.counters().RxFrames;

/** Asks until there is an answer: what was asked while the way was broken is lost. */
async function answered(from: Host, address: string, text: string): Promise<void> {
  const peer = new KernelUdp(from.ns, {});
  try {
    for (let i = 0; ; i++) {
      try {
        peer.send(`${text} ${i}`, address, PORT);
      } catch {
        // No carrier or no route yet.
      }
      await Bun.sleep(RETRY_MS);
      const received = peer.take();
      if (received?.text.startsWith(text)) return;
      if (i === TRIES) throw new Error(`${text}: no answer from ${address}`);
    }
  } finally {
    peer.close();
  }
}

/** For a describe(): registers its own clean-up. */
export function scene(): Scene {
  const cleanUp: (() => unknown)[] = [];
  afterEach(async () => {
    for (const each of cleanUp.splice(0).toReversed()) await each();
  });
  const hosts = (queues = 1): VethPair => {
    const pair = makeHosts({ queues });
    cleanUp.push(() => pair.close());
    return pair;
  };

  async function serve(queues = 1, options: Partial<EngineOptions> = {}): Promise<Serving> {
    const pair = hosts(queues);
    const { a, b } = pair;
    const engine = await Engine.start({ interface: b.name, netns: b.ns.path, ...options });
    cleanUp.push(() => engine.close());
    const socket = engine.udp({ port: PORT });
    socket.onDatagram = (d) => void d.reply();
    return { pair, a, b, engine, socket };
  }

  /** No more answers: what was on its way when the address went may still be answered. */
  async function silent(from: Host, address: string): Promise<void> {
    const peer = new KernelUdp(from.ns, {});
    cleanUp.push(() => peer.close());
    let unanswered = 0;
    await until("silence", async () => {
      try {
        peer.send("anybody", address, PORT);
      } catch {
        return true;
      }
      await Bun.sleep(RETRY_MS);
      unanswered = peer.take() === null ? unanswered + 1 : 0;
      return unanswered === 4;
    });
  }

  return { cleanUp, hosts, serve, answered, silent };
}
