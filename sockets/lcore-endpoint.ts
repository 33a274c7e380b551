/** An lcore's end of the socket layer, whatever its datagrams come from: it never waits in a socket. */
import { Endpoint } from "./endpoint.ts";
import { HeldWakeups } from "./held-wakeups.ts";

export abstract class LcoreEndpoint extends Endpoint {
  private heldWakeups: HeldWakeups | null = null;
  /** Threads of which this lcore has heard in this turn that they leave. */
  private readonly leavers: number[] = [];

  /** Has wakeups put off (see HeldWakeups) for a loop that calls wakeHeld() at the end of each turn. */
  holdWakeups(): void {
    this.heldWakeups = new HeldWakeups(this.shared.mesh.threads);
  }

  /** Wakes a thread that sleeps and has been handed something: at once, or with wakeHeld(). */
  protected wakeSoon(thread: number): void {
    if (this.heldWakeups !== null && this.shared.mesh.sharesCpu(thread)) this.heldWakeups.hold(thread);
    else this.wake(thread);
  }

  /** Wakes whom wakeSoon() has not, if it is time. @param received frames that came in this turn */
  wakeHeld(received: number): void {
    const { heldWakeups } = this;
    if (heldWakeups === null || !heldWakeups.isTime(received)) return;
    for (let t = heldWakeups.take(); t >= 0; t = heldWakeups.take()) this.wake(t);
  }

  /** MSG_BYE. False: it is known, said by the thread itself before it died on its way. */
  protected hearLeaving(thread: number): boolean {
    if (!this.shared.mesh.hearLeaving(thread, this.thread)) return false;
    this.leavers.push(thread);
    return true;
  }

  /** After the rings are published, and with nothing of those that have left here any more: their places may be others'. */
  protected doneWithLeavers(): void {
    while (this.leavers.length > 0) this.shared.mesh.doneWith(this.leavers.pop() as number);
  }

  /** Tells the loop's time, milliseconds of performance.now(). */
  clock(_nowMs: number): void {}

  /** Until when the loop may sleep, milliseconds of performance.now(). */
  get sleepUntil(): number {
    return Number.POSITIVE_INFINITY;
  }

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
