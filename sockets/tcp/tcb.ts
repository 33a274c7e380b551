/**
 * A connection's record (RFC 9293's transmission control block): TCB_WORDS int32 words in one array, 704 bytes, and two
 * of them together where a float64 is needed. Everything else that a connection may hold (buffers, what it has sent,
 * what came out of order) comes from pools, so that an idle one holds nothing but this.
 *
 * `c` is a record's first word throughout: `w[c + SND_UNA]`; the id that callers see is c / TCB_WORDS. Sequence numbers
 * are int32 and are compared by the sign of (a - b) | 0. Times end in _US or _MS and are int32 that wrap, compared the
 * same way. Names are those of RFC 9293, section 3.3.1, and of include/linux/tcp.h.
 */

export const TCB_WORDS = 176;

/** Values of STATE (include/net/tcp_states.h); FREE marks a record that nobody has. */
export const FREE = 0;
export const ESTABLISHED = 1;
export const SYN_SENT = 2;
export const SYN_RECEIVED = 3;
export const FIN_WAIT_1 = 4;
export const FIN_WAIT_2 = 5;
export const TIME_WAIT = 6;
export const CLOSED = 7;
export const CLOSE_WAIT = 8;
export const LAST_ACK = 9;
export const LISTEN = 10;
export const CLOSING = 11;

export const STATE_NAMES = [
  "FREE",
  "ESTABLISHED",
  "SYN_SENT",
  "SYN_RECEIVED",
  "FIN_WAIT_1",
  "FIN_WAIT_2",
  "TIME_WAIT",
  "CLOSED",
  "CLOSE_WAIT",
  "LAST_ACK",
  "LISTEN",
  "CLOSING",
] as const;

// Three lines of the cache, 64 bytes each: what a segment in order and its acknowledgment touch.
export const STATE = 0;
/** F_ bits. */
export const FLAGS = 1;
/** The ports: local << 16 | remote. */
export const PORTS = 2;
export const RCV_NXT = 3;
/** RCV.NXT at the moment of the last segment sent, and the window told then, bytes: their sum is never taken back. */
export const RCV_WUP = 4;
export const RCV_WND = 5;
/** Sequence number of the next byte that the application reads. */
export const COPIED = 6;
export const SND_UNA = 7;
export const SND_NXT = 8;
/** Bytes, scaled. */
export const SND_WND = 9;
/** Sequence number of the segment that told SND_WND. */
export const SND_WL1 = 10;
export const TS_RECENT = 11;
export const TS_RECENT_MS = 12;
/** ACK_ bits: what is owed to the peer. */
export const ACK = 13;
/** Acknowledgments that are still sent at once (quick ACK). */
export const QUICK = 14;
/** Delay of an acknowledgment, microseconds (Linux: icsk_ack.ato). */
export const ATO_US = 15;

export const LAST_RCV_MS = 16;
/** Chunks of bytes received in order and not yet read, -1 for none. */
export const RCV_HEAD = 17;
export const RCV_TAIL = 18;
/** First range of bytes that came out of order, -1 for none. */
export const OOO_HEAD = 19;
/** IP_TTL or IPV6_UNICAST_HOPS, 0: the host's; above that byte HOPS_ bits. */
export const HOPS = 20;
/** Chunks held for receiving, those out of order included. */
export const RCV_CHUNKS = 21;
/** The peer's segment size as seen: what ACK policy and silly-window avoidance count in. */
export const RCV_MSS = 22;
/** SO_RCVBUF, bytes: half of it is window. */
export const RCV_BUF = 23;
/** The window told at most, grows as the peer fills it. */
export const RCV_SSTHRESH = 24;
/** TCP_WINDOW_CLAMP. */
export const WINDOW_CLAMP = 25;
/** What both sides shift windows by: ours << 8 | the peer's. */
export const SCALES = 26;
/** EV_ bits not yet fetched. */
export const EVENTS = 27;
/** The peer's urgent byte | URG_ bits. */
export const URGENT = 28;
/** Payload of the last segment that was smaller than RCV_MSS. */
export const LAST_LENGTH = 29;
/** L_ bits. */
export const LOCKS = 30;
/** When the delayed acknowledgment is due; its timer is set for then or earlier. */
export const ACK_AT_US = 31;

/** An offset that makes our timestamps a clock of their own, RFC 7323, section 5.4. */
export const TS_OFFSET = 32;
export const RCV_RTT_US = 33;
export const RCV_RTT_SEQ = 34;
export const RCV_RTT_TIME_US = 35;
/** For TCP_INFO, see tally.ts: SYNs are counted, segments of data without them. */
export const SEGS_IN = 36;
export const DATA_SEGS_IN = 37;
export const SEGS_OUT = 38;
/** IP_TOS. */
export const TOS = 39;
/** Addresses, four words each, IPv4 mapped. The words hold the bits as ipv4Source() returns them. */
export const LOCAL = 40;
export const REMOTE = 44;

// Five more: what an answer and its acknowledgment touch besides.
/** End of what the application has written. */
export const WRITE_SEQ = 48;
/** Bytes a segment carries at most, options not counted. */
export const MSS = 49;
/** The largest SND_WND ever told. */
export const MAX_WINDOW = 50;
/** Segments sent and not acknowledged: first and last node, -1 for none, in the order of sequence numbers. */
export const SEG_HEAD = 51;
export const SEG_TAIL = 52;
/** The same by time of sending, those that RACK still judges. */
export const RACK_HEAD = 53;
export const RACK_TAIL = 54;
export const PACKETS_OUT = 55;
export const SACKED_OUT = 56;
export const LOST_OUT = 57;
export const RETRANS_OUT = 58;
/** Segments (RFC 5681's cwnd over SMSS). */
export const CWND = 59;
/** Chunks of bytes written and not acknowledged, -1 for none. */
export const SND_HEAD = 60;
export const SND_TAIL = 61;
/** Where the first byte not yet sent lies: chunk, and offset in the pool. */
export const SND_CHUNK = 62;
export const SND_OFFSET = 63;

export const SSTHRESH = 64;
/** Segments acknowledged since CWND last grew. */
export const CWND_CNT = 65;
/** CA_ state. */
export const CA_STATE = 66;
/** SO_SNDBUF, bytes. */
export const SND_BUF = 67;
/** What the RETX timer is set for: PENDING_. */
export const PENDING = 68;
/**
 * When the RETX timer is to act, and for when it is set: it is moved only to an earlier time, so that one which every
 * segment moves on costs the wheel nothing.
 */
export const RETX_AT_US = 69;
export const RETX_SET_US = 70;
export const RTO_US = 71;
export const LAST_SND_MS = 72;
/** Since when an acknowledgment has been awaited or heard: keepalive counts from it. */
export const LAST_ACK_MS = 73;
/** End of the last segment sent that was not full (Minshall). */
export const SND_SML = 74;
/** Bytes a second, 0 for no pacing; when the next segment may leave. */
export const PACING_RATE = 75;
export const PACE_US = 76;
/** SO_RCVLOWAT. */
export const RCV_LOWAT = 77;
/** Timeouts in a row, doublings of the probes' time. */
export const RETRIES = 78;
export const BACKOFF = 79;

/** Smoothed RTT << 3, mean deviation << 2, both microseconds (RFC 6298 as in tcp_rtt_estimator). */
export const SRTT_US = 80;
export const MDEV_US = 81;
export const RTTVAR_US = 82;
export const MDEV_MAX_US = 83;
export const RTT_SEQ = 84;
export const MIN_RTT_US = 85;
export const MIN_RTT_MS = 86;
/** Segments delivered in all. */
export const DELIVERED = 87;
/** RACK.xmit_ts, RACK.end_seq, RACK.rtt (RFC 8985, section 5.3). */
export const RACK_US = 88;
export const RACK_END = 89;
export const RACK_RTT_US = 90;
/** SND.NXT when recovery began: it ends beyond. */
export const HIGH_SEQ = 91;
/** CWND that was used in the last round, and its start. */
export const CWND_USED = 92;
export const CWND_STAMP_MS = 93;
/** Most segments in flight in this window's round, which ends when this is acknowledged. */
export const MAX_OUT = 94;
export const ROUND_SEQ = 95;

/** Words of the congestion control, 13 of them, on a float64's boundary: see congestion/. */
export const CC_STATE = 96;

/** SO_MARK, SO_PRIORITY, while HOPS says so. */
export const MARK = 109;
export const PRIORITY = 110;
/** IP_MINTTL | IPV6_MINHOPCOUNT << 8, while L_MIN_HOPS. */
export const MIN_HOPS = 111;

export const ISS = 112;
/** errno of SO_ERROR; << 16, while it lives, what ICMP has reported without ending it, then the errno that has ended it. */
export const ERROR = 113;
/** For TCP_INFO: a float64, microseconds with something in flight up to the last round's end. */
export const BUSY_US = 114;
/** Since when something is in flight; such time in this round, DELIVERED at its start. */
export const BUSY_SINCE_US = 116;
export const ROUND_BUSY_US = 117;
export const ROUND_DELIVERED = 118;
/** SND.UNA at the last round's end, and how often it had come round until then, since ISS: ACKED_ROUNDS. */
export const ROUND_UNA = 119;
/** Segments delivered in the last round, and the time in flight that they took. */
export const RATE_SEGMENTS = 120;
export const RATE_US = 121;
export const ACKED_ROUNDS = 122;
export const DATA_SEGS_OUT = 123;
/** Which congestion control: NEWRENO, CUBIC. */
export const CONGESTION = 124;
/** SO_MAX_PACING_RATE. */
export const PACING_MAX = 125;
/** Receive-buffer tuning: start of the round, by time and by COPIED. */
export const SPACE_US = 126;
export const SPACE_SEQ = 127;

// Recovery, and what is rarely touched.
/** float64: bytes sent again. */
export const BYTES_RETRANS = 128;
/** Probes of a closed window without an answer. */
export const PROBES_OUT = 130;
/** When the first of the timeouts in a row was sent. */
export const RETRANS_STAMP_MS = 131;
/** TSval of the last retransmission's first, for Eifel detection. */
export const RETRANS_TS = 132;
/** The window before it was cut; PRR's counts since, segments (RFC 6937). */
export const PRIOR_CWND = 133;
export const PRIOR_SSTHRESH = 134;
export const PRR_DELIVERED = 135;
export const PRR_OUT = 136;
/** SND.UNA when the window was cut and may yet be restored, while F_UNDO; and retransmissions not yet known as needless. */
export const UNDO_MARKER = 137;
export const UNDO_RETRANS = 138;
/** RACK.reo_wnd_mult, in quarters of the least RTT; recoveries for which it lasts (RACK.reo_wnd_persist). */
export const REO_STEPS = 139;
export const REO_PERSIST = 140;
/** RACK.dsack_round: SND.NXT when a DSACK last counted. */
export const REO_ROUND = 141;
/** TLP.end_seq while F_TLP. */
export const TLP_SEQ = 142;
/** SACKed before the highest: how far reordering goes, segments. */
export const REORDERING = 143;
/** Highest SACKed sequence number. */
export const FACK = 144;
/** DSACK to report, while F_DSACK. */
export const DSACK_START = 145;
export const DSACK_END = 146;
/** First of the peer's bytes. */
export const IRS = 147;
/** FIN of the peer, while F_FIN_SEEN: its sequence number. */
export const FIN_SEQ = 148;
/** Urgent pointers: ours, the peer's. */
export const SND_UP = 149;
export const RCV_UP = 150;
/** Time of the last answer to a segment that was not acceptable. */
export const CHALLENGE_MS = 151;
/** Ranges of bytes that came out of order. */
export const OOO_COUNT = 152;
/** … bytes copied in the last round, and how often COPIED had come round until its end, since IRS. */
export const SPACE = 153;
export const COPIED_ROUNDS = 154;
/** Options as set. */
export const KEEP_IDLE_MS = 155;
export const KEEP_INTERVAL_MS = 156;
/** TCP_KEEPCNT << 16 | keepalive probes out. */
export const KEEP_COUNTS = 157;
export const USER_TIMEOUT_MS = 158;
/** TCP_LINGER2, ms, -1: FIN_WAIT_2 ends at once. */
export const LINGER2_MS = 159;
/** TCP_SYNCNT. */
export const SYN_COUNT = 160;
/** TCP_MAXSEG as set by the user, 0 for none. */
export const USER_MSS = 161;
/** Path MTU, bytes. */
export const PMTU = 162;
export const NOTSENT_LOWAT = 163;
/** Listener that it came from, -1 for none. */
export const LISTENER = 164;
/** Times this record has been used: tells a connection from the next with its id. */
export const GENERATION = 165;
/** SO_LINGER's time, ms, while F_LINGER. */
export const LINGER_MS = 166;
/** The peer's MSS option. */
export const PEER_MSS = 167;
/** Since when probes of a closed window go unanswered. */
export const PROBES_SINCE_MS = 168;
/** TCP_DEFER_ACCEPT: SYN-ACKs sent again at most while a connection without data is not accepted. */
export const DEFER_COUNT = 169;
/** Segments sent again, in all. */
export const TOTAL_RETRANS = 170;
/** Number of the engine's thread that has the socket, plus 1; 0: nobody has. Written by who drives the Tcp. */
export const OWNER = 171;
/** Of a listener: connections to be accepted, and how many may wait. */
export const ACCEPT_QUEUE = 172;
export const ACCEPT_BACKLOG = 173;
/** Of any other: its socket filter, 0 for none (filter.ts), and segments that this has dropped. */
export const FILTER = 172;
export const FILTER_DROPS = 173;
/** Since when segments are smaller because large ones seem to be lost, while L_BLACK_HOLE. */
export const BLACK_HOLE_MS = 174;
/** The MSS option that we send. */
export const ADV_MSS = 175;

// Words of the record that is nobody's (Tcp.scratch), the last of all: for threads that read the others.
/** float64: performance.timeOrigin of the thread whose performance.now() the Tcp's time is, milliseconds. */
export const SCRATCH_ORIGIN = 98;
/** Records from this one on have never been used. */
export const SCRATCH_USED = 100;

/** Bits of FLAGS. */
export const F_V6 = 1 << 0;
/** Timestamps, SACK, window scaling, ECN are in use. */
export const F_TS = 1 << 1;
export const F_SACK = 1 << 2;
export const F_WSCALE = 1 << 3;
export const F_ECN = 1 << 4;
/** A CE mark has arrived and its CWR has not: ECE goes with each acknowledgment. */
export const F_ECE = 1 << 5;
/** The window has been cut: CWR goes with the next new segment. */
export const F_CWR = 1 << 6;
/** The application has closed it: the record ends with the connection. */
export const F_ORPHAN = 1 << 7;
export const F_NODELAY = 1 << 8;
export const F_CORK = 1 << 9;
/** SHUT_RD, SHUT_WR. */
export const F_RCV_SHUT = 1 << 10;
export const F_SND_SHUT = 1 << 11;
/** Our FIN has been sent. */
export const F_FIN_SENT = 1 << 12;
/** A FIN has been seen, FIN_SEQ; it has been processed. */
export const F_FIN_SEEN = 1 << 13;
export const F_FIN_RCVD = 1 << 14;
export const F_KEEPALIVE = 1 << 15;
export const F_OOBINLINE = 1 << 16;
/** In the ring of connections with events. */
export const F_READY = 1 << 17;
export const F_PASSIVE = 1 << 18;
/** The window may be restored: UNDO_MARKER counts. */
export const F_UNDO = 1 << 19;
/** A tail loss probe is out: TLP_SEQ counts. */
export const F_TLP = 1 << 20;
/** … and it was a retransmission. */
export const F_TLP_RETRANS = 1 << 21;
export const F_DSACK = 1 << 22;
export const F_DSACK_SEEN = 1 << 23;
/** Interactive: acknowledgments wait for data to go with (Linux: pingpong). */
export const F_PINGPONG = 1 << 24;
/** The last write was limited by CWND. */
export const F_CWND_LIMITED = 1 << 25;
export const F_LINGER = 1 << 26;
/** The handshake's last ACK has come, and there was no room to accept. */
export const F_ACKED = 1 << 27;
/** SND_UP counts. */
export const F_URGENT = 1 << 28;
/** A write found no room: EV_WRITABLE is due when there is. */
export const F_NOSPACE = 1 << 29;
/** Reordering has been seen. */
export const F_REORDER_SEEN = 1 << 30;
/** Path MTU discovery is off: DF is not set. */
export const F_NO_PMTUD = 1 << 31;

/** The TTL in HOPS; above it what only the kernel can do for a segment: SO_MARK, SO_PRIORITY, SO_DONTROUTE. */
export const HOPS_TTL = 0xff;
export const HOPS_MARK = 0x100;
export const HOPS_PRIORITY = 0x200;
export const HOPS_DONTROUTE = 0x400;

/** Bits of LOCKS: buffers whose size the application has set, so that nothing tunes them, and more. */
export const L_RCVBUF = 1;
export const L_SNDBUF = 2;
export const L_CLAMP = 4;
/** The handshake's SYN has asked for ECN. */
export const L_ECN_SYN = 8;
/** A path that loses what is large has been found: PMTU is a guess. */
export const L_BLACK_HOLE = 16;
/** It waits to be accepted: its events are told when it is. */
export const L_UNACCEPTED = 32;
/** Segments that have come too far are dropped: MIN_HOPS. */
export const L_MIN_HOPS = 64;
/** A filter sees its segments: FILTER, or of a half-open connection that of its listener, if this has one by then. */
export const L_FILTER = 128;
/** TCP_THIN_LINEAR_TIMEOUTS. */
export const L_THIN = 256;
/** Some of what is in flight has left as a packet of many segments: what follows goes the same way, or might overtake it. */
export const L_GSO = 512;
/** In the list of those that send at the end of the turn. */
export const L_PUSH_TURN = 1024;

/** Bits of ACK. */
export const ACK_SCHEDULED = 1;
/** The timer is set. */
export const ACK_TIMER = 2;
/** Now, whatever else says that it may wait. */
export const ACK_NOW = 4;
/** The peer has pushed since the last acknowledgment. */
export const ACK_PUSHED = 8;
export const ACK_PUSHED2 = 16;
/** It is among those that see to it at the end of the turn; and then it is to go out at once. */
export const ACK_TURN = 32;
export const ACK_TURN_NOW = 64;

/** Bits of URGENT above the byte: it is there to be read; its place is known and the byte has not come; it has been read. */
export const URG_VALID = 0x100;
export const URG_NOT_YET = 0x200;
export const URG_READ = 0x400;

/** Values of CA_STATE (enum tcp_ca_state). */
export const CA_OPEN = 0;
export const CA_DISORDER = 1;
export const CA_CWR = 2;
export const CA_RECOVERY = 3;
export const CA_LOSS = 4;

/** Values of PENDING. */
export const PENDING_NONE = 0;
export const PENDING_RETRANS = 1;
export const PENDING_PROBE = 3;
export const PENDING_LOSS_PROBE = 5;
export const PENDING_REORDER = 6;

/** Timers of a connection: the timer's id is TIMERS times the connection's, plus one of these. */
export const TIMERS = 4;
export const TIMER_RETX = 0;
export const TIMER_DELACK = 1;
/** Keepalive, FIN_WAIT_2, TIME_WAIT. */
export const TIMER_KEEP = 2;
export const TIMER_PACE = 3;

/** Bits of EVENTS, as poll(2) would name them. */
export const EV_READABLE = 1;
export const EV_WRITABLE = 2;
export const EV_CONNECTED = 4;
/** The peer has closed its direction. */
export const EV_HANGUP = 8;
/** SO_ERROR is set, the connection is over. */
export const EV_ERROR = 16;
export const EV_URGENT = 32;
/** Both directions are over. */
export const EV_CLOSED = 64;
/** A listener has a connection to accept. */
export const EV_ACCEPT = 128;
