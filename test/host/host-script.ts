/** A host in virtual time, and what it sends and says: the notation of the tests of its protocols. */
import { Random } from "../../queues/random.ts";
import { C, type CounterName } from "../../sockets/counters.ts";
import { addressBytes } from "../../sockets/fib.ts";
import { Host, type HostConfig, type IcmpReport } from "../../sockets/host/host.ts";
import type { Neighbour } from "../../sockets/host/neighbours.ts";
import { formatIp } from "../../sockets/wire/address.ts";
import { describe, framed } from "./messages.ts";

export const OWN_MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
export const OWN = OWN_MAC.toHex();
export const OWN4 = "198.18.0.1";
export const OWN6 = "2001:db8::1";
/** Made from OWN_MAC. */
export const LOCAL6 = "fe80::ff:fe00:1";
export const SECOND = 1000;

const STATES: Record<number, string> = {
  0: "NONE",
  1: "INCOMPLETE",
  2: "REACHABLE",
  4: "STALE",
  8: "DELAY",
  16: "PROBE",
  32: "FAILED",
};

export const textOf = (words: Int32Array): string => formatIp(addressBytes(words[0], words[1], words[2], words[3]));

export interface Sent {
  /** Time since the wait began, ms. */
  after: number;
  text: string;
}

export class HostScript {
  now = 10_000;
  readonly host: Host;
  readonly frames: Uint8Array[] = [];
  readonly packets: Uint8Array[] = [];
  readonly reports: IcmpReport[] = [];
  readonly conflicts: string[] = [];
  changes = 0;

  constructor(config: Partial<HostConfig> = {}, seed = 1) {
    const settings: HostConfig = {
      ...{ ifindex: 1, mac: OWN_MAC, mtu: 1500, addresses: [`${OWN4}/24`, `${OWN6}/64`], dad: false, acceptRa: false },
      ...config,
    };
    const events = {
      transmit: (frame: Uint8Array): void => {
        if (frame.subarray(6, 12).toHex() !== OWN) throw new Error(`sent from ${frame.subarray(6, 12).toHex()}`);
        this.frames.push(frame.slice());
      },
      transmitPacket: (frame: Uint8Array): void => void this.packets.push(frame.slice()),
      changed: (): void => void this.changes++,
      error: (report: IcmpReport): void => void this.reports.push(report),
      conflict: (address: Uint8Array, mac: Uint8Array, lost: boolean): void =>
        void this.conflicts.push(`${formatIp(address)} ${mac.toHex()} ${lost ? "lost" : "kept"}`),
    };
    this.host = new Host(settings, events, new Random(seed), this.now);
  }

  /** A host whose first announcements are over. */
  static settled(config: Partial<HostConfig> = {}): HostScript {
    const script = new HostScript(config);
    script.pass(10 * SECOND);
    return script;
  }

  /** What was sent since the last look. */
  sent(): string[] {
    return this.frames.splice(0).map(describe);
  }

  /** Takes a frame; gives what it makes the host send at once. */
  take(frame: Uint8Array): string[] {
    this.verdict(frame);
    return this.sent();
  }

  verdict(frame: Uint8Array): number {
    return this.host.receive(frame, this.now);
  }

  /** A packet from a station to the host. */
  packet(packet: Uint8Array, from: Uint8Array): string[] {
    return this.take(framed(OWN_MAC, from, packet));
  }

  /** Sends a packet of a socket. */
  send(packet: Uint8Array): number {
    return this.host.send(framed(new Uint8Array(6), new Uint8Array(6), packet), this.now);
  }

  /** Lets time pass, each deadline kept: what was sent, and when. */
  pass(ms: number): Sent[] {
    const from = this.now;
    const log: Sent[] = [];
    for (let turns = 0; ; turns++) {
      if (turns > 100_000) throw new Error("deadlines without end");
      const next = this.host.tick(this.now);
      for (const text of this.sent()) log.push({ after: this.now - from, text });
      if (next > from + ms) break;
      this.now = Math.max(next, this.now);
    }
    this.now = from + ms;
    return log;
  }

  count(name: CounterName): number {
    return this.host.counters[C[name]];
  }

  neighbour(address: string): Neighbour | undefined {
    return this.host.neighbours.find(({ words }) => textOf(words) === address);
  }

  /** "REACHABLE 02000000000b", or "none". */
  state(address: string): string {
    const found = this.neighbour(address);
    if (found === undefined) return "none";
    return `${STATES[found.state]}${(found.state & 0x1e) === 0 ? "" : ` ${found.mac.toHex()}`}`;
  }

  /** Neighbours to which lcores may send by themselves. */
  published(): string[] {
    return this.host.fib().neighbours.map(({ address, mac }) => `${formatIp(address)} ${mac.toHex()}`);
  }

  /** "10.0.0.0/8 via A mtu N". */
  routes(): string[] {
    return this.host
      .fib()
      .routes.map(({ destination, prefixLength, gateway, mtu }) =>
        [
          `${formatIp(destination)}/${prefixLength}`,
          ...(gateway ? [`via ${formatIp(gateway)}`] : []),
          ...(mtu ? [`mtu ${mtu}`] : []),
        ].join(" "),
      );
  }

  addresses(): string[] {
    return this.host.addresses.map(
      ({ bytes, state }) => `${formatIp(bytes)} ${["tentative", "preferred", "deprecated", "duplicate"][state]}`,
    );
  }
}

/** Whether each time lies in its range. */
export function within(times: readonly number[], ranges: readonly (readonly [number, number])[]): boolean {
  return times.length === ranges.length && times.every((time, i) => time >= ranges[i][0] && time <= ranges[i][1]);
}
