/** An lcore's end of the socket layer, whatever its datagrams come from: it never waits in a socket. */
import { Endpoint } from "./endpoint.ts";

export abstract class LcoreEndpoint extends Endpoint {
  /** An lcore never blocks in a socket: its loop would stop. */
  override block(_timeoutMs: number): void {
    throw new Error("receiveBlocking on an lcore would stop its loop: set onDatagram, or receive from another thread");
  }

  override arrival(): Promise<void> {
    return Promise.reject(
      new Error("awaiting datagrams on an lcore would stop its loop: set onDatagram, or receive from another thread"),
    );
  }

  override wakeWaiters(): void {}
}
