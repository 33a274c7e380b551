/** Servers of the runtime's own that speak a protocol over any Duplex, behind a net.Server on the engine. */
import type { EventEmitter } from "node:events";
import { type ListenOptions, normalizeArgs, type ServerOptions } from "./options.ts";
import { Server } from "./server.ts";
import type { Socket } from "./socket.ts";
import type { EndAddress } from "./stream-handle.ts";

// biome-ignore lint/suspicious/noExplicitAny: what TypeScript asks of a mixin's base
type Constructor<T> = new (...args: any[]) => T;

/** What is behind it: it is given connections by its event `connection`. */
interface Behind extends EventEmitter {
  close(callback?: (error?: Error) => void): unknown;
}

/** How many connections a server may have, as net.Server has it. */
interface Limits {
  maxConnections?: number;
}

/**
 * A class of servers whose calls about listening are a net.Server's of the engine.
 * @param receive gives it a connection
 */
export function inFront<T extends Behind>(Base: Constructor<T>, receive: (server: T, socket: Socket) => void) {
  abstract class Front extends (Base as Constructor<Behind>) {
    #front: Server | null = null;
    /** Options of the net.Server. */
    protected abstract frontOptions(): ServerOptions;

    get listening(): boolean {
      return this.#front?.listening ?? false;
    }

    listen(...args: unknown[]): this {
      const [, callback] = normalizeArgs<ListenOptions>(args);
      const given = callback === null ? args : args.slice(0, -1);
      const front = this.#front?.listening ? this.#front : this.#open();
      // Throws when it listens: nobody is to be told then.
      front.listen(...(given as [number]));
      if (callback !== null) this.once("listening", callback);
      return this;
    }

    override close(callback?: (error?: Error) => void): this {
      const front = this.#front;
      // Its own part: connections that are idle, and its timers.
      if (front === null) super.close(callback);
      else {
        super.close();
        front.close(callback);
      }
      return this;
    }

    async [Symbol.asyncDispose](): Promise<void> {
      if (this.listening) await new Promise<void>((resolve) => this.close(() => resolve()));
    }

    address(): EndAddress | string | null {
      return this.#front?.address() ?? null;
    }

    getConnections(callback: (error: Error | null, count: number) => void): this {
      if (this.#front === null) process.nextTick(callback, null, 0);
      else this.#front.getConnections(callback);
      return this;
    }

    ref(): this {
      this.#front?.ref();
      return this;
    }

    unref(): this {
      this.#front?.unref();
      return this;
    }

    #open(): Server {
      const front = new Server(this.frontOptions());
      const { maxConnections } = this as Limits;
      if (maxConnections !== undefined) front.maxConnections = maxConnections;
      front.on("connection", (socket) => receive(this as unknown as T, socket));
      front.on("listening", () => this.emit("listening"));
      front.on("close", () => this.emit("close"));
      front.on("error", (error) => this.emit("error", error));
      front.on("drop", (ends) => this.emit("drop", ends));
      this.#front = front;
      return front;
    }
  }
  return Front;
}
