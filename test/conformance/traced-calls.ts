/** A SocketCalls that writes down what each call gave: see trace.ts. */
import { F_DUPFD, F_DUPFD_CLOEXEC } from "../../sockets/calls/constants.ts";
import type { AddressBuffer, Message } from "../../sockets/calls/message.ts";
import type { EpollEvent, PollEntry, SocketCalls } from "../../sockets/calls/socket-calls.ts";
import {
  IP_PROTOCOL,
  IPPROTO_IP,
  SO_ATTACH_BPF,
  SO_ATTACH_FILTER,
  SO_ATTACH_REUSEPORT_CBPF,
  SO_ATTACH_REUSEPORT_EBPF,
  SO_COOKIE,
  SO_INCOMING_CPU,
  SO_INCOMING_NAPI_ID,
  SO_MEMINFO,
  SO_NETNS_COOKIE,
  SO_PEERNAME,
  SO_PEERPIDFD,
  SOL_SOCKET,
  SOL_TCP,
  TCP_CC_INFO,
  TCP_INFO,
  TCP_TIMESTAMP,
} from "../../sockets/options.ts";
import { commandName, familyName, optionName, pollNames, requestName, resultName, typeName } from "./names.ts";
import type { Trace } from "./trace.ts";

/** Options whose value is another one in each run, or on each host. */
const VARYING = new Set([SO_COOKIE, SO_NETNS_COOKIE, SO_MEMINFO, SO_INCOMING_NAPI_ID, SO_INCOMING_CPU]);
/** Of struct tcp_info what is the same in each run: the state, and of the options timestamps, SACK and window scaling. */
const stableInfo = (info: Uint8Array): Uint8Array =>
  info.length < 6 ? info.subarray(0, 1) : Uint8Array.of(info[0], info[5] & 7);
/** The data word of an epoll event is the scenario's own. */
const eventText = ({ events, data }: EpollEvent): string => `${pollNames(events)} ${data}`;

export class TracedCalls implements SocketCalls {
  /** The same calls without a trace. */
  readonly inner: SocketCalls;
  private readonly trace: Trace;
  private readonly party: string;

  /** @param party "a", "b": whose calls they are */
  constructor(inner: SocketCalls, trace: Trace, party: string) {
    this.inner = inner;
    this.trace = trace;
    this.party = party;
  }

  socket(family: number, type: number, protocol: number): number {
    const fd = this.inner.socket(family, type, protocol);
    return this.made("socket", `${familyName(family)}, ${typeName(type)}, ${protocol}`, fd);
  }

  socketpair(family: number, type: number, protocol: number, out: Int32Array): number {
    const result = this.inner.socketpair(family, type, protocol, out);
    const fds = result < 0 ? "" : ` ${this.trace.made(this.party, out[0])} ${this.trace.made(this.party, out[1])}`;
    return this.note("socketpair", `${familyName(family)}, ${typeName(type)}, ${protocol}`, result, fds);
  }

  bind(fd: number, address: Uint8Array): number {
    return this.on("bind", fd, this.trace.address(address), this.inner.bind(fd, address));
  }

  connect(fd: number, address: Uint8Array): number {
    return this.on("connect", fd, this.trace.address(address), this.inner.connect(fd, address));
  }

  listen(fd: number, backlog: number): number {
    return this.on("listen", fd, String(backlog), this.inner.listen(fd, backlog));
  }

  accept4(fd: number, address: AddressBuffer | null, flags: number): number {
    const result = this.inner.accept4(fd, address, flags);
    const made = result < 0 ? "" : ` ${this.trace.made(this.party, result)}${this.trace.filled(address)}`;
    this.note("accept", `${this.fd(fd)}, 0x${flags.toString(16)}`, Math.min(result, 0), made);
    return result;
  }

  getsockname(fd: number, address: AddressBuffer): number {
    const result = this.inner.getsockname(fd, address);
    return this.on("getsockname", fd, "", result, result < 0 ? "" : this.trace.filled(address));
  }

  getpeername(fd: number, address: AddressBuffer): number {
    const result = this.inner.getpeername(fd, address);
    return this.on("getpeername", fd, "", result, result < 0 ? "" : this.trace.filled(address));
  }

  shutdown(fd: number, how: number): number {
    return this.on("shutdown", fd, String(how), this.inner.shutdown(fd, how));
  }

  close(fd: number): number {
    return this.on("close", fd, "", this.inner.close(fd));
  }

  dup(fd: number): number {
    return this.made("dup", this.fd(fd), this.inner.dup(fd));
  }

  sendto(fd: number, data: Uint8Array, flags: number, address: Uint8Array | null): number {
    const to = address === null ? "" : ` to ${this.trace.address(address)}`;
    const what = `${this.trace.bytes(data)}, 0x${flags.toString(16)}${to}`;
    return this.on("send", fd, what, this.inner.sendto(fd, data, flags, address));
  }

  recvfrom(fd: number, into: Uint8Array, flags: number, address: AddressBuffer | null): number {
    const result = this.inner.recvfrom(fd, into, flags, address);
    const got = result < 0 ? "" : ` ${this.trace.bytes(into.subarray(0, result))}${this.trace.filled(address)}`;
    return this.on("recv", fd, `${into.length}, 0x${flags.toString(16)}`, result, got);
  }

  sendmsg(fd: number, message: Message, flags: number): number {
    const result = this.inner.sendmsg(fd, message, flags);
    const parts = message.iov.map((part) => this.trace.bytes(part)).join("+");
    const to =
      message.name === null ? "" : ` to ${this.trace.address(message.name.bytes.subarray(0, message.name.length))}`;
    return this.on("sendmsg", fd, `${parts}${to}, 0x${flags.toString(16)}`, result);
  }

  recvmsg(fd: number, message: Message, flags: number): number {
    const room = message.iov.map((part) => part.length).join("+");
    const result = this.inner.recvmsg(fd, message, flags);
    const got = result < 0 ? "" : ` ${this.trace.received(this.party, message, result)}`;
    return this.on("recvmsg", fd, `${room}, 0x${flags.toString(16)}`, result, got);
  }

  read(fd: number, into: Uint8Array): number {
    const result = this.inner.read(fd, into);
    const got = result < 0 ? "" : ` ${this.trace.bytes(into.subarray(0, result))}`;
    return this.on("read", fd, String(into.length), result, got);
  }

  write(fd: number, data: Uint8Array): number {
    return this.on("write", fd, this.trace.bytes(data), this.inner.write(fd, data));
  }

  readv(fd: number, iov: readonly Uint8Array[]): number {
    const result = this.inner.readv(fd, iov);
    return this.on("readv", fd, "", result, ` ${iov.map((part) => this.trace.bytes(part)).join("+")}`);
  }

  writev(fd: number, iov: readonly Uint8Array[]): number {
    return this.on("writev", fd, iov.map((part) => this.trace.bytes(part)).join("+"), this.inner.writev(fd, iov));
  }

  pread(fd: number, into: Uint8Array, offset: number): number {
    return this.on("pread", fd, String(offset), this.inner.pread(fd, into, offset));
  }

  pwrite(fd: number, data: Uint8Array, offset: number): number {
    return this.on("pwrite", fd, String(offset), this.inner.pwrite(fd, data, offset));
  }

  lseek(fd: number, offset: number, whence: number): number {
    return this.on("lseek", fd, `${offset}, ${whence}`, this.inner.lseek(fd, offset, whence));
  }

  setsockopt(fd: number, level: number, name: number, value: Uint8Array): number {
    const label = this.option(level, name);
    const result = this.inner.setsockopt(fd, level, name, value);
    return this.on("setsockopt", fd, `${label}, ${this.valueText(level, name, value)}`, result);
  }

  getsockopt(fd: number, level: number, name: number, out: Uint8Array): number {
    const label = this.option(level, name);
    const result = this.inner.getsockopt(fd, level, name, out);
    const got = result < 0 ? "" : this.told(level, name, out.subarray(0, result));
    return this.on("getsockopt", fd, `${label}, ${out.length}`, result, got);
  }

  /** The value of an option, as far as it is the same in each run. */
  private told(level: number, name: number, value: Uint8Array): string {
    if (level === SOL_SOCKET && VARYING.has(name)) return "";
    if (level === SOL_SOCKET && name === SO_PEERPIDFD && value.length === 4)
      return ` ${this.trace.made(this.party, new DataView(value.buffer, value.byteOffset).getInt32(0, true))}`;
    if (level === SOL_SOCKET && name === SO_PEERNAME) return ` ${this.trace.address(value)}`;
    if (level === SOL_TCP && (name === TCP_TIMESTAMP || name === TCP_CC_INFO)) return "";
    // A port, strange as it is.
    if (level === IPPROTO_IP && name === IP_PROTOCOL) {
      if (value.length < 4) return "";
      return ` ${this.trace.port(value[0] | (value[1] << 8))}`;
    }
    return ` ${this.trace.bytes(level === SOL_TCP && name === TCP_INFO ? stableInfo(value) : value)}`;
  }

  ioctl(fd: number, request: number, argument: Uint8Array): number {
    const label = requestName(request);
    this.trace.items.add(label);
    const result = this.inner.ioctl(fd, request, argument);
    const time = label.startsWith("SIOCGSTAMP") && result === 0 ? " time" : ` ${this.trace.bytes(argument)}`;
    return this.on("ioctl", fd, label, result, time);
  }

  fcntl(fd: number, command: number, argument: number | Uint8Array): number {
    const label = commandName(command);
    this.trace.items.add(label);
    const result = this.inner.fcntl(fd, command, argument);
    const value = typeof argument === "number" ? String(argument) : this.trace.bytes(argument);
    const given = `${this.fd(fd)}, ${label}, ${value}`;
    if (command === F_DUPFD || command === F_DUPFD_CLOEXEC) return this.made("fcntl", given, result);
    return this.note("fcntl", given, result);
  }

  poll(entries: readonly PollEntry[], timeoutMs: number): number {
    const result = this.inner.poll(entries, timeoutMs);
    for (const { revents } of entries) {
      for (const name of pollNames(revents).split("|")) if (name !== "0") this.trace.items.add(name);
    }
    const got = entries.map(({ fd, events, revents }) => `${this.fd(fd)}:${pollNames(events)}=${pollNames(revents)}`);
    return this.note("poll", `${timeoutMs}`, result, ` ${got.join(" ")}`);
  }

  select(
    count: number,
    read: Uint8Array | null,
    write: Uint8Array | null,
    except: Uint8Array | null,
    timeoutMs: number,
  ): number {
    const result = this.inner.select(count, read, write, except, timeoutMs);
    const sets = [read, write, except].map((set) => this.members(set));
    return this.note("select", "", result, ` ${sets.join(" ")}`);
  }

  epollCreate(flags: number): number {
    return this.made("epoll_create1", `0x${flags.toString(16)}`, this.inner.epollCreate(flags));
  }

  epollControl(epoll: number, operation: number, fd: number, event: EpollEvent | null): number {
    const wanted = event === null ? "none" : eventText(event);
    const result = this.inner.epollControl(epoll, operation, fd, event);
    return this.on("epoll_ctl", epoll, `${operation}, ${this.fd(fd)}, ${wanted}`, result);
  }

  epollWait(epoll: number, events: readonly EpollEvent[], timeoutMs: number): number {
    const result = this.inner.epollWait(epoll, events, timeoutMs);
    const got = events.slice(0, Math.max(result, 0)).map(eventText);
    return this.on("epoll_wait", epoll, `${events.length}`, result, ` ${got.join(", ")}`);
  }

  /** Of a struct sock_fprog all but the address, of a loaded program that it is one. */
  private valueText(level: number, name: number, value: Uint8Array): string {
    if (level === SOL_SOCKET && (name === SO_ATTACH_BPF || name === SO_ATTACH_REUSEPORT_EBPF) && value.length === 4) {
      const handle = new DataView(value.buffer, value.byteOffset).getInt32(0, true);
      if (this.trace.programs.has(handle)) return "an extended program";
    }
    const program = level === SOL_SOCKET && (name === SO_ATTACH_FILTER || name === SO_ATTACH_REUSEPORT_CBPF);
    if (!program || value.length < 16) return this.trace.bytes(value);
    return `${value[0] | (value[1] << 8)} instructions${value.subarray(8).some((byte) => byte !== 0) ? "" : " nowhere"}`;
  }

  private option(level: number, name: number): string {
    const label = optionName(level, name);
    this.trace.items.add(label);
    return label;
  }

  /** The descriptors in a set. */
  private members(set: Uint8Array | null): string {
    if (set === null) return "none";
    const names: string[] = [];
    for (let fd = 0; fd < set.length * 8; fd++) if ((set[fd >> 3] >> (fd & 7)) & 1) names.push(this.fd(fd));
    return `{${names.join(" ")}}`;
  }

  private fd(fd: number): string {
    return this.trace.fd(this.party, fd);
  }

  private made(call: string, given: string, fd: number): number {
    this.note(call, given, Math.min(fd, 0), fd < 0 ? "" : ` ${this.trace.made(this.party, fd)}`);
    return fd;
  }

  private on(call: string, fd: number, given: string, result: number, got = ""): number {
    return this.note(call, given === "" ? this.fd(fd) : `${this.fd(fd)}, ${given}`, result, got);
  }

  private note(call: string, given: string, result: number, got = ""): number {
    this.trace.items.add(call);
    this.trace.add(`${this.party} ${call}(${given}) = ${resultName(result)}${got}`);
    return result;
  }
}
