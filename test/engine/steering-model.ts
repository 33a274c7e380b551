/** The steering program's decision, written plainly: what the program in engine/steering/code.ts is compared with. */
import type { CounterName } from "../../engine/steering/layout.ts";

export interface Binding {
  readonly protocol: number;
  readonly port: number;
  readonly family: number;
  /** Hex of 4 or 16 bytes; none for a wildcard. */
  readonly address?: string;
  readonly stamp?: boolean;
}

export interface HostModel {
  /** Hex. */
  readonly mac: string;
  /** Hex of 4 or 16 bytes. */
  readonly locals: readonly string[];
  readonly bindings: readonly Binding[];
}

/** "redirected" stands for a match; whether the queue has a socket is not the model's. */
export interface Decision {
  readonly counter: CounterName;
  readonly stamp: boolean;
}

const pass = (counter: CounterName): Decision => ({ counter, stamp: false });

export function decide(host: HostModel, frame: Uint8Array): Decision {
  const hex = (from: number, length: number): string => frame.subarray(from, from + length).toHex();
  let at = 14;
  if (frame.length < at) return pass("passMalformed");
  for (let tags = 0; ["8100", "88a8"].includes(hex(at - 2, 2)); tags++) {
    if (tags === 2) return pass("passNotIp");
    at += 4;
    if (frame.length < at) return pass("passMalformed");
  }
  const family = { "0800": 4, "86dd": 6 }[hex(at - 2, 2)];
  if (family === undefined) return pass("passNotIp");
  if (hex(0, 6) !== host.mac) return pass("passNotHost");

  const headerSize = family === 4 ? 20 : 40;
  if (frame.length < at + headerSize) return pass("passMalformed");
  if (frame[at] >> 4 !== family) return pass("passMalformed");
  let transport = at + headerSize;
  let protocol: number;
  let destination: string;
  if (family === 4) {
    const words = frame[at] & 15;
    transport = at + 4 * words;
    if (words < 5 || frame.length < transport) return pass("passMalformed");
    const fragment = (frame[at + 6] << 8) | frame[at + 7];
    if ((fragment & 0x2000) !== 0 || (fragment & 0x1fff) !== 0) return pass("passFragment");
    protocol = frame[at + 9];
    destination = hex(at + 16, 4);
  } else {
    destination = hex(at + 24, 16);
    if (destination.startsWith("ff")) return pass("passNotHost");
    protocol = frame[at + 6];
    if (protocol === 44) return pass("passFragment");
  }
  if (protocol !== 6 && protocol !== 17) return pass("passProtocol");
  if (frame.length < transport + 8) return pass("passMalformed");
  const port = (frame[transport + 2] << 8) | frame[transport + 3];

  const here = host.bindings.filter((b) => b.protocol === protocol && b.port === port && b.family === family);
  const specific = here.find((binding) => binding.address === destination);
  if (specific) return { counter: "redirected", stamp: specific.stamp === true };
  const wildcard = here.find((binding) => binding.address === undefined);
  if (!wildcard) return pass("passNoMatch");
  if (!host.locals.includes(destination)) return pass("passNotHost");
  // STAMP is a flag of the port, for both families.
  const stamp = host.bindings.some((b) => b.protocol === protocol && b.port === port && !b.address && b.stamp === true);
  return { counter: "redirected", stamp };
}
