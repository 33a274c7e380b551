/** What a dgram socket sends: datagrams for which there is no room wait here, and callbacks are called in order. */
import { ERRNO } from "af-xdp-bindings";
import type { Destination } from "./dgram-address.ts";
import { operatingAt } from "./dgram-errors.ts";
import type { Handle } from "./dgram-handle.ts";
import type { SendCallback } from "./dgram-send.ts";

interface Unsent {
  readonly bytes: Uint8Array;
  readonly offset: number;
  readonly length: number;
  readonly port: number;
  readonly to: Destination | null;
  readonly address: string | undefined;
  readonly callback: SendCallback | undefined;
}

export class Outbox {
  private readonly handle: Handle;
  private readonly unsent: Unsent[] = [];
  /** Bytes that wait. */
  size = 0;

  constructor(handle: Handle) {
    this.handle = handle;
  }

  /** Datagrams that wait. */
  get count(): number {
    return this.unsent.length;
  }

  /**
   * Sends `bytes[offset .. offset + length)` to `port` of `to`, or to the connected peer with `to` null. `address` is what
   * the caller named, for errors. The callback comes on a tick; with `looked` on the tick after, where a lookup, here
   * left out, would have taken the first.
   */
  send(
    bytes: Uint8Array,
    offset: number,
    length: number,
    port: number,
    to: Destination | null,
    address: string | undefined,
    callback: SendCallback | undefined,
    looked: boolean,
  ): void {
    const result = this.unsent.length > 0 ? -ERRNO.EAGAIN : this.attempt(bytes, offset, length, port, to);
    if (result === -ERRNO.EAGAIN) {
      this.unsent.push({ bytes, offset, length, port, to, address, callback });
      this.size += length;
    } else if (callback !== undefined) {
      if (looked) process.nextTick(complete, callback, result, address, port);
      else complete(callback, result, address, port);
    }
  }

  /** Sends what waits, as far as there is room. */
  flush(): void {
    for (let next = this.unsent[0]; next !== undefined; next = this.unsent[0]) {
      const result = this.attempt(next.bytes, next.offset, next.length, next.port, next.to);
      if (result === -ERRNO.EAGAIN) return;
      this.drop(result);
    }
  }

  /** Gives up what waits: callbacks hear ECANCELED. */
  cancel(): void {
    while (this.unsent.length > 0) this.drop(-ERRNO.ECANCELED);
  }

  private drop(result: number): void {
    const { address, callback, length, port } = this.unsent.shift() as Unsent;
    this.size -= length;
    if (callback !== undefined) complete(callback, result, address, port);
  }

  private attempt(bytes: Uint8Array, offset: number, length: number, port: number, to: Destination | null): number {
    if (to === null) return this.handle.sendConnected(bytes, offset, length);
    return this.handle.send(bytes, offset, length, port, to);
  }
}

/** Has the callback called on the next tick. */
function complete(callback: SendCallback, result: number, address: string | undefined, port: number): void {
  if (result >= 0) process.nextTick(callback, null, result);
  else process.nextTick(callback, operatingAt(result, "send", address, port));
}
