/** The errors of node:net: names, codes, messages and fields as in Node, for programs that compare them. An errno is negative. */
import { getSystemErrorMap, inspect } from "node:util";
import { errnoName } from "af-xdp-bindings";
import { type CodedError, invalidType, operating } from "../dgram-errors.ts";

export { checkNumber, checkString, invalidType, operating } from "../dgram-errors.ts";

const coded = (Base: ErrorConstructor, code: string, message: string): CodedError =>
  Object.assign(new Base(message), { code });

export const alreadyListening = () =>
  coded(Error, "ERR_SERVER_ALREADY_LISTEN", "Listen method has been called more than once without closing.");
export const notRunning = () => coded(Error, "ERR_SERVER_NOT_RUNNING", "Server is not running.");
export const socketClosed = () => coded(Error, "ERR_SOCKET_CLOSED", "Socket is closed");
export const closedBeforeConnection = () =>
  coded(Error, "ERR_SOCKET_CLOSED_BEFORE_CONNECTION", "Socket closed before the connection was established");
export const connectionTimeout = () => coded(Error, "ERR_SOCKET_CONNECTION_TIMEOUT", "Socket connection timeout");
export const invalidHandle = () => coded(TypeError, "ERR_INVALID_HANDLE_TYPE", "This handle type cannot be sent");
export const invalidAddress = (ip: unknown) => coded(TypeError, "ERR_INVALID_IP_ADDRESS", `Invalid IP address: ${ip}`);
export const endedByPeer = () => coded(Error, "EPIPE", "This socket has been ended by the other party");
export const missingTarget = () =>
  coded(TypeError, "ERR_MISSING_ARGS", 'The "options" or "port" or "path" argument must be specified');
export const blocked = (ip: string) => coded(Error, "ERR_IP_BLOCKED", `IP(${ip}) is blocked by net.BlockList`);
export const noObjectMode = (name: string) =>
  coded(TypeError, "ERR_INVALID_ARG_VALUE", `The property 'options.${name}' is not supported. Received true`);

/** A descriptor would be a socket of the kernel's, which an engine cannot adopt. */
export const noDescriptor = (syscall: string) =>
  Object.assign(operating(-95, syscall), {
    hint: "lcore: a descriptor is a socket of the kernel's: use node:net for it",
  });

export function badFamily(family: unknown, host: unknown, port: unknown): CodedError {
  const error = coded(RangeError, "ERR_INVALID_ADDRESS_FAMILY", `Invalid address family: ${family} ${host}:${port}`);
  return Object.assign(error, { host, port });
}

export function checkFunction(value: unknown, name: string): void {
  if (typeof value !== "function") throw invalidType(name, "of type function", value);
}

export function checkSignal(signal: unknown, name = "options.signal"): asserts signal is AbortSignal {
  if (typeof signal === "object" && signal !== null && "aborted" in signal) return;
  throw invalidType(name, "an instance of AbortSignal", signal);
}

export function invalidValue(name: string, value: unknown, reason = "is invalid"): CodedError {
  const kind = name.includes(".") ? "property" : "argument";
  return coded(TypeError, "ERR_INVALID_ARG_VALUE", `The ${kind} '${name}' ${reason}. Received ${inspect(value)}`);
}

const where = (address: unknown, port: unknown): string => (Number(port) > 0 ? `${address}:${port}` : `${address}`);

/** What connect or bind came to. @param local the local end, where it was asked for */
export function withAddress(
  errno: number,
  syscall: string,
  address: string,
  port: number | undefined,
  local = "",
): CodedError {
  const code = errnoName(-errno);
  const text = `${syscall} ${code} ${where(address, port)}${local === "" ? "" : ` - Local (${local})`}`;
  const error = Object.assign(new Error(text), { errno, code, syscall, address });
  return port ? Object.assign(error, { port }) : error;
}

/** What listen came to, which says in words what the code means. */
export function listenFailed(errno: number, address: string | null, port: number): CodedError {
  const [code, words] = getSystemErrorMap().get(errno) ?? [errnoName(-errno), "unknown error"];
  const error = new Error(`listen ${code}: ${words}${address === null ? "" : ` ${where(address, port)}`}`);
  const fields = { code, errno, syscall: "listen", address, port };
  return Object.assign(error, fields);
}

/** Several addresses of a name, all tried in vain. */
export function allFailed(errors: readonly Error[]): AggregateError {
  const error = new AggregateError(errors);
  return Object.assign(error, { code: (errors[0] as CodedError).code });
}
