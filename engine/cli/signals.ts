/** Stopping on request. */
import { EXIT_INTERRUPTED } from "./failure.ts";

const STOPS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Resolves with the first signal that asks to stop; `abort` is its AbortSignal. A second one ends the process at once:
 * whoever presses Ctrl-C twice does not want to wait for the clean-up.
 */
export class StopRequest {
  readonly requested: Promise<NodeJS.Signals>;
  readonly abort: AbortSignal;

  constructor() {
    const controller = new AbortController();
    this.abort = controller.signal;
    this.requested = new Promise((resolve) => {
      for (const name of STOPS) {
        process.on(name, () => {
          if (controller.signal.aborted) process.exit(EXIT_INTERRUPTED);
          controller.abort(name);
          resolve(name);
        });
      }
    });
  }
}
