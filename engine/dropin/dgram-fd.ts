/** What a descriptor given to bind() is, in the words of Node's ERR_INVALID_FD_TYPE. */
import { fstatSync, type Stats } from "node:fs";
import { isatty } from "node:tty";
import { sys } from "af-xdp-bindings";
import { SO_DOMAIN, SO_TYPE, SOL_SOCKET } from "../../sockets/options.ts";
import { AF_INET, AF_INET6 } from "../../sockets/table.ts";

const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const AF_UNIX = 1;

/** As uv_guess_handle: "UDP", "TCP", "PIPE", "TTY", "FILE" or "UNKNOWN". */
export function fdType(fd: number): string {
  if (isatty(fd)) return "TTY";
  let stat: Stats;
  try {
    stat = fstatSync(fd);
  } catch {
    return "UNKNOWN";
  }
  if (stat.isFile() || stat.isCharacterDevice()) return "FILE";
  if (stat.isFIFO()) return "PIPE";
  return stat.isSocket() ? socketType(fd) : "UNKNOWN";
}

function socketType(fd: number): string {
  const option = (name: number): number => {
    const value = new Int32Array(1);
    return sys.getsockoptInt(fd, SOL_SOCKET, name, value) < 0 ? -1 : value[0];
  };
  const type = option(SO_TYPE);
  const domain = option(SO_DOMAIN);
  const internet = domain === AF_INET || domain === AF_INET6;
  if (type === SOCK_DGRAM && internet) return "UDP";
  if (type === SOCK_STREAM && internet) return "TCP";
  return type === SOCK_STREAM && domain === AF_UNIX ? "PIPE" : "UNKNOWN";
}
