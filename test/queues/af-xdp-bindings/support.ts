/** Two ends of a veth pair with an XSK on each, and frames to send between them. */
import {
  attachXdp,
  type Link,
  loadXdp,
  type Program,
  redirectQueues,
  Umem,
  type UmemOptions,
  Xsk,
  XskMap,
  type XskOptions,
} from "af-xdp-bindings";
import type { Host } from "../../support/hosts.ts";

/** IEEE 802 local experimental EtherType: nothing else on the wire uses it. */
const ETHERTYPE = 0x88b5;

/** What a test opened, closed in reverse order whatever happens. */
export class Cleanup {
  private readonly actions: (() => void)[] = [];

  add<T extends { close(): void }>(resource: T): T {
    this.actions.push(() => resource.close());
    return resource;
  }

  run(): void {
    for (const action of this.actions.splice(0).reverse()) action();
  }
}

/** A UMEM and a bound socket on it, in the host's namespace. */
export class Endpoint {
  readonly umem: Umem;
  readonly xsk: Xsk;

  constructor(cleanup: Cleanup, host: Host, umem: Partial<UmemOptions> = {}, xsk: Partial<XskOptions> = {}) {
    this.umem = cleanup.add(new Umem({ chunks: 256, ...umem }));
    this.xsk = openXsk(cleanup, host, this.umem, xsk);
  }
}

export function openXsk(cleanup: Cleanup, host: Host, umem: Umem, options: Partial<XskOptions> = {}): Xsk {
  return host.ns.run(() => {
    const xsk = cleanup.add(new Xsk(umem, { ifindex: host.ifindex, ...options }));
    xsk.bind();
    return xsk;
  });
}

/** Redirects the host's frames to `sockets`, by queue. */
export function redirectTo(
  cleanup: Cleanup,
  host: Host,
  sockets: Xsk[],
  mode: "native" | "skb",
  frags = false,
): { map: XskMap; program: Program; link: Link } {
  const map = cleanup.add(XskMap.create(4));
  const program = cleanup.add(loadXdp(redirectQueues(map), { frags }));
  const link = host.ns.run(() => cleanup.add(attachXdp(program, host.ifindex, mode)));
  for (const xsk of sockets) map.set(xsk.queue, xsk.fd);
  return { map, program, link };
}

/** An Ethernet frame from one host to another: `length` bytes of which the payload counts up from `seed`. */
export function frame(from: Host, to: Host, length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes.set(to.mac, 0);
  bytes.set(from.mac, 6);
  bytes[12] = ETHERTYPE >> 8;
  bytes[13] = ETHERTYPE & 0xff;
  for (let i = 14; i < length; i++) bytes[i] = (seed + i * 7 + (i >> 8)) & 0xff;
  return bytes;
}

/** Puts the chunks [first, first + count) into the fill ring. */
export function stock(xsk: Xsk, first: number, count: number): void {
  const { umem, fill } = xsk;
  if (fill.reserve(count) < count) throw new Error(`fill ring has no room for ${count}`);
  for (let i = 0; i < count; i++) fill.set(i, (first + i) * umem.chunkSize);
  fill.submit(count);
}

/** Copies frames into the chunks from `first` on, at `offset` in each, and sends them. Returns the last kick's result. */
export function send(xsk: Xsk, first: number, frames: Uint8Array[], offset = 0): number {
  const { umem, tx } = xsk;
  if (tx.reserve(frames.length) < frames.length) throw new Error("TX ring has no room");
  frames.forEach((bytes, i) => {
    const address = (first + i) * umem.chunkSize + offset;
    umem.memory.set(bytes, address);
    tx.set(i, address, bytes.length, 0);
  });
  tx.submit(frames.length);
  return flush(xsk);
}

/** Kicks until the kernel has taken every descriptor, 100 times at most. */
export function flush(xsk: Xsk): number {
  let result = 0;
  for (let i = 0; i < 100 && xsk.tx.pending() > 0; i++) result = xsk.kickTx();
  return result;
}

/** A received frame, copied out of its chunks. */
export interface Received {
  bytes: Uint8Array;
  /** UMEM offset of each piece's data, and of its chunk. */
  addresses: number[];
  chunks: number[];
}

/** Waits for `count` frames of the tests' EtherType, half a second at most; others are dropped. */
export function receive(xsk: Xsk, count: number, deadlineMs = 500): Received[] {
  const { rx, umem } = xsk;
  const frames: Received[] = [];
  let pieces: Uint8Array[] = [];
  let addresses: number[] = [];
  let chunks: number[] = [];
  const deadline = performance.now() + deadlineMs;
  while (frames.length < count && performance.now() < deadline) {
    const n = rx.available(64);
    if (n === 0) {
      xsk.kickRx();
      Bun.sleepSync(0.1);
    }
    for (let i = 0; i < n; i++) {
      pieces.push(umem.memory.slice(rx.address(i), rx.address(i) + rx.length(i)));
      addresses.push(rx.address(i));
      chunks.push(rx.chunk(i));
      if (rx.options(i) !== 0) continue;
      const bytes = new Uint8Array(Buffer.concat(pieces));
      if (((bytes[12] << 8) | bytes[13]) === ETHERTYPE) frames.push({ bytes, addresses, chunks });
      pieces = [];
      addresses = [];
      chunks = [];
    }
    rx.release(n);
  }
  return frames;
}

/** Waits for `count` completions, half a second at most; their addresses. */
export function complete(xsk: Xsk, count: number): number[] {
  const { completion } = xsk;
  const addresses: number[] = [];
  const deadline = performance.now() + 500;
  while (addresses.length < count && performance.now() < deadline) {
    const n = completion.available(64);
    for (let i = 0; i < n; i++) addresses.push(completion.address(i));
    completion.release(n);
    if (n === 0) Bun.sleepSync(0.1);
  }
  return addresses;
}
