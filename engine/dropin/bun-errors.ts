/** The errors of Bun.udpSocket: classes, codes, messages and fields as Bun 1.4 gives them, for programs that compare them. */
import { getSystemErrorMap } from "node:util";
import { errnoName } from "af-xdp-bindings";

/** An argument of the wrong kind. The code is no enumerable property there either. */
export function invalidArgument(
  message: string,
  Base: ErrorConstructor = TypeError,
  code = "ERR_INVALID_ARG_TYPE",
): Error {
  const error = new Base(message);
  return Object.defineProperties(error, {
    code: { value: code, configurable: true },
    toString: { value: () => `${error.name} [${code}]: ${error.message}`, configurable: true },
  });
}

export const socketClosed = (): Error => new Error("Socket is closed");

/** What a system call refused, "EINVAL: invalid argument, setsockopt". @param errno positive; in the error negative */
export function callFailed(errno: number, syscall: string): Error {
  const [code, text] = getSystemErrorMap().get(-errno) ?? [errnoName(errno), "unknown error"];
  return Object.assign(new Error(`${code}: ${text}, ${syscall}`), { code, syscall, errno: -errno });
}

/** What the network reported about a datagram sent before. */
export function networkFailed(errno: number): Error {
  return Object.assign(callFailed(errno, "recv"), { errqueue: true });
}

/** The local address cannot be had. Here the number is positive. */
export function bindFailed(errno: number, hostname: string): Error {
  const code = errnoName(errno);
  return Object.assign(new Error(`bind ${code} ${hostname}`), { code, syscall: "bind", errno, address: hostname });
}

/** A number that is too large, or below 0. */
export function outOfRange(name: string, most: number, value: number): Error {
  const message = `The value of "${name}" is out of range. It must be >= 0 and <= ${most}. Received ${value}`;
  return invalidArgument(message, RangeError, "ERR_OUT_OF_RANGE");
}

/** Bun.listen cannot have the port. The number is positive. */
export function listenFailed(errno: number, address: string, port: number): Error {
  const error = new Error(`Failed to listen at ${address}`);
  return Object.assign(error, { syscall: "listen", errno, address, port, code: errnoName(errno) });
}

/** Bun.connect does not get through. The number is negative. */
export function connectFailed(errno: number): Error {
  return Object.assign(new Error("Failed to connect"), { code: errnoName(errno), syscall: "connect", errno: -errno });
}

/** Something that sockets on an engine do not have. */
export function notCarried(what: string): Error {
  const message = `lcore/bun: ${what} is not carried by an engine: TLS over one is in lcore/tls and lcore/https`;
  return Object.assign(new Error(message), { code: "EOPNOTSUPP" });
}
