/**
 * Threads that have ended without detach(): a worker that was terminated, or that threw. Nobody hears of that, so the
 * thread that has started the engine looks once a second whether those that joined are still there, by their ids in the
 * kernel. Of one that is not, sockets are closed, connections reset, and its place is another's.
 *
 * What cannot be helped: a thread that is terminated while it holds the socket table's mutex stops whoever opens, binds or
 * closes a socket. The frames that it had are lost to their lcores: those lent to it, and those of datagrams that it had
 * not released.
 */
import { existsSync } from "node:fs";
import { M_KIND, MSG_GONE } from "../sockets/message.ts";
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
import type { ThreadEndpoint } from "../sockets/thread.ts";
import { threadName } from "./stats.ts";
import { controlThread, type Wiring } from "./wiring.ts";

const LOOK_MS = 1000;

export class LostThreads {
  private readonly endpoint: ThreadEndpoint;
  private readonly wiring: Wiring;
  private readonly notice: (text: string) => void;
  private readonly timer: ReturnType<typeof setInterval>;
  /** Those whose lcores have been told, and have not all heard of it yet. */
  private readonly leaving = new Set<number>();

  /** Looks from now on, without keeping the process alive. */
  constructor(endpoint: ThreadEndpoint, wiring: Wiring, notice: (text: string) => void) {
    this.endpoint = endpoint;
    this.wiring = wiring;
    this.notice = notice;
    this.timer = setInterval(() => this.look(), LOOK_MS);
    this.timer.unref();
  }

  close(): void {
    clearInterval(this.timer);
  }

  private look(): void {
    const { mesh } = this.endpoint.shared;
    for (let thread = controlThread(this.wiring) + 1; thread < mesh.activeThreads(); thread++) {
      if (this.leaving.has(thread)) this.leave(thread);
      else if (mesh.isTaken(thread) && isGone(mesh.threadId(thread))) this.bury(thread);
    }
  }

  private bury(thread: number): void {
    const { endpoint } = this;
    const { table } = endpoint;
    for (let id = 0; id < table.highWater; id++) {
      if (table.home[id] !== thread || table.get(id, STATE) === FREE) continue;
      if (table.get(id, PROTOCOL) === IPPROTO_TCP) closeTcpRecord(endpoint, id);
      else closeUdpRecord(endpoint, id);
    }
    endpoint.flush();
    // Its ends of the rings are nobody's: what it had not published is not to be.
    this.eachLcore((lcore) => {
      const ring = endpoint.shared.mesh.producer(thread, lcore);
      const at = ring.claim();
      if (at < 0) return;
      ring.words[at + M_KIND] = MSG_GONE;
      ring.publish();
      endpoint.shared.mesh.ring(lcore);
    });
    this.leaving.add(thread);
    this.notice(`${threadName(this.wiring, thread)} has ended without detach(): its sockets are closed`);
  }

  /** Once the lcores have heard all of it, what they have told it is stepped over, and the place is free. */
  private leave(thread: number): void {
    const { mesh } = this.endpoint.shared;
    let heard = true;
    this.eachLcore((lcore) => {
      const ring = mesh.producer(thread, lcore);
      heard &&= ring.free() === ring.slots;
    });
    if (!heard) return;
    this.eachLcore((lcore) => {
      const ring = mesh.consumer(lcore, thread);
      for (let left = ring.available(); left > 0; left--) ring.next();
      ring.release();
      ring.cancelWait();
    });
    this.leaving.delete(thread);
    mesh.leaveThread(thread);
  }

  /** The lcores with queues, and behind them the thread that has the host's side, where there is one. */
  private eachLcore(call: (lcore: number) => void): void {
    const { shared } = this.endpoint;
    const last = Math.max(this.wiring.config.cpus.length - 1, shared.controlThread, shared.hostThread);
    for (let lcore = 0; lcore <= last; lcore++) call(lcore);
  }
}

function isGone(tid: number): boolean {
  return tid > 0 && !existsSync(`/proc/self/task/${tid}`);
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
