/**
 * An access log in the Common Log Format, a line an answer. Lines are gathered and written to a descriptor in FLUSH_MS,
 * or when there are many; where its reader is too slow, lines are lost and their number is told in place of them.
 */
import { sys } from "af-xdp-bindings";
import type { Connection } from "./connection.ts";
import { text } from "./octets.ts";
import type { Request } from "./request.ts";

/** Octets gathered at most. */
const LOG_BYTES = 1 << 20;
/** PIPE_BUF: a pipe that is ready takes as much without waiting, and in one piece, whoever else writes to it. */
const WRITE_BYTES = 4096;
const NEWLINE = 10;
const POLLOUT = 4;
const FLUSH_BYTES = 65_536;
const FLUSH_MS = 200;
/** Octets of a line at most: a request line, escaped, and the rest. */
const LINE_BYTES_MAX = 4 * 8192 + 512;

export class AccessLog {
  private readonly fd: number;
  private readonly bytes = new Uint8Array(LOG_BYTES);
  private readonly address: number;
  private readonly encoder = new TextEncoder();
  private readonly pollfd = new Uint8Array(8);
  private readonly pollAddress: number;
  /** struct timespec: not at all. */
  private readonly zero = new BigInt64Array(2);
  private readonly zeroAddress: number;
  private length = 0;
  private lost = 0;
  private flushedMs = 0;
  private second = -1;
  private stamp = "";

  constructor(fd: number) {
    this.fd = fd;
    this.address = sys.addressOf(this.bytes);
    // struct pollfd
    new DataView(this.pollfd.buffer).setInt32(0, fd, true);
    this.pollfd[4] = POLLOUT;
    this.pollAddress = sys.addressOf(this.pollfd);
    this.zeroAddress = sys.addressOf(this.zero);
  }

  /** @param seconds since 1970 */
  add(connection: Connection, request: Request, status: number, bytes: number, seconds: number): void {
    if (this.length + LINE_BYTES_MAX > LOG_BYTES) this.write();
    if (this.length + LINE_BYTES_MAX > LOG_BYTES) {
      this.lost++;
      return;
    }
    connection.peer ||= connection.socket.remoteAddress.address;
    this.put(`${connection.peer} - - [${this.time(seconds)}] "${requestLine(request)}" ${status} ${bytes || "-"}\n`);
  }

  /** Writes what has been gathered, if it is time. */
  flush(nowMs: number): void {
    if (this.length === 0 || (this.length < FLUSH_BYTES && nowMs - this.flushedMs < FLUSH_MS)) return;
    this.flushedMs = nowMs;
    this.write();
  }

  /** Whole lines, as long as they are taken at once: the lcore does not wait for who reads them. */
  private write(): void {
    let done = 0;
    while (done < this.length && this.isReady()) {
      const written = sys.write(this.fd, this.address + done, this.lines(done));
      if (written <= 0) break;
      done += written;
    }
    this.bytes.copyWithin(0, done, this.length);
    this.length -= done;
    if (this.lost > 0 && this.length === 0) {
      this.put(`# ${this.lost} lines lost: the reader of this log is too slow\n`);
      this.lost = 0;
    }
  }

  private isReady(): boolean {
    return sys.ppoll(this.pollAddress, 1, this.zeroAddress) > 0;
  }

  /** Octets from `from` on up to the last end of a line within a write. */
  private lines(from: number): number {
    const most = Math.min(this.length - from, WRITE_BYTES);
    for (let count = most; count > 0; count--) if (this.bytes[from + count - 1] === NEWLINE) return count;
    return most;
  }

  private put(line: string): void {
    this.length += this.encoder.encodeInto(line, this.bytes.subarray(this.length)).written;
  }

  /** 27/Nov/2026:10:01:40 +0000 */
  private time(seconds: number): string {
    if (seconds !== this.second) {
      this.second = seconds;
      // Fri, 27 Nov 2026 10:01:40 GMT
      const [, day, month, year, clock] = new Date(seconds * 1000).toUTCString().split(" ");
      this.stamp = `${day}/${month}/${year}:${clock} +0000`;
    }
    return this.stamp;
  }
}

/** As it came where it was understood; quotes are escaped, so that a line cannot pretend to be another. */
function requestLine({ bytes, line }: Request): string {
  return line.isSet ? text(bytes, line.from, line.to).replace(/["\\]/g, (sign) => `\\x${hex(sign)}`) : "-";
}

const hex = (sign: string): string => sign.charCodeAt(0).toString(16);
