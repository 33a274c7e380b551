/** Local ports for an lcore's outgoing connections: those that the engine holds for it, and one more where none is free. */
import type { LcoreEndpoint } from "../lcore-endpoint.ts";
import type { PortSource } from "../tcp/core.ts";
import { HeldPorts } from "./held-ports.ts";

export class LcorePorts implements PortSource {
  private readonly held: HeldPorts;

  constructor(endpoint: LcoreEndpoint) {
    this.held = new HeldPorts(endpoint, endpoint.thread);
  }

  get count(): number {
    return this.held.count;
  }

  at(number: number): number {
    return this.held.at(number);
  }

  suits(): boolean {
    return true;
  }

  more(): boolean {
    return this.held.hold() >= 0;
  }

  close(): void {
    this.held.close();
  }
}
