/**
 * The demo's kernel client, a program of its own: sends a datagram on an ordinary socket, waits for it to come back,
 * and again. `bun client.ts '{"address": …}'` prints its counts as JSON.
 */
import { check, SysError, sys } from "af-xdp-bindings";
import { addressWords } from "../../../sockets/fib.ts";
import { SOCKADDR_IN6_BYTES, writeSockaddr } from "../../../sockets/sockaddr.ts";
import { ip } from "../../../sockets/wire/address.ts";
import { setAffinity } from "../../host/affinity.ts";
import { LatencyCounts } from "../../measure/latency.ts";

export interface ClientOptions {
  address: string;
  port: number;
  /** Bytes of payload. */
  payload: number;
  seconds: number;
  cpu: number;
  /** Ask for the answer again and again rather than sleep until it comes: takes the scheduler out of the figures. */
  spin: boolean;
}

export interface ClientResult {
  lost: number;
  /** Pairs of bucket and count, see LatencyCounts. */
  counts: [number, number][];
}

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM = 2;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const MSG_DONTWAIT = 0x40;
const EAGAIN = 11;
/** After this time a datagram is lost. */
const TIMEOUT_MS = 100;
/** First part of the run that does not count: addresses are resolved, code is compiled. */
const WARMUP_S = 0.3;
/** The longest that the run is prolonged while nothing has come back. */
const MORE_S = 5;

/** A socket connected to the server. */
function connect({ address, port }: ClientOptions): number {
  const bytes = ip(address);
  const family = bytes.length === 4 ? AF_INET : AF_INET6;
  const sockaddr = new Uint8Array(SOCKADDR_IN6_BYTES);
  const [w0, w1, w2, w3] = addressWords(bytes);
  const length = writeSockaddr(new DataView(sockaddr.buffer), family, w0, w1, w2, w3, port);
  const fd = check(sys.socket(family, SOCK_DGRAM, 0), "socket");
  check(sys.connect(fd, sockaddr.subarray(0, length)), `connect(${address}, ${port})`);
  // struct timeval { i64 s; i64 us }
  const timeout = new Int32Array([0, 0, TIMEOUT_MS * 1000, 0]);
  check(sys.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout), "setsockopt(SO_RCVTIMEO)");
  return fd;
}

function measure(options: ClientOptions): ClientResult {
  setAffinity(0, [options.cpu]);
  const fd = connect(options);
  const data = new Uint8Array(options.payload);
  const address = sys.addressOf(data);
  const sequence = new Uint32Array(data.buffer, 0, 1);
  const flags = options.spin ? MSG_DONTWAIT : 0;
  const latency = new LatencyCounts();
  let lost = 0;
  const begin = performance.now() + WARMUP_S * 1000;
  const end = begin + options.seconds * 1000;
  let measured = 0;
  // On a busy machine neither side may have had a CPU for so long.
  const goesOn = (now: number): boolean => now < end || (measured === 0 && now < end + MORE_S * 1000);
  for (let number = 1, sent = performance.now(); goesOn(sent); number++, sent = performance.now()) {
    sequence[0] = number;
    const result = sys.sendto(fd, address, data.length, 0, 0, 0);
    // Nobody listens yet, or the queue of unresolved neighbours is full: the datagram is lost.
    let now = sent;
    let answered = false;
    while (result > 0 && !answered && now - sent < TIMEOUT_MS) {
      const received = sys.recvfrom(fd, address, data.length, flags, 0, 0);
      now = performance.now();
      // An answer that comes late is not taken for the next one's.
      answered = received === data.length && sequence[0] === number;
      if (received < 0 && received !== -EAGAIN) throw new SysError(-received, "recvfrom", "the echo server is gone");
    }
    if (sent < begin) continue;
    if (answered) {
      latency.record((now - sent) * 1e6);
      measured++;
    } else {
      lost++;
    }
  }
  sys.close(fd);
  return { lost, counts: [...latency.counts.entries()].filter(([, count]) => count > 0) };
}

process.stdout.write(JSON.stringify(measure(JSON.parse(process.argv[2]) as ClientOptions)));
