/**
 * Frames of a thread that reads kernel sockets itself. They are the thread's own: no other thread sees them.
 *
 *   -320       -288                  -64              0
 *   | sockaddr | control, a cmsghdr  | IP, UDP header | payload, up to 65,535 bytes
 *
 * recvmmsg(2) fills sockaddr, control and payload; the headers are made of them, so that a Datagram is read as one that
 * came through a queue. An answer gives the same sockaddr and control back to sendmmsg(2), as they are.
 *
 * A frame holds any datagram. Pages are touched only as far as datagrams reach, and the frame freed last is taken next:
 * small datagrams keep two pages of each frame in flight.
 */
import type { SharedArea } from "af-xdp-bindings";
import { FramePool } from "../../queues/pool.ts";
import { SOCKADDR_IN6_BYTES } from "../sockaddr.ts";
import { FrameViews } from "../wire/views.ts";

/** Bytes a frame: a power of two that holds the longest datagram and what lies before it. */
export const KERNEL_FRAME_SIZE = 131072;
const FRAME_BITS = 17;
/** Frames of a thread unless the engine was told another number: more than the default receive buffer holds datagrams. */
export const KERNEL_FRAMES = 1024;
/** The most: 1 GiB of address space a thread. */
export const KERNEL_FRAMES_MAX = 8192;
/** The longest payload there can be (the length field of UDP, less its header, over IPv6). The kernel knows the limits. */
export const PAYLOAD_MAX = 65535;

/** Offsets from the payload. */
export const NAME_AT = -320;
export const CONTROL_AT = NAME_AT + 32;
/** Room for every control message that a UDP socket can ask for at once. */
export const CONTROL_BYTES = 224;
/** Index of the interface by which it came, 0 where nobody has told: between control and the headers. */
export const INTERFACE_AT = -64;
/** In the sockaddr's last word, which no family uses: bytes of control that make the answer leave from where it was asked. */
export const SOURCE_AT = NAME_AT + SOCKADDR_IN6_BYTES;

/**
 * Payloads begin at different lines of their pages. At the same offset of each frame they would share one set of the
 * level-1 cache, which has eight places.
 */
const COLOURS = 32;
const COLOUR_BYTES = 128;

export class KernelFrames {
  readonly pool: FramePool;
  readonly views: FrameViews;
  /** Word i is bytes 4i to 4i + 3, as the CPU reads them, signed. */
  readonly words: Int32Array;
  /** Address of the first byte, page aligned. */
  readonly address: number;

  constructor(area: SharedArea) {
    this.address = area.address;
    this.views = new FrameViews(new Uint8Array(area.buffer, area.byteOffset, area.byteLength));
    this.words = new Int32Array(area.buffer, area.byteOffset, area.byteLength / 4);
    this.pool = new FramePool(area.byteLength / KERNEL_FRAME_SIZE, KERNEL_FRAME_SIZE);
  }

  /** Takes a frame: the offset of its payload, a multiple of 64, or -1 when none is free. */
  take(): number {
    const frame = this.pool.take();
    return frame < 0 ? -1 : frame + ((frame >>> FRAME_BITS) & (COLOURS - 1)) * COLOUR_BYTES - NAME_AT;
  }

  /** Index of the interface by which the datagram with this payload came, 0 where nobody has told. */
  interfaceOf(payload: number): number {
    return this.words[(payload + INTERFACE_AT) >> 2];
  }

  /** Gives back the frame that holds `offset`. */
  give(offset: number): void {
    this.pool.give(offset);
  }
}

/** A word the other way round: from network byte order to what the CPU reads, or back. */
export function swap32(value: number): number {
  return (value >>> 24) | ((value >>> 8) & 0xff00) | ((value << 8) & 0xff0000) | (value << 24);
}
