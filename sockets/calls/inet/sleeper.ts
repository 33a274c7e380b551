/** How a thread of an engine waits: for its bell, which rings for what the lcores hand over. */
import type { Endpoint } from "../../endpoint.ts";
import { POLLIN } from "../constants.ts";
import type { Sleeper, Wait } from "../process.ts";
import { sleepOnKernel } from "../sleep.ts";
import { InetDatagramFile } from "./datagram-file.ts";
import { InetStreamFile } from "./stream-file.ts";

export class EndpointSleeper implements Sleeper {
  private readonly endpoint: Endpoint;

  constructor(endpoint: Endpoint) {
    this.endpoint = endpoint;
  }

  progress(): void {
    this.endpoint.poll();
  }

  sleep(waits: readonly Wait[], timeoutMs: number): void {
    const { endpoint } = this;
    for (const { file, events } of waits) {
      if ((events & POLLIN) === 0) continue;
      if (file instanceof InetDatagramFile && file.socket.busyPollUs > 0 && file.socket.spin(timeoutMs)) return;
      if (file instanceof InetStreamFile && file.busyPollUs > 0 && file.spin(timeoutMs)) return;
    }
    if (waits.some(({ file }) => file.kernelFds.length > 0)) {
      endpoint.blockOn((bell) => sleepOnKernel(waits, bell, timeoutMs));
    } else {
      endpoint.block(timeoutMs);
    }
    endpoint.poll();
  }
}
