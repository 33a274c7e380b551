/**
 * A TCP socket as a file: inet_stream_ops (net/ipv4/af_inet.c) over a socket of the engine. It has one from socket(2) on, another one
 * each time it begins anew, a listener beside it while it listens, and a record in the socket table once it has a port of its own.
 */
import { ERRNO } from "af-xdp-bindings";
import type { Endpoint } from "../../endpoint.ts";
import * as numbers from "../../options.ts";
import { readSockaddr, SOCKADDR_IN_BYTES, SOCKADDR_IN6_BYTES, SOCKADDR_IN6_MIN } from "../../sockaddr.ts";
import { STREAM_OPTIONS, storeStream } from "../../stream/stream-words.ts";
import { TcpListener } from "../../stream/tcp-listener.ts";
import type { TcpOpener } from "../../stream/tcp-open.ts";
import {
  bindTcpRecord,
  listenTcpRecord,
  steerTcpRecord,
  tellTcpRecord,
  unlistenTcpRecord,
} from "../../stream/tcp-record.ts";
import type { TcpHandlers, TcpSocket } from "../../stream/tcp-socket.ts";
import * as table from "../../table.ts";
import { tcpInfo, tcpInfoBytes } from "../../tcp/info.ts";
import { recordsTime } from "../../tcp/records.ts";
import { OPTIONS } from "../../tcp/sockopts.ts";
import * as tcb from "../../tcp/tcb.ts";
import { addressAt } from "../../text-address.ts";
import * as c from "../constants.ts";
import { File } from "../file.ts";
import type { FileTable } from "../file-table.ts";
import { type AddressBuffer, gather, type Message, putAddress } from "../message.ts";
import type { Gathered } from "../reception.ts";
import { addressOfWords } from "./address.ts";
import { checkControls } from "./controls.ts";
import { StreamFilter } from "./stream-filter.ts";
import { StreamOptions, type StreamOwner } from "./stream-options.ts";
import { RESET_BY_LEAVING, StreamPast } from "./stream-past.ts";
import { receiveStream, receiveUrgent } from "./stream-receive.ts";
import { StreamRecord } from "./stream-record.ts";

const READABLE = c.POLLIN | c.POLLRDNORM;
const WRITABLE = c.POLLOUT | c.POLLWRNORM;
const SHUT_RECEIVE = 1;
const SHUT_SEND = 2;
const SHUT_BOTH = 3;
/** socket_state of include/uapi/linux/net.h. */
const UNCONNECTED = 1;
const CONNECTING = 2;
const CONNECTED = 3;
const DISCONNECTING = 4;
/** The longest that connect() waits for its lcore to say what it makes of it, milliseconds. */
const ANSWER_MS = 1000;
/** What timestamps take of each segment, padding included. */
const TIMESTAMP_BYTES = 12;
const { AF_INET, AF_INET6 } = table;
let cookies = 0;

export class InetStreamFile extends File implements StreamOwner {
  override readonly isSocket = true;
  override readonly isStream = true;
  override readonly isByteStream = true;
  readonly endpoint: Endpoint;
  readonly family: number;
  readonly cookie = new Uint8Array(BigInt64Array.of(BigInt(++cookies)).buffer);
  readonly options: StreamOptions;
  socket: TcpSocket;
  private readonly opener: TcpOpener;
  private readonly handlers: TcpHandlers = { changed: (socket, events) => this.changed(socket, events) };
  private listener: TcpListener | null = null;
  private readonly record: StreamRecord;
  readonly place: StreamFilter;
  private phase = UNCONNECTED;
  /** The socket has been a connection, or has tried. */
  hasLived = false;
  /** shutdown(2) of what is no connection. */
  private shut = 0;
  /** What it tells of the connection before. */
  private readonly past = new StreamPast();
  /** errno of a connection that was dissolved. */
  private error = 0;

  /** @param socket takes it over: it is closed with the file @param from the listener that it came to */
  constructor(endpoint: Endpoint, opener: TcpOpener, family: number, socket: TcpSocket, from: InetStreamFile | null) {
    super();
    this.endpoint = endpoint;
    this.opener = opener;
    this.family = family;
    this.socket = socket;
    socket.handlers = this.handlers;
    this.options = new StreamOptions(this, from?.options ?? null);
    this.record = new StreamRecord(endpoint, family, this.options);
    this.place = new StreamFilter(this, this.record, endpoint.table);
    if (from === null) return;
    this.phase = CONNECTED;
    this.hasLived = true;
    this.past.address = from.record.boundAddress;
    // sk_ipv6only, which bind(2) may have set.
    if ((from.recordWord(table.FLAGS) & table.F_V6ONLY) !== 0)
      this.options.storeOther(numbers.IPPROTO_IPV6, numbers.IPV6_V6ONLY, 1);
  }

  // ---- what happens ----

  private changed(socket: TcpSocket, events: number): void {
    if (socket !== this.socket) return;
    if ((events & tcb.EV_URGENT) !== 0) this.signalUrgent();
    let bits = 0;
    if ((events & (tcb.EV_READABLE | tcb.EV_HANGUP)) !== 0) bits |= READABLE;
    if ((events & (tcb.EV_WRITABLE | tcb.EV_CONNECTED | tcb.EV_HANGUP)) !== 0) bits |= WRITABLE;
    if ((events & tcb.EV_CONNECTED) !== 0) this.foundNoSpace();
    if ((events & tcb.EV_URGENT) !== 0) bits |= c.POLLPRI;
    if ((this.shutdowns & SHUT_RECEIVE) !== 0) bits |= c.POLLRDHUP | READABLE;
    if ((events & tcb.EV_HANGUP) !== 0 && this.state === tcb.CLOSED) bits |= c.POLLHUP;
    if ((events & tcb.EV_ERROR) !== 0) bits |= c.POLLERR;
    this.queue.wake(bits);
    // A FIN that ends both directions is told as an end, and as something to read (tcp_fin, tcp_data_ready).
    const isEnd = (bits & c.POLLHUP) !== 0 && (bits & c.POLLERR) === 0 && (events & tcb.EV_READABLE) !== 0;
    if (isEnd) this.queue.wake(READABLE);
  }

  override refresh(): void {
    this.endpoint.poll();
  }

  override get newsFrom(): Endpoint {
    return this.endpoint;
  }

  override watched(): void {
    this.endpoint.arrival().catch(() => {});
  }

  // ---- what it is ----

  /** As TCP_INFO tells it: what is in TIME_WAIT is no socket any more. */
  get state(): number {
    if (this.listener !== null) return tcb.LISTEN;
    if (!this.hasLived) return tcb.CLOSED;
    // The record says that all is over before it has been told how.
    if (this.word(tcb.STATE) === tcb.CLOSED && this.socket.state !== tcb.CLOSED) this.endpoint.poll();
    const { state } = this.socket;
    return state === tcb.TIME_WAIT || state === tcb.FREE ? tcb.CLOSED : state;
  }

  /** sk_shutdown: SHUT_ bits. */
  private get shutdowns(): number {
    if (!this.hasLived) return this.shut;
    if (this.state === tcb.CLOSED) return SHUT_BOTH;
    const receive = this.socket.end.hasEnded(this.socket) ? SHUT_RECEIVE : 0;
    return this.shut | receive | ((this.word(tcb.FLAGS) & tcb.F_SND_SHUT) !== 0 ? SHUT_SEND : 0);
  }

  private word(field: number): number {
    return this.socket.end.word(this.socket, field);
  }

  /** SO_BUSY_POLL, microseconds. */
  get busyPollUs(): number {
    return this.options.valueOf(numbers.SOL_SOCKET, numbers.SO_BUSY_POLL);
  }

  /** Looks again and again for something to read or accept, as long as SO_BUSY_POLL says and `leftMs` at most. */
  spin(leftMs: number): boolean {
    const until = performance.now() + Math.min(this.busyPollUs / 1000, leftMs);
    do {
      this.endpoint.poll();
      if ((this.poll() & c.POLLIN) !== 0) return true;
    } while (performance.now() < until);
    return false;
  }

  override poll(): number {
    const { listener } = this;
    if (listener !== null) return listener.waiting > 0 ? READABLE : 0;
    const { shutdowns, state } = this;
    const bits = this.hasLived ? this.socket.poll() : tcb.EV_WRITABLE;
    let events = (bits & tcb.EV_ERROR) !== 0 || this.error !== 0 ? c.POLLERR : 0;
    if (shutdowns === SHUT_BOTH || state === tcb.CLOSED) events |= c.POLLHUP;
    if ((shutdowns & SHUT_RECEIVE) !== 0) events |= READABLE | c.POLLRDHUP;
    if (state === tcb.SYN_SENT || state === tcb.SYN_RECEIVED) return events;
    if ((bits & tcb.EV_READABLE) !== 0) events |= READABLE;
    if ((bits & tcb.EV_WRITABLE) !== 0 || (shutdowns & SHUT_SEND) !== 0) events |= WRITABLE;
    if ((bits & tcb.EV_URGENT) !== 0 && this.toMark >= 0) events |= c.POLLPRI;
    return events;
  }

  override get receiveTimeoutMs(): number {
    return this.options.receiveTimeoutMs;
  }

  override get sendTimeoutMs(): number {
    return this.options.sendTimeoutMs;
  }

  override get receiveLowWater(): number {
    return this.options.receiveLowWater;
  }

  override takeError(): number {
    // One word (sk_err): what comes later takes its place.
    const error = (this.hasLived && this.socket.takeError()) || this.error;
    this.error = 0;
    return error;
  }

  // ---- names ----

  get isBound(): boolean {
    return this.recordWord(table.LOCAL_PORT) !== 0;
  }

  get localPort(): number {
    if (this.isBound) return this.recordWord(table.LOCAL_PORT);
    return this.hasLived && this.state !== tcb.CLOSED ? this.word(tcb.PORTS) >>> 16 : 0;
  }

  get pathMtu(): number {
    return this.hasLived ? this.word(tcb.PMTU) : 0;
  }

  recordWord(field: number): number {
    return this.record.word(field);
  }

  needRecord(): number {
    return this.record.need();
  }

  needPlaceholder(): number {
    const record = this.needRecord();
    return record < 0 ? record : this.record.placeholder;
  }

  /** A connection cannot be moved to an interface that the engine does not serve. */
  bindDevice(index: number): number {
    const record = this.needRecord();
    if (record < 0) return record;
    return this.hasLived && this.record.isElsewhere(index) ? -ERRNO.EOPNOTSUPP : this.record.bindDevice(index);
  }

  portRulesChanged(): void {
    this.record.rulesChanged();
  }

  optionsChanged(): void {
    if (this.listener === null) return;
    this.storeOptions();
    tellTcpRecord(this.endpoint, this.record.id);
  }

  private storeOptions(): void {
    const fields = [tcb.FLAGS, tcb.LOCKS, ...STREAM_OPTIONS];
    const words = new Int32Array(Math.max(...fields) + 1);
    for (const field of fields) words[field] = this.word(field);
    storeStream(this.endpoint.table.stream, this.record.id, words, 0);
  }

  override bind(address: Uint8Array): number {
    const idle = this.state === tcb.CLOSED;
    const had = this.record.id;
    const record = this.needRecord();
    if (record < 0) return record;
    const result = bindTcpRecord(this.endpoint, record, address);
    if (result < 0 || idle) return result;
    // A connection has its names already; the address is looked at first.
    if (had < 0) this.closeRecord();
    return -ERRNO.EINVAL;
  }

  private closeRecord(): void {
    this.record.close();
    this.socket.record = -1;
  }

  private nameOf(words: ArrayLike<number>, port: number): Uint8Array {
    const family = this.family === AF_INET ? 4 : 6;
    const { ifindex } = this.endpoint.shared;
    return addressOfWords(family, words[0], words[1], words[2], words[3], port, ifindex);
  }

  private get isConnected(): boolean {
    return this.hasLived && this.listener === null && this.state !== tcb.CLOSED;
  }

  override getsockname(address: AddressBuffer): number {
    if (address.length < 0) return -ERRNO.EINVAL;
    if (this.isConnected) putAddress(address, this.nameOf(this.words(tcb.LOCAL), this.word(tcb.PORTS) >>> 16));
    else if (this.record.id >= 0)
      putAddress(address, this.nameOf(this.record.address, this.recordWord(table.LOCAL_PORT)));
    else if (this.hasLived) putAddress(address, this.nameOf(this.words(tcb.LOCAL), this.word(tcb.PORTS) >>> 16));
    else putAddress(address, this.nameOf(this.past.address, this.past.port));
    return 0;
  }

  private words(field: number): number[] {
    return [0, 1, 2, 3].map((i) => this.word(field + i));
  }

  /** SO_PEERNAME tells it in every state, as long as there was one. */
  peerName(): Uint8Array | null {
    if (!this.hasLived || this.listener !== null) return null;
    return this.nameOf(this.words(tcb.REMOTE), this.word(tcb.PORTS) & 0xffff);
  }

  override getpeername(address: AddressBuffer): number {
    const name = this.isConnected && this.state !== tcb.SYN_SENT ? this.peerName() : null;
    if (name === null) return -ERRNO.ENOTCONN;
    putAddress(address, name);
    return 0;
  }

  tcpInfo(): Uint8Array {
    const words = new Int32Array(tcb.TCB_WORDS);
    if (this.hasLived) for (let field = 0; field < words.length; field++) words[field] = this.word(field);
    const { lcore } = this.socket;
    const us = lcore < 0 ? 0 : recordsTime(this.endpoint.shared.tcbs[lcore]);
    return tcpInfoBytes(tcpInfo(words, 0, us, this.state));
  }

  // ---- connecting ----

  override connect(address: Uint8Array): number {
    if (address.length < 2) return -ERRNO.EINVAL;
    if ((address[0] | (address[1] << 8)) === c.AF_UNSPEC) return this.disconnect();
    if (this.phase === CONNECTED) return -ERRNO.EISCONN;
    if (this.phase === DISCONNECTING) return -ERRNO.EINVAL;
    if (this.phase === CONNECTING) return this.connectAgain();
    if (this.state !== tcb.CLOSED) return -ERRNO.EISCONN;
    return this.begin(address);
  }

  /** The call that hears how the one before has ended, or that it has not. */
  private connectAgain(): number {
    const { state } = this;
    if (state === tcb.SYN_SENT || state === tcb.SYN_RECEIVED) return -ERRNO.EALREADY;
    if (state !== tcb.CLOSED) {
      this.phase = CONNECTED;
      return 0;
    }
    const error = this.takeError();
    this.dissolve();
    return -(error || ERRNO.ECONNABORTED);
  }

  override connected(): number {
    return this.phase === CONNECTING ? this.connectAgain() : 0 - this.takeError();
  }

  private begin(address: Uint8Array): number {
    const length = this.family === AF_INET ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_MIN;
    if (address.length < length) return -ERRNO.EINVAL;
    const view = new DataView(new ArrayBuffer(SOCKADDR_IN6_BYTES));
    for (let i = 0; i < SOCKADDR_IN6_BYTES; i++) view.setUint8(i, address[i] ?? 0);
    if (view.getUint16(0, true) !== this.family) return -ERRNO.EAFNOSUPPORT;
    const words = new Int32Array(4);
    const port = readSockaddr(view, words);
    const mapped = words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
    if (this.family === AF_INET6 && mapped && this.options.valueOf(numbers.IPPROTO_IPV6, numbers.IPV6_V6ONLY) !== 0) {
      return -ERRNO.ENETUNREACH;
    }
    if (this.record.isElsewhere(this.recordWord(table.DEVICE))) return -ERRNO.ENETUNREACH;
    if (this.hasLived) this.renew();
    this.past.begin();
    if (this.isBound) {
      this.socket.record = this.record.id;
      steerTcpRecord(this.endpoint, this.record.id);
    }
    const result = this.socket.end.connect(this.socket, words, port);
    if (result !== -ERRNO.EINPROGRESS) return result;
    this.hasLived = true;
    this.phase = CONNECTING;
    return this.answered();
  }

  /** What the lcore says at once, which is what connect(2) says: that no port is left, or no way there. */
  private answered(): number {
    const { endpoint, socket } = this;
    const deadline = performance.now() + ANSWER_MS;
    while (socket.id < 0 && socket.state === tcb.SYN_SENT && performance.now() < deadline) {
      endpoint.block(1);
      endpoint.poll();
    }
    if (socket.refusal === 0) return -ERRNO.EINPROGRESS;
    const { port } = this.past;
    this.renew();
    this.past.port = port;
    return -socket.refusal;
  }

  /** connect(2) to AF_UNSPEC, and shutdown(2) of what has no connection yet. An error that nobody has taken stays. */
  private disconnect(): number {
    const isReset = RESET_BY_LEAVING.has(this.state);
    const error = this.takeError();
    this.stopListening();
    this.dissolve();
    this.error = isReset ? ERRNO.ECONNRESET : error;
    this.queue.wake(READABLE | c.POLLHUP);
    return 0;
  }

  /** tcp_disconnect(): a port that was asked for is kept. */
  private dissolve(): void {
    this.options.forget(!this.hasLived);
    if (this.hasLived) {
      this.past.dissolve(this.socket, this.segment);
      this.renew();
    } else this.past.dissolvedIdle();
    this.shut = 0;
    this.phase = UNCONNECTED;
  }

  /** Another socket of the engine in place of the one that has had its life. */
  private renew(): void {
    this.past.port = this.word(tcb.PORTS) >>> 16;
    this.socket.record = -1;
    const filter = this.place.keep();
    this.socket.abort();
    this.endpoint.sendNow();
    this.phase = UNCONNECTED;
    this.hasLived = false;
    const next = this.opener.open(this.family === AF_INET6, this.handlers);
    this.place.moveTo(next, filter);
    if (next === null) return;
    this.socket = next;
    this.options.replay();
  }

  // ---- listening ----

  override listen(backlog: number): number {
    if (this.phase !== UNCONNECTED) return -ERRNO.EINVAL;
    if (this.state !== tcb.CLOSED && this.listener === null) return -ERRNO.EINVAL;
    const record = this.needRecord();
    if (record < 0) return record;
    if (this.listener !== null) return listenTcpRecord(this.endpoint, record, backlog);
    const { endpoint, opener } = this;
    const generation = endpoint.table.get(record, table.GENERATION);
    const where = () => addressAt(endpoint.table, record, table.LOCAL, table.LOCAL_PORT);
    this.options.forgetQuickAck();
    const listener = new TcpListener(record, generation, this.handlers, opener, where, (closing) => {
      opener.unregister(closing);
      endpoint.retain(-1);
    });
    listener.onAcceptable = () => this.queue.wake(READABLE);
    this.storeOptions();
    this.place.beginListening();
    // What comes before listen() returns must find whom it is for.
    opener.register(listener);
    endpoint.retain(1);
    const result = listenTcpRecord(endpoint, record, backlog);
    if (result < 0) {
      this.place.endListening();
      listener.close();
    } else this.listener = listener;
    return result;
  }

  private stopListening(): void {
    const { listener } = this;
    if (listener === null) return;
    this.listener = null;
    unlistenTcpRecord(this.endpoint, this.record.id);
    this.place.endListening();
    listener.close();
    this.endpoint.sendNow();
  }

  override accept(address: AddressBuffer | null): InetStreamFile | number {
    const { listener } = this;
    if (listener === null) return -ERRNO.EINVAL;
    const socket = listener.accept();
    if (socket === null) return -ERRNO.EAGAIN;
    const file = new InetStreamFile(this.endpoint, this.opener, this.family, socket, this);
    if (address !== null) {
      putAddress(address, file.nameOf(file.words(tcb.REMOTE), file.word(tcb.PORTS) & 0xffff));
    }
    return file;
  }

  /** inet_shutdown(). */
  override shutdown(how: number): number {
    if (how !== c.SHUT_RD && how !== c.SHUT_WR && how !== c.SHUT_RDWR) return -ERRNO.EINVAL;
    this.refresh();
    const { state } = this;
    if (this.phase === CONNECTING) {
      const opens = state === tcb.SYN_SENT || state === tcb.SYN_RECEIVED || state === tcb.CLOSED;
      this.phase = opens ? DISCONNECTING : CONNECTED;
    }
    if (state === tcb.LISTEN) {
      if (how !== c.SHUT_WR) this.disconnect();
      this.queue.wake(0, 0);
      return 0;
    }
    if (state === tcb.SYN_SENT) return this.disconnect();
    if (state === tcb.CLOSED) {
      this.shut |= how + 1;
      this.queue.wake(0, 0);
      return -ERRNO.ENOTCONN;
    }
    this.shut |= how + 1;
    const result = this.socket.shutdown(how);
    this.endpoint.sendNow();
    this.queue.wake(0, 0);
    return result;
  }

  // ---- bytes ----

  override send(message: Message, flags: number): number {
    if (this.state === tcb.LISTEN || !this.hasLived) return -(this.takeError() || ERRNO.EPIPE);
    const isOpen = this.state === tcb.ESTABLISHED || this.state === tcb.CLOSE_WAIT;
    if (isOpen && checkControls(message) < 0) return -ERRNO.EINVAL;
    if (this.phase === CONNECTING && this.state !== tcb.SYN_SENT && this.state !== tcb.CLOSED) this.phase = CONNECTED;
    const bytes = gather(message.iov);
    const result = this.socket.write(bytes, 0, bytes.length, flags & (c.MSG_OOB | c.MSG_MORE));
    this.endpoint.sendNow();
    return result;
  }

  override receive(message: Message, flags: number, _descriptors: FileTable, gathered: Gathered): number {
    message.flags = 0;
    message.controlLength = 0;
    if (message.name !== null) message.name.length = Math.max(Math.min(message.name.length, 0), 0);
    if ((flags & c.MSG_ERRQUEUE) !== 0) return -ERRNO.EAGAIN;
    const { socket, state } = this;
    if (state === tcb.LISTEN) return -ERRNO.ENOTCONN;
    if (!this.hasLived) {
      if ((flags & c.MSG_OOB) !== 0) return -ERRNO.EINVAL;
      const error = this.takeError();
      return error !== 0 ? -error : (this.shut & SHUT_RECEIVE) !== 0 ? 0 : -ERRNO.ENOTCONN;
    }
    if ((flags & c.MSG_OOB) !== 0) return receiveUrgent(socket, message, flags);
    if (gathered.bytes > 0 && socket.end.atMark(socket)) return 0;
    return receiveStream(socket, this.options, message, flags);
  }

  override setsockopt(level: number, name: number, value: Uint8Array): number {
    const result = this.options.set(level, name, value);
    this.endpoint.sendNow();
    if (result === 0 && this.poll() !== 0) this.queue.wake(0, 0);
    return result;
  }

  override getsockopt(level: number, name: number, out: Uint8Array): number {
    this.refresh();
    return this.options.get(level, name, out);
  }

  override ioctl(request: number, argument: Uint8Array): number {
    this.refresh();
    const { socket, state } = this;
    const opening = !this.hasLived || state === tcb.SYN_SENT || state === tcb.SYN_RECEIVED;
    switch (request) {
      case c.SIOCINQ:
        if (state === tcb.LISTEN) return -ERRNO.EINVAL;
        return putInt(argument, opening ? 0 : this.readable);
      case c.SIOCATMARK:
        return putInt(argument, !opening && socket.end.atMark(socket) ? 1 : 0);
      case c.SIOCOUTQ:
      case c.SIOCOUTQNSD:
        if (state === tcb.LISTEN) return -ERRNO.EINVAL;
        return putInt(argument, this.queued(request === c.SIOCOUTQNSD));
      case c.SIOCGSTAMP:
      case c.SIOCGSTAMPNS:
        return -ERRNO.ENOENT;
      default:
        return -ERRNO.ENOTTY;
    }
  }

  /** Bytes from the next one to be read to the urgent one, below 0 where that has been passed. */
  private get toMark(): number {
    const end = (this.word(tcb.FLAGS) & tcb.F_FIN_RCVD) !== 0 ? 1 : 0;
    const next = this.word(tcb.RCV_NXT) - end - this.socket.getOption(OPTIONS.TCP_INQ);
    return (this.word(tcb.RCV_UP) - next) | 0;
  }

  /** tcp_inq(): up to the urgent byte. */
  private get readable(): number {
    const bytes = this.socket.getOption(OPTIONS.TCP_INQ);
    if (this.word(tcb.URGENT) === 0 || this.options.valueOf(numbers.SOL_SOCKET, numbers.SO_OOBINLINE) !== 0)
      return bytes;
    const ahead = this.toMark;
    return ahead < 0 || ahead >= bytes ? bytes : ahead;
  }

  /** In a state in which nobody sends it tells of the numbers that a connection has left. */
  private queued(unsent: boolean): number {
    const { past, socket, state } = this;
    if (state === tcb.SYN_SENT || state === tcb.SYN_RECEIVED) return 0;
    if (!this.hasLived) return unsent ? past.unsent : past.queued;
    return socket.end.queued(socket, unsent);
  }

  /** Bytes of a whole segment, its timestamps taken off. */
  get segment(): number {
    if (!this.hasLived) return this.past.segment;
    const stamps = (this.word(tcb.FLAGS) & tcb.F_TS) !== 0 ? TIMESTAMP_BYTES : 0;
    return this.word(tcb.MSS) - stamps;
  }

  // ---- the end ----

  protected override release(): void {
    const { endpoint, listener, socket } = this;
    // Closing its record leaves the port to the connections that use it; ending to listen first would not.
    this.listener = null;
    listener?.close();
    this.linger();
    socket.record = -1;
    socket.close();
    endpoint.sendNow();
    this.record.close();
  }

  /** SO_LINGER: until all is sent and acknowledged, or the time is over (sk_stream_wait_close). */
  private linger(): void {
    const { endpoint, socket } = this;
    const value = this.options.valueOf(numbers.SOL_SOCKET, numbers.SO_LINGER);
    const seconds = value % 2 === 1 ? Math.floor(value / 2) : 0;
    if (seconds === 0 || !this.isConnected || socket.getOption(OPTIONS.TCP_INQ) > 0) return;
    socket.shutdown(c.SHUT_WR);
    endpoint.sendNow();
    const deadline = performance.now() + seconds * 1000;
    const sends = (): boolean => UNDER_WAY.has(socket.state) || socket.state === tcb.ESTABLISHED;
    for (let left = deadline - performance.now(); left > 0 && sends(); left = deadline - performance.now()) {
      endpoint.block(Math.min(left, LINGER_LOOK_MS));
      endpoint.poll();
    }
  }
}

/** States in which our FIN is not acknowledged yet; and how often they are looked at, milliseconds. */
const UNDER_WAY: ReadonlySet<number> = new Set([tcb.FIN_WAIT_1, tcb.CLOSING, tcb.LAST_ACK]);
const LINGER_LOOK_MS = 10;

function putInt(argument: Uint8Array, value: number): number {
  new DataView(argument.buffer, argument.byteOffset).setInt32(0, value, true);
  return 0;
}
