/** Active opens: answers to our SYN (RFC 9293, section 3.10.7.3). */
import { TCP_ACK, TCP_CWR, TCP_ECE, TCP_RST, TCP_SYN } from "../wire/tcp.ts";
import type { FrameViews } from "../wire/views.ts";
import { ackCheck, enterQuickAck } from "./ack-policy.ts";
import { takeAck } from "./acks.ts";
import type { Tcp } from "./core.ts";
import { becomeEstablished } from "./establish.ts";
import { negotiated } from "./listen.ts";
import { setPeerMss, syncMss } from "./mss.ts";
import { OPT_MSS, OPT_SCALE, OPT_TS, timestamp } from "./options.ts";
import { push } from "./output.ts";
import { takeData } from "./receive.ts";
import { retransmit } from "./retransmit.ts";
import { answerReset } from "./stateless.ts";
import { enterTimeWait, resetByPeer } from "./states.ts";
import {
  ACK,
  ACK_NOW,
  ACK_SCHEDULED,
  F_ECN,
  F_SACK,
  F_TS,
  F_WSCALE,
  FLAGS,
  IRS,
  L_ECN_SYN,
  LOCKS,
  RCV_NXT,
  RETRANS_TS,
  SCALES,
  SEG_HEAD,
  SND_NXT,
  SND_UNA,
  SND_WL1,
  STATE,
  SYN_RECEIVED,
  TS_RECENT,
  TS_RECENT_MS,
} from "./tcb.ts";
import { initWindow, scaleFor } from "./window.ts";

export function synSent(t: Tcp, c: number, views: FrameViews): void {
  const { w } = t;
  const acks = (t.segFlags & TCP_ACK) !== 0;
  if (acks && !isOfOurSyn(t, c)) {
    answerReset(t, c);
    return;
  }
  if ((t.segFlags & TCP_RST) !== 0) {
    if (acks) resetByPeer(t, c);
    return;
  }
  if ((t.segFlags & TCP_SYN) === 0) return;
  takeOffer(t, c);
  if (!acks) {
    crossed(t, c);
    return;
  }
  // Both bits would be a reflection of ours (RFC 3168, section 6.1.1).
  const granted = (t.segFlags & (TCP_ECE | TCP_CWR)) === TCP_ECE && (w[c + LOCKS] & L_ECN_SYN) !== 0;
  if (granted) w[c + FLAGS] |= F_ECN;
  w[c + SND_WL1] = t.segSeq;
  takeAck(t, c);
  becomeEstablished(t, c);
  enterQuickAck(t, c);
  w[c + ACK] |= ACK_SCHEDULED | ACK_NOW;
  // The SYN-ACK's data begin behind its SYN.
  t.segSeq = (t.segSeq + 1) | 0;
  takeData(t, c, views);
  push(t, c, false);
  ackCheck(t, c);
  if (t.finishing) enterTimeWait(t, c);
}

/** SND.UNA < SEG.ACK =< SND.NXT, and the timestamp it echoes is one that we have sent. */
function isOfOurSyn(t: Tcp, c: number): boolean {
  const { w } = t;
  if (((t.segAck - w[c + SND_UNA]) | 0) <= 0 || ((t.segAck - w[c + SND_NXT]) | 0) > 0) return false;
  if ((w[c + FLAGS] & F_TS) === 0 || (t.options & OPT_TS) === 0 || t.tsEcr === 0) return true;
  // One from the future, or from before a retransmission that the peer cannot know of, is another connection's.
  return ((t.tsEcr - timestamp(t, c)) | 0) <= 0;
}

/** What the peer's SYN offers, of what ours has (RFC 7323, section 2.2 and 3.2; RFC 2018, section 2). */
function takeOffer(t: Tcp, c: number): void {
  const { w } = t;
  const agreed = negotiated(t);
  w[c + FLAGS] &= ~(F_TS | F_SACK | F_WSCALE) | agreed;
  w[c + SCALES] =
    (w[c + FLAGS] & F_WSCALE) !== 0 && (t.options & OPT_SCALE) !== 0
      ? (scaleFor(t.config.receiveBufferMax) << 8) | t.optScale
      : 0;
  w[c + IRS] = t.segSeq;
  w[c + RCV_NXT] = (t.segSeq + 1) | 0;
  if ((w[c + FLAGS] & F_TS) !== 0) {
    w[c + TS_RECENT] = t.tsVal;
    w[c + TS_RECENT_MS] = t.ms;
  }
  setPeerMss(w, c, (t.options & OPT_MSS) !== 0 ? t.optMss : 0);
  syncMss(t, c);
  initWindow(t, c);
}

/** Simultaneous open: SYNs have crossed, ours is answered again with theirs acknowledged. */
function crossed(t: Tcp, c: number): void {
  const { w } = t;
  w[c + STATE] = SYN_RECEIVED;
  w[c + SND_WL1] = t.segSeq;
  w[c + LOCKS] &= ~L_ECN_SYN;
  if (w[c + SEG_HEAD] >= 0) retransmit(t, c, w[c + SEG_HEAD]);
  // It is a SYN-ACK, the first of its kind, and no sign of loss.
  w[c + RETRANS_TS] = 0;
}
