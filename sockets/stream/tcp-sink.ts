/**
 * Where an lcore's TCP sends: a frame from the pool, the IP header before the segment, and the way out that its address has:
 * a port; the kernel, by a raw socket, where only that knows the next hop yet; the host protocols; or back in again, for an
 * address of this host.
 */
import { ERRNO, sys } from "af-xdp-bindings";
import type { Port } from "../../queues/driver.ts";
import type { FramePool } from "../../queues/pool.ts";
import { C } from "../counters.ts";
import { VIA_KERNEL } from "../destinations.ts";
import { TX_HEADROOM } from "../endpoint.ts";
import type { Fib } from "../fib.ts";
import { HOST_SEND } from "../message.ts";
import { MSG_DONTWAIT, MSG_NOSIGNAL } from "../msghdr.ts";
import { SO_DONTROUTE, SO_MARK, SO_PRIORITY, SOL_SOCKET } from "../options.ts";
import type { Diverter, Output } from "../output.ts";
import { SOCKADDR_IN6_BYTES, writeSockaddr } from "../sockaddr.ts";
import { AF_INET, AF_INET6, type SocketTable } from "../table.ts";
import type { TcpSink } from "../tcp/core.ts";
import {
  F_V6,
  FLAGS,
  HOPS,
  HOPS_DONTROUTE,
  HOPS_MARK,
  HOPS_PRIORITY,
  HOPS_TTL,
  LOCAL,
  MARK,
  PRIORITY,
} from "../tcp/tcb.ts";
import { ETH_HEADER, ETH_P_IP, ETH_P_IPV6 } from "../wire/ethernet.ts";
import { finishTcp4, finishTcp6 } from "../wire/tcp.ts";
import { type FrameViews, writeUint16 } from "../wire/views.ts";
import { FrameGso } from "./gso-sink.ts";
import { writeIp4, writeIp6 } from "./tcp-headers.ts";
import type { TcpSetup } from "./tcp-setup.ts";

/** MTU where no way is known: what Ethernet has. */
const MTU_DEFAULT = 1500;
/** Frames left to reception and to datagrams. */
const FRAMES_SPARED = 64;
/** Segments to own addresses that wait for the end of the turn; one more is lost. */
const LOOP_MAX = 4096;
/** Options that raw sockets are given: see dress(). */
const RAW_OPTIONS = 3;
/** A sockaddr of AF_UNSPEC: connect(2) to it undoes the one before. */
const NOWHERE = new Uint8Array(16);

export interface SinkParts {
  readonly table: SocketTable;
  readonly ports: readonly Port[];
  readonly pool: FramePool;
  readonly views: FrameViews;
  readonly fib: Fib;
  readonly counters: Float64Array;
  readonly out: Output;
}

export class FrameSink implements TcpSink {
  readonly views: FrameViews;
  readonly gso: FrameGso | null;
  /** The host protocols, where the engine has its own. */
  host: Diverter | null = null;
  private readonly parts: SinkParts;
  private readonly setup: TcpSetup;
  private readonly base: number;
  private readonly sockaddr = new DataView(new ArrayBuffer(SOCKADDR_IN6_BYTES));
  private readonly sockaddrAddress = sys.addressOf(this.sockaddr);
  /** Segments to own addresses: offset of the IP header, of the TCP header, bytes from there, and 1 for IPv6. */
  private readonly loop = new Int32Array(LOOP_MAX * 4);
  private looped = 0;
  /** Mark, priority and SO_DONTROUTE that the raw sockets have now: IPv4, IPv6. */
  private readonly dressed = new Int32Array(2 * RAW_OPTIONS);

  /** @param headers offset of TCP_HEADERS_BYTES in the frame memory */
  constructor(parts: SinkParts, setup: TcpSetup, headers: number) {
    this.parts = parts;
    this.setup = setup;
    this.views = parts.views;
    this.gso = parts.ports.some((port) => port.segmenter !== null) ? new FrameGso(parts, headers) : null;
    this.base = sys.addressOf(parts.views.bytes);
  }

  frame(_length: number, _v6: boolean): number {
    const { pool, ports } = this.parts;
    // A segment that finds no room is asked for again; one that is dropped here would look like loss.
    if (pool.available <= FRAMES_SPARED) return -1;
    for (let p = 0; p < ports.length; p++) if (ports[p].txRoom === 0) return -1;
    return pool.take() + TX_HEADROOM;
  }

  send(
    tcp: number,
    length: number,
    words: Int32Array,
    at: number,
    v6: boolean,
    tos: number,
    df: boolean,
    hops: number,
  ): void {
    const { out } = this.parts;
    const d = at + 4;
    const entry = out.destinations.resolve(words[d], words[d + 1], words[d + 2], words[d + 3]);
    const ip = v6
      ? this.writeHeader6(tcp, length, words, at, tos, hops)
      : this.writeHeader4(tcp, length, words, at, tos, df, hops);
    // Without a kernel there are neither policy routes nor queueing disciplines that would make a difference.
    if (entry === VIA_KERNEL || (hops > HOPS_TTL && this.setup.raw4 >= 0)) {
      this.sendElsewhere(ip, tcp, length, words, at, v6);
      return;
    }
    const ethernet = ip - ETH_HEADER;
    out.writeLink(ethernet, entry, v6 ? ETH_P_IPV6 : ETH_P_IP);
    if (!out.push(out.destinations.port[entry], ethernet, tcp + length - ethernet)) this.fail(tcp);
  }

  mtu(words: Int32Array, at: number, _v6: boolean): number {
    const { fib, out } = this.parts;
    const d = at + 4;
    const entry = out.destinations.resolve(words[d], words[d + 1], words[d + 2], words[d + 3]);
    if (entry !== VIA_KERNEL) return out.destinations.mtu[entry];
    return fib.mtuTo(words[d], words[d + 1], words[d + 2], words[d + 3]) || MTU_DEFAULT;
  }

  /** The own address that a connection to `address` leaves from, four words. False: there is no way to it. */
  sourceTo(address: Int32Array, source: Int32Array): boolean {
    return this.parts.out.destinations.sourceTo(address[0], address[1], address[2], address[3], source);
  }

  /**
   * What the kernel says of the way to `address`, four words, where options of record `c` have it send the segments: 0, or -errno
   * (ENETUNREACH, EHOSTUNREACH).
   */
  refusal(address: Int32Array, words: Int32Array, c: number): number {
    const v6 = (words[c + FLAGS] & F_V6) !== 0;
    const fd = v6 ? this.setup.raw6 : this.setup.raw4;
    const [w0, w1, w2, w3] = address;
    if (words[c + HOPS] <= HOPS_TTL || fd < 0 || this.parts.fib.isLocal(w0, w1, w2, w3)) return 0;
    if (!this.dress(fd, words, c, v6)) return -ERRNO.EPERM;
    const size = writeSockaddr(this.sockaddr, v6 ? AF_INET6 : AF_INET, w0, w1, w2, w3, 0);
    const result = sys.connect(fd, new Uint8Array(this.sockaddr.buffer, 0, size));
    sys.connect(fd, NOWHERE);
    return Math.min(result, 0);
  }

  /** Segments to own addresses that wait. */
  get waiting(): number {
    return this.looped;
  }

  /** Hands the segments to own addresses that were there at the beginning to `take`, and their frames back. */
  drain(take: (ip: number, tcp: number, length: number, v6: boolean) => void): void {
    const { loop } = this;
    const { counters, pool } = this.parts;
    const count = this.looped;
    for (let i = 0; i < count * 4; i += 4) {
      take(loop[i], loop[i + 1], loop[i + 2], loop[i + 3] === 1);
      pool.give(loop[i + 1]);
    }
    loop.copyWithin(0, count * 4, this.looped * 4);
    this.looped -= count;
    counters[C.TcpLooped] += count;
  }

  private writeHeader4(
    tcp: number,
    length: number,
    words: Int32Array,
    at: number,
    tos: number,
    df: boolean,
    hops: number,
  ): number {
    const ip = df
      ? writeIp4(this.views, tcp, length, words, at, tos, hops)
      : writeIp4(this.views, tcp, length, words, at, tos, hops, 0, this.parts.table.nextIdent());
    finishTcp4(this.views, tcp, length, ip);
    return ip;
  }

  private writeHeader6(tcp: number, length: number, words: Int32Array, at: number, tos: number, hops: number): number {
    const ip = writeIp6(this.views, tcp, length, words, at, tos, hops);
    finishTcp6(this.views, tcp, length, ip);
    return ip;
  }

  private sendElsewhere(ip: number, tcp: number, length: number, words: Int32Array, at: number, v6: boolean): void {
    const d = at + 4;
    if (this.parts.fib.isLocal(words[d], words[d + 1], words[d + 2], words[d + 3])) {
      this.keep(ip, tcp, length, v6);
      return;
    }
    if (this.host !== null) {
      const ethernet = this.writeNoLink(ip, v6);
      this.host.divert(tcp - TX_HEADROOM, ethernet, tcp + length - ethernet, 0, HOST_SEND);
      return;
    }
    this.sendByKernel(ip, tcp + length - ip, words, at, v6);
    this.parts.pool.give(tcp);
  }

  /** An Ethernet header without addresses. Returns its offset. */
  private writeNoLink(ip: number, v6: boolean): number {
    const { bytes } = this.views;
    const ethernet = ip - ETH_HEADER;
    bytes.fill(0, ethernet, ip - 2);
    writeUint16(bytes, ip - 2, v6 ? ETH_P_IPV6 : ETH_P_IP);
    return ethernet;
  }

  private keep(ip: number, tcp: number, length: number, v6: boolean): void {
    if (this.looped === LOOP_MAX) {
      this.fail(tcp);
      return;
    }
    this.writeNoLink(ip, v6);
    const at = this.looped++ * 4;
    this.loop[at] = ip;
    this.loop[at + 1] = tcp;
    this.loop[at + 2] = length;
    this.loop[at + 3] = v6 ? 1 : 0;
  }

  private sendByKernel(ip: number, length: number, words: Int32Array, at: number, v6: boolean): void {
    const { counters } = this.parts;
    const fd = v6 ? this.setup.raw6 : this.setup.raw4;
    if (fd < 0 || !this.dress(fd, words, at - LOCAL, v6)) {
      counters[C.TcpOutErrors]++;
      return;
    }
    const d = at + 4;
    const family = v6 ? AF_INET6 : AF_INET;
    const size = writeSockaddr(this.sockaddr, family, words[d], words[d + 1], words[d + 2], words[d + 3], 0);
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    const result = sys.sys6(sys.SYS.sendto, fd, this.base + ip, length, flags, this.sockaddrAddress, size);
    counters[result < 0 ? C.TcpOutErrors : C.TcpOutViaKernel]++;
  }

  /** Gives the raw socket what record `c` has of options that only the kernel obeys. False: the kernel refuses them. */
  private dress(fd: number, words: Int32Array, c: number, v6: boolean): boolean {
    const hops = words[c + HOPS];
    const at = v6 ? RAW_OPTIONS : 0;
    const mark = (hops & HOPS_MARK) !== 0 ? words[c + MARK] : 0;
    const priority = (hops & HOPS_PRIORITY) !== 0 ? words[c + PRIORITY] : 0;
    const local = (hops & HOPS_DONTROUTE) !== 0 ? 1 : 0;
    return (
      this.wear(fd, at, SO_MARK, mark) &&
      this.wear(fd, at + 1, SO_PRIORITY, priority) &&
      this.wear(fd, at + 2, SO_DONTROUTE, local)
    );
  }

  private wear(fd: number, at: number, option: number, value: number): boolean {
    if (this.dressed[at] === value) return true;
    if (sys.setsockoptInt(fd, SOL_SOCKET, option, value) < 0) return false;
    this.dressed[at] = value;
    return true;
  }

  /** The frame is free again; the segment is lost, as on a wire. */
  private fail(tcp: number): void {
    this.parts.counters[C.TcpOutErrors]++;
    this.parts.pool.give(tcp);
  }
}
