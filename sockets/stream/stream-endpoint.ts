/** An lcore's end of the socket layer with TCP in it: what the loop, the input and sockets ask of that. */
import { LcoreEndpoint } from "../lcore-endpoint.ts";
import type { LcoreStreams } from "./lcore-streams.ts";
import type { LcoreTcp } from "./lcore-tcp.ts";

export abstract class StreamEndpoint extends LcoreEndpoint {
  /** TCP. */
  abstract readonly streams: LcoreStreams;

  override drainPort(record: number): void {
    if (!this.streams.drain(record)) super.drainPort(record);
  }

  override tcpOpener(): LcoreTcp | null {
    return this.streams.start();
  }

  /** Its TCP begins with the first segment at the latest: a host answers for ports that nobody has. */
  get takesTcp(): boolean {
    return this.streams.start() !== null;
  }

  segment(v6: boolean, ip: number, tcp: number, length: number, portNumber: number): void {
    this.streams.tcp?.input(v6, ip, tcp, length, portNumber, 0);
  }

  override clock(nowMs: number): void {
    this.streams.tcp?.clock(nowMs);
  }

  override get sleepUntil(): number {
    return this.streams.tcp?.sleepUntil ?? Number.POSITIVE_INFINITY;
  }
}
