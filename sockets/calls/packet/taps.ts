/** Frames that pass the engine, which the kernel never sees: where sockets of AF_PACKET get them from. */

/** A frame, valid until the next one is taken. */
export interface TappedFrame {
  /** From the Ethernet header on. */
  readonly bytes: Uint8Array;
  /** Whether the engine has sent it. */
  readonly outgoing: boolean;
  /** CLOCK_REALTIME of the burst that it came or left with. */
  readonly seconds: number;
  readonly nanoseconds: number;
}

export interface FrameTap {
  /** The next frame, null when there is none now. */
  next(): TappedFrame | null;
  /** Frames so far that found no room, because they were not taken quickly enough. */
  readonly lost: number;
  close(): void;
}

/** An interface that an engine serves. */
export interface FrameTaps {
  readonly ifindex: number;
  /** Its address, 6 bytes. */
  readonly mac: Uint8Array;
  /** Begins to listen: whatever passes after this has returned is seen. */
  open(): FrameTap;
}
