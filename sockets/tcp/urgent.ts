/**
 * Urgent data as everybody does it (RFC 6093; tcp_check_urg): the pointer is to the byte after the one that is urgent, and
 * that byte is taken out of the stream unless SO_OOBINLINE.
 */
import { TCP_URG } from "../wire/tcp.ts";
import type { FrameViews } from "../wire/views.ts";
import type { Tcp } from "./core.ts";
import {
  COPIED,
  EV_URGENT,
  F_OOBINLINE,
  FLAGS,
  RCV_NXT,
  RCV_UP,
  URG_NOT_YET,
  URG_READ,
  URG_VALID,
  URGENT,
} from "./tcb.ts";

/** Takes the urgent pointer of the segment in hand, and the byte when it comes. */
export function takeUrgent(t: Tcp, c: number, views: FrameViews): void {
  const { w } = t;
  if ((t.segFlags & TCP_URG) !== 0) takePointer(t, c);
  if (w[c + URGENT] !== URG_NOT_YET) return;
  const at = (w[c + RCV_UP] - t.segSeq) | 0;
  if (at < 0 || at >= t.segLength) return;
  w[c + URGENT] = URG_VALID | views.bytes[t.segData + at];
  t.event(c, EV_URGENT);
}

function takePointer(t: Tcp, c: number): void {
  const { w } = t;
  const at = (t.segSeq + t.segUrgent - (t.segUrgent === 0 ? 0 : 1)) | 0;
  // One that has been read, that was passed, or that is not newer says nothing.
  if (((w[c + COPIED] - at) | 0) > 0 || ((at - w[c + RCV_NXT]) | 0) < 0) return;
  if (w[c + URGENT] !== 0 && ((at - w[c + RCV_UP]) | 0) <= 0) return;
  w[c + URGENT] = URG_NOT_YET;
  w[c + RCV_UP] = at;
  t.event(c, EV_URGENT);
}

/** True when the next byte to be read is the urgent one (SIOCATMARK). */
export function atMark(w: Int32Array, c: number): boolean {
  return w[c + URGENT] !== 0 && w[c + COPIED] === w[c + RCV_UP];
}

/** The next byte is the urgent one, and is not to be read among the others. */
export function isMarkAhead(w: Int32Array, c: number): boolean {
  return atMark(w, c) && (w[c + FLAGS] & F_OOBINLINE) === 0;
}

/**
 * How far a read may go: not beyond the urgent byte.
 * @returns bytes of `count`; 0: the urgent byte is next, and is to be stepped over
 */
export function upToMark(w: Int32Array, c: number, count: number): number {
  if (w[c + URGENT] === 0) return count;
  const ahead = (w[c + RCV_UP] - w[c + COPIED]) | 0;
  if (ahead < 0) {
    w[c + URGENT] = 0;
    return count;
  }
  if (ahead === 0 && (w[c + FLAGS] & F_OOBINLINE) !== 0) return count;
  return Math.min(ahead, count);
}

/** Takes the urgent byte (MSG_OOB), or looks at it: 0..255, -1: there is none or it was read, -2: it has not come. */
export function takeByte(w: Int32Array, c: number, peeks: boolean): number {
  const urgent = w[c + URGENT];
  if (urgent === 0 || (urgent & URG_READ) !== 0 || (w[c + FLAGS] & F_OOBINLINE) !== 0) return -1;
  if ((urgent & URG_VALID) === 0) return -2;
  if (!peeks) w[c + URGENT] = URG_READ;
  return urgent & 0xff;
}
