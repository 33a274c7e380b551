/**
 * The TCP connections of a running engine, one by one, as `ss -ti` shows the kernel's: GET /tcp on the socket that serves
 * statistics. They are read from the lcores' records where those lie, by the thread that serves: no lcore is asked, and
 * that thread reads them in slices, between which it does whatever else it has to.
 *
 * The answer is a line of JSON for each connection, then one more, ConnectionsEnd.
 */
import { addressBytes } from "../sockets/fib.ts";
import {
  TCPI_OPT_ECN,
  TCPI_OPT_SACK,
  TCPI_OPT_TIMESTAMPS,
  TCPI_OPT_WSCALE,
  type TcpInfo,
  tcpInfo,
} from "../sockets/tcp/info.ts";
import { readable } from "../sockets/tcp/receive.ts";
import { copyRecord, recordsTime, recordsUsed } from "../sockets/tcp/records.ts";
import { queuedBytes } from "../sockets/tcp/send-queue.ts";
import {
  ACCEPT_BACKLOG,
  ACCEPT_QUEUE,
  CLOSE_WAIT,
  CLOSED,
  CLOSING,
  ESTABLISHED,
  F_ORPHAN,
  FIN_WAIT_1,
  FIN_WAIT_2,
  FLAGS,
  FREE,
  LAST_ACK,
  LISTEN,
  LOCAL,
  OWNER,
  PORTS,
  REMOTE,
  STATE,
  SYN_RECEIVED,
  SYN_SENT,
  TCB_WORDS,
  TIME_WAIT,
} from "../sockets/tcp/tcb.ts";
import { formatIp } from "../sockets/wire/address.ts";

/** States as ss prints them, by STATE. */
const STATE_TEXT = [
  "UNKNOWN",
  "ESTAB",
  "SYN-SENT",
  "SYN-RECV",
  "FIN-WAIT-1",
  "FIN-WAIT-2",
  "TIME-WAIT",
  "UNCONN",
  "CLOSE-WAIT",
  "LAST-ACK",
  "LISTEN",
  "CLOSING",
] as const;

const SYNCHRONIZED = [ESTABLISHED, SYN_RECEIVED, FIN_WAIT_1, FIN_WAIT_2, TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING];

/** State filters of ss(8), each with the states that it stands for. */
const STATE_FILTERS: Readonly<Record<string, readonly number[]>> = {
  all: [...SYNCHRONIZED, SYN_SENT, CLOSED, LISTEN],
  connected: [...SYNCHRONIZED, SYN_SENT],
  synchronized: SYNCHRONIZED,
  bucket: [SYN_RECEIVED, TIME_WAIT],
  big: [ESTABLISHED, SYN_SENT, FIN_WAIT_1, FIN_WAIT_2, CLOSED, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING],
  established: [ESTABLISHED],
  "syn-sent": [SYN_SENT],
  "syn-recv": [SYN_RECEIVED],
  "fin-wait-1": [FIN_WAIT_1],
  "fin-wait-2": [FIN_WAIT_2],
  "time-wait": [TIME_WAIT],
  closed: [CLOSED],
  "close-wait": [CLOSE_WAIT],
  "last-ack": [LAST_ACK],
  listening: [LISTEN],
  closing: [CLOSING],
};

export const STATE_NAMES: readonly string[] = Object.keys(STATE_FILTERS);

/** What ss shows without being asked: neither listeners nor what is half open, unconnected or waiting. */
const STATES_DEFAULT = [ESTABLISHED, SYN_SENT, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, LAST_ACK, CLOSING];

/** Records looked at in one go; each that is told takes some 10 us, each that is not some 20 ns. */
const SLICE_RECORDS = 4096;
const SLICE_TOLD = 256;

export interface ConnectionsQuery {
  /** Filters of STATE_NAMES; none for those of ss without `state`. */
  readonly states: readonly string[];
  /** Local and remote port, 0 for any. */
  readonly sport: number;
  readonly dport: number;
  /** Connections told at most. */
  readonly limit: number;
}

/** A connection or a listener. Times are milliseconds, rates bits a second, names those of ss. */
export interface ConnectionLine {
  readonly state: (typeof STATE_TEXT)[number];
  /** Bytes not read, not acknowledged; of a listener connections to be accepted, and how many may wait. */
  readonly recv_q: number;
  readonly send_q: number;
  readonly local: { readonly address: string; readonly port: number };
  readonly peer: { readonly address: string; readonly port: number };
  readonly pid: number;
  /** Where it lives, and the thread that has the socket: "lcore 0", "thread 1"; null: nobody has, or not yet. */
  readonly lcore: number;
  readonly owner: string | null;
  /** Null for listeners and TIME-WAIT. */
  readonly info: Readonly<Record<string, number | string | boolean | null>> | null;
}

export interface ConnectionsEnd {
  /** Connections told, and whether there were more than the limit. */
  readonly told: number;
  readonly more: boolean;
}

/** What is asked for in a URL. Throws RangeError, in words. */
export function parseConnectionsQuery(parameters: URLSearchParams): ConnectionsQuery {
  const number = (name: string, high: number, otherwise: number): number => {
    const text = parameters.get(name);
    if (text === null) return otherwise;
    const value = Number(text);
    if (!/^\d+$/.test(text) || value > high) throw new RangeError(`${name}: ${text} is no number up to ${high}`);
    return value;
  };
  const states = (parameters.get("state") ?? "").split(",").filter((name) => name !== "");
  for (const name of states) if (!(name in STATE_FILTERS)) throw new RangeError(`state: no state is called ${name}`);
  return {
    states,
    sport: number("sport", 65_535, 0),
    dport: number("dport", 65_535, 0),
    limit: number("limit", Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
  };
}

/** @param records of each lcore @param nameOf a thread by its number in the mesh */
export function connectionLines(
  records: readonly Int32Array[],
  nameOf: (thread: number) => string,
  query: ConnectionsQuery,
): ReadableStream<Uint8Array> {
  const names = query.states.length > 0 ? query.states.flatMap((name) => STATE_FILTERS[name]) : STATES_DEFAULT;
  const wanted = STATE_TEXT.map((_, state) => names.includes(state));
  const copy = new Int32Array(TCB_WORDS);
  const encoder = new TextEncoder();
  let lcore = 0;
  let id = 0;
  let told = 0;
  const matches = (w: Int32Array, c: number): boolean => {
    if (w[c + STATE] === FREE || !wanted[w[c + STATE]]) return false;
    const ports = w[c + PORTS];
    return (
      (query.sport === 0 || ports >>> 16 === query.sport) && (query.dport === 0 || (ports & 0xffff) === query.dport)
    );
  };
  const end = (more: boolean): string => `${JSON.stringify({ told, more } satisfies ConnectionsEnd)}\n`;
  const isDone = (): boolean => lcore === records.length || told === query.limit;
  const slice = (): string => {
    let text = "";
    let lines = 0;
    for (let looked = 0; looked < SLICE_RECORDS && lines < SLICE_TOLD && !isDone(); looked++, id++) {
      const w = records[lcore];
      if (id >= recordsUsed(w)) {
        lcore++;
        id = -1;
        continue;
      }
      if (!matches(w, id * TCB_WORDS) || !copyRecord(w, id, copy) || !matches(copy, 0)) continue;
      text += `${JSON.stringify(lineOf(copy, lcore, recordsTime(w), nameOf))}\n`;
      lines++;
      told++;
    }
    return isDone() ? text + end(lcore < records.length) : text;
  };
  return new ReadableStream({
    async pull(controller) {
      // A stream is asked again only after it has given something.
      for (let text = slice(); ; text = slice()) {
        if (text !== "") controller.enqueue(encoder.encode(text));
        if (isDone()) controller.close();
        else await new Promise((resolve) => setImmediate(resolve));
        if (text !== "") return;
      }
    },
  });
}

function lineOf(w: Int32Array, lcore: number, us: number, nameOf: (thread: number) => string): ConnectionLine {
  const state = w[STATE];
  const listens = state === LISTEN;
  const owner = (w[FLAGS] & F_ORPHAN) !== 0 || state === TIME_WAIT ? 0 : w[OWNER];
  return {
    state: STATE_TEXT[state],
    recv_q: listens ? w[ACCEPT_QUEUE] : Math.max(readable(w, 0), 0),
    send_q: listens ? w[ACCEPT_BACKLOG] : queuedBytes(w, 0),
    local: { address: textOf(w, LOCAL), port: w[PORTS] >>> 16 },
    peer: { address: textOf(w, REMOTE), port: w[PORTS] & 0xffff },
    pid: process.pid,
    lcore,
    owner: owner === 0 ? null : nameOf(owner - 1),
    info: listens || state === TIME_WAIT ? null : ssInfo(tcpInfo(w, 0, us)),
  };
}

function textOf(w: Int32Array, at: number): string {
  return formatIp(addressBytes(w[at], w[at + 1], w[at + 2], w[at + 3]));
}

/** Names, units and order of tcp_show_info() in ss.c. */
function ssInfo(info: TcpInfo): Record<string, number | string | boolean | null> {
  const has = (option: number): boolean => (info.options & option) !== 0;
  const scaled = has(TCPI_OPT_WSCALE);
  return {
    ts: has(TCPI_OPT_TIMESTAMPS),
    sack: has(TCPI_OPT_SACK),
    ecn: has(TCPI_OPT_ECN),
    congestion: info.congestion,
    wscale: scaled ? `${info.sndWscale},${info.rcvWscale}` : null,
    rto: info.rto / 1000,
    backoff: info.backoff,
    rtt: info.rtt / 1000,
    rttvar: info.rttvar / 1000,
    ato: info.ato / 1000,
    mss: info.sndMss,
    pmtu: info.pmtu,
    rcvmss: info.rcvMss,
    advmss: info.advmss,
    cwnd: info.sndCwnd,
    ssthresh: info.sndSsthresh < SSTHRESH_UNSET ? info.sndSsthresh : null,
    bytes_sent: info.bytesSent,
    bytes_retrans: info.bytesRetrans,
    bytes_acked: info.bytesAcked,
    bytes_received: info.bytesReceived,
    segs_out: info.segsOut,
    segs_in: info.segsIn,
    data_segs_out: info.dataSegsOut,
    data_segs_in: info.dataSegsIn,
    send: info.rtt === 0 ? 0 : Math.round((info.sndCwnd * info.sndMss * 8e6) / info.rtt),
    lastsnd: info.lastDataSentMs,
    lastrcv: info.lastDataRecvMs,
    lastack: info.lastAckRecvMs,
    pacing_rate: info.pacingRate * 8,
    delivery_rate: info.deliveryRate * 8,
    delivered: info.delivered,
    busy: Math.round(info.busyTime / 1000),
    unacked: info.unacked,
    retrans: info.retrans,
    retrans_total: info.totalRetrans,
    lost: info.lost,
    sacked: info.sacked,
    reordering: info.reordering,
    rcv_rtt: info.rcvRtt / 1000,
    rcv_space: info.rcvSpace,
    rcv_ssthresh: info.rcvSsthresh,
    notsent: info.notsentBytes,
    minrtt: info.minRtt / 1000,
    snd_wnd: info.sndWnd,
    rcv_wnd: info.rcvWnd,
  };
}

/** ss shows no ssthresh from here on. */
const SSTHRESH_UNSET = 0xffff;
