/** The same calls on a socket of the kernel and on one of the engine, told in one form. */
import { check, errnoName, SysError, sys } from "af-xdp-bindings";
import type { NetNs } from "../../engine/host/netns.ts";
import { AF_INET, AF_INET6 } from "../../sockets/table.ts";
import type { UdpSocket } from "../../sockets/udp-socket.ts";
import { NUMBERS } from "./numbers.ts";

const SOCK_DGRAM_CLOEXEC = 0x80002;

/** Results are "ok", an errno's name, or bytes in hex. */
export interface Party {
  set(level: number, name: number, value: Uint8Array): string;
  get(level: number, name: number, length: number): string;
  close(): void;
}

export class KernelParty implements Party {
  readonly fd: number;

  /** A socket bound to a wildcard address and a free port. */
  constructor(ns: NetNs, family: 4 | 6) {
    const af = family === 4 ? AF_INET : AF_INET6;
    this.fd = check(
      ns.run(() => sys.socket(af, SOCK_DGRAM_CLOEXEC, 0)),
      "socket",
    );
    const address = new Uint8Array(family === 4 ? 16 : 28);
    new DataView(address.buffer).setUint16(0, af, true);
    check(sys.bind(this.fd, address), "bind");
  }

  set(level: number, name: number, value: Uint8Array): string {
    // An empty view has no address, and the kernel wants one.
    const memory = value.length === 0 ? new Uint8Array(1) : value;
    const result = sys.sys6(sys.SYS.setsockopt, this.fd, level, name, sys.addressOf(memory), value.length, 0);
    return result < 0 ? errnoName(-result) : "ok";
  }

  get(level: number, name: number, length: number): string {
    const out = new Uint8Array(Math.max(length, 1));
    const size = Uint32Array.of(length);
    const result = sys.sys6(sys.SYS.getsockopt, this.fd, level, name, sys.addressOf(out), sys.addressOf(size), 0);
    return result < 0 ? errnoName(-result) : out.subarray(0, size[0]).toHex();
  }

  close(): void {
    sys.close(this.fd);
  }
}

export class EngineParty implements Party {
  readonly socket: UdpSocket;

  constructor(socket: UdpSocket) {
    this.socket = socket;
  }

  set(level: number, name: number, value: Uint8Array): string {
    return verdict(() => {
      this.socket.setsockopt(level, name, value);
      return "ok";
    });
  }

  get(level: number, name: number, length: number): string {
    return verdict(() => this.socket.getsockoptBytes(level, name, length).toHex());
  }

  close(): void {
    this.socket.close();
  }
}

/** What a call returns, or the name of the errno it throws. */
export function verdict(call: () => string): string {
  try {
    return call();
  } catch (error) {
    if (error instanceof SysError) return error.code;
    throw error;
  }
}

export const int = (value: number): Uint8Array => new Uint8Array(Int32Array.of(value).buffer);

/** One option through its values and lengths: a line each. */
export function play(party: Party, level: number, name: number): string[] {
  const lines = [0, 1, 2, 3, 4, 8, 16].map((length) => `get ${length}: ${party.get(level, name, length)}`);
  for (const value of NUMBERS) {
    lines.push(`set ${value}: ${party.set(level, name, int(value))}, ${party.get(level, name, 4)}`);
  }
  for (let length = 0; length <= 24; length++) {
    const value = new Uint8Array(length);
    if (length > 0) value[0] = 1;
    lines.push(`set ${length} bytes: ${party.set(level, name, value)}, ${party.get(level, name, 24)}`);
  }
  return lines;
}
