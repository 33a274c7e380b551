/** What a TLSSocket of the runtime's says of the connection under it, which it knows of one of its own alone. */
import type { TLSSocket } from "node:tls";
import { Socket } from "./socket.ts";

const ENDS = ["localAddress", "localFamily", "localPort", "remoteAddress", "remoteFamily", "remotePort"] as const;
const CALLS = ["address", "ref", "setKeepAlive", "setNoDelay", "unref"] as const;

/** Has it answer as the connection under it would, and take that with it when it closes. */
export function showEnds(secure: TLSSocket, plain: Socket | undefined): void {
  if (plain === undefined) return;
  secure.once("close", () => plain.destroy());
  for (const name of ENDS) {
    Object.defineProperty(secure, name, { get: () => plain[name], configurable: true, enumerable: true });
  }
  for (const name of CALLS) {
    const call = (...given: unknown[]): unknown => {
      const result = (plain[name] as (...args: unknown[]) => unknown).apply(plain, given);
      return result === plain ? secure : result;
    };
    Object.defineProperty(secure, name, { value: call, configurable: true, writable: true });
  }
}

/** The connection under a TLSSocket that the runtime has made: it keeps it under a symbol that has no name outside. */
export function plainOf(secure: TLSSocket): Socket | undefined {
  const held = secure as unknown as Record<symbol, unknown>;
  const key = Object.getOwnPropertySymbols(secure).find((symbol) => held[symbol] instanceof Socket);
  return key === undefined ? undefined : (held[key] as Socket);
}
