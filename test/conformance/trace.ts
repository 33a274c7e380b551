/**
 * What a scenario's calls gave, line by line. Two traces of one scenario, from kernel sockets and from ours, are to be equal.
 *
 * What differs from run to run has a name instead of its value: descriptors (s1, s2 …), ports the kernel chose (p1 …), names of
 * autobind, times, cookies.
 */
import { AF_INET, AF_INET6, AF_UNIX, SCM_PIDFD, SCM_RIGHTS } from "../../sockets/calls/constants.ts";
import { decodeControl } from "../../sockets/calls/control.ts";
import { type AddressBuffer, addressIn, lengthOf, type Message } from "../../sockets/calls/message.ts";
import {
  SO_TIMESTAMP,
  SO_TIMESTAMP_NEW,
  SO_TIMESTAMPING,
  SO_TIMESTAMPING_NEW,
  SO_TIMESTAMPNS,
  SO_TIMESTAMPNS_NEW,
  SOL_SOCKET,
} from "../../sockets/options.ts";
import { formatIp } from "../../sockets/wire/address.ts";
import { familyName, optionName } from "./names.ts";

/** Ports from here on are the kernel's choice: net.ipv4.ip_local_port_range. Scenarios bind to lower ones. */
const EPHEMERAL = 32768;
/** More bytes than these are told by their number and a sum. */
const BYTES_SHOWN = 64;
const TIMES = new Set([
  SO_TIMESTAMP,
  SO_TIMESTAMPNS,
  SO_TIMESTAMP_NEW,
  SO_TIMESTAMPNS_NEW,
  SO_TIMESTAMPING,
  SO_TIMESTAMPING_NEW,
]);
/** Abstract names that autobind makes: a zero byte and five digits. */
const AUTOBIND = /^@[0-9a-f]{5}$/;

export class Trace {
  readonly lines: string[] = [];
  /** Items of the page that were touched: calls, options, requests, events. */
  readonly items = new Set<string>();
  /** Handles of BPF programs that were loaded. */
  readonly programs = new Set<number>();
  private readonly names = new Map<string, string>();
  private readonly counts = new Map<string, number>();

  add(line: string): void {
    this.lines.push(line);
  }

  /** The same name for the same value each time it is met. */
  name(kind: string, value: string | number): string {
    const key = `${kind}:${value}`;
    let name = this.names.get(key);
    if (name === undefined) {
      const count = (this.counts.get(kind) ?? 0) + 1;
      this.counts.set(kind, count);
      name = `${kind}${count}`;
      this.names.set(key, name);
    }
    return name;
  }

  /** A descriptor that a call has made; the number may have been another's before. */
  made(party: string, fd: number): string {
    this.names.delete(`${party}s:${fd}`);
    return this.fd(party, fd);
  }

  fd(party: string, fd: number): string {
    return this.names.has(`${party}s:${fd}`) || fd >= 0 ? this.name(`${party}s`, fd) : String(fd);
  }

  bytes(bytes: Uint8Array): string {
    if (bytes.length <= BYTES_SHOWN) return bytes.toHex() || "-";
    return `${bytes.length} bytes ${Bun.hash.crc32(bytes).toString(16)}`;
  }

  port(port: number): string {
    return port >= EPHEMERAL ? this.name("p", port) : String(port);
  }

  /** A sockaddr in words; what is none in bytes. */
  address(bytes: Uint8Array): string {
    if (bytes.length < 2) return this.bytes(bytes);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const family = view.getUint16(0, true);
    if (family === AF_INET && bytes.length >= 8) {
      return `${formatIp(bytes.subarray(4, 8))}:${this.port(view.getUint16(2))}${this.rest(bytes, 8)}`;
    }
    if (family === AF_INET6 && bytes.length >= 24) {
      return `[${formatIp(bytes.subarray(8, 24))}]:${this.port(view.getUint16(2))}${this.rest(bytes, 24)}`;
    }
    // Cut off: the port at least.
    if ((family === AF_INET || family === AF_INET6) && bytes.length >= 4) {
      return `${familyName(family)} :${this.port(view.getUint16(2))}${this.rest(bytes, 4)}`;
    }
    if (family === AF_UNIX) return this.unixName(bytes.subarray(2));
    return `${familyName(family)} ${this.bytes(bytes.subarray(2))}`;
  }

  /** What a call has put into an address buffer, and how long it says it is. */
  filled(buffer: AddressBuffer | null): string {
    if (buffer === null) return "";
    return ` from ${buffer.length === 0 ? "nobody" : `${this.address(addressIn(buffer))} (${buffer.length})`}`;
  }

  /** What recvmsg has filled in. */
  received(party: string, message: Message, length: number): string {
    const held = Math.min(Math.max(length, 0), lengthOf(message.iov));
    const data = new Uint8Array(held);
    let at = 0;
    for (const part of message.iov) {
      const taken = Math.min(part.length, held - at);
      data.set(part.subarray(0, taken), at);
      at += taken;
    }
    const control = message.control === null ? "" : ` control ${this.control(party, message)}`;
    return `${this.bytes(data)}${this.filled(message.name)}${control} flags 0x${(message.flags >>> 0).toString(16)}`;
  }

  private control(party: string, { control, controlLength }: Message): string {
    if (control === null) return "none";
    const messages = decodeControl(control, controlLength);
    if (messages === null) return `malformed ${this.bytes(control.subarray(0, controlLength))}`;
    const words = messages.map(({ level, type, data }) => {
      const label = level === SOL_SOCKET && type <= 4 ? `SCM_${type}` : optionName(level, type);
      if (level === SOL_SOCKET && (type === SCM_RIGHTS || type === SCM_PIDFD))
        return `${label}=${this.rights(party, data)}`;
      if (level === SOL_SOCKET && TIMES.has(type)) return `${label}=time of ${data.length} bytes`;
      return `${label}=${this.bytes(data)}`;
    });
    return `[${words.join(" ")}] (${controlLength})`;
  }

  private rights(party: string, data: Uint8Array): string {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const names: string[] = [];
    for (let at = 0; at + 4 <= data.length; at += 4) names.push(this.made(party, view.getInt32(at, true)));
    return names.join(",");
  }

  private unixName(name: Uint8Array): string {
    if (name.length === 0) return "unnamed";
    if (name[0] !== 0) return `path ${new TextDecoder().decode(name).replace(/\0.*$/s, "")}`;
    const text = `@${new TextDecoder("latin1").decode(name.subarray(1))}`;
    return AUTOBIND.test(text) ? this.name("@auto", text) : `abstract ${this.bytes(name)}`;
  }

  private rest(bytes: Uint8Array, from: number): string {
    const rest = bytes.subarray(from);
    return rest.every((byte) => byte === 0) ? "" : ` ${this.bytes(rest)}`;
  }
}
