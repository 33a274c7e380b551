/** What cases of Bun.listen and Bun.connect find: the functions under test, and a kernel's peer on the other host. */
import type { NetNs } from "../../engine/host/netns.ts";
import { KernelTcp } from "../support/kernel-tcp.ts";
import { describe, describeError } from "./bun-compare.ts";

// biome-ignore lint/suspicious/noExplicitAny: arguments that the types rule out are among what is compared
export type Any = any;

export interface TcpFunctions {
  listen(options: Any): Any;
  connect(options: Any): Promise<Any>;
}

/** Two addressed hosts: the sockets under test are on `b`, the peer's kernel sockets on `a`. */
export interface TcpAddresses {
  a4: string;
  a6: string;
  b4: string;
  b6: string;
}

export type TcpCase = (side: TcpSide) => unknown;
export type TcpCases = Record<string, TcpCase>;

/** The longest a case waits for what does come: reached when it does not. */
const PATIENCE_MS = 5000;
/** How long a case waits for what must not come. */
const SILENCE_MS = 40;

const HANDLERS = ["open", "data", "drain", "close", "error", "end", "timeout", "connectError", "handshake"] as const;

export class TcpSide {
  readonly run: TcpFunctions;
  readonly at: TcpAddresses;
  readonly peerNs: NetNs;
  private readonly opened: (() => void)[] = [];

  constructor(run: TcpFunctions, at: TcpAddresses, peerNs: NetNs) {
    this.run = run;
    this.at = at;
    this.peerNs = peerNs;
  }

  /** A listener on the host's IPv4 address, unless the options say otherwise. */
  listen(options: Any = {}): Any {
    const listener = this.run.listen({ hostname: this.at.b4, port: 0, socket: { data() {} }, ...options });
    this.opened.push(() => listener.stop(true));
    return listener;
  }

  /** Connects to a peer's listener, unless the options say otherwise. */
  async connect(options: Any): Promise<Any> {
    const socket = await this.run.connect({ hostname: this.at.a4, socket: { data() {} }, ...options });
    this.opened.push(() => socket.terminate());
    return socket;
  }

  /** A kernel's listener on the other host. */
  peer(address = this.at.a4, receiveBuffer = 0): KernelTcp {
    return this.keep(KernelTcp.listen(this.peerNs, address, 0, receiveBuffer));
  }

  /** A kernel's connection to what is under test. */
  dial(port: number, address = this.at.b4, receiveBuffer = 0): KernelTcp {
    return this.keep(KernelTcp.connect(this.peerNs, address, port, receiveBuffer));
  }

  async accept(listener: KernelTcp): Promise<KernelTcp> {
    let accepted: KernelTcp | null = null;
    await this.until("a connection", () => {
      accepted = listener.accept();
      return accepted !== null;
    });
    return this.keep(accepted as unknown as KernelTcp);
  }

  /** A listener whose handlers note what they hear, and one connection from the kernel's peer. */
  async served(handlers: Any = {}, options: Any = {}): Promise<Served> {
    const noted = this.noted(handlers);
    const listener = this.listen({ socket: noted.handlers, ...options });
    const peer = this.dial(listener.port);
    await this.until("open", () => noted.socket !== null);
    return Object.assign(noted, { listener, peer });
  }

  /** A connection of ours to the kernel's peer, whose handlers note what they hear. */
  async connected(handlers: Any = {}, options: Any = {}): Promise<Connected> {
    const noted = this.noted(handlers);
    const listening = this.peer(this.at.a4, options.peerBuffer ?? 0);
    const socket = await this.connect({ port: listening.port, socket: noted.handlers, ...options });
    const peer = await this.accept(listening);
    return Object.assign(noted, { socket, peer, listening });
  }

  /** Handlers that write down what they hear; then they do what `more` has for that. */
  noted(more: Any = {}): Noted {
    const events: Any[] = [];
    const noted: Noted = { events, socket: null, handlers: { ...more } };
    for (const name of HANDLERS) {
      if (more[name] === null) {
        delete noted.handlers[name];
        continue;
      }
      noted.handlers[name] = (...args: Any[]) => {
        noted.socket ??= args[0];
        events.push([name, ...args.slice(1).map(describe)]);
        return more[name]?.(...args);
      };
    }
    return noted;
  }

  /** Waits for a condition; the outcome tells when it never came. */
  async until(what: string, done: () => boolean): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    for (let turns = 0; !done(); turns++) {
      if (performance.now() > deadline) throw new Error(`in vain: ${what}`);
      await (turns < 20 ? new Promise((resolve) => setImmediate(resolve)) : Bun.sleep(1));
    }
  }

  /** Waits until an event of a name was noted so often. */
  async heard({ events }: Noted, name: string, times = 1): Promise<void> {
    await this.until(name, () => events.filter(([event]) => event === name).length >= times);
  }

  /** Waits until the peer has as many bytes as were written, and for more, which must not come. */
  async arrived({ socket, peer }: Served): Promise<void> {
    await this.until("what was written", () => {
      peer.pull();
      return peer.bytes >= socket.bytesWritten;
    });
    await this.silence();
  }

  silence(): Promise<void> {
    return Bun.sleep(SILENCE_MS);
  }

  close(): void {
    for (const close of this.opened.splice(0)) close();
  }

  private keep(socket: KernelTcp): KernelTcp {
    this.opened.push(() => socket.close());
    return socket;
  }
}

export interface Noted {
  events: Any[];
  socket: Any;
  handlers: Any;
}

export interface Served extends Noted {
  listener: Any;
  peer: KernelTcp;
}

export interface Connected extends Noted {
  peer: KernelTcp;
  listening: KernelTcp;
}

/** As outcome() of bun-compare.ts, at once. */
export function told(call: () => unknown): unknown {
  try {
    return { returns: describe(call()) };
  } catch (error) {
    return { throws: describeError(error) };
  }
}

/** Data that came in any number of pieces counts as one. */
export function joined(events: readonly Any[]): Any[] {
  const result: Any[] = [];
  for (const [name, ...args] of events) {
    if (name === "data" && result.at(-1)?.[0] === "data") continue;
    result.push(name === "data" ? ["data"] : [name, ...args]);
  }
  return result;
}
