/**
 * `Bun.udpSocket` on an engine: change the import from "bun" to "lcore/bun", and datagrams no longer pass through the
 * kernel's sockets. Which engine, and from when to when it runs: default-engine.ts. What differs: docs/dropins.md.
 *
 *   import { udpSocket } from "lcore/bun";
 *   const server = await udpSocket({ port: 41234, socket: { data(socket, data, port, address) { … } } });
 */
import { ERRNO, SysError } from "af-xdp-bindings";
import type { BinaryType, udp } from "bun";
import type { UdpSocket } from "../../sockets/udp-socket.ts";
import { formatIp } from "../../sockets/wire/address.ts";
import { Engine, type EngineThread } from "../engine.ts";
import { type NumericAddress, parseNumeric, resolveLocal, resolveRemote } from "./bun-address.ts";
import { bindFailed, callFailed } from "./bun-errors.ts";
import { type Config, FLAG_IPV6ONLY, FLAG_REUSEADDR, FLAG_REUSEPORT, parseConfig } from "./bun-options.ts";
import { remember, UDPSocket } from "./bun-socket.ts";
import { defaultEngine, runningEngine } from "./default-engine.ts";

export type { udp } from "bun";
export { connect, listen } from "./bun-tcp.ts";
export { closeDefaultEngine, configure, defaultEngine, useEngine } from "./default-engine.ts";

/**
 * Creates a UDP socket, as Bun.udpSocket does. Throws TypeError for bad options. The promise rejects with what bind or
 * connect refuses, with what a name cannot be found with, and with what the engine cannot be started with; where the
 * engine runs already and no name has to be looked up, these are thrown at once, as the original throws them always.
 */
export function udpSocket<Kind extends BinaryType = "buffer">(
  options: udp.SocketOptions<Kind>,
): Promise<udp.Socket<Kind>>;
export function udpSocket<Kind extends BinaryType = "buffer">(
  options: udp.ConnectSocketOptions<Kind>,
): Promise<udp.ConnectedSocket<Kind>>;
export function udpSocket(options: unknown): Promise<unknown> {
  const config = parseConfig(options);
  const engine = runningEngine();
  const local = parseNumeric(config.hostname);
  const remotes = remotesAtOnce(config);
  if (engine === null || local === null || remotes === null) return openLater(config, local, remotes);
  return Promise.resolve(open(engine, config, local, remotes));
}

async function openLater(
  config: Config,
  local: NumericAddress | null,
  remotes: NumericAddress[] | null,
): Promise<UDPSocket> {
  const from = local ?? (await resolveLocal(config.hostname));
  const to = remotes ?? (await resolveRemote((config.connect as { hostname: string }).hostname));
  return open(await defaultEngine(), config, from, to);
}

/** Addresses to connect to; null where a name has to be looked up first. */
function remotesAtOnce({ connect }: Config): NumericAddress[] | null {
  if (connect === null) return [];
  const remote = parseNumeric(connect.hostname);
  return remote === null ? null : [remote];
}

function open(engine: EngineThread, config: Config, local: NumericAddress, remotes: NumericAddress[]): UDPSocket {
  const socket = bind(engine, config, local, remotes);
  try {
    if (config.connect !== null) connect(socket, local.family, config.connect.port, remotes);
    const opened = new UDPSocket(engine, socket, local.family === 4 ? 4 : 6, config);
    remember(engine, opened, failureOf);
    return opened;
  } catch (error) {
    socket.close();
    throw error;
  }
}

function bind(
  engine: EngineThread,
  { flags, hostname, port }: Config,
  local: NumericAddress,
  remotes: NumericAddress[],
): UdpSocket {
  const zone = local.zone || remotes.find((remote) => remote.zone !== "")?.zone || "";
  if (zone !== "" && zone !== engine.link?.name) throw bindFailed(ERRNO.ENOENT, hostname);
  try {
    return engine.udp({
      address: formatIp(local.bytes),
      port,
      reusePort: (flags & FLAG_REUSEPORT) !== 0,
      reuseAddress: (flags & FLAG_REUSEADDR) !== 0,
      ipv6Only: (flags & FLAG_IPV6ONLY) !== 0,
      device: zone === "" ? 0 : engine.link?.ifindex,
    });
  } catch (error) {
    // What the engine itself lacks is said in its own words.
    throw error instanceof SysError && error.syscall !== "socket" ? bindFailed(error.errno, hostname) : error;
  }
}

/** Connects to the first address that can be. */
function connect(socket: UdpSocket, family: number, port: number, remotes: readonly NumericAddress[]): void {
  let errno: number = ERRNO.EAFNOSUPPORT;
  for (const remote of remotes) {
    if (family === 4 && remote.family === 6) continue;
    try {
      socket.connect(port, formatIp(remote.bytes));
      return;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      errno = error.errno;
    }
  }
  throw callFailed(errno, "connect");
}

/** Resolves when the engine fails, if it ever does. */
function failureOf(engine: EngineThread): Promise<Error> {
  return new Promise((resolve) => {
    if (engine instanceof Engine) engine.closed.catch(resolve);
  });
}
