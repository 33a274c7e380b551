/** From what connect() is given to a connection: the name looked up, its addresses tried in turn (RFC 8305). */
import dns from "node:dns";
import { ERRNO } from "af-xdp-bindings";
import { defaultEngine, runningEngine } from "../default-engine.ts";
import { original } from "../originals.ts";
import type { TcpEngine } from "../tcp-engine.ts";
import { EngineHandle } from "./engine-handle.ts";
import * as errors from "./errors.ts";
import { KernelHandle } from "./kernel-handle.ts";
import { type ConnectOptions, checkInt32, checkPort } from "./options.ts";
import type { StreamHandle } from "./stream-handle.ts";

const net = original("node:net");
const { isIP } = net;
const ATTEMPT_TIMEOUT_MIN_MS = 10;

/** The socket that is to be connected. */
export interface Connecting {
  isConnecting(): boolean;
  emit(event: string, ...values: unknown[]): boolean;
  /** Several addresses are tried: those that have been, "address:port". */
  tried(addresses: string[]): void;
  /** Nothing came of it. */
  giveUp(error: Error): void;
  /** An attempt is under way, on this handle; null: no longer. */
  attempting(handle: StreamHandle | null): void;
  /** It is open. */
  opened(): void;
  touch(): void;
}

interface Address {
  address: string;
  family: 4 | 6;
}

interface Target {
  port: number;
  localAddress: string | undefined;
  localPort: number | undefined;
}

type LookedUp = (error: Error | null, found: string | dns.LookupAddress[], family?: number) => void;
type Lookup = (host: string, options: object, callback: LookedUp) => void;

/** Throws for options that are wrong. */
export function lookupAndConnect(socket: Connecting, options: ConnectOptions): void {
  const { localAddress, localPort } = options;
  const host = options.host || "localhost";
  if (localAddress && isIP(localAddress) === 0) throw errors.invalidAddress(localAddress);
  if (localPort) errors.checkNumber(localPort, "options.localPort");
  if (options.port !== undefined && typeof options.port !== "number" && typeof options.port !== "string") {
    throw errors.invalidType("options.port", "one of type number or string", options.port);
  }
  const port = options.port === undefined ? 0 : checkPort(options.port, "Port");
  const target = { port, localAddress, localPort };
  const timeoutMs = attemptTimeout(options);
  const several = autoSelect(options);
  const family = isIP(host);
  if (family !== 0) {
    const address = { address: host, family: family as 4 | 6 };
    process.nextTick(() => new Attempts(socket, target, options, timeoutMs).single(address));
    return;
  }
  if (options.lookup !== undefined && options.lookup !== null) errors.checkFunction(options.lookup, "options.lookup");
  const wanted = options.family === "IPv4" ? 4 : options.family === "IPv6" ? 6 : options.family;
  const anyFamily = wanted !== 4 && wanted !== 6;
  const query = { family: wanted, hints: options.hints || (anyFamily ? dns.ADDRCONFIG : 0) };
  const lookup = (options.lookup ?? dns.lookup) as unknown as Lookup;
  const attempts = new Attempts(socket, target, options, timeoutMs);
  if (anyFamily && !localAddress && several) {
    lookup(host, { ...query, all: true }, (error, found) => attempts.foundAll(host, error, found));
  } else {
    lookup(host, query, (error, found, foundFamily) => attempts.found(host, error, found as string, foundFamily));
  }
}

function attemptTimeout({ autoSelectFamilyAttemptTimeout: given }: ConnectOptions): number {
  if (given === undefined || given === null) return net.getDefaultAutoSelectFamilyAttemptTimeout();
  checkInt32(given, "options.autoSelectFamilyAttemptTimeout", 1);
  return Math.max(given, ATTEMPT_TIMEOUT_MIN_MS);
}

function autoSelect({ autoSelectFamily: given }: ConnectOptions): boolean {
  if (given === undefined || given === null) return net.getDefaultAutoSelectFamily();
  if (typeof given !== "boolean") throw errors.invalidType("options.autoSelectFamily", "of type boolean", given);
  return given;
}

class Attempts {
  private readonly socket: Connecting;
  private readonly target: Target;
  private readonly options: ConnectOptions;
  private readonly timeoutMs: number;
  private addresses: Address[] = [];
  private current = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly failures: Error[] = [];
  private readonly attempted: string[] = [];

  constructor(socket: Connecting, target: Target, options: ConnectOptions, timeoutMs: number) {
    this.socket = socket;
    this.target = target;
    this.options = options;
    this.timeoutMs = timeoutMs;
  }

  /** What the lookup of one address came to. */
  found(host: string, error: Error | null, address: string, family: number | undefined): void {
    const { socket, target } = this;
    socket.emit("lookup", error, address, family, host);
    if (!socket.isConnecting()) return;
    const failure = error ?? this.unusable(address, family, target.port);
    if (failure !== null) {
      process.nextTick(() => socket.giveUp(failure));
      return;
    }
    socket.touch();
    this.single({ address, family: family as 4 | 6 });
  }

  /** What the lookup of all addresses came to. */
  foundAll(host: string, error: Error | null, found: string | dns.LookupAddress[]): void {
    const { socket, target } = this;
    if (!socket.isConnecting()) return;
    if (error !== null) {
      socket.emit("lookup", error, undefined, undefined, host);
      process.nextTick(() => socket.giveUp(error));
      return;
    }
    const all = found as dns.LookupAddress[];
    for (const { address, family } of all) {
      socket.emit("lookup", null, address, family, host);
      if (!socket.isConnecting()) return;
    }
    this.addresses = interleave(all);
    if (this.addresses.length === 0) {
      const failure = this.unusable(all[0]?.address, all[0]?.family, target.port) as Error;
      process.nextTick(() => socket.giveUp(failure));
      return;
    }
    socket.touch();
    if (this.addresses.length === 1) {
      this.single(this.addresses[0]);
      return;
    }
    socket.tried(this.attempted);
    this.next();
  }

  /** The one address there is. */
  single(address: Address): void {
    const { socket } = this;
    const fail = (error: Error): void => socket.giveUp(error);
    this.begin(address, fail, (failure) => {
      socket.emit("connectionAttemptFailed", address.address, this.target.port, address.family, failure);
      fail(failure);
    });
  }

  /** The next of several. */
  private next(): void {
    const { addresses, failures, socket } = this;
    clearTimeout(this.timer);
    if (!socket.isConnecting()) return;
    if (this.current === addresses.length) {
      socket.giveUp(failures.length === 0 ? errors.connectionTimeout() : errors.allFailed(failures));
      return;
    }
    const number = this.current++;
    const one = addresses[number];
    const { port } = this.target;
    const failed = (failure: Error): void => {
      clearTimeout(this.timer);
      failures.push(failure);
      socket.emit("connectionAttemptFailed", one.address, port, one.family, failure);
      this.next();
    };
    this.attempted.push(`${one.address}:${port}`);
    this.begin(
      one,
      (failure) => {
        failures.push(failure);
        this.next();
      },
      failed,
      number < addresses.length - 1,
    );
  }

  /** @param refused cannot be tried; @param failed was tried in vain */
  private begin(one: Address, refused: (error: Error) => void, failed: (error: Error) => void, timed = false): void {
    const { socket } = this;
    const engine = runningEngine();
    if (engine !== null) {
      if (socket.isConnecting()) this.beginOn(engine, one, refused, failed, timed);
      return;
    }
    // On a tick: what a listener throws is an uncaught exception, not a rejection.
    defaultEngine().then(
      () => process.nextTick(() => this.begin(one, refused, failed, timed)),
      (error) => process.nextTick(() => socket.isConnecting() && socket.giveUp(error)),
    );
  }

  private beginOn(
    engine: TcpEngine,
    { address, family }: Address,
    refused: (error: Error) => void,
    failed: (error: Error) => void,
    timed: boolean,
  ): void {
    const { socket, target } = this;
    const { port, localAddress, localPort } = target;
    const local = localAddress || (localPort ? (family === 4 ? "0.0.0.0" : "::") : undefined);
    if (this.options.blockList?.check(address, family === 4 ? "ipv4" : "ipv6")) {
      refused(errors.blocked(address));
      return;
    }
    socket.emit("connectionAttempt", address, port, family);
    if (!socket.isConnecting()) return;
    const options = { address, port, localAddress: local, localPort: localPort ?? 0 };
    const handle = engine.canConnect(address)
      ? EngineHandle.connect(engine, options, family)
      : KernelHandle.connect(options);
    if ("syscall" in handle) {
      if (handle.syscall === "bind") refused(errors.withAddress(handle.errno, "bind", local as string, localPort));
      else failed(errors.withAddress(handle.errno, "connect", address, port, `${family === 4 ? "0.0.0.0" : "::"}:0`));
      return;
    }
    handle.owner = {
      ...handle.owner,
      connected: (errno) => {
        clearTimeout(this.timer);
        if (errno === 0) {
          socket.opened();
          return;
        }
        socket.attempting(null);
        handle.close(() => {});
        failed(this.failure(errno, address, local));
      },
    };
    socket.attempting(handle);
    if (timed) this.timer = setTimeout(() => this.timedOut(handle, address, family, local), this.timeoutMs);
  }

  private timedOut(handle: StreamHandle, address: string, family: number, local: string | undefined): void {
    const { socket, target } = this;
    socket.emit("connectionAttemptTimeout", address, target.port, family);
    this.failures.push(this.failure(-ERRNO.ETIMEDOUT, address, local));
    if (!socket.isConnecting()) return;
    socket.attempting(null);
    handle.close(() => {});
    this.next();
  }

  private failure(errno: number, address: string, localAddress: string | undefined): Error {
    const { localPort, port } = this.target;
    if (!localAddress || !localPort) return errors.withAddress(errno, "connect", address, port);
    const error = errors.withAddress(errno, "connect", address, port, `${localAddress}:${localPort}`);
    return Object.assign(error, { localAddress, localPort });
  }

  private unusable(address: unknown, family: unknown, port: number): Error | null {
    if (isIP(String(address)) === 0) return errors.invalidAddress(address);
    if (family !== 4 && family !== 6) return errors.badFamily(family, this.options.host, this.options.port ?? port);
    return null;
  }
}

/** Each address once, the families in turn, that of the first one first. */
function interleave(found: readonly dns.LookupAddress[]): Address[] {
  const usable = found.filter(({ address, family }) => isIP(address) !== 0 && (family === 4 || family === 6));
  const once = usable.filter(({ address }, i) => usable.findIndex((other) => other.address === address) === i);
  const first = once.filter(({ family }) => family === once[0].family);
  const second = once.filter(({ family }) => family !== once[0].family);
  const longest = Math.max(first.length, second.length);
  return Array.from({ length: longest }, (_, i) => [first[i], second[i]])
    .flat()
    .filter((one) => one !== undefined) as Address[];
}
