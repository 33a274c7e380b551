/** setsockopt(2) and getsockopt(2) of one socket. */
import { ERRNO, sys } from "af-xdp-bindings";
import { SocketGroups } from "../group-request.ts";
import {
  IP_PKTINFO,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVPKTINFO,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOL_SOCKET,
  SOL_UDP,
} from "../options.ts";
import { TX_VIA_KERNEL, withFlag } from "../send-word.ts";
import { AF_INET, F_CHILD, FAMILY, FLAGS, IPPROTO_UDP, PLACEHOLDER, SNDBUF } from "../table.ts";
import type { UdpSocket } from "../udp-socket.ts";
import { interfaceIndex } from "./devices.ts";
import { changeSendWord } from "./effects.ts";
import { hostLimits, type Limits } from "./limits.ts";
import { AS_GIVEN, readInt } from "./rules.ts";
import { findOption } from "./table.ts";
import type { UdpOption, UdpTarget } from "./udp-target.ts";

const SOCK_DGRAM = 2;
const INT_BYTES = 4;
/** The longest value whose beginning or length an effect asks for: IP options are 40 bytes. */
const VALUE_BYTES = 256;

export class SocketOptions implements UdpTarget {
  readonly socket: UdpSocket;
  /** Values the engine keeps. */
  private readonly values = new Map<UdpOption, number>();
  /** Options for whose sake everything goes by the placeholder. */
  private readonly kernelOnly = new Set<UdpOption>();
  private groups_: SocketGroups | null = null;
  /** What is to be said of the last failure, beside its errno. */
  hint = "";

  constructor(socket: UdpSocket) {
    this.socket = socket;
  }

  get groups(): SocketGroups {
    this.groups_ ??= new SocketGroups(this.socket.endpoint, this.socket.id);
    return this.groups_;
  }

  get limits(): Limits {
    const { sysctl } = this.socket.endpoint.shared;
    return {
      ...hostLimits(),
      rcvbufMax: sysctl.get("rmem_max"),
      sndbufMax: sysctl.get("wmem_max"),
      optmemMax: sysctl.get("optmem_max"),
    };
  }

  get type(): number {
    return SOCK_DGRAM;
  }

  get protocol(): number {
    return IPPROTO_UDP;
  }

  get domain(): number {
    return this.socket.endpoint.table.get(this.socket.id, FAMILY);
  }

  get listening(): boolean {
    return false;
  }

  get sendBuffer(): number {
    return this.socket.endpoint.table.get(this.socket.id, SNDBUF);
  }

  set sendBuffer(bytes: number) {
    this.socket.boundSends(bytes);
  }

  get receiveBuffer(): number {
    return this.socket.endpoint.table.rcvbuf[this.socket.id];
  }

  set receiveBuffer(bytes: number) {
    this.socket.endpoint.table.rcvbuf[this.socket.id] = bytes;
  }

  takeError(): number {
    return this.socket.takeError();
  }

  /** Returns 0 or -errno; `hint` may say more. */
  set(level: number, name: number, value: Uint8Array): number {
    const option = findOption(level, name);
    this.hint = "";
    if (level === IPPROTO_IPV6 && this.isIpv4()) return -ERRNO.ENOPROTOOPT;
    // These levels look for an int first, and for its meaning then.
    const wantsInt = level === SOL_SOCKET || level === SOL_UDP;
    if (option === undefined) return wantsInt && value.length < INT_BYTES ? -ERRNO.EINVAL : -ERRNO.ENOPROTOOPT;
    const { placeholder } = this;
    if (placeholder < 0 || this.isOwnWord(option)) return option.set(this, value);
    if (option.word === "engine") return this.setBoth(option, value);
    if (option.word === "reader") {
      // One socket of the kernel filters for all that share it.
      return this.isFlow() ? -ERRNO.EOPNOTSUPP : Math.min(sys.setsockopt(placeholder, level, name, value), 0);
    }
    if (this.isFlow()) return option.ofFlow ? option.set(this, value) : -ERRNO.EOPNOTSUPP;
    const result = this.setBuffer(placeholder, level, name, value) ?? sys.setsockopt(placeholder, level, name, value);
    if (result < 0) return result;
    this.followKernel(option, placeholder, value);
    return 0;
  }

  /** SO_RCVBUF and SO_SNDBUF where the engine's bound is another than the host's; null: they are as ever. */
  private setBuffer(placeholder: number, level: number, name: number, value: Uint8Array): number | null {
    if (level !== SOL_SOCKET || (name !== SO_RCVBUF && name !== SO_SNDBUF) || value.length < INT_BYTES) return null;
    const { sysctl } = this.socket.endpoint.shared;
    const bound = name === SO_RCVBUF ? "rmem_max" : "wmem_max";
    const most = sysctl.get(bound);
    if (most === sysctl.host(bound)) return null;
    const bytes = Math.min(readInt(value, level) >>> 0, most);
    const force = name === SO_RCVBUF ? SO_RCVBUFFORCE : SO_SNDBUFFORCE;
    const forced = most > sysctl.host(bound) ? sys.setsockoptInt(placeholder, SOL_SOCKET, force, bytes) : -ERRNO.EPERM;
    return forced < 0 ? sys.setsockoptInt(placeholder, SOL_SOCKET, name, bytes) : forced;
  }

  /** Whether it is the engine that reads the datagrams, and an option of whoever does. */
  private isOwnWord(option: UdpOption): boolean {
    return option.word === "reader" && this.socket.endpoint.sendsItself;
  }

  /** What the engine keeps: where the kernel's socket is the one that is read, it has to know too. */
  private setBoth(option: UdpOption, value: Uint8Array): number {
    const result = option.set(this, value);
    if (result < 0 || this.socket.endpoint.sendsItself || this.isFlow()) return result;
    // A wildcard socket is always told where a datagram was sent to: switched off, it would answer from anywhere.
    const { level, name } = option;
    const tells =
      (level === IPPROTO_IP && name === IP_PKTINFO) || (level === IPPROTO_IPV6 && name === IPV6_RECVPKTINFO);
    if (tells && readInt(value, level) === 0) return 0;
    return Math.min(sys.setsockopt(this.placeholder, level, name, value), 0);
  }

  /** Fills `out`. Returns the bytes written, or -errno. */
  get(level: number, name: number, out: Uint8Array): number {
    const option = findOption(level, name);
    if (level === IPPROTO_IPV6 && this.isIpv4()) return -ERRNO.EOPNOTSUPP;
    if (option === undefined) return -ERRNO.ENOPROTOOPT;
    const { placeholder } = this;
    if (placeholder < 0 || option.word === "engine" || this.isOwnWord(option)) return option.get(this, out);
    if (option.word === "reader") return option.ask(placeholder, out);
    if (option.ofFlow && this.isFlow()) return option.get(this, out);
    return sys.getsockopt(placeholder, level, name, out);
  }

  value(option: UdpOption): number {
    return this.values.get(option) ?? (typeof option.initial === "number" ? option.initial : option.initial(this));
  }

  /** A number the engine keeps of an option. */
  valueOf(level: number, name: number): number {
    const option = findOption(level, name);
    return option === undefined ? 0 : this.value(option);
  }

  store(option: UdpOption, value: number): void {
    this.values.set(option, value);
  }

  needKernel(option: UdpOption, wanted: boolean): void {
    // Without a kernel there are neither queueing disciplines nor policy routes that would make a difference.
    if (this.placeholder < 0) return;
    if (wanted) this.kernelOnly.add(option);
    else this.kernelOnly.delete(option);
    changeSendWord(this, 0, (word) => withFlag(word, TX_VIA_KERNEL, this.kernelOnly.size > 0));
  }

  /** Index of an interface by name in the engine's namespace, or -errno. */
  interfaceIndex(name: string): number {
    return this.placeholder < 0 ? -ERRNO.ENODEV : interfaceIndex(this.placeholder, name);
  }

  /** The kernel has taken a value: what it made of it goes to the packet path. */
  private followKernel(option: UdpOption, placeholder: number, given: Uint8Array): void {
    if (option.readAs === AS_GIVEN) {
      option.effect(this, readInt(given, option.level), given.length);
      return;
    }
    const now = new Uint8Array(VALUE_BYTES);
    const length = Math.max(sys.getsockopt(placeholder, option.level, option.readAs, now), 0);
    option.effect(this, readInt(now.subarray(0, length), option.level), length);
  }

  private get placeholder(): number {
    const { endpoint, id } = this.socket;
    return endpoint.table.get(id, PLACEHOLDER);
  }

  private isFlow(): boolean {
    const { endpoint, id } = this.socket;
    return (endpoint.table.get(id, FLAGS) & F_CHILD) !== 0;
  }

  private isIpv4(): boolean {
    return this.domain === AF_INET;
  }
}
