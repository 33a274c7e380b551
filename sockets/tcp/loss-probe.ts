/** Tail loss probes (RFC 8985, section 7; tcp_send_loss_probe): the end of a flight is asked for before the RTO. */
import { ACK_ADVANCED, ACK_DATA, ACK_DATA_ACKED, ACK_DATA_SACKED, ACK_DSACK_TLP, ACK_WINDOW } from "./acks.ts";
import type { Tcp } from "./core.ts";
import { N } from "./counters.ts";
import { probeNew } from "./output.ts";
import { beginReduction, endReduction, keepOpen } from "./recovery.ts";
import { retransmit } from "./retransmit.ts";
import { rearmRetransmit, stopRetx } from "./retransmit-timer.ts";
import { CA_CWR, CA_STATE, F_TLP, F_TLP_RETRANS, FLAGS, SEG_TAIL, SND_NXT, TLP_SEQ } from "./tcb.ts";

/** The probe's time has come: new data if the peer has room, else the last segment again. */
export function sendLossProbe(t: Tcp, c: number): void {
  const { w } = t;
  // One probe a flight.
  if ((w[c + FLAGS] & F_TLP) === 0) {
    let bits = 0;
    if (probeNew(t, c)) bits = F_TLP;
    else if (w[c + SEG_TAIL] >= 0 && retransmit(t, c, w[c + SEG_TAIL])) bits = F_TLP | F_TLP_RETRANS;
    if (bits !== 0) {
      w[c + FLAGS] = (w[c + FLAGS] & ~F_TLP_RETRANS) | bits;
      w[c + TLP_SEQ] = w[c + SND_NXT];
      t.counters[N.TCPLossProbes]++;
      // The RTO is counted from the probe.
      stopRetx(w, c);
    }
  }
  rearmRetransmit(t, c);
}

/** An acknowledgment while a probe is out: did the probe repair a loss (section 7.4.2)? */
export function lossProbeAcked(t: Tcp, c: number): void {
  const { w } = t;
  if (((t.segAck - w[c + TLP_SEQ]) | 0) < 0) return;
  const flags = t.ackFlags;
  if ((w[c + FLAGS] & F_TLP_RETRANS) === 0 || (flags & ACK_DSACK_TLP) !== 0) {
    // New data, or both copies have come: nothing was lost.
    w[c + FLAGS] &= ~F_TLP;
    return;
  }
  if (((t.segAck - w[c + TLP_SEQ]) | 0) > 0) {
    // Something beyond is acknowledged without a report of a duplicate: the original was lost.
    beginReduction(t, c);
    w[c + CA_STATE] = CA_CWR;
    endReduction(t, c);
    keepOpenAfterProbe(t, c);
    t.counters[N.TCPLossProbeRecovery]++;
    return;
  }
  if ((flags & (ACK_ADVANCED | ACK_DATA | ACK_WINDOW | ACK_DATA_ACKED | ACK_DATA_SACKED)) === 0) w[c + FLAGS] &= ~F_TLP;
}

function keepOpenAfterProbe(t: Tcp, c: number): void {
  t.w[c + FLAGS] &= ~F_TLP;
  keepOpen(t, c);
}
