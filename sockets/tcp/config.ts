/** What a TCP may hold, and how it behaves: each with the sysctl of Linux that it is named after, and its value there. */

/** Values of TCP_CONGESTION here. */
export const NEWRENO = 0;
export const CUBIC = 1;
export const CONGESTION_NAMES = ["reno", "cubic"] as const;

export interface TcpConfig {
  /** Connections in any state, those in TIME_WAIT included; 828 bytes each, their timers and place in the table included. */
  connections: number;
  listeners: number;
  /** Bytes of all send and receive buffers together (the last value of net.ipv4.tcp_mem), set aside at the start. */
  bufferBytes: number;
  /** Above it buffers no longer grow (the second value of tcp_mem). */
  pressureBytes: number;
  /** Bytes of a chunk, a power of two: what a connection with one unread byte holds. */
  chunkBytes: number;
  /** Segments in flight of all connections together, 48 bytes each. */
  segments: number;
  /** Ranges out of order of all connections together, 32 bytes each, and of one. */
  ranges: number;
  rangesPerConnection: number;
  /** Half-open connections of a listener before SYN cookies (net.ipv4.tcp_max_syn_backlog). */
  synBacklog: number;
  /** The most a listener's backlog may be (net.core.somaxconn). */
  acceptBacklogMax: number;
  /** 0 never, 1 when the SYN backlog is full, 2 always (net.ipv4.tcp_syncookies). */
  synCookies: number;
  /** Records in TIME_WAIT; one more is closed at once (net.ipv4.tcp_max_tw_buckets). */
  timeWaitMax: number;
  /** TIME_WAIT and orphaned FIN_WAIT_2, ms (TCP_TIMEWAIT_LEN, net.ipv4.tcp_fin_timeout). */
  timeWaitMs: number;
  finTimeoutMs: number;
  /** Connections without an application that still send (net.ipv4.tcp_max_orphans): one more is reset. */
  orphansMax: number;
  /** Takes a port from TIME_WAIT for a new connection to the same peer, with timestamps (net.ipv4.tcp_tw_reuse). */
  timeWaitReuse: boolean;
  /** Bytes of a receive buffer: at the start, at most (net.ipv4.tcp_rmem). Half of it is window. */
  receiveBuffer: number;
  receiveBufferMax: number;
  /** Bytes of a send buffer: of a new socket, at most (net.ipv4.tcp_wmem). A connection begins with what its first window needs. */
  sendBuffer: number;
  sendBufferMax: number;
  windowScaling: boolean;
  timestamps: boolean;
  sack: boolean;
  dsack: boolean;
  /** 0 no, 1 asked for and granted, 2 granted (net.ipv4.tcp_ecn). */
  ecn: number;
  congestion: number;
  /** Segments of the first window (RFC 6928). */
  initialWindow: number;
  /** RTO, ms: least, most, and before there is a measurement (TCP_RTO_MIN, TCP_RTO_MAX, TCP_TIMEOUT_INIT). */
  rtoMinMs: number;
  rtoMaxMs: number;
  rtoInitMs: number;
  /** SYNs sent again, SYN-ACKs sent again (net.ipv4.tcp_syn_retries, tcp_synack_retries). */
  synRetries: number;
  synAckRetries: number;
  /** Timeouts before the path is suspected, before the connection is given up; orphans (tcp_retries1, 2, tcp_orphan_retries). */
  retries1: number;
  retries2: number;
  orphanRetries: number;
  /** Delayed acknowledgments, ms: least and most (TCP_DELACK_MIN, TCP_DELACK_MAX). */
  delackMinMs: number;
  delackMaxMs: number;
  keepIdleMs: number;
  keepIntervalMs: number;
  keepCount: number;
  /** MSS that a black hole's discovery begins with, its floor, and whether it is made (tcp_base_mss, tcp_mtu_probe_floor, tcp_mtu_probing). */
  baseMss: number;
  mssFloor: number;
  mtuProbing: boolean;
  /** Least time between two answers to segments that are not acceptable, ms (net.ipv4.tcp_invalid_ratelimit). */
  invalidRateMs: number;
  /** Challenge ACKs a second, all connections together (net.ipv4.tcp_challenge_ack_limit). */
  challengeAcks: number;
  /** A RST ends TIME_WAIT (net.ipv4.tcp_rfc1337 is 0). */
  resetEndsTimeWait: boolean;
  /** A connection from a full accept queue is reset instead of left waiting (net.ipv4.tcp_abort_on_overflow). */
  abortOnOverflow: boolean;
  /** A window that was idle for an RTO starts slowly again (net.ipv4.tcp_slow_start_after_idle). */
  slowStartAfterIdle: boolean;
  /** Pacing of every connection by its window and RTT, percent of the rate in slow start and after it (tcp_pacing_ss_ratio, tcp_pacing_ca_ratio). */
  pacing: boolean;
  pacingSlowStartPercent: number;
  pacingPercent: number;
  /** Ephemeral ports, both included (net.ipv4.ip_local_port_range). */
  portFirst: number;
  portLast: number;
}

export const TCP_DEFAULTS: TcpConfig = {
  connections: 65_536,
  listeners: 256,
  bufferBytes: 64 << 20,
  pressureBytes: 48 << 20,
  chunkBytes: 2048,
  segments: 65_536,
  ranges: 16_384,
  rangesPerConnection: 64,
  synBacklog: 4096,
  acceptBacklogMax: 4096,
  synCookies: 1,
  timeWaitMax: 32_768,
  timeWaitMs: 60_000,
  finTimeoutMs: 60_000,
  orphansMax: 32_768,
  timeWaitReuse: true,
  receiveBuffer: 131_072,
  receiveBufferMax: 6 << 20,
  sendBuffer: 16_384,
  sendBufferMax: 4 << 20,
  windowScaling: true,
  timestamps: true,
  sack: true,
  dsack: true,
  ecn: 2,
  congestion: CUBIC,
  initialWindow: 10,
  rtoMinMs: 200,
  rtoMaxMs: 120_000,
  rtoInitMs: 1000,
  synRetries: 6,
  synAckRetries: 5,
  retries1: 3,
  retries2: 15,
  orphanRetries: 8,
  delackMinMs: 40,
  delackMaxMs: 200,
  keepIdleMs: 7_200_000,
  keepIntervalMs: 75_000,
  keepCount: 9,
  baseMss: 1024,
  mssFloor: 48,
  mtuProbing: true,
  invalidRateMs: 500,
  challengeAcks: 1000,
  resetEndsTimeWait: true,
  abortOnOverflow: false,
  slowStartAfterIdle: true,
  pacing: false,
  pacingSlowStartPercent: 200,
  pacingPercent: 120,
  portFirst: 32_768,
  portLast: 60_999,
};

/** Throws a RangeError for limits that cannot be. */
export function checkConfig(config: TcpConfig): void {
  const between = (name: keyof TcpConfig, least: number, most: number): void => {
    const value = config[name] as number;
    if (!Number.isInteger(value) || value < least || value > most)
      throw new RangeError(`${name}: ${value} is not a whole number from ${least} to ${most}`);
  };
  // FlowTable's values end at 2^24 - 2; a record's first word is an int32.
  between("connections", 1, 2 ** 23);
  between("listeners", 1, 65_536);
  between("chunkBytes", 256, 65_536);
  between("bufferBytes", config.chunkBytes * 4, 2 ** 30);
  between("pressureBytes", config.chunkBytes, config.bufferBytes);
  between("segments", 16, 2 ** 24);
  between("ranges", 1, 2 ** 24);
  between("rangesPerConnection", 1, 1024);
  between("synBacklog", 0, 2 ** 20);
  between("acceptBacklogMax", 1, 2 ** 20);
  between("timeWaitMax", 0, 2 ** 24);
  between("receiveBuffer", 2304, config.receiveBufferMax);
  between("receiveBufferMax", 2304, 2 ** 30);
  between("sendBuffer", 4608, config.sendBufferMax);
  between("sendBufferMax", 4608, 2 ** 30);
  between("initialWindow", 1, 1024);
  between("rtoMinMs", 1, config.rtoMaxMs);
  between("rtoMaxMs", 1000, 120_000);
  between("rtoInitMs", 1, config.rtoMaxMs);
  between("mssFloor", 24, 1460);
  between("baseMss", config.mssFloor, 65_000);
  between("portFirst", 1, 65_535);
  between("portLast", config.portFirst, 65_535);
  if ((config.chunkBytes & (config.chunkBytes - 1)) !== 0)
    throw new RangeError(`chunkBytes: ${config.chunkBytes} is no power of two`);
}
