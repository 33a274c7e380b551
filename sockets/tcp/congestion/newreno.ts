/** NewReno (RFC 5681, section 3.1): half the window at a loss, one segment more a round trip. */
import { CWND } from "../tcb.ts";
import { additive } from "./control.ts";

export function ssthresh(w: Int32Array, c: number): number {
  return Math.max(w[c + CWND] >> 1, 2);
}

export function avoid(w: Int32Array, c: number, acked: number): void {
  additive(w, c, w[c + CWND], acked);
}
