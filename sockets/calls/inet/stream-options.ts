/** The options of one TCP socket: values that the file keeps, and what the connection has to know of them. */
import { ERRNO } from "af-xdp-bindings";
import type { Endpoint } from "../../endpoint.ts";
import {
  IPPROTO_IP,
  IPPROTO_IPV6,
  SO_PRIORITY,
  SO_RCVLOWAT,
  SO_RCVTIMEO,
  SO_SNDTIMEO,
  SOL_SOCKET,
  SOL_TCP,
  TCP_MAXSEG,
  TCP_QUICKACK,
  TCP_WINDOW_CLAMP,
} from "../../options.ts";
import { hostLimits, type Limits } from "../../sockopt/limits.ts";
import { timeoutMs } from "../../sockopt/socket-rules.ts";
import { STREAM_IP_LEVEL } from "../../sockopt/stream-ip-level.ts";
import { STREAM_IPV6_LEVEL } from "../../sockopt/stream-ipv6-level.ts";
import { STREAM_SOCKET_LEVEL } from "../../sockopt/stream-socket-level.ts";
import type { StreamFilterPlace, StreamOption, StreamTarget } from "../../sockopt/stream-target.ts";
import { TCP_LEVEL } from "../../sockopt/tcp-level.ts";
import type { TcpSocket } from "../../stream/tcp-socket.ts";
import { AF_INET, IPPROTO_TCP } from "../../table.ts";
import { OPTIONS } from "../../tcp/sockopts.ts";
import { LISTEN } from "../../tcp/tcb.ts";
import { SOCK_STREAM } from "../constants.ts";

const INT_BYTES = 4;
/** Options that end with the connection: by name, by number of OPTIONS, and what they begin with. */
interface Forgotten {
  readonly name: number;
  readonly core: number;
  readonly initial: number;
}
const QUICKACK: Forgotten = { name: TCP_QUICKACK, core: OPTIONS.TCP_QUICKACK, initial: 1 };
const FORGOTTEN: readonly Forgotten[] = [
  { name: TCP_MAXSEG, core: OPTIONS.TCP_MAXSEG, initial: 0 },
  { name: TCP_WINDOW_CLAMP, core: OPTIONS.TCP_WINDOW_CLAMP, initial: 0 },
  QUICKACK,
];
const byNumber = new Map(
  [...STREAM_SOCKET_LEVEL, ...TCP_LEVEL, ...STREAM_IP_LEVEL, ...STREAM_IPV6_LEVEL].map(
    (entry) => [`${entry.level}/${entry.name}`, entry] as const,
  ),
);

const PRIORITY = byNumber.get(`${SOL_SOCKET}/${SO_PRIORITY}`);

/** What the file answers for its options. */
export interface StreamOwner {
  readonly endpoint: Endpoint;
  readonly family: number;
  readonly socket: TcpSocket;
  readonly state: number;
  readonly hasLived: boolean;
  readonly isBound: boolean;
  readonly localPort: number;
  readonly pathMtu: number;
  /** Bytes that a segment to the peer carries. */
  readonly segment: number;
  readonly cookie: Uint8Array;
  takeError(): number;
  needRecord(): number;
  needPlaceholder(): number;
  recordWord(field: number): number;
  portRulesChanged(): void;
  /** Options of a listener have changed, which its connections begin with. */
  optionsChanged(): void;
  bindDevice(index: number): number;
  readonly place: StreamFilterPlace;
  tcpInfo(): Uint8Array;
  peerName(): Uint8Array | null;
}

export class StreamOptions implements StreamTarget {
  readonly protocol = IPPROTO_TCP;
  readonly type = SOCK_STREAM;
  peekOffset = -1;
  private readonly owner: StreamOwner;
  private readonly values: Map<StreamOption, number>;
  /** What the connection was told, in case there is another: by number of OPTIONS. */
  private readonly core: Map<number, number>;

  /** @param from those of the listener that the connection came to */
  constructor(owner: StreamOwner, from: StreamOptions | null) {
    this.owner = owner;
    this.values = new Map(from?.values);
    this.core = new Map(from?.core);
    this.peekOffset = from?.peekOffset ?? -1;
    // It is the listener's alone.
    this.core.delete(OPTIONS.TCP_DEFER_ACCEPT);
    // So is its priority (sk_clone).
    if (PRIORITY !== undefined) this.values.delete(PRIORITY);
    this.core.delete(OPTIONS.SO_PRIORITY);
  }

  get endpoint(): Endpoint {
    return this.owner.endpoint;
  }

  get domain(): number {
    return this.owner.family;
  }

  get limits(): Limits {
    const { sysctl } = this.endpoint.shared;
    const bounds = { rcvbufMax: sysctl.get("rmem_max"), sndbufMax: sysctl.get("wmem_max") };
    return { ...hostLimits(), ...bounds, optmemMax: sysctl.get("optmem_max") };
  }

  get listening(): boolean {
    return this.state === LISTEN;
  }

  get state(): number {
    return this.owner.state;
  }

  get hasLived(): boolean {
    return this.owner.hasLived;
  }

  get isBound(): boolean {
    return this.owner.isBound;
  }

  get localPort(): number {
    return this.owner.localPort;
  }

  get pathMtu(): number {
    return this.owner.pathMtu;
  }

  get segment(): number {
    return this.owner.segment;
  }

  get cookie(): Uint8Array {
    return this.owner.cookie;
  }

  get sendBuffer(): number {
    return this.getCore(OPTIONS.SO_SNDBUF);
  }

  set sendBuffer(bytes: number) {
    this.setCore(OPTIONS.SO_SNDBUF, bytes >> 1);
  }

  get receiveBuffer(): number {
    return this.getCore(OPTIONS.SO_RCVBUF);
  }

  set receiveBuffer(bytes: number) {
    this.setCore(OPTIONS.SO_RCVBUF, bytes >> 1);
  }

  takeError(): number {
    return this.owner.takeError();
  }

  needRecord(): number {
    return this.owner.needRecord();
  }

  needPlaceholder(): number {
    return this.owner.needPlaceholder();
  }

  recordWord(field: number): number {
    return this.owner.recordWord(field);
  }

  portRulesChanged(): void {
    this.owner.portRulesChanged();
  }

  bindDevice(index: number): number {
    return this.owner.bindDevice(index);
  }

  get place(): StreamFilterPlace {
    return this.owner.place;
  }

  tcpInfo(): Uint8Array {
    return this.owner.tcpInfo();
  }

  peerName(): Uint8Array | null {
    return this.owner.peerName();
  }

  setCore(option: number, value: number): number {
    const result = this.owner.socket.setOption(option, value);
    if (result < 0) return result;
    this.core.set(option, value);
    this.owner.optionsChanged();
    return 0;
  }

  getCore(option: number): number {
    return this.owner.socket.getOption(option);
  }

  /** Another socket of the engine stands for this one now: it is told all that the one before was. */
  replay(): void {
    for (const [option, value] of this.core) this.owner.socket.setOption(option, value);
  }

  /** tcp_disconnect(): what it forgets of what was set. @param isIdle the socket of the engine stays the same */
  forget(isIdle: boolean): void {
    this.peekOffset = -1;
    for (const each of FORGOTTEN) this.forgetOne(each, isIdle);
  }

  /** inet_csk_delack_init(), when it begins to listen. */
  forgetQuickAck(): void {
    this.forgetOne(QUICKACK, true);
  }

  private forgetOne({ name, core, initial }: Forgotten, isIdle: boolean): void {
    const option = byNumber.get(`${SOL_TCP}/${name}`);
    if (option !== undefined) this.values.delete(option);
    if (this.core.delete(core) && isIdle) this.owner.socket.setOption(core, initial);
  }

  value(option: StreamOption): number {
    const { initial } = option;
    return this.values.get(option) ?? (typeof initial === "number" ? initial : initial(this));
  }

  store(option: StreamOption, value: number): void {
    this.values.set(option, value);
  }

  storeOther(level: number, name: number, value: number): void {
    const option = byNumber.get(`${level}/${name}`);
    if (option !== undefined) this.values.set(option, value);
  }

  /** A number that is kept of an option. */
  valueOf(level: number, name: number): number {
    const option = byNumber.get(`${level}/${name}`);
    return option === undefined ? 0 : this.value(option);
  }

  get receiveTimeoutMs(): number {
    return timeoutMs(this.valueOf(SOL_SOCKET, SO_RCVTIMEO));
  }

  get sendTimeoutMs(): number {
    return timeoutMs(this.valueOf(SOL_SOCKET, SO_SNDTIMEO));
  }

  get receiveLowWater(): number {
    return this.valueOf(SOL_SOCKET, SO_RCVLOWAT);
  }

  set(level: number, name: number, value: Uint8Array): number {
    if (level === IPPROTO_IPV6 && this.domain === AF_INET) return -ERRNO.ENOPROTOOPT;
    const option = byNumber.get(`${level}/${name}`);
    if (option !== undefined) return option.set(this, value);
    const wantsInt = level === SOL_SOCKET || level === IPPROTO_TCP;
    return wantsInt && value.length < INT_BYTES ? -ERRNO.EINVAL : -ERRNO.ENOPROTOOPT;
  }

  get(level: number, name: number, out: Uint8Array): number {
    if (level !== IPPROTO_IP && level !== SOL_SOCKET && level !== IPPROTO_TCP && this.domain === AF_INET) {
      return -ERRNO.EOPNOTSUPP;
    }
    return byNumber.get(`${level}/${name}`)?.get(this, out) ?? -ERRNO.ENOPROTOOPT;
  }
}
