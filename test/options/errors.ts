/** The same story of network errors told by a socket of the kernel and by one of the engine. */
import { expect } from "bun:test";
import { check, ERRNO, errnoName, sys } from "af-xdp-bindings";
import type { Engine } from "../../engine/engine.ts";
import type { NetNs } from "../../engine/host/netns.ts";
import type { QueuedError } from "../../sockets/error-queue.ts";
import { addressBytes, addressWords } from "../../sockets/fib.ts";
import { MessageHeader } from "../../sockets/msghdr.ts";
import { IP_RECVERR, IPPROTO_IP, IPPROTO_IPV6, IPV6_RECVERR, SO_ERROR, SOL_SOCKET } from "../../sockets/options.ts";
import { readSockaddr, writeSockaddr } from "../../sockets/sockaddr.ts";
import { AF_INET, AF_INET6 } from "../../sockets/table.ts";
import type { UdpSocket } from "../../sockets/udp-socket.ts";
import { formatIp, ip } from "../../sockets/wire/address.ts";
import { until } from "../support/kernel-udp.ts";
import { int, KernelParty, verdict } from "./parties.ts";

/** Nobody has it at the peer. */
export const CLOSED = 9;
const MSG_DONTWAIT = 0x40;
const MSG_ERRQUEUE = 0x2000;
const ROOM = 65536;

/** A socket, with what its calls return in words. */
export interface Caller {
  connect(address: string, port: number): void;
  set(level: number, name: number, value: number): string;
  get(level: number, name: number): string;
  /** Bytes sent, or the errno's name. */
  send(payload: Uint8Array, to?: { address: string; port: number }): string;
  /** Bytes received, or the errno's name. */
  receive(): string;
  soError(): string;
  /** The oldest entry of the error queue in words, "EAGAIN" for none. */
  readError(): string;
  /** Its own port. */
  readonly port: number;
  close(): void;
}

const say = (result: number): string => (result < 0 ? errnoName(-result) : `${result}`);

const tell = ({ errno, origin, type, code, info, address, port, offender, payload }: QueuedError): string =>
  `${errnoName(errno)} origin ${origin} type ${type} code ${code} info ${info} to ${address}:${port} by ${offender || "us"}: ` +
  `${payload.length} bytes ${Bun.hash(payload).toString(16)}`;

export class KernelCaller implements Caller {
  private readonly party: KernelParty;
  private readonly family: number;
  private readonly header = new MessageHeader();
  private readonly memory = new Uint8Array(ROOM);
  private readonly base = sys.addressOf(this.memory);

  constructor(ns: NetNs, family: 4 | 6) {
    this.party = new KernelParty(ns, family);
    this.family = family === 4 ? AF_INET : AF_INET6;
  }

  private get fd(): number {
    return this.party.fd;
  }

  get port(): number {
    const { nameView } = this.header;
    const length = Uint32Array.of(nameView.byteLength);
    check(sys.sys3(sys.SYS.getsockname, this.fd, sys.addressOf(nameView), sys.addressOf(length)), "getsockname");
    return readSockaddr(nameView, new Int32Array(4));
  }

  connect(address: string, port: number): void {
    const bytes = new Uint8Array(28);
    check(sys.connect(this.fd, bytes.subarray(0, this.name(new DataView(bytes.buffer), address, port))), "connect");
  }

  set(level: number, name: number, value: number): string {
    return this.party.set(level, name, int(value));
  }

  get(level: number, name: number): string {
    return this.party.get(level, name, 4);
  }

  send(payload: Uint8Array, to?: { address: string; port: number }): string {
    this.header.clearControls();
    const length = to === undefined ? 0 : this.name(this.header.nameView, to.address, to.port);
    return say(this.header.send(this.fd, sys.addressOf(payload), payload.length, length, MSG_DONTWAIT));
  }

  receive(): string {
    return say(this.header.receive(this.fd, this.base, ROOM, MSG_DONTWAIT));
  }

  soError(): string {
    const value = new Int32Array(1);
    check(sys.getsockoptInt(this.fd, SOL_SOCKET, SO_ERROR, value), "getsockopt");
    return value[0] === 0 ? "0" : errnoName(value[0]);
  }

  readError(): string {
    const { header } = this;
    const length = header.receive(this.fd, this.base, ROOM, MSG_ERRQUEUE | MSG_DONTWAIT);
    if (length < 0) return say(length);
    for (let at = header.firstControl(); at >= 0; at = header.nextControl(at)) {
      const level = header.controlLevel(at);
      if (header.controlType(at) !== (level === IPPROTO_IP ? IP_RECVERR : IPV6_RECVERR)) continue;
      const view = header.viewFrom(header.controlData(at));
      const remote = new Int32Array(4);
      const port = readSockaddr(header.nameView, remote);
      const offender = new Int32Array(4);
      const known = readSockaddr(header.viewFrom(header.controlData(at) + 16), offender) >= 0;
      return tell({
        errno: view.getUint32(0, true),
        origin: view.getUint8(4),
        type: view.getUint8(5),
        code: view.getUint8(6),
        info: view.getUint32(8, true),
        address: text(remote),
        port,
        offender: known ? text(offender) : "",
        payload: this.memory.slice(0, length),
      });
    }
    return "no entry";
  }

  close(): void {
    this.party.close();
  }

  private name(view: DataView, address: string, port: number): number {
    const [w0, w1, w2, w3] = addressWords(ip(address));
    return writeSockaddr(view, this.family, w0, w1, w2, w3, port);
  }
}

const text = (words: Int32Array): string => formatIp(addressBytes(words[0], words[1], words[2], words[3]));

export class EngineCaller implements Caller {
  private readonly socket: UdpSocket;

  constructor(socket: UdpSocket) {
    this.socket = socket;
  }

  get port(): number {
    return this.socket.port;
  }

  connect(address: string, port: number): void {
    this.socket.connect(port, address);
  }

  set(level: number, name: number, value: number): string {
    return verdict(() => {
      this.socket.setsockopt(level, name, value);
      return "ok";
    });
  }

  get(level: number, name: number): string {
    return verdict(() => this.socket.getsockoptBytes(level, name, 4).toHex());
  }

  send(payload: Uint8Array, to?: { address: string; port: number }): string {
    const result = say(this.socket.send(payload, to?.port, to?.address));
    this.socket.endpoint.flush();
    return result;
  }

  receive(): string {
    const datagram = this.socket.newDatagram();
    const result = say(this.socket.receiveInto(datagram));
    datagram.release();
    return result;
  }

  soError(): string {
    const errno = this.socket.getsockopt(SOL_SOCKET, SO_ERROR);
    return errno === 0 ? "0" : errnoName(errno);
  }

  readError(): string {
    const entry = this.socket.receiveError();
    return entry === null ? errnoName(ERRNO.EAGAIN) : tell(entry);
  }

  close(): void {
    this.socket.close();
  }
}

/** Has errors of its family queued. */
export function wantErrors(caller: Caller, family: 4 | 6, value = 1): void {
  if (family === 4) caller.set(IPPROTO_IP, IP_RECVERR, value);
  else caller.set(IPPROTO_IPV6, IPV6_RECVERR, value);
}

/**
 * Waits until the engine has sent what was sent before, and has heard of what became of it. The datagram to a closed port of
 * the peer takes the same way as others to this peer, and its error the same way back: through the queue of an only lcore,
 * over the wire, through the kernel and its control thread, which passes on what the kernel tells in this order.
 */
export async function heardOf(engine: Engine, family: 4 | 6, peer: string): Promise<void> {
  const caller = new EngineCaller(engine.udp({ address: family === 4 ? "0.0.0.0" : "::" }));
  wantErrors(caller, family);
  expect(caller.send(new Uint8Array(1), { address: peer, port: CLOSED })).toBe("1");
  await until("what became of it", () => caller.readError() !== "EAGAIN");
  caller.close();
}
