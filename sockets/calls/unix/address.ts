/** struct sockaddr_un { u16 family; char path[108] } (include/uapi/linux/un.h), and what lengths mean (net/unix/af_unix.c). */
import { ERRNO } from "af-xdp-bindings";
import { AF_UNIX } from "../constants.ts";

/** offsetof(struct sockaddr_un, sun_path): the length of the address of a socket without a name. */
export const PATH_AT = 2;
/** sizeof(struct sockaddr_un). */
const SOCKADDR_UN_BYTES = PATH_AT + 108;

/** The address of a socket that has no name. */
export const UNNAMED: Uint8Array = Uint8Array.of(AF_UNIX, 0);

/** sa_family of an address of at least two bytes. */
export const familyOf = (address: Uint8Array): number => address[0] | (address[1] << 8);

/** unix_validate_addr(): 0, or -EINVAL for one without a name, a longer one than there is, or another family's. */
export function validate(address: Uint8Array): number {
  if (address.length <= PATH_AT || address.length > SOCKADDR_UN_BYTES) return -ERRNO.EINVAL;
  return familyOf(address) === AF_UNIX ? 0 : -ERRNO.EINVAL;
}

/** Whether it names a path: abstract names begin with a null byte, and all their bytes count. */
export const isPath = (address: Uint8Array): boolean => address[PATH_AT] !== 0;

/** unix_mkname_bsd(): a path ends at its first null byte, or gets one, which may make the address a byte longer than the structure. */
export function terminated(address: Uint8Array): Uint8Array {
  const end = address.indexOf(0, PATH_AT);
  const name = new Uint8Array((end < 0 ? address.length : end) + 1);
  name.set(address.subarray(0, name.length - 1));
  return name;
}
