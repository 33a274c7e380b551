/**
 * A drop-in for node:net: TCP over an engine.
 *
 *   import net from "lcore/net"; // was: "node:net"
 *
 * The engine is that of default-engine.ts. Connections to, and listeners on, addresses that it does not serve, and paths,
 * are the kernel's. Behaviour is that of Node (doc/api/net.md); what differs is in docs/dropins.md.
 */
import type * as node from "node:net";
import { type Callback, type ConnectOptions, normalizeArgs, type ServerOptions } from "./net/options.ts";
import { type ConnectionListener, Server as NetServer } from "./net/server.ts";
import { Socket } from "./net/socket.ts";
import { callable, original } from "./originals.ts";

export { closeDefaultEngine, configure, defaultEngine, useEngine } from "./default-engine.ts";
export type { ConnectOptions, ListenOptions, OnRead, ServerOptions, SocketOptions } from "./net/options.ts";

const net = original("node:net");
export const {
  BlockList,
  getDefaultAutoSelectFamily,
  getDefaultAutoSelectFamilyAttemptTimeout,
  isIP,
  isIPv4,
  isIPv6,
  SocketAddress,
  setDefaultAutoSelectFamily,
  setDefaultAutoSelectFamilyAttemptTimeout,
} = net;
export const Server = callable(NetServer);
export type Server = NetServer;
export type BlockList = node.BlockList;
export type SocketAddress = node.SocketAddress;
/** By the name it had once. */
export { Socket, Socket as Stream };

/** A server; the listener hears of connections. */
export function createServer(
  options?: ServerOptions | ConnectionListener | null,
  listener?: ConnectionListener,
): Server {
  return new Server(options, listener);
}

/** A socket that begins to connect. */
export function connect(options: ConnectOptions, callback?: Callback): Socket;
export function connect(port: number, host?: string, callback?: Callback): Socket;
export function connect(port: number, callback?: Callback): Socket;
export function connect(path: string, callback?: Callback): Socket;
export function connect(...args: unknown[]): Socket {
  const [options, callback] = normalizeArgs<ConnectOptions>(args);
  const socket = new Socket(options);
  if (options.timeout) socket.setTimeout(options.timeout);
  return callback === null ? socket.connect(options) : socket.connect(options, callback);
}

export const createConnection = connect;

export default {
  BlockList: net.BlockList,
  connect,
  createConnection,
  createServer,
  getDefaultAutoSelectFamily: net.getDefaultAutoSelectFamily,
  getDefaultAutoSelectFamilyAttemptTimeout: net.getDefaultAutoSelectFamilyAttemptTimeout,
  isIP: net.isIP,
  isIPv4: net.isIPv4,
  isIPv6: net.isIPv6,
  Server,
  setDefaultAutoSelectFamily: net.setDefaultAutoSelectFamily,
  setDefaultAutoSelectFamilyAttemptTimeout: net.setDefaultAutoSelectFamilyAttemptTimeout,
  Socket,
  SocketAddress: net.SocketAddress,
  Stream: Socket,
};
