/**
 * The errors of node:dgram: the names, codes, messages and fields that Node 22 gives them, for programs that compare
 * them. An `errno` is negative here, as libuv has it.
 */
import { getSystemErrorMap, inspect } from "node:util";
import { errnoName } from "af-xdp-bindings";

export interface CodedError extends Error {
  code: string;
}

/** An operating error; `address` and `port` are those of the call that failed, where it had any. */
export interface OperatingError extends CodedError {
  errno: number;
  syscall: string;
  address?: string | null;
  port?: number;
}

const coded = (Base: ErrorConstructor, code: string, message: string): CodedError =>
  Object.assign(new Base(message), { code });

export const alreadyBound = () => coded(Error, "ERR_SOCKET_ALREADY_BOUND", "Socket is already bound");
export const notRunning = () => coded(Error, "ERR_SOCKET_DGRAM_NOT_RUNNING", "Not running");
export const isConnected = () => coded(Error, "ERR_SOCKET_DGRAM_IS_CONNECTED", "Already connected");
export const notConnected = () => coded(Error, "ERR_SOCKET_DGRAM_NOT_CONNECTED", "Not connected");
export const badBufferSize = () =>
  coded(TypeError, "ERR_SOCKET_BAD_BUFFER_SIZE", "Buffer size must be a positive integer");
export const badType = () =>
  coded(TypeError, "ERR_SOCKET_BAD_TYPE", "Bad socket type specified. Valid types are: udp4, udp6");
export const outOfBounds = (name: "offset" | "length") =>
  coded(RangeError, "ERR_BUFFER_OUT_OF_BOUNDS", `"${name}" is outside of buffer bounds`);
export const missingArgument = (name: string) =>
  coded(TypeError, "ERR_MISSING_ARGS", `The "${name}" argument must be specified`);
export const blocked = (ip: string) => coded(Error, "ERR_IP_BLOCKED", `IP(${ip}) is blocked by net.BlockList`);
export const badFdType = (type: string) => coded(TypeError, "ERR_INVALID_FD_TYPE", `Unsupported fd type: ${type}`);

/** @param must what the value has to be, as "of type string" */
export function invalidType(name: string, must: string, value: unknown): CodedError {
  const kind = name.includes(".") ? "property" : "argument";
  return coded(TypeError, "ERR_INVALID_ARG_TYPE", `The "${name}" ${kind} must be ${must}. Received ${kindOf(value)}`);
}

function outOfRange(name: string, must: string, value: number): CodedError {
  const long = Number.isInteger(value) && Math.abs(value) > 2 ** 32;
  const text = long ? String(value).replace(/\B(?=(\d{3})+$)/g, "_") : String(value);
  const message = `The value of "${name}" is out of range. It must be ${must}. Received ${text}`;
  return coded(RangeError, "ERR_OUT_OF_RANGE", message);
}

/** @param errno negative */
export function operating(errno: number, syscall: string): OperatingError {
  const code = errnoName(-errno);
  return Object.assign(new Error(`${syscall} ${code}`), { errno, code, syscall });
}

/** The error of a call with an address. A port of 0 or none is not mentioned. */
export function operatingAt(errno: number, syscall: string, address: string | undefined, port?: unknown): Error {
  const code = errnoName(-errno);
  const where = Number(port) > 0 ? ` ${address}:${port}` : address ? ` ${address}` : "";
  const error = Object.assign(new Error(`${syscall} ${code}${where}`), { errno, code, syscall, address });
  return port ? Object.assign(error, { port }) : error;
}

/** The socket's buffer size could not be read or set; the reason is in `info`. */
export function bufferSizeFailed(errno: number, syscall: string): Error {
  const [code, message] = getSystemErrorMap().get(errno) ?? [errnoName(-errno), "unknown error"];
  const text = `Could not get or set buffer size: ${syscall} returned ${code} (${message})`;
  const error = Object.assign(new Error(text), {
    code: "ERR_SOCKET_BUFFER_SIZE",
    info: { errno, code, message, syscall },
    errno,
    syscall,
  });
  return Object.defineProperty(error, "name", { value: "SystemError", configurable: true, writable: true });
}

export function checkString(value: unknown, name: string): asserts value is string {
  if (typeof value !== "string") throw invalidType(name, "of type string", value);
}

export function checkNumber(value: unknown, name: string): asserts value is number {
  if (typeof value !== "number") throw invalidType(name, "of type number", value);
}

export function checkUint32(value: unknown, name: string): void {
  checkNumber(value, name);
  if (!Number.isInteger(value)) throw outOfRange(name, "an integer", value);
  if (value < 0 || value > 0xffffffff) throw outOfRange(name, ">= 0 && <= 4294967295", value);
}

/** A port to send to, given as a number or its text. Throws RangeError ERR_SOCKET_BAD_PORT. */
export function checkPort(port: unknown): number {
  const value = typeof port === "number" || (typeof port === "string" && port.trim() !== "") ? Number(port) : 0;
  if (Number.isInteger(value) && value > 0 && value <= 0xffff) return value;
  throw coded(RangeError, "ERR_SOCKET_BAD_PORT", `Port should be > 0 and < 65536. Received ${kindOf(port)}.`);
}

/** A value in the words of Node's messages. */
function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  switch (typeof value) {
    case "function":
      return `function ${value.name}`;
    case "object": {
      const name = value.constructor?.name;
      return name === undefined ? inspect(value, { depth: -1 }) : `an instance of ${name}`;
    }
    case "string": {
      const text = value.length > 28 ? `${value.slice(0, 25)}...` : value;
      return `type string (${text.includes("'") ? JSON.stringify(text) : `'${text}'`})`;
    }
    case "bigint":
      return `type bigint (${value}n)`;
    default:
      return `type ${typeof value} (${Object.is(value, -0) ? "-0" : String(value)})`;
  }
}
