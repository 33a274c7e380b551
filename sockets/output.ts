/**
 * The way out of an lcore: headers before the payload, and the frame to a port; or the payload to the placeholder socket,
 * where only the kernel knows the way.
 */
import { ERRNO, sys } from "af-xdp-bindings";
import type { Port } from "../queues/driver.ts";
import type { FramePool } from "../queues/pool.ts";
import { C } from "./counters.ts";
import { Destinations, MAC_STRIDE, VIA_KERNEL } from "./destinations.ts";
import type { Fib } from "./fib.ts";
import { KernelPath } from "./kernel-path.ts";
import { HOST_SEND, HOST_SEND_LOOP } from "./message.ts";
import { PLAIN_PAYLOAD, PLAIN_UDP } from "./plain.ts";
import {
  SEGMENTS_MAX,
  setsDontFragment,
  TX_DEVICE,
  TX_NO_CHECK,
  TX_PLAIN,
  TX_SEGMENT,
  TX_VIA_KERNEL,
  withTtl,
} from "./send-word.ts";
import {
  DEVICE,
  F_BROADCAST,
  FLAGS,
  LOCAL,
  LOCAL_PORT,
  MULTICAST,
  MULTICAST_LOOP,
  MULTICAST_LOOP6,
  PLACEHOLDER,
  SEGMENT,
  type SocketTable,
} from "./table.ts";
import { LONG_BYTES, sum, swap16 } from "./wire/checksum.ts";
import { ETH_HEADER, ETH_P_IP, ETH_P_IPV6 } from "./wire/ethernet.ts";
import { IPPROTO_UDP, IPV4_DF, IPV4_DST, IPV4_HEADER, IPV4_SRC, writeIpv4 } from "./wire/ipv4.ts";
import { IPV6_DST, IPV6_HEADER, IPV6_HOP_LIMIT, IPV6_NEXT_HEADER, IPV6_PAYLOAD_LENGTH, IPV6_SRC } from "./wire/ipv6.ts";
import { finishUdp4, finishUdp6, UDP_DST, UDP_HEADER, UDP_SRC, writeUdp } from "./wire/udp.ts";
import { type FrameViews, readInt32, readUint16, writeInt32, writeUint16 } from "./wire/views.ts";

/** The field of an IPv4 header that says "don't fragment", as the CPU reads it. */
const IPV4_DF_SWAPPED = swap16(IPV4_DF);

/** Takes frames for the host protocols: see HostLink.divert. */
export interface Diverter {
  divert(frame: number, at: number, length: number, portNumber: number, reason: number): void;
}

export class Output {
  private readonly table: SocketTable;
  private readonly ports: readonly Port[];
  private readonly pool: FramePool;
  private readonly counters: Float64Array;
  private readonly views: FrameViews;
  private readonly bytes: Uint8Array;
  private readonly half: Uint16Array;
  readonly destinations: Destinations;
  private readonly fib: Fib;
  private readonly kernelPath: KernelPath;
  private host: Diverter | null = null;
  /** Address of the frame memory in this process. */
  private readonly base: number;
  /** Datagrams and bytes sent since the last count(). */
  private sent = 0;
  /** Frames sent that are no datagrams. */
  private framesSent = 0;
  private sentBytes = 0;

  /** @param views the lcore's frame memory, of which `pool` has the free frames */
  constructor(
    table: SocketTable,
    ports: readonly Port[],
    pool: FramePool,
    views: FrameViews,
    fib: Fib,
    counters: Float64Array,
  ) {
    this.table = table;
    this.kernelPath = new KernelPath(table);
    this.ports = ports;
    this.pool = pool;
    this.counters = counters;
    this.views = views;
    this.bytes = views.bytes;
    this.half = views.half;
    this.base = sys.addressOf(views.bytes);
    const portOf = new Int32Array(ports.length * 2);
    for (let i = 0; i < ports.length; i++) {
      portOf[2 * i] = ports[i].ifindex;
      portOf[2 * i + 1] = i;
    }
    this.fib = fib;
    this.destinations = new Destinations(fib, portOf);
  }

  /**
   * Sends the payload at `payload` of an own frame, headers written before it. The frame is consumed whatever happens.
   * @returns length, or -errno
   */
  send(
    socket: number,
    frame: number,
    payload: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    const entry = this.destinations.resolve(w0, w1, w2, w3);
    const mapped = w0 === 0 && w1 === 0 && w2 === 0xffff;
    const headers = (mapped ? IPV4_HEADER : IPV6_HEADER) + UDP_HEADER;
    const word = mapped ? this.table.ttlTos[socket] : this.table.ttlTos6[socket];
    if (entry === VIA_KERNEL || (word > TX_PLAIN && this.isForKernel(socket, word, entry))) {
      return this.sendViaKernel(socket, frame, payload, length, w0, w1, w2, w3, port);
    }
    if (length + headers > this.destinations.mtu[entry]) {
      this.counters[C.UdpOutTooBig]++;
      return this.sendViaKernel(socket, frame, payload, length, w0, w1, w2, w3, port);
    }
    const { bytes, table, views, destinations } = this;
    const { records } = table;
    const record = socket * table.stride;
    const udp = payload - UDP_HEADER;
    writeUdp(bytes, udp, records[record + LOCAL_PORT], port, length + UDP_HEADER);
    const ip = payload - headers;
    if (mapped) {
      const bound = records[record + LOCAL + 3];
      const source = bound !== 0 ? bound : destinations.source[entry * 4 + 3];
      this.writeHeader4(ip, word, length + headers, source, w3);
      if ((word & TX_NO_CHECK) === 0) finishUdp4(views, udp, length + UDP_HEADER, ip);
    } else {
      this.writeIpv6Start(ip, word, length);
      this.writeSource6(ip, record, entry);
      writeInt32(bytes, ip + IPV6_DST, w0);
      writeInt32(bytes, ip + IPV6_DST + 4, w1);
      writeInt32(bytes, ip + IPV6_DST + 8, w2);
      writeInt32(bytes, ip + IPV6_DST + 12, w3);
      if ((word & TX_NO_CHECK) === 0) finishUdp6(views, udp, length + UDP_HEADER, ip);
    }
    const ethernet = ip - ETH_HEADER;
    this.writeLink(ethernet, entry, mapped ? ETH_P_IP : ETH_P_IPV6);
    return this.transmit(destinations.port[entry], frame, ethernet, ETH_HEADER + headers + length, length);
  }

  /** See Endpoint.fastMtu. */
  fastMtu(w0: number, w1: number, w2: number, w3: number): number {
    const entry = this.destinations.resolve(w0, w1, w2, w3);
    return entry === VIA_KERNEL ? 0 : this.destinations.mtu[entry];
  }

  /** Port by which an address is reached, -1 where it is by none. */
  portTo(w0: number, w1: number, w2: number, w3: number): number {
    const entry = this.destinations.resolve(w0, w1, w2, w3);
    return entry === VIA_KERNEL ? -1 : this.destinations.port[entry];
  }

  /** Whether the kernel is to send what a socket has for an address: for its options' sake, or as it alone knows the way. */
  leavesToKernel(socket: number, w0: number, w1: number, w2: number, w3: number): boolean {
    const { table } = this;
    if (table.get(socket, PLACEHOLDER) < 0) return false;
    const entry = this.destinations.resolve(w0, w1, w2, w3);
    const word = w0 === 0 && w1 === 0 && w2 === 0xffff ? table.ttlTos[socket] : table.ttlTos6[socket];
    return entry === VIA_KERNEL || this.isForKernel(socket, word, entry);
  }

  /** Whether a socket with options of its own leaves what goes to the entry to the kernel. */
  private isForKernel(socket: number, word: number, entry: number): boolean {
    if ((word & TX_VIA_KERNEL) !== 0) return true;
    if ((word & TX_DEVICE) === 0) return false;
    return this.ports[this.destinations.port[entry]].ifindex !== this.table.get(socket, DEVICE);
  }

  /** IPv4 header of a datagram that fits the MTU. */
  private writeHeader4(ip: number, word: number, total: number, source: number, destination: number): void {
    const df = word <= TX_PLAIN || setsDontFragment(word);
    const id = df ? 0 : this.table.nextIdent();
    const tos = (word >> 8) & 0xff;
    writeIpv4(this.views, ip, tos, total, id, df ? IPV4_DF : 0, word & 0xff, IPPROTO_UDP, source, destination);
  }

  private writeSource6(ip: number, record: number, entry: number): void {
    const { records } = this.table;
    const { source } = this.destinations;
    const any =
      (records[record + LOCAL] |
        records[record + LOCAL + 1] |
        records[record + LOCAL + 2] |
        records[record + LOCAL + 3]) ===
      0;
    for (let i = 0; i < 4; i++) {
      writeInt32(this.bytes, ip + IPV6_SRC + i * 4, any ? source[entry * 4 + i] : records[record + LOCAL + i]);
    }
  }

  /** Writes the Ethernet header of an entry of `destinations`. */
  writeLink(ethernet: number, entry: number, type: number): void {
    const { macs } = this.destinations;
    const { bytes } = this;
    const at = entry * MAC_STRIDE;
    for (let i = 0; i < 6; i++) {
      bytes[ethernet + 2 * i] = macs[at + i];
      bytes[ethernet + 2 * i + 1] = macs[at + i] >> 8;
    }
    writeUint16(bytes, ethernet + 12, type);
  }

  private transmit(portNumber: number, frame: number, at: number, size: number, length: number): number {
    if (!this.ports[portNumber].txPush(at, size)) return this.refuse(frame);
    this.sent++;
    this.sentBytes += size;
    return length;
  }

  /** The TX ring is full: the frame is free again. */
  private refuse(frame: number): number {
    this.counters[C.UdpSndbufErrors]++;
    this.pool.give(frame);
    return -ERRNO.EAGAIN;
  }

  /** Has the host protocols take what only they know the way for. */
  useHost(host: Diverter): void {
    this.host = host;
  }

  /** Queues a frame with headers and all. False: there is no room, the frame is the caller's still. */
  push(portNumber: number, at: number, size: number): boolean {
    if (!this.ports[portNumber].txPush(at, size)) return false;
    this.framesSent++;
    this.sentBytes += size;
    return true;
  }

  /** Counts segments that have left past the ports: each with `headers` bytes of headers, `payload` bytes in all. */
  sentElsewhere(segments: number, headers: number, payload: number): void {
    this.framesSent += segments;
    this.sentBytes += segments * headers + payload;
  }

  /** Sends a whole frame as it is. */
  transmitRaw(portNumber: number, frame: number, size: number): void {
    if (!this.push(portNumber, frame, size)) this.refuse(frame);
  }

  /**
   * Gives a datagram to the host protocols: headers written, MAC addresses not. Above the MTU it is without the flag that
   * forbids fragments.
   */
  private sendViaHost(
    host: Diverter,
    socket: number,
    frame: number,
    payload: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
    source: Int32Array | null,
  ): number {
    const { bytes, table, views } = this;
    const mapped = w0 === 0 && w1 === 0 && w2 === 0xffff;
    const headers = (mapped ? IPV4_HEADER : IPV6_HEADER) + UDP_HEADER;
    const ip = payload - headers;
    const group = mapped ? w3 >>> 28 === 14 : w0 >>> 24 === 0xff;
    const broadcast = mapped && this.fib.isBroadcast(w3);
    if (broadcast && (table.get(socket, FLAGS) & F_BROADCAST) === 0) return this.sentViaKernel(frame, -ERRNO.EACCES);
    if (source === null) return this.sentViaKernel(frame, -ERRNO.ENETUNREACH);
    if (length + headers > (mapped ? 65535 : 65535 + IPV6_HEADER)) return this.sentViaKernel(frame, -ERRNO.EMSGSIZE);
    const udp = payload - UDP_HEADER;
    const multicast = table.get(socket, MULTICAST);
    writeUdp(bytes, udp, table.get(socket, LOCAL_PORT), port, length + UDP_HEADER);
    if (mapped) {
      const word = table.ttlTos[socket];
      this.writeHeader4(ip, group ? withTtl(word, multicast & 0xff) : word, length + headers, source[3], w3);
      finishUdp4(views, udp, length + UDP_HEADER, ip);
    } else {
      const word = table.ttlTos6[socket];
      this.writeIpv6Start(ip, group ? withTtl(word, (multicast >> 16) & 0xff) : word, length);
      for (let i = 0; i < 4; i++) writeInt32(bytes, ip + IPV6_SRC + i * 4, source[i]);
      writeInt32(bytes, ip + IPV6_DST, w0);
      writeInt32(bytes, ip + IPV6_DST + 4, w1);
      writeInt32(bytes, ip + IPV6_DST + 8, w2);
      writeInt32(bytes, ip + IPV6_DST + 12, w3);
      finishUdp6(views, udp, length + UDP_HEADER, ip);
    }
    const ethernet = ip - ETH_HEADER;
    bytes.fill(0, ethernet, ip - 2);
    writeUint16(bytes, ip - 2, mapped ? ETH_P_IP : ETH_P_IPV6);
    const heard = broadcast || (group && (multicast & (mapped ? MULTICAST_LOOP : MULTICAST_LOOP6)) !== 0);
    host.divert(frame, ethernet, ETH_HEADER + headers + length, 0, heard ? HOST_SEND_LOOP : HOST_SEND);
    return length;
  }

  /** Source address of what a socket sends: the one it is bound to, or the one of the way there. Null without a way. */
  private sourceOf(socket: number, w0: number, w1: number, w2: number, w3: number): Int32Array | null {
    const { records, stride } = this.table;
    const at = socket * stride + LOCAL;
    const mapped = records[at] === 0 && records[at + 1] === 0 && records[at + 2] === 0xffff;
    const group = mapped ? records[at + 3] >>> 28 === 14 || records[at + 3] === -1 : records[at] >>> 24 === 0xff;
    const any = group || (records[at] | records[at + 1] | records[at + 3]) === 0;
    if (any) return this.destinations.sourceTo(w0, w1, w2, w3, this.sourceWords) ? this.sourceWords : null;
    for (let i = 0; i < 4; i++) this.sourceWords[i] = records[at + i];
    return this.sourceWords;
  }

  private readonly sourceWords = new Int32Array(4);

  private sendViaKernel(
    socket: number,
    frame: number,
    payload: number,
    length: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    port: number,
  ): number {
    if (this.host !== null) {
      const source = this.sourceOf(socket, w0, w1, w2, w3);
      return this.sendViaHost(this.host, socket, frame, payload, length, w0, w1, w2, w3, port, source);
    }
    const result =
      this.table.get(socket, PLACEHOLDER) < 0
        ? -ERRNO.EHOSTUNREACH
        : this.kernelPath.send(socket, this.base + payload, length, w0, w1, w2, w3, port);
    return this.sentViaKernel(frame, result);
  }

  /** sendViaKernel() to the sender of the received packet whose IP header is at `ip`, from the address it was sent to. */
  private replyViaKernel(socket: number, frame: number, ip: number, payload: number, length: number): number {
    const { bytes, kernelPath } = this;
    if (this.host !== null) return this.replyViaHost(this.host, socket, frame, ip, payload, length);
    if (this.table.get(socket, PLACEHOLDER) < 0) return this.sentViaKernel(frame, -ERRNO.EHOSTUNREACH);
    const port = readUint16(bytes, payload - UDP_HEADER + UDP_SRC);
    const address = this.base + payload;
    if (bytes[ip] >> 4 === 4) {
      const local = readInt32(bytes, ip + IPV4_DST);
      const remote = readInt32(bytes, ip + IPV4_SRC);
      return this.sentViaKernel(
        frame,
        kernelPath.sendFrom(socket, 0, 0, 0xffff, local, address, length, 0, 0, 0xffff, remote, port),
      );
    }
    const to = ip + IPV6_DST;
    const s0 = readInt32(bytes, to);
    const s1 = readInt32(bytes, to + 4);
    const s2 = readInt32(bytes, to + 8);
    const s3 = readInt32(bytes, to + 12);
    const from = ip + IPV6_SRC;
    const w0 = readInt32(bytes, from);
    const w1 = readInt32(bytes, from + 4);
    const w2 = readInt32(bytes, from + 8);
    const w3 = readInt32(bytes, from + 12);
    return this.sentViaKernel(
      frame,
      kernelPath.sendFrom(socket, s0, s1, s2, s3, address, length, w0, w1, w2, w3, port),
    );
  }

  private replyViaHost(
    host: Diverter,
    socket: number,
    frame: number,
    ip: number,
    payload: number,
    length: number,
  ): number {
    const { bytes, sourceWords } = this;
    const port = readUint16(bytes, payload - UDP_HEADER + UDP_SRC);
    if (bytes[ip] >> 4 === 4) {
      sourceWords[0] = 0;
      sourceWords[1] = 0;
      sourceWords[2] = 0xffff;
      sourceWords[3] = readInt32(bytes, ip + IPV4_DST);
      const remote = readInt32(bytes, ip + IPV4_SRC);
      const wasOwn = this.fib.isLocal(0, 0, 0xffff, sourceWords[3]);
      if (!wasOwn && !this.destinations.sourceTo(0, 0, 0xffff, remote, sourceWords)) {
        return this.sentViaKernel(frame, -ERRNO.ENETUNREACH);
      }
      return this.sendViaHost(host, socket, frame, payload, length, 0, 0, 0xffff, remote, port, sourceWords);
    }
    const from = ip + IPV6_SRC;
    const w0 = readInt32(bytes, from);
    const w1 = readInt32(bytes, from + 4);
    const w2 = readInt32(bytes, from + 8);
    const w3 = readInt32(bytes, from + 12);
    for (let i = 0; i < 4; i++) sourceWords[i] = readInt32(bytes, ip + IPV6_DST + 4 * i);
    // What came to a group is answered from an address of ours.
    if (sourceWords[0] >>> 24 === 0xff && !this.destinations.sourceTo(w0, w1, w2, w3, sourceWords)) {
      return this.sentViaKernel(frame, -ERRNO.ENETUNREACH);
    }
    return this.sendViaHost(host, socket, frame, payload, length, w0, w1, w2, w3, port, sourceWords);
  }

  private sentViaKernel(frame: number, result: number): number {
    this.counters[result < 0 ? C.UdpOutErrors : C.UdpOutViaKernel]++;
    this.pool.give(frame);
    return result;
  }

  /**
   * Sends a received frame back to its sender, from the address it was sent to, headers rewritten in place.
   *
   * The plain frame (see plainUdp4) is done here in one function on halfwords, as through writeIpv4, writeUdp, finishUdp4
   * and writeLink it takes 37 ns more (of 139 for an echo; Bun 1.4.5, AMD EPYC 7003). All its fields are written, none trusted.
   */
  turnRound(
    socket: number,
    portNumber: number,
    frame: number,
    ip: number,
    udp: number,
    payload: number,
    length: number,
  ): number {
    if (udp - frame !== PLAIN_UDP || (frame & 1) !== 0 || this.bytes[ip] !== 0x45) {
      return this.turnRoundSlow(socket, portNumber, frame, ip, udp, payload, length);
    }
    const { destinations, half, table } = this;
    const i = ip >> 1;
    const u = udp >> 1;
    const remote0 = half[i + 6];
    const remote1 = half[i + 7];
    const remotePort = half[u];
    const entry = destinations.resolve4((swap16(remote0) << 16) | swap16(remote1));
    const datagram = length + UDP_HEADER;
    const packet = datagram + IPV4_HEADER;
    const ttlTos = table.ttlTos[socket];
    if (entry === VIA_KERNEL || packet > destinations.mtu[entry] || ttlTos > TX_PLAIN) {
      return this.turnRoundSlow(socket, portNumber, frame, ip, udp, payload, length);
    }
    const local0 = half[i + 8];
    const local1 = half[i + 9];
    const h0 = 0x45 | (ttlTos & 0xff00);
    const h1 = swap16(packet);
    const h4 = (ttlTos & 0xff) | (IPPROTO_UDP << 8);
    const addresses = remote0 + remote1 + local0 + local1;
    let header = h0 + h1 + IPV4_DF_SWAPPED + h4 + addresses;
    header = (header & 0xffff) + (header >>> 16);
    half[i] = h0;
    half[i + 1] = h1;
    half[i + 2] = 0;
    half[i + 3] = IPV4_DF_SWAPPED;
    half[i + 4] = h4;
    half[i + 5] = ~((header & 0xffff) + (header >>> 16));
    half[i + 6] = local0;
    half[i + 7] = local1;
    half[i + 8] = remote0;
    half[i + 9] = remote1;
    const localPort = half[u + 1];
    const size = swap16(datagram);
    half[u] = localPort;
    half[u + 1] = remotePort;
    half[u + 2] = size;
    const pseudo = addresses + localPort + remotePort + size + size + (IPPROTO_UDP << 8);
    let check = pseudo;
    if (length < LONG_BYTES) {
      const end = u + 4 + (length >> 1);
      for (let k = u + 4; k < end; k++) check = (check + half[k]) | 0;
      if ((length & 1) !== 0) check = (check + (half[end] & 0xff)) | 0;
    } else {
      check = sum(this.views, payload, length, pseudo);
    }
    check = (check & 0xffff) + (check >>> 16);
    check = ~((check & 0xffff) + (check >>> 16)) & 0xffff;
    half[u + 3] = check === 0 ? 0xffff : check;
    const { macs } = destinations;
    const e = frame >> 1;
    const m = entry * MAC_STRIDE;
    half[e] = macs[m];
    half[e + 1] = macs[m + 1];
    half[e + 2] = macs[m + 2];
    half[e + 3] = macs[m + 3];
    half[e + 4] = macs[m + 4];
    half[e + 5] = macs[m + 5];
    const { ports } = this;
    let port = ports[destinations.port[entry]];
    if (portNumber < ports.length && ports[portNumber].ifindex === port.ifindex) port = ports[portNumber];
    if (!port.txPush(frame, PLAIN_PAYLOAD + length)) return this.refuse(frame);
    this.sent++;
    this.sentBytes += PLAIN_PAYLOAD + length;
    return length;
  }

  /** turnRound() of every other frame: with tags, with options, of IPv6, or for the kernel to send. */
  private turnRoundSlow(
    socket: number,
    portNumber: number,
    frame: number,
    ip: number,
    udp: number,
    payload: number,
    length: number,
  ): number {
    const { bytes } = this;
    const isIpv6 = bytes[ip] >> 4 === 6;
    const asked = isIpv6 ? this.table.ttlTos6[socket] : this.table.ttlTos[socket];
    if ((asked & TX_SEGMENT) !== 0 && length > this.table.get(socket, SEGMENT)) {
      return this.turnRoundInPieces(socket, portNumber, frame, ip, udp, payload, length);
    }
    if (isIpv6) return this.turnRound6(socket, portNumber, frame, ip, payload, length);
    const remote = readInt32(bytes, ip + IPV4_SRC);
    const { destinations, table } = this;
    const entry = destinations.resolve4(remote);
    const remotePort = readUint16(bytes, udp + UDP_SRC);
    const total = length + IPV4_HEADER + UDP_HEADER;
    const word = table.ttlTos[socket];
    if (entry === VIA_KERNEL || total > destinations.mtu[entry] || this.isForKernel(socket, word, entry)) {
      if (entry !== VIA_KERNEL && total > destinations.mtu[entry]) this.counters[C.UdpOutTooBig]++;
      return this.replyViaKernel(socket, frame, ip, payload, length);
    }
    const localPort = readUint16(bytes, udp + UDP_DST);
    const local = readInt32(bytes, ip + IPV4_DST);
    // The answer carries no options: its header may begin later than the question's.
    const header = udp - IPV4_HEADER;
    this.writeHeader4(header, word, total, local, remote);
    writeUdp(bytes, udp, localPort, remotePort, length + UDP_HEADER);
    if ((word & TX_NO_CHECK) === 0) finishUdp4(this.views, udp, length + UDP_HEADER, header);
    // An answer to a tagged frame goes out as the route says, without the tag of the question.
    const ethernet = header - ETH_HEADER;
    this.writeLink(ethernet, entry, ETH_P_IP);
    return this.transmit(this.outPort(entry, portNumber), frame, ethernet, ETH_HEADER + total, length);
  }

  /**
   * turnRound() of a payload longer than the socket's UDP_SEGMENT: each piece in a frame of its own, behind the headers of
   * the question.
   */
  private turnRoundInPieces(
    socket: number,
    portNumber: number,
    frame: number,
    ip: number,
    udp: number,
    payload: number,
    length: number,
  ): number {
    const { base, pool, table } = this;
    const segment = table.get(socket, SEGMENT);
    const tooMany = length > segment * SEGMENTS_MAX;
    // All are copied before the first is sent, which writes over the headers.
    for (let at = segment; at < length && !tooMany; at += segment) {
      const chunk = pool.take();
      if (chunk < 0) {
        this.counters[C.UdpSndbufErrors] += Math.ceil((length - at) / segment);
        break;
      }
      const size = Math.min(segment, length - at);
      const copy = chunk + (frame & (pool.frameSize - 1));
      const moved = copy - frame;
      sys.copy(base + copy, base + frame, payload - frame);
      sys.copy(base + payload + moved, base + payload + at, size);
      this.pieces[this.pieceCount++] = copy;
      this.pieces[this.pieceCount++] = size;
    }
    if (tooMany) {
      this.counters[C.UdpOutErrors]++;
      pool.give(frame);
      return -ERRNO.EINVAL;
    }
    const { pieceCount, pieces } = this;
    this.pieceCount = 0;
    const result = this.turnRound(socket, portNumber, frame, ip, udp, payload, segment);
    for (let i = 0; i < pieceCount; i += 2) {
      const moved = pieces[i] - frame;
      this.turnRound(socket, portNumber, pieces[i], ip + moved, udp + moved, payload + moved, pieces[i + 1]);
    }
    return result < 0 ? result : length;
  }

  /** Frames of turnRoundInPieces() beyond the first, and the bytes in each. */
  private readonly pieces = new Int32Array(2 * SEGMENTS_MAX);
  private pieceCount = 0;

  private turnRound6(
    socket: number,
    portNumber: number,
    frame: number,
    ip: number,
    payload: number,
    length: number,
  ): number {
    const { bytes, destinations } = this;
    const udp = payload - UDP_HEADER;
    const w0 = readInt32(bytes, ip + IPV6_SRC);
    const w1 = readInt32(bytes, ip + IPV6_SRC + 4);
    const w2 = readInt32(bytes, ip + IPV6_SRC + 8);
    const w3 = readInt32(bytes, ip + IPV6_SRC + 12);
    const remotePort = readUint16(bytes, udp + UDP_SRC);
    const entry = destinations.resolve(w0, w1, w2, w3);
    const total = length + IPV6_HEADER + UDP_HEADER;
    const word = this.table.ttlTos6[socket];
    if (entry === VIA_KERNEL || total > destinations.mtu[entry] || this.isForKernel(socket, word, entry)) {
      if (entry !== VIA_KERNEL && total > destinations.mtu[entry]) this.counters[C.UdpOutTooBig]++;
      return this.replyViaKernel(socket, frame, ip, payload, length);
    }
    for (let i = 0; i < 16; i += 4) writeInt32(bytes, ip + IPV6_SRC + i, readInt32(bytes, ip + IPV6_DST + i));
    writeInt32(bytes, ip + IPV6_DST, w0);
    writeInt32(bytes, ip + IPV6_DST + 4, w1);
    writeInt32(bytes, ip + IPV6_DST + 8, w2);
    writeInt32(bytes, ip + IPV6_DST + 12, w3);
    this.writeIpv6Start(ip, word, length);
    writeUdp(bytes, udp, readUint16(bytes, udp + UDP_DST), remotePort, length + UDP_HEADER);
    if ((word & TX_NO_CHECK) === 0) finishUdp6(this.views, udp, length + UDP_HEADER, ip);
    const ethernet = ip - ETH_HEADER;
    this.writeLink(ethernet, entry, ETH_P_IPV6);
    return this.transmit(this.outPort(entry, portNumber), frame, ethernet, ETH_HEADER + total, length);
  }

  /** The eight bytes before the addresses, for `length` bytes of payload after a UDP header. */
  private writeIpv6Start(ip: number, word: number, length: number): void {
    const { bytes } = this;
    writeInt32(bytes, ip, (6 << 28) | (((word >> 8) & 0xff) << 20));
    writeUint16(bytes, ip + IPV6_PAYLOAD_LENGTH, length + UDP_HEADER);
    bytes[ip + IPV6_NEXT_HEADER] = IPPROTO_UDP;
    bytes[ip + IPV6_HOP_LIMIT] = word & 0xff;
  }

  /** The port a frame came on is as good as the route's, when it is a queue of the same interface: keeps queues apart. */
  private outPort(entry: number, portNumber: number): number {
    const port = this.destinations.port[entry];
    const { ports } = this;
    return portNumber < ports.length && ports[portNumber].ifindex === ports[port].ifindex ? portNumber : port;
  }

  /** Adds what has been sent since the last call to the counters. */
  count(): void {
    const { counters } = this;
    counters[C.TxFrames] += this.sent + this.framesSent;
    counters[C.TxBytes] += this.sentBytes;
    counters[C.UdpOutDatagrams] += this.sent;
    this.sent = 0;
    this.framesSent = 0;
    this.sentBytes = 0;
  }
}
