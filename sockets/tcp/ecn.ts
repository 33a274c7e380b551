/** Explicit congestion notification (RFC 3168, section 6.1): marks received. ECE received is in acks.ts and recovery.ts. */
import { TCP_CWR } from "../wire/tcp.ts";
import { enterQuickAck } from "./ack-policy.ts";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { ACK, ACK_NOW, ACK_SCHEDULED, F_ECE, FLAGS } from "./tcb.ts";

/** Congestion experienced, in the TOS byte. */
const CE = 3;

/** Of a segment of a connection with ECN: CWR ends the echo, a mark begins one. */
export function takeMarks(t: Tcp, c: number): void {
  const { w } = t;
  // CWR first: a mark on the same segment is of a later congestion.
  if ((t.segFlags & TCP_CWR) !== 0) {
    w[c + FLAGS] &= ~F_ECE;
    // So that the sender hears soon whether it was enough.
    if (t.segLength > 0) w[c + ACK] |= ACK_NOW | ACK_SCHEDULED;
  }
  if ((t.segTos & CE) !== CE || t.segLength === 0) return;
  t.counters[N.InCEPkts]++;
  if ((w[c + FLAGS] & F_ECE) === 0) {
    enterQuickAck(t, c, 2);
    w[c + FLAGS] |= F_ECE;
  }
}
