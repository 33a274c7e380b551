/** Local ports for an lcore's outgoing connections: those that the engine holds for it, and one more where none is free. */
import type { LcoreEndpoint } from "../lcore-endpoint.ts";
import type { PortSource, Tcp } from "../tcp/core.ts";
import { HeldPorts } from "./held-ports.ts";
import { ReplyQueue, type RssWiring } from "./reply-queue.ts";

export class LcorePorts implements PortSource {
  private readonly held: HeldPorts;
  private readonly lcore: number;
  /** Null where there is nothing to choose, or nothing is known. */
  private readonly replies: ReplyQueue | null;

  constructor(endpoint: LcoreEndpoint, rss: RssWiring | null) {
    this.held = new HeldPorts(endpoint, endpoint.thread);
    this.lcore = endpoint.thread;
    this.replies = rss === null || endpoint.shared.tcbs.length === 1 ? null : new ReplyQueue(rss);
  }

  get count(): number {
    return this.held.count;
  }

  at(number: number): number {
    return this.held.at(number);
  }

  /** Preferred are ports whose answers come to this lcore; those of others are handed over. */
  suits(t: Tcp, c: number, must: boolean): boolean {
    return must || this.replies === null || this.replies.of(t.w, c) === this.lcore;
  }

  more(): boolean {
    return this.held.hold() >= 0;
  }

  close(): void {
    this.held.close();
  }
}
