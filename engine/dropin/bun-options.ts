/** What Bun.udpSocket is given, checked in the order and with the words of Bun 1.4. */
import { AsyncLocalStorage } from "node:async_hooks";
import { invalidArgument } from "./bun-errors.ts";

export const PORT_MAX = 65535;

/** How a datagram is handed over. */
export type Kind = "buffer" | "uint8array" | "arraybuffer" | TypedKind;
type TypedKind = keyof typeof TYPED_ARRAYS;

/** Beyond the documented three the original knows these. */
export const TYPED_ARRAYS = {
  int8array: Int8Array,
  uint16array: Uint16Array,
  int16array: Int16Array,
  uint32array: Uint32Array,
  int32array: Int32Array,
  float16array: Float16Array,
  float32array: Float32Array,
  float64array: Float64Array,
} as const;

const KINDS = new Map<string, Kind>([
  ["buffer", "buffer"],
  ["Buffer", "buffer"],
  ["nodebuffer", "buffer"],
  ["uint8array", "uint8array"],
  ["Uint8Array", "uint8array"],
  ["arraybuffer", "arraybuffer"],
  ["ArrayBuffer", "arraybuffer"],
  ...Object.entries(TYPED_ARRAYS).flatMap(([kind, { name }]): [string, Kind][] => [
    [kind, kind as Kind],
    [name, kind as Kind],
  ]),
]);

// biome-ignore lint/complexity/noBannedTypes: any function at all, called with what the original passes
export type AnyFunction = Function;

export interface Handlers {
  data: AnyFunction | null;
  drain: AnyFunction | null;
  error: AnyFunction | null;
}

/** Calls a function in the asynchronous context in which the options were given. */
export type Context = (call: AnyFunction, ...args: unknown[]) => unknown;

export interface Config {
  context: Context;
  hostname: string;
  port: number;
  flags: number;
  kind: Kind;
  handlers: Handlers;
  connect: { hostname: string; port: number } | null;
}

/** Bits of `flags`, which the original takes and does not document. */
export const FLAG_REUSEPORT = 4;
export const FLAG_IPV6ONLY = 8;
export const FLAG_REUSEADDR = 16;

type Options = Record<string, unknown>;

/** Throws TypeError and RangeError as the original does. */
export function parseConfig(given: unknown): Config {
  const options = object(given);
  if (options === null) throw invalidArgument("Expected an object");
  // Each is read once: a getter may count.
  const { port: portGiven, flags: flagsGiven, fd, hostname: hostnameGiven } = options;
  const port = isNone(portGiven) ? 0 : portOf(portGiven, "port", 0);
  const flags = isNone(flagsGiven) ? 0 : flagsOf(flagsGiven);
  if (!isNone(fd)) throw invalidArgument('"fd" cannot be taken over: the engine has sockets of its own');
  const hostname = isGiven(hostnameGiven) ? text(hostnameGiven, "hostname") : "0.0.0.0";
  const { kind, handlers } = parseSocket(options);
  const connect = parseConnect(options.connect);
  return { context: AsyncLocalStorage.snapshot() as Context, hostname, port, flags, kind, handlers, connect };
}

/** The binary type counts only beside handlers. */
function parseSocket(options: Options): { kind: Kind; handlers: Handlers } {
  const handlers: Handlers = { data: null, drain: null, error: null };
  const given = options.socket;
  if (!isGiven(given)) return { kind: "buffer", handlers };
  const socket = object(given);
  if (socket === null) throw invalidArgument('Expected "socket" to be an object');
  const { binaryType } = options;
  const kind = isGiven(binaryType) ? kindOf(binaryType) : "buffer";
  for (const name of ["data", "drain", "error"] as const) {
    const handler = socket[name];
    if (!isGiven(handler)) continue;
    if (typeof handler !== "function") throw invalidArgument(`Expected "socket.${name}" to be a function`);
    handlers[name] = handler;
  }
  return { kind, handlers };
}

function parseConnect(given: unknown): Config["connect"] {
  if (!isGiven(given)) return null;
  const connect = object(given);
  if (connect === null) throw invalidArgument('Expected "connect" to be an object');
  const { hostname } = connect;
  if (!isGiven(hostname)) throw invalidArgument('Expected "connect.hostname" to be a string');
  const name = text(hostname, "connect.hostname");
  const { port } = connect;
  if (isNone(port)) throw invalidArgument('Expected "connect.port" to be an integer');
  return { hostname: name, port: portOf(port, "connect.port", 1) };
}

function kindOf(value: unknown): Kind {
  const name = text(value, "socket.binaryType");
  const kind = KINDS.get(name);
  if (kind !== undefined) return kind;
  throw invalidArgument("Expected \"socket.binaryType\" to be 'arraybuffer', 'uint8array', or 'buffer'");
}

function flagsOf(value: unknown): number {
  if (typeof value !== "number") {
    throw invalidArgument(`The "flags" property must be of type number, got ${typeof value}`);
  }
  const must = !Number.isInteger(value)
    ? "an integer"
    : value !== (value | 0)
      ? `>= ${-(2 ** 31)} && <= ${2 ** 31 - 1}`
      : "";
  if (must === "") return value;
  const message = `The value of "flags" is out of range. It must be ${must}. Received ${value}`;
  throw invalidArgument(message, RangeError, "ERR_OUT_OF_RANGE");
}

/** A port given as anything that converts to a whole number in range. Throws TypeError. */
export function portOf(value: unknown, name: string, low: number): number {
  const port = +(value as number);
  if (Number.isInteger(port) && port >= low && port <= PORT_MAX) return port;
  throw invalidArgument(`Expected "${name}" to be an integer between ${low} and ${PORT_MAX}`);
}

function text(value: unknown, name: string): string {
  if (typeof value === "string") return value;
  if (value instanceof String) return value.toString();
  throw invalidArgument(`Expected "${name}" to be a string`);
}

const isNone = (value: unknown): boolean => value === undefined || value === null;

/** What counts as given: 0 and false do, "" does not. */
const isGiven = (value: unknown): boolean => !isNone(value) && value !== "";

function object(value: unknown): Options | null {
  return (typeof value === "object" && value !== null) || typeof value === "function" ? (value as Options) : null;
}
