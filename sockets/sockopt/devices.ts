/** Names and numbers of network interfaces, as a socket of the kernel tells them (netdevice(7)). */
import { ERRNO, sys } from "af-xdp-bindings";

const SIOCGIFNAME = 0x8910;
const SIOCGIFINDEX = 0x8933;
/** struct ifreq: the name, then the index. */
const IFNAMSIZ = 16;
const IFREQ_BYTES = 40;

/** Index of an interface in the namespace of the socket `fd`, or -errno. */
export function interfaceIndex(fd: number, name: string): number {
  const request = new Uint8Array(IFREQ_BYTES);
  const text = new TextEncoder().encode(name);
  if (text.length >= IFNAMSIZ) return -ERRNO.ENODEV;
  request.set(text);
  const result = sys.ioctl(fd, SIOCGIFINDEX, sys.addressOf(request));
  return result < 0 ? result : new DataView(request.buffer).getInt32(IFNAMSIZ, true);
}

/** Name of an interface, or -errno. */
export function interfaceName(fd: number, index: number): string | number {
  const request = new Uint8Array(IFREQ_BYTES);
  new DataView(request.buffer).setInt32(IFNAMSIZ, index, true);
  const result = sys.ioctl(fd, SIOCGIFNAME, sys.addressOf(request));
  return result < 0 ? result : new TextDecoder().decode(request.subarray(0, request.indexOf(0)));
}
