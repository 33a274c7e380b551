/**
 * Back-pressure on threads: while a TX ring has no room, an lcore leaves what they send, and all behind it, in their rings.
 * Whoever goes on sending uses up the frames that he was lent and hears EAGAIN, as with a full send buffer.
 */
import type { Port } from "../queues/driver.ts";
import { MSG_REPLY, MSG_SEND } from "./message.ts";

export class SendHold {
  /** Whether something was left in a ring since reset(). */
  isHeld = false;
  private readonly ports: readonly Port[];

  constructor(ports: readonly Port[]) {
    this.ports = ports;
  }

  /** Before the rings are looked at again. */
  reset(): void {
    this.isHeld = false;
  }

  /** Whether a message has to wait: it asks for a frame to be sent, and one may find no room. */
  holds(kind: number): boolean {
    if (kind !== MSG_SEND && kind !== MSG_REPLY) return false;
    for (let p = 0; p < this.ports.length; p++) {
      if (this.ports[p].txRoom > 0) continue;
      this.isHeld = true;
      return true;
    }
    return false;
  }
}
