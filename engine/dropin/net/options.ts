/** What sockets and servers of node:net are made with, and the forms in which their calls are given it. */
import type { LookupFunction } from "node:net";
import { checkNumber, invalidType, invalidValue, noObjectMode } from "./errors.ts";

export interface OnRead {
  buffer: Uint8Array | (() => Uint8Array);
  /** False: no more for now. */
  callback(count: number, buffer: Uint8Array): boolean;
}

export interface SocketOptions {
  /** Not to be had: it would be the kernel's. */
  fd?: number;
  allowHalfOpen?: boolean;
  readable?: boolean;
  writable?: boolean;
  highWaterMark?: number;
  readableHighWaterMark?: number;
  writableHighWaterMark?: number;
  /** Destroys the socket when it is aborted. */
  signal?: AbortSignal;
  /** What comes is put into one buffer, and told by a call. */
  onread?: OnRead | null;
  noDelay?: boolean;
  keepAlive?: boolean;
  /** Milliseconds. */
  keepAliveInitialDelay?: number;
  blockList?: { check(address: string, family: "ipv4" | "ipv6"): boolean };
}

export interface ConnectOptions extends SocketOptions {
  port?: number | string;
  host?: string;
  path?: string;
  localAddress?: string;
  localPort?: number;
  family?: number | "IPv4" | "IPv6";
  hints?: number;
  lookup?: LookupFunction;
  autoSelectFamily?: boolean;
  /** Milliseconds, 10 at least. */
  autoSelectFamilyAttemptTimeout?: number;
  /** Milliseconds; as setTimeout() before connect(). */
  timeout?: number;
}

export interface ServerOptions {
  allowHalfOpen?: boolean;
  pauseOnConnect?: boolean;
  noDelay?: boolean;
  keepAlive?: boolean;
  keepAliveInitialDelay?: number;
  highWaterMark?: number;
  blockList?: SocketOptions["blockList"];
}

export interface ListenOptions {
  port?: number | string | null;
  host?: string;
  path?: string;
  backlog?: number;
  exclusive?: boolean;
  readableAll?: boolean;
  writableAll?: boolean;
  ipv6Only?: boolean;
  reusePort?: boolean;
  signal?: AbortSignal;
  fd?: number;
}

export type Callback = () => void;

/** The options and the callback of (options, callback?), (path, callback?), (port, host?, …, callback?). */
export function normalizeArgs<Options extends { path?: string; port?: unknown; host?: string }>(
  args: readonly unknown[],
): [Options, Callback | null] {
  const [first, second] = args;
  let options = {} as Options;
  if (typeof first === "object" && first !== null) options = first as Options;
  else if (isPath(first)) options.path = first;
  else if (args.length > 0) {
    options.port = first;
    if (typeof second === "string") options.host = second;
  }
  const last = args.at(-1);
  return [options, typeof last === "function" ? (last as Callback) : null];
}

export function isPath(value: unknown): value is string {
  return typeof value === "string" && !(Number(value) >= 0);
}

/** Checks the options of a socket. Throws as Node does. */
export function checkSocketOptions(options: SocketOptions & Record<string, unknown>): void {
  for (const name of ["objectMode", "readableObjectMode", "writableObjectMode"]) {
    if (options[name]) throw noObjectMode(name);
  }
  checkKeepAliveDelay(options);
}

/** Seconds, of milliseconds given. */
export function checkKeepAliveDelay({ keepAliveInitialDelay: delay }: { keepAliveInitialDelay?: number }): number {
  if (delay === undefined) return 0;
  checkNumber(delay, "options.keepAliveInitialDelay");
  return Math.max(0, ~~(delay / 1000));
}

/** A port as a number or its text. Throws ERR_SOCKET_BAD_PORT. */
export function checkPort(port: unknown, name: string): number {
  const isNumber = typeof port === "number" || (typeof port === "string" && port.trim() !== "");
  const value = isNumber ? Number(port) : -1;
  if (Number.isInteger(value) && value >= 0 && value <= 0xffff) return value;
  const received = invalidType("", "", port).message.replace(/^.*Received /s, "");
  throw Object.assign(new RangeError(`${name} should be >= 0 and < 65536. Received ${received}.`), {
    code: "ERR_SOCKET_BAD_PORT",
  });
}

export function checkInt32(value: unknown, name: string, least: number): asserts value is number {
  checkNumber(value, name);
  if (Number.isInteger(value) && value >= least && value <= 0x7fffffff) return;
  const must = Number.isInteger(value) ? `>= ${least} && <= 2147483647` : "an integer";
  const message = `The value of "${name}" is out of range. It must be ${must}. Received ${value}`;
  throw Object.assign(new RangeError(message), { code: "ERR_OUT_OF_RANGE" });
}

/** The duration of a timer, milliseconds. */
export function checkDuration(value: unknown): number {
  checkNumber(value, "msecs");
  if (value >= 0 && Number.isFinite(value)) return Math.min(value, 0x7fffffff);
  const message = `The value of "msecs" is out of range. It must be a non-negative finite number. Received ${value}`;
  throw Object.assign(new RangeError(message), { code: "ERR_OUT_OF_RANGE" });
}

/** What listen() has neither a port nor a path of. */
export function noTarget(options: object): Error {
  const hasOne = "port" in options || "path" in options;
  return invalidValue("options", options, hasOne ? "is invalid" : 'must have the property "port" or "path"');
}
