/**
 * A kernel client with one datagram in flight, a program of its own: `bun bench/client.ts '{"address":…}'` (ClientOptions).
 * It spins on its socket and never sleeps, so that what differs between two peers is the peer. The same for all of them.
 * Prints a line "measuring" when the warm-up is over, and a ClientResult as JSON at the end.
 */
import { check, ERRNO, sys } from "af-xdp-bindings";
import { build } from "hdr-histogram-js";
import { SOCKADDR_IN6_BYTES, writeSockaddr } from "../sockets/sockaddr.ts";

export interface ClientOptions {
  /** IPv4 address, int32. */
  address: number;
  port: number;
  warmupMs: number;
  /** 0: end with the first echo. */
  measureMs: number;
  patienceMs: number;
}

export interface ClientResult {
  /** When the first echo came, milliseconds since the epoch, with fractions. */
  firstEchoAt: number;
  /** Round trips measured, and datagrams that never came back. */
  count: number;
  lost: number;
  /** Round trip, microseconds. */
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
}

const AF_INET = 2;
const SOCK_DGRAM = 2;
const MSG_DONTWAIT = 0x40;
const PAYLOAD = 18;
/**
 * A datagram is lost when it has not come back for so long, milliseconds: longer than another program keeps the client or
 * the server off its CPU, which is a round trip as well. While nobody serves yet: the probe interval.
 */
const LOST_MS = 2000;
const PROBE_MS = 1;
const NS_MAX = 1_000_000_000;

class Client {
  private readonly fd: number;
  private readonly out = new Uint8Array(PAYLOAD);
  private readonly back = new Uint8Array(2048);
  private readonly outAddress = sys.addressOf(this.out);
  private readonly backAddress = sys.addressOf(this.back);
  private sequence = 0;

  constructor(address: number, port: number) {
    this.fd = check(sys.socket(AF_INET, SOCK_DGRAM, 0), "socket");
    const sockaddr = new Uint8Array(SOCKADDR_IN6_BYTES);
    const length = writeSockaddr(new DataView(sockaddr.buffer), AF_INET, 0, 0, 0xffff, address, port);
    check(sys.connect(this.fd, sockaddr.subarray(0, length)), "connect");
  }

  /** One round trip: nanoseconds, or -1 when the echo of this datagram did not come in time. */
  roundTrip(timeoutMs: number): number {
    const sequence = ++this.sequence & 0xff;
    this.out[0] = sequence;
    const start = Bun.nanoseconds();
    const sent = sys.sendto(this.fd, this.outAddress, PAYLOAD, 0, 0, 0);
    // ECONNREFUSED is the answer to an earlier datagram: nobody serves the port yet.
    if (sent < 0 && sent !== -ERRNO.ECONNREFUSED) check(sent, "send");
    const deadline = start + timeoutMs * 1e6;
    for (;;) {
      const received = sys.recvfrom(this.fd, this.backAddress, this.back.length, MSG_DONTWAIT, 0, 0);
      const now = Bun.nanoseconds();
      // The echo of a datagram that counts as lost already has another number.
      if (received === PAYLOAD && this.back[0] === sequence) return now - start;
      if (now > deadline) return -1;
    }
  }

  close(): void {
    sys.close(this.fd);
  }
}

function firstEcho(client: Client, patienceMs: number): number {
  const deadline = performance.now() + patienceMs;
  while (client.roundTrip(PROBE_MS) < 0)
    if (performance.now() > deadline) throw new Error(`no echo within ${patienceMs} ms`);
  return performance.timeOrigin + performance.now();
}

async function main(options: ClientOptions): Promise<void> {
  const client = new Client(options.address, options.port);
  const firstEchoAt = firstEcho(client, options.patienceMs);
  const histogram = build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: NS_MAX,
    numberOfSignificantValueDigits: 3,
    autoResize: false,
  });
  const run = (milliseconds: number): number => {
    let lost = 0;
    const end = performance.now() + milliseconds;
    while (performance.now() < end) {
      const ns = client.roundTrip(LOST_MS);
      if (ns < 0) lost++;
      else histogram.recordValue(Math.min(ns, NS_MAX));
    }
    return lost;
  };
  if (options.measureMs > 0) run(options.warmupMs);
  histogram.reset();
  console.log("measuring");
  const lost = run(options.measureMs);
  const us = (percentile: number): number => histogram.getValueAtPercentile(percentile) / 1000;
  const result: ClientResult = {
    firstEchoAt,
    count: histogram.totalCount,
    lost,
    p50: us(50),
    p90: us(90),
    p99: us(99),
    p999: us(99.9),
    max: histogram.maxValue / 1000,
  };
  console.log(JSON.stringify(result));
  client.close();
}

if (import.meta.main) await main(JSON.parse(process.argv[2]) as ClientOptions);
