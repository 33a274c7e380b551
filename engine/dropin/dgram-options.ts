/** What a dgram socket is created with. */
import type { BlockList } from "node:net";
import { badType, checkUint32, invalidType } from "./dgram-errors.ts";
import { original } from "./originals.ts";

const net = original("node:net");

export type SocketType = "udp4" | "udp6";

/** As dns.lookup with a family: calls back with an error, or an address. */
export type Lookup = (
  hostname: string,
  family: 4 | 6,
  callback: (error: Error | null, address: string, family?: number) => void,
) => void;

export interface SocketOptions {
  type: SocketType;
  /** SO_REUSEADDR. */
  reuseAddr?: boolean;
  /** SO_REUSEPORT: the kernel, and the engine, spread datagrams over the sockets of a port. */
  reusePort?: boolean;
  /** IPV6_V6ONLY: a udp6 socket on "::" does not take IPv4 too. */
  ipv6Only?: boolean;
  /** SO_RCVBUF and SO_SNDBUF, set when the socket is bound; bytes. */
  recvBufferSize?: number;
  sendBufferSize?: number;
  /** Resolves every address, literals too; default dns.lookup, which is asked for names alone. */
  lookup?: Lookup;
  /** Closes the socket when it is aborted. */
  signal?: AbortSignal;
  /** Senders whose datagrams are dropped. */
  receiveBlockList?: BlockList;
  /** Addresses to which nothing is sent, ERR_IP_BLOCKED instead. */
  sendBlockList?: BlockList;
}

/** The options of `createSocket(type)` or `createSocket(options)`, checked. Throws as Node does. */
export function checkOptions(given: unknown): SocketOptions {
  const options = (typeof given === "object" && given !== null ? given : { type: given }) as SocketOptions;
  const { lookup, receiveBlockList, recvBufferSize, sendBlockList, sendBufferSize, signal, type } = options;
  if (recvBufferSize) checkUint32(recvBufferSize, "options.recvBufferSize");
  if (sendBufferSize) checkUint32(sendBufferSize, "options.sendBufferSize");
  checkBlockList(receiveBlockList, "options.receiveBlockList");
  checkBlockList(sendBlockList, "options.sendBlockList");
  if (lookup !== undefined && typeof lookup !== "function") throw invalidType("lookup", "of type function", lookup);
  if (type !== "udp4" && type !== "udp6") throw badType();
  if (signal !== undefined && (typeof signal !== "object" || signal === null || !("aborted" in signal))) {
    throw invalidType("options.signal", "an instance of AbortSignal", signal);
  }
  return { ...options };
}

function checkBlockList(list: unknown, name: string): void {
  if (list && !net.BlockList.isBlockList(list)) throw invalidType(name, "an net.BlockList", list);
}
