/**
 * Replay of a captured load instead of an interface: what the option `pcap` says, who the captured host was, and how far
 * the replay has come. The driver is queues/pcap-port.ts.
 *
 *   const engine = await Engine.start({ pcap: { file: "load.pcapng", addresses: ["198.18.0.1"] } });
 *   const socket = engine.udp({ port: 53 });      // first the sockets, then the load
 *   const counts = await engine.replay.run();
 */

import { CaptureFileError, OUTBOUND } from "../queues/pcap/format.ts";
import { openCapture } from "../queues/pcap/reader.ts";
import type { CaptureReader } from "../queues/pcap/record.ts";
import { type ReplayCount, ReplayState } from "../queues/pcap/replay.ts";
import { createReplayFile } from "../queues/pcap-port.ts";
import type { FibContent, FibRoute } from "../sockets/fib.ts";
import { formatIp, ip } from "../sockets/wire/address.ts";
import { ETH_P_IP, ETH_P_IPV6, etherType, networkOffset } from "../sockets/wire/ethernet.ts";

/** A captured load instead of an interface: no privilege, any machine. */
export interface ReplayLink {
  /** Capture, pcap or pcapng, of Ethernet. */
  file: string;
  /** Addresses of the host that was captured: frames to them are the load. */
  addresses: readonly string[];
  /** Its MAC address, 6 bytes; default the one that the first frame to one of `addresses` went to. */
  mac?: Uint8Array;
  /** As it was recorded, as quickly as the engine takes frames, or this many times the recorded speed; default recorded. */
  speed?: "recorded" | "full" | number;
  /** Times that the file is replayed, Infinity without end; default 1. */
  loop?: number;
  /** File to write what the engine sends to, as pcapng; default it is only counted. */
  write?: string;
  /** MAC addresses of hosts on the captured link; answers to all others go where the load came from. */
  neighbours?: readonly { address: string; mac: Uint8Array }[];
  /** Receive queues over which the load is spread by its flows; default one an lcore. */
  queues?: number;
  mtu?: number;
}

/** The option with every default filled in that does not depend on the file. */
export interface ReplayConfig {
  readonly file: string;
  readonly addresses: readonly string[];
  readonly mac: Uint8Array | null;
  /** Infinity for full speed. */
  readonly speed: number;
  readonly loops: number;
  readonly write: string | null;
  readonly neighbours: readonly { address: string; mac: Uint8Array }[];
  readonly queues: number;
  readonly mtu: number;
}

/** The replay's part of an engine's wiring. */
export interface PcapWiring {
  readonly kind: "pcap";
  readonly config: ReplayConfig;
  readonly mac: Uint8Array;
  /** Where answers go: the sender of the first frame of the load. */
  readonly peer: Uint8Array;
  readonly state: SharedArrayBuffer;
}

const MTU = 1500;
const QUEUES_MAX = 64;

/** Checks the option. Throws RangeError. */
export function resolveReplay(link: ReplayLink, lcores: number): ReplayConfig {
  const { speed = "recorded", loop = 1, queues = lcores, write = null } = link;
  const factor = speed === "recorded" ? 1 : speed === "full" ? Number.POSITIVE_INFINITY : speed;
  if (typeof factor !== "number" || !(factor > 0)) {
    throw new RangeError(`pcap: speed ${speed}: "recorded", "full" or a factor above 0`);
  }
  if (loop !== Number.POSITIVE_INFINITY && !(Number.isInteger(loop) && loop >= 1)) {
    throw new RangeError(`pcap: loop ${loop}: a whole number from 1, or Infinity`);
  }
  if (!Number.isInteger(queues) || queues < lcores || queues > QUEUES_MAX) {
    throw new RangeError(`pcap: ${queues} queues: from one an lcore, ${lcores}, to ${QUEUES_MAX}`);
  }
  if (link.addresses.length === 0) throw new RangeError("pcap: name the addresses of the host that was captured");
  if (write === link.file) throw new RangeError("pcap: 'write' would overwrite the capture that is replayed");
  for (const { mac } of [...(link.mac ? [{ mac: link.mac }] : []), ...(link.neighbours ?? [])]) {
    if (mac.length !== 6) throw new RangeError(`pcap: a MAC address has 6 bytes, not ${mac.length}`);
  }
  return {
    file: link.file,
    addresses: link.addresses.map((text) => formatIp(ip(text.split("/")[0]))),
    mac: link.mac ?? null,
    speed: factor,
    loops: loop,
    write,
    neighbours: link.neighbours ?? [],
    queues,
    mtu: link.mtu ?? MTU,
  };
}

/** Finds out who was captured, and makes the file to write. Throws CaptureFileError, RangeError, what open(2) says. */
export function pcapWiring(config: ReplayConfig): PcapWiring {
  const { mac, peer } = survey(config);
  if (config.write !== null) createReplayFile(config.write, config.file, config.queues);
  return { kind: "pcap", config, mac: config.mac ?? mac, peer, state: ReplayState.create(config.queues).buffer };
}

/** Gateways that stand for everybody whose MAC address is not known: addresses that nobody has (RFC 7600, RFC 6666). */
const GATEWAY4 = Uint8Array.of(192, 0, 0, 8);
const GATEWAY6 = Uint8Array.of(1, ...new Uint8Array(14), 1);

/** One link, and a way to everybody: the neighbours that were named directly, all others through where the load came from. */
export function replayFib({ config, mac, peer }: PcapWiring, ifindex: number): FibContent {
  const own = config.addresses.map((text) => ip(text));
  const neighbours = config.neighbours.map((entry) => ({ ifindex, address: ip(entry.address), mac: entry.mac }));
  const gateways = [GATEWAY4, GATEWAY6];
  const route = (destination: Uint8Array, prefixLength: number, gateway?: Uint8Array): FibRoute[] => {
    const source = own.find((address) => address.length === destination.length);
    return source === undefined ? [] : [{ destination, prefixLength, ifindex, gateway, source, metric: 0 }];
  };
  return {
    links: [{ ifindex, mac, mtu: config.mtu, up: true }],
    addresses: own.map((address) => ({ ifindex, address, prefixLength: address.length * 8 })),
    routes: [
      ...neighbours.flatMap(({ address }) => route(address, address.length * 8)),
      ...gateways.flatMap((gateway) => route(new Uint8Array(gateway.length), 0, gateway)),
    ],
    neighbours: [...neighbours, ...gateways.map((address) => ({ ifindex, address, mac: peer }))],
  };
}

/** Destinations that are named where none is the right one. */
const NAMED_MAX = 4;

/** MAC addresses of the first frame to one of the addresses. Throws RangeError when there is none. */
function survey(config: ReplayConfig): { mac: Uint8Array; peer: Uint8Array } {
  const reader = openCapture(config.file);
  const own = new Set(config.addresses);
  const others = new Set<string>();
  try {
    while (reader.next()) {
      const to = destinationOf(reader);
      if (own.has(to)) {
        const { bytes, offset } = reader.record;
        return { mac: bytes.slice(offset, offset + 6), peer: bytes.slice(offset + 6, offset + 12) };
      }
      if (to !== "" && others.size < NAMED_MAX) others.add(to);
    }
  } catch (error) {
    if (error instanceof CaptureFileError) throw new CaptureFileError(`${config.file}: ${error.message}`);
    throw error;
  } finally {
    reader.close();
  }
  const instead = others.size === 0 ? "it has no IP packets" : `it has some for ${[...others].join(", ")}`;
  throw new RangeError(`pcap: ${config.file} has no frame to ${config.addresses.join(" or ")}: ${instead}`);
}

/** Destination address of the reader's packet, unless its host sent it itself; "" where it has none. */
function destinationOf({ record }: CaptureReader): string {
  const { bytes, offset, length } = record;
  if (record.direction === OUTBOUND) return "";
  const network = networkOffset(bytes, offset, length);
  if (network < 0) return "";
  const type = etherType(bytes, network);
  const at = type === ETH_P_IP ? 16 : 24;
  const size = type === ETH_P_IP ? 4 : 16;
  if ((type !== ETH_P_IP && type !== ETH_P_IPV6) || network + at + size > offset + length) return "";
  return formatIp(bytes.slice(network + at, network + at + size));
}

/** Between two looks at how far the replay has come. */
const POLL_MS = 5;

/** Counts of a replay: see REPLAY_COUNTS in queues/pcap/replay.ts. */
export type ReplayCounts = Record<ReplayCount, number>;

/** A replay as its engine's starting thread sees it. */
export class Replay {
  private readonly state: ReplayState;
  private readonly isRunning: () => boolean;

  constructor(wiring: PcapWiring, isRunning: () => boolean) {
    this.state = new ReplayState(wiring.state);
    this.isRunning = isRunning;
  }

  /** Lets the load come; call it when the sockets are open. Recorded times count from now. */
  start(): void {
    this.state.begin();
  }

  /** What has been received and sent so far. */
  get counts(): ReplayCounts {
    return this.state.counts();
  }

  /** What there is to say of the files: that the capture ends early or is damaged, or that no more could be written. */
  get notes(): string[] {
    return this.state.notes();
  }

  /**
   * Starts, and resolves with the counts once the engine has received everything. Answers may still be on their way: they
   * are in the file that is written when the engine has closed. Rejects when the engine stops before.
   */
  async run(): Promise<ReplayCounts> {
    this.start();
    while (this.counts.ended === 0) {
      if (!this.isRunning()) throw new Error("the engine has stopped before the replay had ended");
      await Bun.sleep(POLL_MS);
    }
    return this.counts;
  }
}
