/** What ICMP says of segments that were sent: from the thread that hears of it to the lcore that has the connection. */
import { ERRNO } from "af-xdp-bindings";
import type { Endpoint } from "../endpoint.ts";
import { M_KIND, MSG_TCP_ICMP } from "../message.ts";
import type { Tcp } from "../tcp/core.ts";
import { ICMP_TOO_BIG, ICMP_UNREACHABLE, icmpReport } from "../tcp/pmtu.ts";
import { F_V6, FLAGS, LOCAL, PORTS, REMOTE } from "../tcp/tcb.ts";

/** Words of MSG_TCP_ICMP: errno, sequence number quoted, MTU or 0, local port << 16 | remote port, addresses of four words each. */
const R_ERRNO = 1;
const R_SEQ = 2;
const R_MTU = 3;
const R_PORTS = 4;
const R_LOCAL = 5;
const R_REMOTE = 9;

export interface QuotedSegment {
  readonly errno: number;
  readonly sequence: number;
  /** The MTU of EMSGSIZE. */
  readonly info: number;
  readonly local: Int32Array;
  readonly localPort: number;
  readonly remote: Int32Array;
  readonly remotePort: number;
}

/** Tells every lcore: whose connection it is only they know. One whose ring is full does not hear of it. */
export function tellLcores(endpoint: Endpoint, quoted: QuotedSegment): void {
  for (let lcore = 0; lcore < endpoint.shared.tcbs.length; lcore++) {
    const ring = endpoint.ringTo(lcore);
    const at = ring.claim();
    if (at < 0) continue;
    const { words } = ring;
    words[at + M_KIND] = MSG_TCP_ICMP;
    words[at + R_ERRNO] = quoted.errno;
    words[at + R_SEQ] = quoted.sequence;
    words[at + R_MTU] = quoted.errno === ERRNO.EMSGSIZE ? quoted.info : 0;
    words[at + R_PORTS] = (quoted.localPort << 16) | quoted.remotePort;
    words.set(quoted.local, at + R_LOCAL);
    words.set(quoted.remote, at + R_REMOTE);
  }
}

/** MSG_TCP_ICMP, on an lcore. False: it is of no connection here, or of nothing in flight. */
export function takeReport(t: Tcp, words: Int32Array, at: number): boolean {
  const { scratch, w } = t;
  for (let i = 0; i < 4; i++) {
    w[scratch + LOCAL + i] = words[at + R_LOCAL + i];
    w[scratch + REMOTE + i] = words[at + R_REMOTE + i];
  }
  const mapped = words[at + R_REMOTE] === 0 && words[at + R_REMOTE + 1] === 0 && words[at + R_REMOTE + 2] === 0xffff;
  w[scratch + FLAGS] = mapped ? 0 : F_V6;
  w[scratch + PORTS] = words[at + R_PORTS];
  const errno = words[at + R_ERRNO];
  const kind = errno === ERRNO.EMSGSIZE ? ICMP_TOO_BIG : ICMP_UNREACHABLE;
  return icmpReport(t, kind, words[at + R_SEQ], words[at + R_MTU], errno);
}
