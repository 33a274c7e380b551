/**
 * What sendmsg(2) and recvmsg(2) take, as views instead of pointers, so that the same message goes to a kernel socket and to
 * one of ours.
 */

/** A sockaddr that a call fills: the value-result pair of accept(2), getsockname(2), recvfrom(2). */
export interface AddressBuffer {
  /** Where it goes. What does not fit is cut off. */
  readonly bytes: Uint8Array;
  /**
   * In: bytes of room, as `bytes.length` unless less is offered. Out: the length of the whole address, which may be more than
   * the room there was.
   */
  length: number;
}

export const addressBuffer = (room = 128): AddressBuffer => ({ bytes: new Uint8Array(room), length: room });

/** The address that a call has put there, as far as there was room. */
export const addressIn = ({ bytes, length }: AddressBuffer): Uint8Array =>
  bytes.subarray(0, Math.min(length, bytes.length));

/** Fills the buffer as move_addr_to_user() does. */
export function putAddress(buffer: AddressBuffer, address: Uint8Array): void {
  const room = Math.max(Math.min(buffer.length, buffer.bytes.length), 0);
  buffer.bytes.set(address.subarray(0, room));
  buffer.length = address.length;
}

/** struct msghdr. */
export interface Message {
  /** sendmsg: where to, of `length` bytes, or null. recvmsg: filled with whom from; length 0 where nobody is named. */
  name: AddressBuffer | null;
  /** The parts that data are taken from or put into, in order. */
  iov: readonly Uint8Array[];
  /** Control messages (cmsg(3), control.ts): to send, or the room to receive into. Null for none. */
  control: Uint8Array | null;
  /** Bytes of `control` that are to be sent; after recvmsg, that have been filled. */
  controlLength: number;
  /** MSG_ flags that recvmsg gave. */
  flags: number;
}

/** A message of one part, to be filled in further. */
export const messageOf = (...iov: Uint8Array[]): Message => ({
  name: null,
  iov,
  control: null,
  controlLength: 0,
  flags: 0,
});

/** An address to send to as a message has it. */
export const nameOf = (address: Uint8Array | null): AddressBuffer | null =>
  address === null ? null : { bytes: address, length: address.length };

/** Bytes of all parts. */
export function lengthOf(iov: readonly Uint8Array[]): number {
  let length = 0;
  for (const part of iov) length += part.length;
  return length;
}

/** The parts without their first `skip` bytes. */
export function partsFrom(iov: readonly Uint8Array[], skip: number): Uint8Array[] {
  const rest: Uint8Array[] = [];
  let left = skip;
  for (const part of iov) {
    if (left < part.length) rest.push(part.subarray(left));
    left = Math.max(left - part.length, 0);
  }
  return rest;
}

/** Copies as much of `bytes` as the parts hold, the first `skip` bytes of which are taken. Returns how many. */
export function scatter(iov: readonly Uint8Array[], bytes: Uint8Array, skip = 0): number {
  let at = 0;
  let passed = skip;
  for (const part of iov) {
    if (passed >= part.length) {
      passed -= part.length;
      continue;
    }
    const taken = Math.min(part.length - passed, bytes.length - at);
    part.set(bytes.subarray(at, at + taken), passed);
    at += taken;
    passed = 0;
    if (at === bytes.length) break;
  }
  return at;
}

/** The parts as one: the part itself where there is but one. */
export function gather(iov: readonly Uint8Array[]): Uint8Array {
  if (iov.length === 1) return iov[0];
  const whole = new Uint8Array(lengthOf(iov));
  let at = 0;
  for (const part of iov) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
