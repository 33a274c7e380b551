/**
 * How outcomes of node:dgram, in Node and in Bun, and of lcore/dgram are compared: each case runs in a process of its own
 * kind and says what happened as plain JSON, in which all that may differ from run to run (ports) has a name.
 *
 * Nothing here needs Bun or this project: Node runs it too, bundled.
 */

import type * as dgramModule from "node:dgram";
import type { RemoteInfo, Socket, SocketOptions, SocketType } from "node:dgram";
import { isDeepStrictEqual } from "node:util";

export type Dgram = typeof dgramModule;

/** The sockets under test are on the host with the `own` addresses; the peer's kernel sockets answer on the other. */
export interface Addresses {
  own4: string;
  own6: string;
  peer4: string;
  peer6: string;
  /** Where it answers: see dgram-peer.ts. */
  peerPort: number;
  peerPort6: number;
  /** Where the peer sends from when asked to use another socket. */
  otherPort: number;
  /** Groups that the peer has joined. */
  group4: string;
  group6: string;
  /** Nobody listens there. */
  closedPort: number;
  broadcast: string;
  interface: string;
  ifindex: number;
  /** Link-local address of the peer, without zone. */
  peerLinkLocal: string;
}

/** What happened, key by key: differences are told by case and key. */
export type Outcome = Record<string, unknown>;
export type Case = (side: Side) => Outcome | Promise<Outcome>;
export type Cases = Record<string, Case>;

/** Calls that the types rule out are compared, too. */
// biome-ignore lint/suspicious/noExplicitAny: arguments of any type and number
export type AnySocket = any;

export interface Message {
  text: string;
  sender: RemoteInfo;
}

/** Fields of errors, beside name and message. */
const FIELDS = ["code", "errno", "syscall", "address", "port", "hostname", "info"] as const;

const PATIENCE_MS = 5000;

export class Side {
  readonly dgram: Dgram;
  readonly at: Addresses;
  private readonly opened: Socket[] = [];
  private readonly names = new Map<number, string>();

  constructor(dgram: Dgram, at: Addresses) {
    this.dgram = dgram;
    this.at = at;
  }

  /** A socket that is closed after the case. */
  socket(
    type: SocketType | SocketOptions = "udp4",
    listener?: (message: Buffer, sender: RemoteInfo) => void,
  ): AnySocket {
    const socket = this.dgram.createSocket(type as SocketType, listener);
    this.opened.push(socket);
    return socket;
  }

  /** A socket that is bound, its port named in outcomes. */
  async bound(type: SocketType | SocketOptions = "udp4", ...where: unknown[]): Promise<AnySocket> {
    const socket = this.socket(type);
    await new Promise((resolve, reject) => {
      socket.once("error", reject);
      socket.bind(...where, resolve);
    });
    socket.removeAllListeners("error");
    this.name(socket.address().port, "PORT");
    return socket;
  }

  /** Has a number called by a name in outcomes. */
  name(port: number, name: string): void {
    this.names.set(port, name);
  }

  /** What a call comes to: its value, or what it throws. */
  attempt(call: () => unknown): unknown {
    try {
      return { returns: this.describe(call()) };
    } catch (error) {
      return { throws: this.describe(error) };
    }
  }

  attempts(calls: Record<string, () => unknown>): Outcome {
    return Object.fromEntries(Object.entries(calls).map(([name, call]) => [name, this.attempt(call)]));
  }

  /** A value as JSON may have it. */
  describe(value: unknown): unknown {
    if (value === undefined) return "undefined";
    if (typeof value === "function") return "function";
    if (typeof value === "number") return this.names.get(value) ?? (Number.isFinite(value) ? value : String(value));
    if (value instanceof Error) return this.describeError(value);
    if (ArrayBuffer.isView(value)) return `${value.constructor.name} of ${value.byteLength}`;
    if (value instanceof this.dgram.Socket) return "socket";
    if (Array.isArray(value)) return value.map((item) => this.describe(item));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.describe(item)]));
  }

  /** Sends to the peer, and gives what comes back. */
  async ask(socket: AnySocket, question: string | object, family: 4 | 6 = 4): Promise<Message> {
    const text = typeof question === "string" ? question : JSON.stringify(question);
    const answer = this.next(socket);
    const { peer4, peer6, peerPort, peerPort6 } = this.at;
    socket.send(text, family === 4 ? peerPort : peerPort6, family === 4 ? peer4 : peer6);
    return await answer;
  }

  /** The next message of a socket. */
  next(socket: AnySocket): Promise<Message> {
    return this.until("a message", (resolve) =>
      socket.once("message", (message: Buffer, sender: RemoteInfo) => resolve({ text: message.toString(), sender })),
    );
  }

  /** The next event of this name: its arguments. */
  event(socket: AnySocket, name: string): Promise<unknown[]> {
    return this.until(name, (resolve) => socket.once(name, (...values: unknown[]) => resolve(values)));
  }

  /** What a callback is called with. */
  called(body: (callback: (...values: unknown[]) => void) => void): Promise<unknown> {
    return this.until("a callback", (resolve) => body((...values) => resolve(this.describe(values))));
  }

  /** Rejects, with what was waited for, when it does not come. */
  until<T>(what: string, body: (resolve: (value: T) => void) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`in vain: ${what}`)), PATIENCE_MS);
      body((value) => {
        clearTimeout(timer);
        resolve(value);
      });
    });
  }

  /** Waits for a condition. */
  async condition(what: string, done: () => boolean): Promise<void> {
    const deadline = Date.now() + PATIENCE_MS;
    while (!done()) {
      if (Date.now() > deadline) throw new Error(`in vain: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /** Some turns of the event loop: enough for whatever does not wait for the network. */
  async turns(count = 5): Promise<void> {
    for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
  }

  async close(): Promise<void> {
    for (const socket of this.opened.splice(0)) {
      try {
        socket.removeAllListeners();
        socket.on("error", () => {});
        socket.close();
      } catch {
        // Closed by the case.
      }
    }
    await this.turns(2);
  }

  private describeError(error: Error): Outcome {
    const { message, name } = error;
    const text = message.replace(/\d+$/, (digits) => this.names.get(Number(digits)) ?? digits);
    const fields = FIELDS.filter((key) => (error as AnySocket)[key] !== undefined);
    return {
      name,
      message: text,
      ...Object.fromEntries(fields.map((key) => [key, this.describe((error as AnySocket)[key])])),
    };
  }
}

/** Keys by which two outcomes differ. */
export function differences(a: Outcome, b: Outcome): string[] {
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...keys].filter((key) => !isDeepStrictEqual(a[key], b[key]));
}
