/**
 * How outcomes of node:net, in Node and in Bun, and of lcore/net are compared: as those of dgram (dgram-compare.ts). Node runs it too,
 * bundled.
 */
import type * as netModule from "node:net";
import type { Outcome } from "./dgram-compare.ts";
import { type Dial, PORTS } from "./net-peer.ts";

/** Calls that the types rule out are compared, too. */
// biome-ignore lint/suspicious/noExplicitAny: arguments of any type and number
export type Any = any;
export type NetCase = (side: NetSide) => Outcome | Promise<Outcome>;
export type NetCases = Record<string, NetCase>;

export interface NetAddresses {
  own4: string;
  own6: string;
  peer4: string;
  peer6: string;
}

const FIELDS = ["code", "errno", "syscall", "address", "port", "hostname", "dest", "errors"] as const;
const EVENTS = ["lookup", "connect", "ready", "data", "end", "finish", "drain", "timeout", "error", "close"];
const PATIENCE_MS = 5000;

export class NetSide {
  readonly net: typeof netModule;
  readonly at: NetAddresses;
  private readonly opened: { destroy?(): void; close?(): void }[] = [];
  private readonly names = new Map<number, string>();

  constructor(net: typeof netModule, at: NetAddresses) {
    this.net = net;
    this.at = at;
  }

  /** Connects to one of the peer's servers; more options count. */
  connect(server: keyof typeof PORTS, options: object = {}): Any {
    return this.keep(this.net.connect({ host: this.at.peer4, port: PORTS[server], ...options } as Any));
  }

  /** A socket or server that is closed after the case. */
  keep<T extends { destroy?(): unknown; close?(): unknown }>(one: T): T {
    this.opened.push(one as Any);
    return one;
  }

  /** A server that listens on the host's IPv4 address, its port named in outcomes. */
  async server(options: object = {}, listener?: (socket: Any) => void, where: object = {}): Promise<Any> {
    const server: Any = this.keep(this.net.createServer(options as Any, listener as Any));
    await this.until("listening", (resolve) => {
      server.once("error", resolve);
      server.listen({ host: this.at.own4, port: 0, ...where }, resolve);
    });
    this.names.set(server.address().port, "PORT");
    return server;
  }

  /** Has the peer connect to a server of ours: what it says came of it. */
  async dial(port: number, how: Dial["how"], text = "", host = this.at.own4): Promise<Outcome> {
    const control = this.connect("dial");
    control.write(`${JSON.stringify({ port, host, how, text })}\n`);
    return JSON.parse(await this.text(control)) as Outcome;
  }

  /** All that comes, until the end. */
  text(socket: Any): Promise<string> {
    let text = "";
    socket.on("data", (bytes: Buffer) => {
      text += bytes;
    });
    return this.until("the end", (resolve) => socket.on("close", () => resolve(text)));
  }

  /** Names of the events of a socket as they come, the noted ones with what they bring; data that comes in pieces counts as one. */
  events(socket: Any): unknown[] {
    const seen: unknown[] = [];
    for (const event of EVENTS) {
      // Whoever listens for data has it flow.
      socket.on(event, (...values: unknown[]) => {
        const one =
          event === "data" || event === "lookup" ? event : [event, ...values.map((value) => this.describe(value))];
        if (event !== "data" || seen.at(-1) !== "data") seen.push(one);
      });
    }
    return seen;
  }

  /** The next event of this name: its arguments. */
  event(emitter: Any, name: string): Promise<unknown[]> {
    return this.until(name, (resolve) => emitter.once(name, (...values: unknown[]) => resolve(values)));
  }

  name(port: number, name: string): void {
    this.names.set(port, name);
  }

  attempt(call: () => unknown): unknown {
    try {
      return { returns: this.describe(call()) };
    } catch (error) {
      return { throws: this.describe(error) };
    }
  }

  describe(value: unknown): unknown {
    if (value === undefined) return "undefined";
    if (typeof value === "function") return "function";
    if (typeof value === "number") return this.names.get(value) ?? (Number.isFinite(value) ? value : String(value));
    if (value instanceof Error) return this.describeError(value);
    if (ArrayBuffer.isView(value)) return `bytes: ${Buffer.from(value.buffer, value.byteOffset, value.byteLength)}`;
    if (value instanceof this.net.Socket) return "socket";
    if (value instanceof this.net.Server) return "server";
    if (Array.isArray(value)) return value.map((item) => this.describe(item));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.describe(item)]));
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

  async turns(count = 5): Promise<void> {
    for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
  }

  async close(): Promise<void> {
    for (const one of this.opened.splice(0)) {
      (one as Any).on("error", () => {});
      if (one.destroy) one.destroy();
      else one.close?.();
    }
    await this.turns(2);
  }

  private describeError(error: Error): Outcome {
    const { message, name } = error;
    const fields = FIELDS.filter((key) => (error as Any)[key] !== undefined);
    const text = message.replace(/\d+$/, (digits) => this.names.get(Number(digits)) ?? digits);
    return {
      name,
      message: text,
      ...Object.fromEntries(fields.map((key) => [key, this.describe((error as Any)[key])])),
    };
  }
}
