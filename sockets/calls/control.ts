/** Control messages (cmsg(3)): struct cmsghdr { u64 length; i32 level; i32 type }, the data, and padding to a multiple of 8. */

export const CMSG_HEADER = 16;
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
 * The control messages in the first `length` bytes; what follows one whose length is impossible is left out. Null where a header
 * is malformed as CMSG_OK() tells it, which sendmsg(2) answers with EINVAL.
 */
export function decodeControl(bytes: Uint8Array, length = bytes.length): ControlMessage[] | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, Math.min(length, bytes.length));
  const messages: ControlMessage[] = [];
  for (let at = 0; at + CMSG_HEADER <= view.byteLength; ) {
    const size = view.getUint32(at, true);
    if (size < CMSG_HEADER || view.getUint32(at + 4, true) !== 0 || at + size > view.byteLength) return null;
    messages.push({
      level: view.getInt32(at + 8, true),
      type: view.getInt32(at + 12, true),
      data: bytes.subarray(at + CMSG_HEADER, at + size),
    });
    at += aligned(size);
  }
  return messages;
}
