/** struct msghdr of LP64 (include/linux/socket.h): byte offsets. Pointers and lengths are 64 bits, the name's length 32. */
export const MSG_NAME = 0;
export const MSG_NAMELEN = 8;
export const MSG_IOV = 16;
export const MSG_IOVLEN = 24;
export const MSG_CONTROL = 32;
export const MSG_CONTROLLEN = 40;
export const MSG_FLAGS = 48;
export const MSGHDR_BYTES = 56;
/** struct iovec: address and length, 64 bits each. */
export const IOVEC_LENGTH = 8;
export const IOVEC_BYTES = 16;

/** Writes a 64-bit address without a BigInt: addresses are below 2^53. */
export function putAddress(view: DataView, at: number, address: number): void {
  view.setUint32(at, address >>> 0, true);
  view.setUint32(at + 4, Math.floor(address / 2 ** 32), true);
}
