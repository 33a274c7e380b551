/**
 * One connection: requests are parsed where they have come, and answered in their order. What a peer can make it hold is
 * a head that is not whole (HEAD_MAX), the rest of one write (OUTPUT_BYTES), and a descriptor; the rest waits in the
 * socket's buffers, so that who does not read is not read from.
 */
import { ERRNO, sys } from "af-xdp-bindings";
import type { TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import { MSG_MORE } from "../../sockets/tcp/calls.ts";
import { BODY_MAX, Body } from "./body.ts";
import { DATE_AT, DIRECTORY, type FileEntry, FOUND } from "./cache.ts";
import { evaluate, PART, rangeApplies, UNSATISFIABLE } from "./conditions.ts";
import { DATE_BYTES } from "./dates.ts";
import { HEAD_BYTES } from "./heads.ts";
import { LF } from "./octets.ts";
import { COMPLETE, GET, HEAD, HEAD_MAX, INCOMPLETE, OTHER, Request, UNKNOWN } from "./request.ts";
import { readAt } from "./root.ts";
import type { FileServer } from "./server.ts";

/** Requests that a connection is answered in one go, pieces of a file that it is sent: then others have their turn. */
const REQUESTS_A_TURN = 64;
const PIECES_A_TURN = 4;
/** Octets of the buffer that a head in pieces begins with. */
const HEAD_START = 1024;
const SHUT_WR = 1;

/** What a connection does, and how long it may (server.limits). */
export const IDLE = 0;
export const READING_HEAD = 1;
export const READING_BODY = 2;
export const SENDING = 3;
/** Within run(). */
const BETWEEN = -1;
/** The last answer is sent: what the peer still sends is passed over, so that no RST overtakes the answer (RFC 9112, section 9.6). */
export const LINGERING = 4;

export class Connection {
  readonly socket: TcpSocket;
  /** IDLE to LINGERING, and until when, milliseconds of the server's clock. */
  phase = IDLE;
  deadline = 0;
  /** Place in the server's list; -1: over. */
  slot = -1;
  /** In the server's list of those that go on without being told. */
  isResumed = false;
  /** Whose it is in the access log, made there. */
  peer = "";

  private readonly server: FileServer;
  private readonly body = new Body();
  /** A head that has come in part. */
  private head: Uint8Array | null = null;
  private held = 0;
  /** What a write has left, and contents in memory behind it; then a file's. */
  private rest: Uint8Array | null = null;
  private restAt = 0;
  private entry: FileEntry | null = null;
  private entryAt = 0;
  private entryTo = 0;
  private fd = -1;
  private fileAt = 0;
  private fileTo = 0;
  /** The answer in hand is the last; the peer sends no more. */
  private last = false;
  private ended = false;
  /** A write has failed, or a file: run() ends the connection. */
  private failed = false;

  constructor(server: FileServer, socket: TcpSocket) {
    this.server = server;
    this.socket = socket;
  }

  /** Answers what has come, as far as there is room for answers. */
  run(): void {
    const { server } = this;
    let left = REQUESTS_A_TURN;
    while (!this.failed) {
      if (this.isSending) {
        if (!this.send()) break;
      } else if (!this.last && left > 0 && this.next()) left--;
      else if (server.out.length > 0) this.flush(0);
      else {
        this.rests(left);
        return;
      }
    }
    if (this.failed) this.dispose(true);
    else this.enter(SENDING);
  }

  /** The peer sends no more. */
  end(): void {
    this.ended = true;
    this.run();
  }

  /** The deadline has passed. */
  expire(): void {
    if (this.phase === SENDING) this.dispose(true);
    else if (this.phase !== READING_HEAD) this.dispose(false);
    else {
      this.refuse(408);
      this.run();
    }
  }

  /** Lets go of everything. */
  dispose(abort: boolean): void {
    if (this.slot < 0) return;
    this.server.forget(this);
    this.server.out.length = 0;
    this.closeFile();
    this.letGoOfHead();
    if (abort) this.socket.abort();
    else this.socket.close();
  }

  private get isSending(): boolean {
    return this.rest !== null || this.entry !== null || this.fd >= 0;
  }

  /** Nothing is to be done now: what it waits for, and how long. */
  private rests(left: number): void {
    const { socket } = this;
    if (this.last) {
      if (this.phase !== LINGERING) socket.shutdown(SHUT_WR);
      for (let count = socket.peek(); count > 0; count = socket.peek()) socket.consume(count);
      if (this.ended) this.dispose(false);
      else this.enter(LINGERING);
    } else if (left === 0) {
      this.server.resume(this);
      this.enter(SENDING);
    } else if (this.ended) this.dispose(false);
    else if (this.body.pending) this.enter(READING_BODY);
    else this.enter(this.held > 0 ? READING_HEAD : IDLE);
  }

  private enter(phase: number): void {
    if (this.phase === phase) return;
    this.phase = phase;
    this.deadline = this.server.deadline(phase);
  }

  // ---- requests ----

  /** Takes one piece of what has come. False: there is none. */
  private next(): boolean {
    const { socket } = this;
    const count = socket.peek();
    if (count === 0) return false;
    if (this.body.pending) this.passBody(count);
    else if (this.held > 0) this.completeHead(count);
    else this.wholeHead(count);
    return true;
  }

  private passBody(count: number): void {
    const { body, socket } = this;
    const from = socket.peekedOffset;
    const passed = body.skip(socket.peekedBytes, from, from + count);
    socket.consume(passed);
    if (body.broken) this.last = true;
  }

  /** As a rule a head has come as a whole, and is parsed where it lies. */
  private wholeHead(count: number): void {
    const { server, socket } = this;
    const { request } = server;
    const from = socket.peekedOffset;
    const status = request.parse(socket.peekedBytes, from, from + count);
    if (status === INCOMPLETE) {
      socket.consume(this.hold(count));
      return;
    }
    const direct = this.answer(request, status, request.end < from + count);
    socket.consume(status === COMPLETE ? request.end - from : count);
    if (direct !== null) this.sendDirectly(direct);
  }

  /** More of a head of which a part is held. */
  private completeHead(count: number): void {
    const { held, server, socket } = this;
    const { request } = server;
    const from = socket.peekedOffset;
    const ends = hasLineEnd(socket.peekedBytes, from, from + count);
    const taken = this.hold(count);
    // Without the end of a line there is nothing new to judge, but that a line has become too long.
    const grown = held >> 10 !== this.held >> 10;
    const status = this.head !== null && (ends || grown) ? request.parse(this.head, 0, this.held) : INCOMPLETE;
    if (status === INCOMPLETE) {
      socket.consume(taken);
      return;
    }
    const direct = this.answer(request, status, request.end < held + count);
    socket.consume(status === COMPLETE ? request.end - held : count);
    this.letGoOfHead();
    if (direct !== null) this.sendDirectly(direct);
  }

  /** Copies what is peeked of a head behind what is held. How many octets: all of them, or up to HEAD_MAX. */
  private hold(count: number): number {
    const { held, server, socket } = this;
    const taken = Math.min(count, HEAD_MAX - held);
    const size = this.head?.length ?? 0;
    if (size < held + taken) {
      let room = Math.max(size, HEAD_START);
      while (room < held + taken) room *= 2;
      if (!server.takeHeadBytes(room - size)) {
        this.refuse(503);
        return count;
      }
      const larger = new Uint8Array(room);
      if (this.head !== null) larger.set(this.head);
      this.head = larger;
    }
    const from = socket.peekedOffset;
    this.head?.set(socket.peekedBytes.subarray(from, from + taken), held);
    this.held = held + taken;
    return taken;
  }

  private letGoOfHead(): void {
    if (this.head === null) return;
    this.server.giveHeadBytes(this.head.length);
    this.head = null;
    this.held = 0;
  }

  // ---- answers ----

  /**
   * Puts the answer into the server's output; contents that do not fit there are left for send().
   * @param status what parse() said
   * @param more octets behind the request are there: its answer and theirs may go together
   * @returns a file whose answer, head and all, is to be written as it is
   */
  private answer(request: Request, status: number, more: boolean): FileEntry | null {
    // The next wait is a new one.
    this.phase = BETWEEN;
    if (status !== COMPLETE) this.last = true;
    else this.expectBody(request);
    const refused = status !== COMPLETE ? status : this.judge(request);
    if (refused !== COMPLETE) {
      this.plain(request, refused);
      return null;
    }
    const { server } = this;
    const found = server.files.find(server.path, server.nowMs);
    if (found === DIRECTORY) this.redirect(request);
    else if (found !== FOUND) this.plain(request, found);
    else return this.answerFile(request, server.files.entry as FileEntry, more);
    return null;
  }

  /** A body is passed over; where that cannot be, this answer is the last. */
  private expectBody(request: Request): void {
    const { contentLength } = request;
    this.last = request.close || contentLength > BODY_MAX || (request.expects && contentLength !== 0);
    if (contentLength !== 0 && !this.last) this.body.begin(contentLength);
  }

  /** COMPLETE, or the status that a request is refused with; its path is then the server's. */
  private judge(request: Request): number {
    if (request.method === OTHER) return 405;
    if (request.method === UNKNOWN) return 501;
    if (request.contentLength > BODY_MAX) return 413;
    const { from, to } = request.path;
    return this.server.path.take(request.pathBytes, from, to);
  }

  private answerFile(request: Request, file: FileEntry, more: boolean): FileEntry | null {
    const { last, server } = this;
    const { out, range } = server;
    const outcome = evaluate(request, file);
    if (outcome !== 200) {
      closeEntry(file);
      if (outcome === 304) {
        this.makeRoom();
        out.notModified(request, file, last);
        server.record(this, request, 304, 0);
      } else this.plain(request, outcome);
      return null;
    }
    if (request.method === GET && request.range.isSet && rangeApplies(request, file)) {
      const kind = range.parse(request.bytes, request.range.from, request.range.to, file.size);
      if (kind === UNSATISFIABLE) {
        closeEntry(file);
        this.plain(request, 416, file.size);
        return null;
      }
      if (kind === PART) {
        this.part(request, file, range.from, range.to);
        return null;
      }
    }
    if (file.fd < 0 && request.method === GET && !last && request.minor === 1 && !more && out.length === 0) {
      server.record(this, request, 200, file.size);
      return file;
    }
    this.whole(request, file);
    return null;
  }

  private whole(request: Request, file: FileEntry): void {
    const { server } = this;
    this.makeRoom();
    server.out.file(request, file, null, this.last);
    if (request.method === HEAD) closeEntry(file);
    else this.contents(file, 0, file.size);
    server.record(this, request, 200, request.method === HEAD ? 0 : file.size);
  }

  private part(request: Request, file: FileEntry, from: number, to: number): void {
    const { server } = this;
    this.makeRoom();
    server.out.file(request, file, server.range, this.last);
    this.contents(file, from, to);
    server.record(this, request, 206, to - from);
  }

  /** An answer that is no file. */
  private plain(request: Request, status: number, size = -1): void {
    const { server } = this;
    this.makeRoom();
    const bytes = server.out.other(status, request, request.method !== HEAD, this.last, size);
    server.record(this, request, status, bytes);
  }

  private redirect(request: Request): void {
    const { server } = this;
    this.makeRoom();
    const bytes = server.out.redirect(request, request.method !== HEAD, this.last);
    server.record(this, request, 301, bytes);
  }

  /** An answer without a request that has been understood, after which the connection ends. */
  private refuse(status: number): void {
    this.last = true;
    this.letGoOfHead();
    this.plain(NO_REQUEST, status);
  }

  // ---- sending ----

  /** Sees to it that the output takes another head. */
  private makeRoom(): void {
    const { out } = this.server;
    if (out.room < HEAD_BYTES) this.flush(MSG_MORE);
  }

  private contents(file: FileEntry, from: number, to: number): void {
    const { out } = this.server;
    if (file.fd >= 0) {
      this.fd = file.fd;
      this.fileAt = from;
      this.fileTo = to;
    } else if (to - from <= out.room) out.add(file.response, file.headLength + from, file.headLength + to);
    else {
      this.entry = file;
      this.entryAt = file.headLength + from;
      this.entryTo = file.headLength + to;
    }
  }

  /** A kept file's answer, of which no octet is copied on our side. */
  private sendDirectly(file: FileEntry): void {
    const { server, socket } = this;
    const { response } = file;
    if (file.date !== server.clock.seconds) {
      server.clock.write(response, DATE_AT);
      file.date = server.clock.seconds;
    }
    const taken = this.taken(socket.write(response));
    if (taken === response.length || this.failed) return;
    // The date is another one soon: what has not gone of the head is kept as it is.
    const dated = Math.max(DATE_AT + DATE_BYTES, taken);
    if (dated > taken) this.keepRest(response.slice(taken, dated));
    this.entry = file;
    this.entryAt = dated;
    this.entryTo = response.length;
  }

  /** What write() has returned as a count. */
  private taken(result: number): number {
    if (result >= 0) return result;
    if (result !== -ERRNO.EAGAIN) this.failed = true;
    return 0;
  }

  private keepRest(bytes: Uint8Array): void {
    this.rest = bytes;
    this.restAt = 0;
  }

  /** Writes what has been gathered. */
  private flush(flags: number): void {
    const { out } = this.server;
    const { length } = out;
    // Behind a rest nothing may go first.
    const taken = this.rest === null ? this.taken(this.socket.write(out.bytes, 0, length, flags)) : 0;
    out.length = 0;
    if (taken < length) {
      const before = this.rest === null ? [] : [this.rest.subarray(this.restAt)];
      this.keepRest(Buffer.concat([...before, out.bytes.subarray(taken, length)]));
    }
  }

  /** Goes on with what is to be sent. False: not now; who tells of room, or the turn, calls run(). Or it has failed. */
  private send(): boolean {
    const { out } = this.server;
    if (out.length > 0) this.flush(MSG_MORE);
    const behind = this.entry !== null || this.fd >= 0 ? MSG_MORE : 0;
    if (this.rest !== null) {
      this.restAt = this.write(this.rest, this.restAt, this.rest.length, behind);
      if (this.restAt < this.rest.length) return false;
      this.rest = null;
    }
    if (this.entry !== null) {
      this.entryAt = this.write(this.entry.response, this.entryAt, this.entryTo, 0);
      if (this.entryAt < this.entryTo) return false;
      this.entry = null;
    }
    return this.fd < 0 || this.sendFile();
  }

  /** Writes bytes[from, to). Where it has come to: progress, for which there is more time. */
  private write(bytes: Uint8Array, from: number, to: number, flags: number): number {
    const taken = this.taken(this.socket.write(bytes, from, to - from, flags));
    if (taken > 0) this.phase = BETWEEN;
    return from + taken;
  }

  /** A file goes piece by piece: read, and written as far as there is room; what is left over is read again. */
  private sendFile(): boolean {
    const { piece } = this.server;
    for (let i = 0; i < PIECES_A_TURN; i++) {
      const left = this.fileTo - this.fileAt;
      if (left === 0) {
        this.closeFile();
        return true;
      }
      const count = readAt(this.fd, piece, 0, Math.min(left, piece.length), this.fileAt);
      // It has become shorter, or cannot be read: the length that was told can only be broken off.
      if (count <= 0) {
        this.failed = true;
        return false;
      }
      const taken = this.write(piece, 0, count, count < left ? MSG_MORE : 0);
      this.fileAt += taken;
      if (taken < count) return false;
    }
    this.server.resume(this);
    return false;
  }

  private closeFile(): void {
    if (this.fd >= 0) sys.close(this.fd);
    this.fd = -1;
  }
}

/** What an answer without a request goes by. */
const NO_REQUEST = new Request();

function closeEntry(file: FileEntry): void {
  if (file.fd >= 0) sys.close(file.fd);
}

function hasLineEnd(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (bytes[i] === LF) return true;
  return false;
}
