/** A connection's beginning: its fields before the handshake, and what the handshake's end brings. */
import { TCP_SYN } from "../wire/tcp.ts";
import { initAckPolicy } from "./ack-policy.ts";
import { initControl } from "./congestion/control.ts";
import { initCwnd } from "./congestion/window.ts";
import type { Tcp } from "./core.ts";
import { clockOffset } from "./isn.ts";
import { startKeepalive } from "./keepalive.ts";
import { queueAccept } from "./listen.ts";
import { syncMss } from "./mss.ts";
import { updatePacing } from "./pacing.ts";
import { beginSendBuffer } from "./send-queue.ts";
import {
  DEFER_COUNT,
  ESTABLISHED,
  EV_CONNECTED,
  EV_WRITABLE,
  F_PASSIVE,
  F_V6,
  FACK,
  FLAGS,
  HIGH_SEQ,
  ISS,
  LAST_ACK_MS,
  LAST_RCV_MS,
  LAST_SND_MS,
  LOCAL,
  MAX_WINDOW,
  PMTU,
  PRIOR_CWND,
  RACK_END,
  RACK_US,
  REO_ROUND,
  REO_STEPS,
  REORDERING,
  ROUND_SEQ,
  ROUND_UNA,
  RTO_US,
  RTT_SEQ,
  SCALES,
  SND_SML,
  SND_UP,
  SND_WL1,
  SND_WND,
  STATE,
  TS_OFFSET,
} from "./tcb.ts";
import { beginWindow, initWindow } from "./window.ts";

/** Duplicate acknowledgments, or segments of reordering, to begin with (net.ipv4.tcp_reordering). */
const REORDERING_DEFAULT = 3;

/** Sets what a connection needs to send its first segment: addresses, ISS, RCV.NXT, PEER_MSS and FLAGS are known. */
export function prepare(t: Tcp, c: number): void {
  const { w, config } = t;
  w[c + PMTU] = t.sink.mtu(w, c + LOCAL, (w[c + FLAGS] & F_V6) !== 0);
  syncMss(t, c);
  w[c + TS_OFFSET] = clockOffset(t, c);
  w[c + RTO_US] = config.rtoInitMs * 1000;
  w[c + REORDERING] = REORDERING_DEFAULT;
  w[c + REO_STEPS] = 1;
  w[c + RACK_US] = 0;
  w[c + RACK_END] = 0;
  w[c + PRIOR_CWND] = 0;
  for (let i = 0; i < START_FIELDS.length; i++) w[c + START_FIELDS[i]] = w[c + ISS];
  initWindow(t, c);
  initAckPolicy(w, c);
  initCwnd(t, c);
  updatePacing(t, c);
}

/** Sequence numbers that begin where ours do. */
const START_FIELDS = [FACK, HIGH_SEQ, REO_ROUND, ROUND_SEQ, ROUND_UNA, RTT_SEQ, SND_SML, SND_UP] as const;

/** The handshake is over; the segment in hand has ended it. */
export function becomeEstablished(t: Tcp, c: number): void {
  const { w } = t;
  w[c + STATE] = ESTABLISHED;
  w[c + SND_WND] = (t.segFlags & TCP_SYN) !== 0 ? t.segWindow : t.segWindow << (w[c + SCALES] & 0xff);
  w[c + SND_WL1] = t.segSeq;
  w[c + MAX_WINDOW] = Math.max(w[c + MAX_WINDOW], w[c + SND_WND]);
  syncMss(t, c);
  initAckPolicy(w, c);
  initControl(t, c);
  beginSendBuffer(t, c);
  beginWindow(t, c);
  w[c + LAST_RCV_MS] = t.ms;
  w[c + LAST_ACK_MS] = t.ms;
  w[c + LAST_SND_MS] = t.ms;
  startKeepalive(t, c);
  if ((w[c + FLAGS] & F_PASSIVE) !== 0) {
    // That was the listener's, for the handshake.
    w[c + DEFER_COUNT] = 0;
    queueAccept(t, c);
    t.event(c, EV_WRITABLE);
  } else t.event(c, EV_CONNECTED | EV_WRITABLE);
}
