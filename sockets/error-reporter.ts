/** Passes errors on to the threads of the sockets that they are for: on the control thread, or that of the host protocols. */
import type { FramePool } from "../queues/pool.ts";
import type { RingProducer } from "../queues/ring.ts";
import { C } from "./counters.ts";
import { type ErrorReport, SO_EE_ORIGIN_TIMESTAMPING } from "./error-queue.ts";
import type { FrameHolders } from "./frame-holders.ts";
import type { Lookup } from "./lookup.ts";
import { M_GENERATION, M_KIND, M_SOCKET, MSG_ERROR } from "./message.ts";
import type { SocketTable } from "./table.ts";

/** What the reporter needs of its lcore. */
export interface ReporterOwner {
  readonly table: SocketTable;
  readonly lookup: Lookup;
  readonly counters: Float64Array;
  readonly pool: FramePool;
  readonly holders: FrameHolders;
  /** Ring to each thread. */
  readonly toThread: readonly (RingProducer | null)[];
}

/** Frames with excerpts that one thread may hold: errors come without one rather than take what datagrams need. */
const EXCERPTS_MAX = 16;

export class ErrorReporter {
  private readonly owner: ReporterOwner;

  constructor(owner: ReporterOwner) {
    this.owner = owner;
  }

  /**
   * Tells a socket that the owner's lookup knows by the id. The excerpt, and `told` bytes of control messages behind it, lie in a frame of
   * the own pool, which is given away whatever happens; -1 for none.
   */
  report(socket: number, report: ErrorReport, frame: number, length: number, told = 0): void {
    const { counters, holders, lookup, pool, table, toThread } = this.owner;
    const thread = table.home[socket];
    const ring = toThread[thread];
    const has = frame >= 0 && length + told > 0 && holders.counts[thread] < EXCERPTS_MAX;
    // A stamp is nothing without what is told with it.
    const isEmpty = report.origin === SO_EE_ORIGIN_TIMESTAMPING && !has;
    const slot = isEmpty ? -1 : (ring?.claim() ?? -1);
    if (!ring || slot < 0) {
      counters[C.MeshFull]++;
      if (frame >= 0) pool.give(frame);
      return;
    }
    const { words } = ring;
    words[slot + M_KIND] = MSG_ERROR;
    words[slot + M_SOCKET] = socket;
    words[slot + M_GENERATION] = lookup.generation(socket);
    report.store(words, slot, frame, has ? length : 0, has ? told : 0);
    if (has) holders.hand(frame, thread);
    else if (frame >= 0) pool.give(frame);
  }
}
