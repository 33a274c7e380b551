/** A UDP socket of the kernel in a test host's namespace: the peer against which the engine is tried. */
import { check, sys } from "af-xdp-bindings";
import type { NetNs } from "../../engine/host/netns.ts";
import { addressBytes, addressWords } from "../../sockets/fib.ts";
import { readSockaddr, SOCKADDR_IN6_BYTES, writeSockaddr } from "../../sockets/sockaddr.ts";
import { AF_INET, AF_INET6 } from "../../sockets/table.ts";
import { formatIp, ip } from "../../sockets/wire/address.ts";

const SOCK_DGRAM_CLOEXEC = 0x80002;
const MSG_DONTWAIT = 0x40;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_BROADCAST = 6;
const SO_RCVBUFFORCE = 33;
const SO_REUSEPORT = 15;
const RECEIVE_BUFFER = 4 << 20;
const DATAGRAM_MAX = 65536;
/** Generous: reached only when a datagram is lost. */
const TIMEOUT_MS = 30_000;

export interface KernelUdpOptions {
  address?: string;
  port?: number;
  reusePort?: boolean;
}

export interface Received {
  payload: Uint8Array;
  text: string;
  address: string;
  port: number;
}

export class KernelUdp {
  readonly fd: number;
  readonly family: number;
  private readonly buffer = new Uint8Array(DATAGRAM_MAX);
  private readonly sockaddr = new Uint8Array(SOCKADDR_IN6_BYTES);
  private readonly view = new DataView(this.sockaddr.buffer);
  private readonly length = new Uint32Array(1);

  /** Throws SysError. */
  constructor(ns: NetNs, { address = "0.0.0.0", port = 0, reusePort = false }: KernelUdpOptions = {}) {
    this.family = address.includes(":") ? AF_INET6 : AF_INET;
    this.fd = check(
      ns.run(() => sys.socket(this.family, SOCK_DGRAM_CLOEXEC, 0)),
      "socket",
    );
    sys.setsockoptInt(this.fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER);
    sys.setsockoptInt(this.fd, SOL_SOCKET, SO_BROADCAST, 1);
    if (reusePort) sys.setsockoptInt(this.fd, SOL_SOCKET, SO_REUSEPORT, 1);
    sys.setsockoptInt(this.fd, SOL_SOCKET, SO_REUSEADDR, 0);
    const result = sys.bind(this.fd, this.address(address, port));
    if (result < 0) sys.close(this.fd);
    check(result, `bind(${address}, ${port})`);
  }

  get port(): number {
    this.length[0] = SOCKADDR_IN6_BYTES;
    check(
      sys.sys3(sys.SYS.getsockname, this.fd, sys.addressOf(this.sockaddr), sys.addressOf(this.length)),
      "getsockname",
    );
    return readSockaddr(this.view, new Int32Array(4));
  }

  /** Connects: receives from there only, and a send may leave out the address. Throws SysError. */
  connect(address: string, port: number): void {
    check(sys.connect(this.fd, this.address(address, port)), "connect");
  }

  /** Bytes sent, or -errno. */
  send(payload: Uint8Array | string, address: string, port: number): number {
    const bytes = typeof payload === "string" ? new TextEncoder().encode(payload) : payload;
    const to = this.address(address, port);
    return sys.sendto(this.fd, sys.addressOf(bytes), bytes.length, MSG_DONTWAIT, sys.addressOf(to), to.length);
  }

  /** What is there now, or null. */
  take(): Received | null {
    this.length[0] = SOCKADDR_IN6_BYTES;
    const name = sys.addressOf(this.sockaddr);
    const { buffer } = this;
    const size = sys.recvfrom(
      this.fd,
      sys.addressOf(buffer),
      buffer.length,
      MSG_DONTWAIT,
      name,
      sys.addressOf(this.length),
    );
    if (size < 0) return null;
    const words = new Int32Array(4);
    const port = readSockaddr(this.view, words);
    const payload = buffer.slice(0, size);
    const address = formatIp(addressBytes(words[0], words[1], words[2], words[3]));
    return { payload, text: new TextDecoder().decode(payload), address, port };
  }

  /** The next datagram. Rejects when none comes for a long time. */
  async receive(timeoutMs = TIMEOUT_MS): Promise<Received> {
    const deadline = performance.now() + timeoutMs;
    for (let spins = 0; ; spins++) {
      const received = this.take();
      if (received !== null) return received;
      if (performance.now() > deadline) throw new Error(`no datagram in ${timeoutMs} ms`);
      await (spins < 50 ? new Promise((resolve) => setImmediate(resolve)) : Bun.sleep(1));
    }
  }

  /** Sends and waits for the answer. */
  async ask(payload: Uint8Array | string, address: string, port: number): Promise<Received> {
    check(this.send(payload, address, port), "sendto");
    return await this.receive();
  }

  close(): void {
    sys.close(this.fd);
  }

  private address(address: string, port: number): Uint8Array {
    const [w0, w1, w2, w3] = addressWords(ip(address));
    return this.sockaddr.subarray(0, writeSockaddr(this.view, this.family, w0, w1, w2, w3, port));
  }
}

/** Waits until `done`, turning the event loop. Rejects after a long time, with what it waited for. */
export async function until(what: string, done: () => boolean, timeoutMs = TIMEOUT_MS): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (let spins = 0; !done(); spins++) {
    if (performance.now() > deadline) throw new Error(`${what}: not in ${timeoutMs} ms`);
    await (spins < 50 ? new Promise((resolve) => setImmediate(resolve)) : Bun.sleep(1));
  }
}
