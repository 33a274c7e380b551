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
