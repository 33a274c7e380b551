/** A connection of the kernel's under a net.Socket, by a socket of the runtime's own: paths, and what other interfaces lead to. */
import type { Server, Socket } from "node:net";
import { ERRNO } from "af-xdp-bindings";
import type { TcpConnectOptions } from "../../../sockets/stream/tcp-open.ts";
import { original } from "../originals.ts";
import {
  type Done,
  type EndAddress,
  LATER,
  type Queued,
  type StreamHandle,
  type StreamOwner,
} from "./stream-handle.ts";

const net = original("node:net");
const NOTHING = new Uint8Array(0);
const IDLE: StreamOwner = {
  connected: () => {},
  received: () => {},
  readHere: null,
  filled: () => NOTHING,
  ended: () => {},
  failed: () => {},
};

/** An errno as -errno, whichever sign it came with. */
const errnoOf = (error: Error): number => {
  const { code, errno } = error as NodeJS.ErrnoException;
  const known = ERRNO[code as keyof typeof ERRNO];
  return -(known ?? Math.abs(errno ?? ERRNO.EIO));
};

export class KernelHandle implements StreamHandle {
  owner: StreamOwner = IDLE;
  reading = false;
  bytesRead = 0;
  readonly isTcp: boolean;
  readonly isDirect = false;
  private readonly socket: Socket;
  private isOpen: boolean;
  private into: Uint8Array | null = null;
  private done: Done | null = null;
  private closed = false;

  constructor(socket: Socket, isTcp: boolean, isOpen: boolean) {
    this.socket = socket;
    this.isTcp = isTcp;
    this.isOpen = isOpen;
    socket.on("data", (bytes: Buffer) => this.take(bytes));
    socket.on("end", () => this.owner.ended());
    socket.on("error", (error) => this.fail(errnoOf(error)));
    socket.pause();
  }

  static connect(options: TcpConnectOptions): KernelHandle {
    const { address, localAddress, localPort, port } = options;
    const handle = new KernelHandle(new net.Socket({ allowHalfOpen: true }), true, false);
    return handle.begin((socket) => socket.connect({ host: address, port, localAddress, localPort }));
  }

  static connectPath(path: string): KernelHandle {
    const handle = new KernelHandle(new net.Socket({ allowHalfOpen: true }), false, false);
    return handle.begin((socket) => socket.connect({ path }));
  }

  get bytesWritten(): number {
    return this.socket.bytesWritten ?? 0;
  }

  get writeQueueSize(): number {
    return this.socket.writableLength;
  }

  readStart(): void {
    this.reading = true;
    this.socket.resume();
  }

  readStop(): void {
    this.reading = false;
    this.socket.pause();
  }

  readInto(buffer: Uint8Array): void {
    this.into = buffer;
  }

  write(bytes: Uint8Array, done: Done): number {
    this.done = done;
    this.socket.write(bytes, (error) => this.settle(error ? errnoOf(error) : 0));
    return LATER;
  }

  writev(given: Queued, done: Done): number {
    const chunks = given.map(({ chunk, encoding }) =>
      typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk,
    );
    return this.write(Buffer.concat(chunks), done);
  }

  writeText(text: string, encoding: BufferEncoding, done: Done): number {
    return this.write(Buffer.from(text, encoding), done);
  }

  shutdown(done: Done): number {
    this.socket.end(() => done(0));
    return LATER;
  }

  close(closed: () => void): void {
    this.finish(closed);
    this.socket.destroy();
  }

  reset(closed: () => void): void {
    this.finish(closed);
    this.socket.resetAndDestroy();
  }

  setNoDelay(on: boolean): void {
    this.socket.setNoDelay(on);
  }

  setKeepAlive(on: boolean, delay: number): void {
    this.socket.setKeepAlive(on, delay * 1000);
  }

  ref(): void {
    this.socket.ref();
  }

  unref(): void {
    this.socket.unref();
  }

  localAddress(): EndAddress | null {
    const { localAddress, localFamily, localPort } = this.socket;
    if (localAddress === undefined || localPort === undefined) return null;
    return { address: localAddress, family: localFamily ?? familyOf(localAddress), port: localPort };
  }

  remoteAddress(): EndAddress | null {
    const { remoteAddress, remoteFamily, remotePort } = this.socket;
    if (remoteAddress === undefined || remotePort === undefined) return null;
    return { address: remoteAddress, family: remoteFamily ?? familyOf(remoteAddress), port: remotePort };
  }

  private begin(connect: (socket: Socket) => void): this {
    this.socket.once("connect", () => {
      this.isOpen = true;
      this.owner.connected(0);
    });
    connect(this.socket);
    return this;
  }

  private take(bytes: Buffer): void {
    this.bytesRead += bytes.length;
    if (this.into === null) {
      if (this.owner.readHere !== null) this.owner.readHere(bytes, bytes.length);
      else this.owner.received(bytes);
      return;
    }
    for (let at = 0; at < bytes.length && !this.closed; ) {
      const count = bytes.copy(this.into, 0, at, at + this.into.length);
      at += count;
      this.into = this.owner.filled(count);
    }
  }

  private fail(errno: number): void {
    if (this.closed) return;
    if (!this.isOpen) this.owner.connected(errno);
    else this.owner.failed(errno);
  }

  private settle(errno: number): void {
    const { done } = this;
    this.done = null;
    done?.(errno);
  }

  private finish(closed: () => void): void {
    this.closed = true;
    this.reading = false;
    if (this.done !== null) this.settle(-ERRNO.ECANCELED);
    if (this.socket.destroyed) setImmediate(closed);
    else this.socket.once("close", () => closed());
  }
}

const familyOf = (address: string): string => (net.isIPv6(address) ? "IPv6" : "IPv4");

/** A server of the runtime's own whose connections are handed over as they come. */
export function kernelServer(accept: (handle: KernelHandle) => void, isTcp: boolean): Server {
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
  return server.on("connection", (socket) => accept(new KernelHandle(socket, isTcp, true)));
}
