/**
 * Threads that have ended without detach(): a worker that was terminated, or that threw. Nobody hears of that, so the
 * thread that has started the engine looks once a second whether those that joined are still there, by their ids in the
 * kernel. Of one that is not, sockets are closed, connections reset, the lcores take their frames back, and its place is
 * another's.
 */
import { isThreadGone } from "../sockets/kernel-thread.ts";
import { M_KIND, MSG_BYE } from "../sockets/message.ts";
import { closeTcpRecord } from "../sockets/stream/tcp-record.ts";
import {
  BOUND,
  F_CHILD,
  FLAGS,
  FREE,
  IPPROTO_TCP,
  IPPROTO_UDP,
  LOCAL,
  LOCAL_PORT,
  PLACEHOLDER,
  PROTOCOL,
  STATE,
} from "../sockets/table.ts";
import { wordsAt } from "../sockets/text-address.ts";
import { lcoresOf, type ThreadEndpoint } from "../sockets/thread.ts";
import { threadName } from "./stats.ts";
import { controlThread, type Wiring } from "./wiring.ts";

const LOOK_MS = 1000;

interface Lost {
  readonly tid: number;
  readonly untold: Set<number>;
}

export class LostThreads {
  private readonly endpoint: ThreadEndpoint;
  private readonly wiring: Wiring;
  private readonly notice: (text: string) => void;
  private readonly timer: ReturnType<typeof setInterval>;
  /** Those that were found, by number: their ids in the kernel, and the lcores that are still to be told. */
  private readonly found = new Map<number, Lost>();
  /** Repairs of the table that were followed. */
  private repairs: number;

  /** Looks from now on, without keeping the process alive. */
  constructor(endpoint: ThreadEndpoint, wiring: Wiring, notice: (text: string) => void) {
    this.endpoint = endpoint;
    this.wiring = wiring;
    this.notice = notice;
    this.repairs = endpoint.table.repairs;
    this.timer = setInterval(() => this.look(), LOOK_MS);
    this.timer.unref();
  }

  close(): void {
    clearInterval(this.timer);
  }

  private look(): void {
    const { mesh } = this.endpoint.shared;
    for (let thread = controlThread(this.wiring) + 1; thread < mesh.activeThreads(); thread++) {
      const tid = mesh.threadId(thread);
      // The place is free, or another's by now.
      if (this.found.get(thread)?.tid !== tid) this.found.delete(thread);
      if (!mesh.isTaken(thread) || tid === 0 || !isThreadGone(tid)) continue;
      if (!this.found.has(thread)) this.bury(thread, tid);
      this.tell(thread);
    }
    this.followRepair();
  }

  private bury(thread: number, tid: number): void {
    const { endpoint } = this;
    const { shared, table } = endpoint;
    // If it has died with the mutex, the table is put in order first.
    table.mutex.hold(() => {});
    this.followRepair();
    for (let id = 0; id < table.highWater; id++) {
      if (table.home[id] !== thread || table.get(id, STATE) === FREE) continue;
      if (table.get(id, PROTOCOL) === IPPROTO_TCP) closeTcpRecord(endpoint, id);
      else closeUdpRecord(endpoint, id);
    }
    endpoint.flush();
    const lcores = lcoresOf(shared, this.wiring.config.cpus.length);
    shared.mesh.beginLeaving(thread, lcores);
    this.found.set(thread, { tid, untold: new Set(Array.from({ length: lcores }, (_, lcore) => lcore)) });
    this.notice(`${threadName(this.wiring, thread)} has ended without detach(): its sockets are closed`);
  }

  /**
   * A thread has died in the middle of a change of the table, which is in order again: what the kernel steers follows. A
   * placeholder that had been taken out of the table, and was not closed yet, stays until the process ends.
   */
  private followRepair(): void {
    const { shared, table } = this.endpoint;
    if (table.repairs === this.repairs) return;
    this.repairs = table.repairs;
    table.mutex.hold(() => {
      for (let id = 0; id < table.highWater; id++) {
        const port = table.get(id, LOCAL_PORT);
        if (port !== 0) shared.binder.steer(table, table.get(id, PROTOCOL), port, wordsAt(table, id, LOCAL));
      }
    });
    this.notice("a thread has ended in the middle of a change of the socket table, which is in order again");
  }

  /** Says to the lcores what the thread has not; to one whose ring is full the next time. */
  private tell(thread: number): void {
    const { mesh } = this.endpoint.shared;
    const { untold } = this.found.get(thread) as Lost;
    for (const lcore of untold) {
      // Its ends of the rings are nobody's: what it had not published is not to be.
      const ring = mesh.producer(thread, lcore);
      const at = ring.claim();
      if (at < 0) continue;
      ring.words[at + M_KIND] = MSG_BYE;
      ring.publish();
      mesh.ring(lcore);
      untold.delete(lcore);
    }
  }
}

function closeUdpRecord({ shared, table }: ThreadEndpoint, id: number): void {
  let placeholder = -1;
  table.mutex.hold(() => {
    const isChild = (table.get(id, FLAGS) & F_CHILD) !== 0;
    const isSteered = !isChild && table.get(id, STATE) >= BOUND;
    const port = table.get(id, LOCAL_PORT);
    const local = wordsAt(table, id, LOCAL);
    if (!isChild) placeholder = table.get(id, PLACEHOLDER);
    table.closeLocked(id);
    if (isSteered) shared.binder.steer(table, IPPROTO_UDP, port, local);
  });
  if (placeholder >= 0) shared.binder.release(placeholder);
}
