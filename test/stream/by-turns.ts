/** An lcore's TCP and a thread, driven by hand a turn at a time, and the segments of a peer that is not there. */
import { expect } from "bun:test";
import type { TcpHandlers } from "../../sockets/stream/tcp-socket.ts";
import { ip } from "../../sockets/wire/address.ts";
import { ETH_HEADER } from "../../sockets/wire/ethernet.ts";
import { IPV4_HEADER } from "../../sockets/wire/ipv4.ts";
import { TCP_ACK, TCP_PSH, TCP_SYN } from "../../sockets/wire/tcp.ts";
import { Rig } from "../sockets/rig.ts";
import { MAC_A, MAC_B } from "../support/frames.ts";
import { buildFrame, readSegment, type Segment } from "../tcp/segments.ts";

export const PORT = 7300;
/** Bytes of the first segment with data. */
export const BYTES = 500;
const TCP_AT = ETH_HEADER + IPV4_HEADER;

/** A frame with a segment of the peer's. */
export function frame(part: Partial<Segment>): Uint8Array {
  const segment: Segment = {
    ...{ v6: false, sourcePort: 40_000, destinationPort: PORT, seq: 1000, ack: 0, flags: TCP_SYN, window: 65_535 },
    ...{ urgent: 0, options: {}, payload: new Uint8Array(0), tos: 0 },
    ...part,
  };
  const { views, length } = buildFrame(segment, { source: ip("198.18.0.2"), destination: ip("198.18.0.1") });
  const bytes = views.bytes.slice(0, ETH_HEADER + length);
  bytes.set([...MAC_A, ...MAC_B, 0x08, 0x00]);
  return bytes;
}

/** The segment in a frame that was sent. */
export const read = (bytes: Uint8Array): Segment => readSegment(bytes, TCP_AT, bytes.length - TCP_AT, false, 0);

/** A rig with TCP, whose threads do not wait for lcores. */
export function tcpRig(): Rig {
  const rig = new Rig({ tcp: true });
  // Nobody turns while a thread waits.
  rig.shared.mesh.awaitLeft = () => {};
  return rig;
}

export interface Handshake {
  readonly rig: Rig;
  /** The acknowledgment that ends it, and a segment that brings BYTES. */
  readonly last: Uint8Array[];
  /** Sequence number and acknowledgment of the former. */
  readonly ends: Pick<Segment, "seq" | "ack">;
}

/** A thread that listens at PORT, and the peer's half of a handshake with it up to the SYN-ACK. */
export function handshake(handlers: TcpHandlers = { open: () => {} }): Handshake {
  const rig = tcpRig();
  const [thread] = rig.threads;
  thread.listen({ port: PORT }, handlers);
  const [answer] = rig.turn([frame({})]).map(read);
  expect(answer.flags).toBe(TCP_SYN | TCP_ACK);
  const ends = { seq: 1001, ack: (answer.seq + 1) | 0 };
  const payload = new Uint8Array(BYTES);
  return {
    rig,
    ends,
    last: [frame({ ...ends, flags: TCP_ACK }), frame({ ...ends, flags: TCP_ACK | TCP_PSH, payload })],
  };
}
