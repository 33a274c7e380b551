/**
 * How outcomes of Bun.udpSocket and of the drop-in are compared: each case runs in a process of its own kind and says
 * what happened as plain JSON, in which all that may differ from run to run (ports, descriptors) has a name.
 */
import type { NetNs } from "../../engine/host/netns.ts";
import { Peer } from "./bun-peer.ts";

export type UdpSocketFunction = typeof Bun.udpSocket;
/** Either kind of socket: cases call what the types forbid, too. */
// biome-ignore lint/suspicious/noExplicitAny: arguments that the types rule out are among what is compared
export type AnySocket = any;

/** Two addressed hosts: the sockets under test are on `b`, the peer's kernel sockets on `a`. */
export interface Addresses {
  a4: string;
  a6: string;
  b4: string;
  b6: string;
  /** Of the subnet. */
  broadcast: string;
  interface: string;
  /** Link-local IPv6 address of `b`, and of `a`. */
  linkLocal: string;
  peerLinkLocal: string;
  /** Index of the interface of `a`. */
  peerIndex: number;
}

export type Case = (side: Side) => unknown;
export type Cases = Record<string, Case>;

/** The longest a case waits for what does come: reached when it does not. */
const PATIENCE_MS = 10_000;
/** How long a case waits for what must not come. */
const SILENCE_MS = 60;
const SETTLE_MS = 3;

/** What a case finds: the function under test and its surroundings. All it opens is closed after it. */
export class Side {
  readonly udpSocket: UdpSocketFunction;
  readonly at: Addresses;
  private readonly peerNs: NetNs;
  private readonly opened: { close(): void }[] = [];

  constructor(udpSocket: UdpSocketFunction, at: Addresses, peerNs: NetNs) {
    this.udpSocket = udpSocket;
    this.at = at;
    this.peerNs = peerNs;
  }

  /** Opens a socket with any options at all. */
  async open(options: unknown = {}): Promise<AnySocket> {
    const socket = await (this.udpSocket as (options: unknown) => Promise<AnySocket>)(options);
    this.opened.push(socket);
    return socket;
  }

  /** A socket whose errors from the network are of no interest. */
  quiet(options: Record<string, unknown> = {}): Promise<AnySocket> {
    return this.open({ ...options, socket: { error() {} } });
  }

  /** A kernel socket on the other host. */
  peer(address = this.at.a4, port = 0): Peer {
    const peer = new Peer(this.peerNs, { address, port });
    this.opened.push(peer);
    return peer;
  }

  /** A socket whose datagrams are noted: their text, unless `note` says otherwise. */
  async listener(options: Record<string, unknown> = {}, note = (...args: unknown[]): unknown => String(args[1])) {
    const seen: unknown[] = [];
    const socket = await this.open({
      ...options,
      socket: { data: (...args: unknown[]) => void seen.push(note(...args)) },
    });
    return { socket, seen };
  }

  /** Waits for a condition; the outcome tells when it never came. */
  async until(what: string, done: () => boolean): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    while (!done()) {
      if (performance.now() > deadline) throw new Error(`in vain: ${what}`);
      await Bun.sleep(1);
    }
  }

  /** Lets reports about what was sent come in. */
  settle(): Promise<void> {
    return Bun.sleep(SETTLE_MS);
  }

  /** Waits long enough for what should not happen. */
  silence(): Promise<void> {
    return Bun.sleep(SILENCE_MS);
  }

  close(): void {
    // Peers come first and go last: nobody hears that they are gone.
    for (const one of this.opened.splice(0).reverse()) one.close();
  }
}

/** What a call comes to: its value, or what it throws; a promise is waited for, and told from a value. */
export async function outcome(call: () => unknown): Promise<unknown> {
  let value: unknown;
  try {
    value = call();
  } catch (error) {
    return { throws: describeError(error) };
  }
  if (!(value instanceof Promise)) return { returns: describe(value) };
  try {
    return { resolves: describe(await value) };
  } catch (error) {
    return { rejects: describeError(error) };
  }
}

/** As outcome(), for calls of which it does not matter whether they throw or reject. */
export async function attempt(call: () => Promise<unknown>): Promise<unknown> {
  try {
    return describe(await call());
  } catch (error) {
    return { fails: describeError(error) };
  }
}

/** Outcomes of one call each, by name. */
export async function outcomes(calls: Record<string, () => unknown>): Promise<Record<string, unknown>> {
  const results: Record<string, unknown> = {};
  for (const [name, call] of Object.entries(calls)) results[name] = await outcome(call);
  return results;
}

/** A value by kind and content. */
export function describe(value: unknown): unknown {
  if (value === undefined) return "undefined";
  if (typeof value === "function") return `function ${value.name}`;
  if (typeof value === "bigint" || typeof value === "symbol") return String(value);
  if (typeof value !== "object" || value === null) return Number.isNaN(value) ? "NaN" : value;
  if (value instanceof Error) return describeError(value);
  if (value instanceof ArrayBuffer) return { ArrayBuffer: digest(new Uint8Array(value)) };
  if (ArrayBuffer.isView(value)) {
    const { buffer, byteLength, byteOffset } = value;
    const content = digest(new Uint8Array(buffer, byteOffset, byteLength));
    return { [value.constructor.name]: content, offset: byteOffset, of: buffer.byteLength };
  }
  return Object.prototype.toString.call(value) === "[object UDPSocket]" ? "socket" : value;
}

/** Bytes, or what they hash to where they are many. */
const digest = (bytes: Uint8Array): string => (bytes.length > 40 ? Bun.hash(bytes).toString() : bytes.toHex());

export function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return { thrown: describe(error) };
  const { name, message } = error;
  const own = Object.fromEntries(
    Object.entries(error).filter(
      ([key]) => !["line", "column", "sourceURL", "stack", "originalLine", "originalColumn"].includes(key),
    ),
  );
  const { code, errno, syscall } = error as { code?: unknown; errno?: unknown; syscall?: unknown };
  return { class: error.constructor.name, name, message, code, errno, syscall, own };
}
