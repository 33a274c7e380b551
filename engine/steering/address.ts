/** Addresses as the steering maps hold them: 16 bytes, IPv4 as v4-mapped IPv6 (RFC 4291, 2.5.5.2). */

/**
 * A 4- or 16-byte address as 16 bytes. Throws RangeError unless it is a unicast one: multicast, broadcast and
 * unspecified destinations stay with the kernel.
 */
export function unicastAddress(address: Uint8Array): Uint8Array {
  if (address.length !== 4 && address.length !== 16)
    throw new RangeError(`address of ${address.length} bytes: 4 or 16`);
  const mapped = new Uint8Array(16);
  if (address.length === 4) mapped.set([0xff, 0xff], 10);
  mapped.set(address, 16 - address.length);
  if (!(isV4Mapped(mapped) ? isUnicastV4(mapped) : isUnicastV6(mapped))) {
    throw new RangeError(`${address.toHex()} is not a unicast address`);
  }
  return mapped;
}

/** Whether 16 bytes are in ::ffff:0:0/96. */
export function isV4Mapped(address: Uint8Array): boolean {
  return address[10] === 0xff && address[11] === 0xff && isZero(address.subarray(0, 10));
}

/** Neither 0.0.0.0 nor 224.0.0.0/3 (multicast, reserved, broadcast). */
const isUnicastV4 = (address: Uint8Array): boolean => address[12] < 224 && !isZero(address.subarray(12));

/** Neither :: nor ff00::/8. */
const isUnicastV6 = (address: Uint8Array): boolean => address[0] !== 0xff && !isZero(address);

const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);
