/**
 * What Bun.listen and Bun.connect are given, as far as it is well formed. What is not, the runtime's own functions are given:
 * they say what is wrong with it in their own words.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { AnyFunction } from "./bun-options.ts";

const PORT_MAX = 65_535;
const NAMES = ["open", "data", "drain", "close", "error", "end", "timeout", "connectError", "handshake"] as const;
const FLAGS = ["exclusive", "reusePort", "ipv6Only", "allowHalfOpen"] as const;

export type TcpKind = "buffer" | "uint8array" | "arraybuffer";
const KINDS: Record<string, TcpKind> = {
  buffer: "buffer",
  Buffer: "buffer",
  uint8array: "uint8array",
  Uint8Array: "uint8array",
  arraybuffer: "arraybuffer",
  ArrayBuffer: "arraybuffer",
};

/** One for a listener and all of its connections: reload() changes it for all of them, as in the original. */
export class TcpCalls {
  open: AnyFunction | null = null;
  data: AnyFunction | null = null;
  drain: AnyFunction | null = null;
  close: AnyFunction | null = null;
  error: AnyFunction | null = null;
  end: AnyFunction | null = null;
  timeout: AnyFunction | null = null;
  connectError: AnyFunction | null = null;
  kind: TcpKind = "buffer";

  /** Those that are not given are no more. */
  adopt(given: TcpCalls): void {
    Object.assign(this, given);
  }
}

export interface TcpConfig {
  readonly hostname: string;
  readonly port: number;
  readonly calls: TcpCalls;
  readonly data: unknown;
  readonly allowHalfOpen: boolean;
  readonly reusePort: boolean;
  readonly exclusive: boolean;
  readonly ipv6Only: boolean;
  readonly tls: boolean;
}

type Options = Record<string, unknown>;

/** Null: not a host and a port, or not well formed. */
export function parseTcp(given: unknown): TcpConfig | null {
  if (!isObject(given) || isSet(given.unix) || isSet(given.fd)) return null;
  const { data, hostname, port, tls } = given;
  const calls = parseCalls(given.socket);
  const number = typeof port === "number" || typeof port === "string" ? Number(port) : Number.NaN;
  const name = hostname instanceof String ? hostname.toString() : hostname;
  if (calls === null || typeof name !== "string" || name === "" || !isPort(number)) return null;
  for (const flag of FLAGS) if (given[flag] !== undefined && typeof given[flag] !== "boolean") return null;
  const {
    allowHalfOpen = false,
    exclusive = false,
    ipv6Only = false,
    reusePort = false,
  } = given as Record<string, boolean>;
  // -0 is a port as well.
  const flags = { allowHalfOpen, exclusive, ipv6Only, reusePort, tls: isSet(tls) && tls !== false };
  return { hostname: name, port: number + 0, calls, data, ...flags };
}

/** Handlers, in the asynchronous context in which they are given; null where any of them is not well formed. */
export function parseCalls(given: unknown): TcpCalls | null {
  if (!isObject(given) || Array.isArray(given)) return null;
  const calls = new TcpCalls();
  for (const name of NAMES) {
    const call = given[name];
    if (call === undefined || call === null) continue;
    if (typeof call !== "function") return null;
    if (name !== "handshake") calls[name] = AsyncLocalStorage.bind(call as (...args: unknown[]) => unknown);
  }
  const { binaryType = "buffer" } = given;
  if (calls.data === null && calls.drain === null) return null;
  if (typeof binaryType !== "string" || !Object.hasOwn(KINDS, binaryType)) return null;
  calls.kind = KINDS[binaryType];
  return calls;
}

const isSet = (value: unknown): boolean => value !== undefined && value !== null;
const isObject = (value: unknown): value is Options =>
  (typeof value === "object" && value !== null) || typeof value === "function";
const isPort = (port: number): boolean => Number.isInteger(port) && port >= 0 && port <= PORT_MAX;
