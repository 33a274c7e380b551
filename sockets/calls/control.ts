/** Control messages (cmsg(3)): struct cmsghdr { u64 length; i32 level; i32 type }, the data, and padding to a multiple of 8. */

import { ERRNO } from "af-xdp-bindings";
import { MSG_CTRUNC } from "./constants.ts";
import type { Message } from "./message.ts";

const CMSG_HEADER = 16;
const aligned = (bytes: number): number => (bytes + 7) & ~7;

/** CMSG_SPACE(3): bytes that a control message with so many bytes of data takes. */
export const controlSpace = (bytes: number): number => CMSG_HEADER + aligned(bytes);

export interface ControlMessage {
  readonly level: number;
  readonly type: number;
  readonly data: Uint8Array;
}

/** The bytes of control messages, each padded, the last one too. */
export function encodeControl(...messages: readonly ControlMessage[]): Uint8Array {
  const bytes = new Uint8Array(messages.reduce((sum, { data }) => sum + controlSpace(data.length), 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const { level, type, data } of messages) {
    view.setUint32(at, CMSG_HEADER + data.length, true);
    view.setInt32(at + 8, level, true);
    view.setInt32(at + 12, type, true);
    bytes.set(data, at + CMSG_HEADER);
    at += controlSpace(data.length);
  }
  return bytes;
}

/** An int as control messages carry it. */
export const controlInt = (value: number): Uint8Array => new Uint8Array(Int32Array.of(value).buffer);

/**
 * Visits the control messages in the first `length` bytes, in order. Returns 0; -EINVAL at a malformed header, as CMSG_OK() tells it;
 * or what the visitor returned first that is negative.
 */
export function visitControl(bytes: Uint8Array, length: number, visit: (message: ControlMessage) => number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, Math.min(length, bytes.length));
  for (let at = 0; at + CMSG_HEADER <= view.byteLength; ) {
    const size = view.getUint32(at, true);
    if (size < CMSG_HEADER || view.getUint32(at + 4, true) !== 0 || at + size > view.byteLength) return -ERRNO.EINVAL;
    const verdict = visit({
      level: view.getInt32(at + 8, true),
      type: view.getInt32(at + 12, true),
      data: bytes.subarray(at + CMSG_HEADER, at + size),
    });
    if (verdict < 0) return verdict;
    at += aligned(size);
  }
  return 0;
}

/** The control messages in the first `length` bytes; null where one is malformed, which sendmsg(2) answers with EINVAL. */
export function decodeControl(bytes: Uint8Array, length = bytes.length): ControlMessage[] | null {
  const messages: ControlMessage[] = [];
  return visitControl(bytes, length, (message) => messages.push(message)) < 0 ? null : messages;
}

/** Fills the control buffer of a message that is received, as put_cmsg() does: what has no room is cut off, with MSG_CTRUNC. */
export class ControlWriter {
  private readonly message: Message;
  private readonly room: Uint8Array;
  private at = 0;

  constructor(message: Message) {
    this.message = message;
    this.room = message.control ?? new Uint8Array(0);
  }

  /** Bytes of data that another message may have; negative where not even its header has room. */
  get left(): number {
    return this.room.length - this.at - CMSG_HEADER;
  }

  put(level: number, type: number, data: Uint8Array): void {
    const { room, at, left } = this;
    if (left < data.length) this.message.flags |= MSG_CTRUNC;
    if (left < 0) return;
    const length = Math.min(data.length, left);
    const view = new DataView(room.buffer, room.byteOffset + at);
    view.setUint32(0, CMSG_HEADER + length, true);
    view.setUint32(4, 0, true);
    view.setInt32(8, level, true);
    view.setInt32(12, type, true);
    room.set(data.subarray(0, length), at + CMSG_HEADER);
    this.at = Math.min(at + controlSpace(data.length), room.length);
  }

  /** Tells the message how much has been filled. */
  end(): void {
    this.message.controlLength = this.at;
  }
}
