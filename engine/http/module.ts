/** What `lcore http` runs on each lcore: a server of its own, with a listener for the connections that come there. */
import type { Lcore } from "../lcore.ts";
import { AccessLog } from "./access-log.ts";
import { Root } from "./root.ts";
import { FileServer, type HttpLimits } from "./server.ts";
import { HttpCounts } from "./statuses.ts";

export interface HttpData {
  readonly address: string;
  readonly port: number;
  readonly lcores: number;
  /** Directory that is served. */
  readonly root: string;
  /** Octets of small files that each lcore keeps. */
  readonly cacheBytes: number;
  readonly limits: HttpLimits;
  /** Descriptor of the access log, -1: none. */
  readonly logFd: number;
  /** Of HttpCounts. */
  readonly counts: SharedArrayBuffer;
}

export default function http(lcore: Lcore): void {
  const { address, cacheBytes, counts, lcores, limits, logFd, port, root } = lcore.data as HttpData;
  const server = new FileServer(
    new Root(root),
    cacheBytes,
    limits,
    new HttpCounts(counts, lcore.id),
    logFd < 0 ? null : new AccessLog(logFd),
    () => lcore.time,
  );
  const shared = lcores === 1 ? {} : { reusePort: true, incomingCpu: lcore.cpu };
  // Answers are written whole: there is nothing to wait for.
  lcore.listen({ address, port, noDelay: true, ...shared }, server.handlers);
  lcore.onTurn(() => server.turn());
}
