/**
 * Counters: a private array a thread, committed to shared memory now and then, so that counting costs an add and reading
 * costs the counting thread nothing. Names are those of Linux's /proc/net/snmp and netstat where one exists.
 */
import { HOST_COUNTERS } from "./host/host-counters.ts";
import { TCP_COUNTERS, type TcpCounterName } from "./tcp/counters.ts";

/** A counter of sockets/tcp, as it is called beside those of other protocols. */
type TcpName<Name extends string> = Name extends `TCP${string}` ? Name : `Tcp${Name}`;

const tcpName = (name: string): string => (name.startsWith("TCP") ? name : `Tcp${name}`);

const OWN_COUNTERS = [
  ["RxFrames", "frames received from the queues"],
  ["RxBytes", "bytes of those frames"],
  ["RxBursts", "bursts that held at least one frame"],
  ["TxFrames", "frames handed to the TX rings, and segments of larger packets that the kernel or the NIC cuts"],
  ["TxBytes", "bytes of those frames"],
  ["TxDropped", "of those, dropped by the device or the wire"],
  ["TxRefused", "times the kernel took no frame, for want of memory or with the interface down; the frames wait"],
  ["EthUnknownType", "dropped: neither IPv4 nor IPv6, or more than two VLAN tags"],
  ["EthTruncated", "dropped: shorter than its Ethernet and IP headers"],
  [
    "IpInHdrErrors",
    "dropped: version, a length, an option or a route in the headers that is wrong or may not be taken",
  ],
  ["IpInCsumErrors", "dropped: IPv4 header checksum wrong"],
  ["IpInAddrErrors", "dropped: addressed to none of our addresses"],
  ["IpInUnknownProtos", "dropped: no handler for the protocol, or an IPv6 extension header"],
  ["IpInTruncatedPkts", "dropped: the frame ends before the packet does"],
  ["IpInFragments", "dropped: a fragment reached the engine instead of the kernel"],
  ["IpInLong", "dropped: longer than a frame, and not TCP"],
  ["UdpInDatagrams", "datagrams delivered to sockets"],
  ["UdpNoPorts", "dropped: no socket on the port"],
  ["UdpInErrors", "dropped: UDP length wrong, or no checksum where IPv6 demands one"],
  ["UdpInCsumErrors", "dropped: UDP checksum wrong"],
  ["UdpPartialChecksums", "checksum left unfinished by the sender's kernel (accepted only where the driver says so)"],
  ["UdpRcvbufErrors", "dropped: the socket's receive buffer was full"],
  ["UdpOutDatagrams", "datagrams sent"],
  ["UdpSndbufErrors", "not sent: no free frame, or no room in the TX ring"],
  ["UdpOutTooBig", "not sent on the fast path: larger than the MTU"],
  ["UdpOutViaKernel", "sent through the placeholder socket: no route or neighbour the engine can use by itself"],
  ["UdpOutErrors", "not sent: the kernel refused it too"],
  [
    "UdpInViaKernel",
    "received through the placeholder socket (fragments, multicast, arrivals before the port was steered)",
  ],
  ["HostFrames", "frames passed to the host protocols: ARP, ICMP, fragments, groups, next hops to be resolved"],
  ["HostDrops", "dropped: the thread of the host protocols has as many frames as it may hold"],
  ["HandedOver", "datagrams passed to another lcore or thread"],
  ["MeshFull", "dropped: the ring to the socket's thread was full"],
  ["QuotaDrops", "dropped: the socket's thread holds too many frames already"],
  ["StaleMessages", "messages for a socket that has been closed meanwhile"],
  ["BadMessages", "messages that made no sense, ignored"],
  ["PoolEmpty", "times a frame was wanted and none was free"],
  ["Turns", "turns of the loop"],
  ["IdleTurns", "turns in which nothing happened"],
  ["Sleeps", "times the loop slept in poll(2)"],
  ["Preempted", "times others had the CPU while the loop spun"],
  ["Wakeups", "times another thread had to be woken"],
  ["TableSyncs", "times the lookup tables were brought up to date"],
  ["FibSyncs", "times routes or neighbours were brought up to date"],
  ["TcpInCsumErrors", "dropped: TCP checksum wrong"],
  ["TcpPartialChecksums", "checksum of a segment left unfinished by the sender's kernel"],
  ["TcpOutViaKernel", "segments sent through a raw socket: no route or neighbour the engine can use by itself"],
  ["TcpOutErrors", "segments not sent: the kernel refused them, or the TX ring was full"],
  [
    "TcpGsoDrops",
    "packets of many segments of which the device dropped all or some: they are sent again as what is lost",
  ],
  ["TcpGsoRefused", "packets of many segments that the kernel refused: they left segment by segment"],
  ["TcpLooped", "segments from one socket of the engine to another by an address of its own"],
  ["TcpHandedOver", "segments of connections of another lcore, passed on"],
  ["TcpHandOverDrops", "dropped: no frame or no room in the ring to the connection's lcore"],
  ...HOST_COUNTERS,
] as const;

export type CounterName = (typeof OWN_COUNTERS)[number][0] | TcpName<TcpCounterName>;

/** Every counter: name, and what one count means. The order is the index. */
export const COUNTERS: readonly (readonly [CounterName, string])[] = [
  ...OWN_COUNTERS,
  ...TCP_COUNTERS.map(([name, meaning]) => [tcpName(name) as CounterName, meaning] as const),
];

/** Index of the first counter of sockets/tcp: the others follow in their order. */
export const TCP_COUNTERS_AT = OWN_COUNTERS.length;

/** Index of each counter: `C.UdpNoPorts`. */
export const C = Object.fromEntries(COUNTERS.map(([name], index) => [name, index])) as Record<CounterName, number>;

const COUNTER_COUNT = COUNTERS.length;

/** Shared words (float64, exact to 2^53) set aside a thread: room to grow, and a whole number of cache lines. */
const COUNTER_STRIDE = 256;

/** Shared counters of every thread. Each row has one writer; readers may see a row mid-commit, each word whole. */
export class CounterBoard {
  readonly buffer: SharedArrayBuffer;
  private readonly words: Float64Array;

  static create(threads: number): CounterBoard {
    return new CounterBoard(new SharedArrayBuffer(threads * COUNTER_STRIDE * 8));
  }

  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    this.words = new Float64Array(buffer);
  }

  /** The writer's step: copies a thread's private counters to its row. */
  commit(thread: number, counters: Float64Array): void {
    this.words.set(counters, thread * COUNTER_STRIDE);
  }

  read(thread: number, counter: CounterName): number {
    return this.words[thread * COUNTER_STRIDE + C[counter]] as number;
  }

  /** All counters of one thread, or summed over all. */
  snapshot(thread?: number): Record<CounterName, number> {
    const rows = thread === undefined ? this.words.length / COUNTER_STRIDE : 1;
    const out = {} as Record<CounterName, number>;
    for (const [name] of COUNTERS) {
      let sum = 0;
      for (let row = 0; row < rows; row++) sum += this.read(thread ?? row, name);
      out[name] = sum;
    }
    return out;
  }
}

/** A thread's private counters. */
export function newCounters(): Float64Array {
  return new Float64Array(COUNTER_COUNT);
}
