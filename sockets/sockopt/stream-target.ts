/** A TCP socket as options see it. */
import type { FilterPlace } from "../bpf/attach.ts";
import type { Endpoint } from "../endpoint.ts";
import type { Option, OptionPart, OptionTarget } from "./rules.ts";

export interface StreamFilterPlace extends FilterPlace {
  /** Segments that the filter has dropped. */
  readonly drops: number;
}

export interface StreamTarget extends OptionTarget {
  readonly endpoint: Endpoint;
  /** State of the connection, of sockets/tcp/tcb.ts; LISTEN of a listener, CLOSED of what is not connected. */
  readonly state: number;
  /** It is a connection, has been one, or has tried, and was not disconnected since. */
  readonly hasLived: boolean;
  /** It has a port that bind(2) has given it, or listen(2). */
  readonly isBound: boolean;
  /** A number that no other socket of the engine has had, eight bytes. */
  readonly cookie: Uint8Array;
  /** Sets an option of the connection, or of the connections to come, by its number in OPTIONS of sockets/tcp/sockopts.ts. 0 or -errno. */
  setCore(option: number, value: number): number;
  getCore(option: number): number;
  /** The number that is kept of an option. */
  valueOf(level: number, name: number): number;
  /** Keeps a value of another option than the one that is set. */
  storeOther(level: number, name: number, value: number): void;
  /** Whether addresses and ports have changed that decide over who may have a port: the record in the socket table is brought up to date. */
  portRulesChanged(): void;
  /** The record in the socket table, which is made when it has none yet; or -errno. */
  needRecord(): number;
  /** The kernel's socket that stands for the record, which is made when there is none yet: a descriptor, or -errno. */
  needPlaceholder(): number;
  /** Words of the record as they are, 0 where there is none. */
  recordWord(field: number): number;
  /** SO_BINDTOIFINDEX: 0, or -errno. */
  bindDevice(index: number): number;
  /** The socket as the one that has a filter. */
  readonly place: StreamFilterPlace;
  /** struct tcp_info. */
  tcpInfo(): Uint8Array;
  /** The peer's sockaddr; null: it is not connected. */
  peerName(): Uint8Array | null;
  /** getsockopt() asks without storing: the port it has, 0 for none. */
  readonly localPort: number;
  /** Bytes of the largest packet to the peer, 0: it has none. */
  readonly pathMtu: number;
  /** Bytes that a segment to the peer carries. */
  readonly segment: number;
  /** The offset of SO_PEEK_OFF. */
  peekOffset: number;
}

export type StreamOption = Option<StreamTarget>;
export type StreamPart = OptionPart<StreamTarget>;
