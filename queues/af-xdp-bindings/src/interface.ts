import { SOCK_CLOEXEC } from "./abi.ts";
import { check } from "./errno.ts";
import * as sys from "./sys.ts";

const AF_INET = 2;
const SOCK_DGRAM = 2;
/** include/uapi/linux/sockios.h; struct ifreq is 40 bytes, the name first, the index at 16. */
const SIOCGIFINDEX = 0x8933;
const IFNAMSIZ = 16;

/** Index of an interface in the calling thread's network namespace. Throws SysError ENODEV when there is none. */
export function interfaceIndex(name: string): number {
  const request = new Uint8Array(40);
  if (new TextEncoder().encodeInto(name, request.subarray(0, IFNAMSIZ - 1)).read < name.length)
    throw new RangeError(`interface name "${name}": at most ${IFNAMSIZ - 1} bytes`);
  const fd = check(sys.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket(AF_INET)");
  const result = sys.ioctl(fd, SIOCGIFINDEX, sys.addressOf(request));
  sys.close(fd);
  check(result, `ioctl(SIOCGIFINDEX, ${name})`, { ENODEV: "no such interface in this network namespace" });
  return new DataView(request.buffer).getUint32(IFNAMSIZ, true);
}
