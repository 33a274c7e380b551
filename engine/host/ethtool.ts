/**
 * Driver, queues, rings and offloads of an interface: the SIOCETHTOOL ioctl.
 *
 * Layouts: include/uapi/linux/ethtool.h, Linux 6.18. Cold path: one blocking ioctl a step, SysError on failure.
 */
import { check, ERRNO, SysError, sys } from "af-xdp-bindings";
import { cString, viewOf } from "./netlink.ts";

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SIOCETHTOOL = 0x8946;
const IFNAMSIZ = 16;
/** struct ifreq: name, then a union of 24 bytes whose pointer comes first. */
const IFREQ_BYTES = 40;

const ETHTOOL_GDRVINFO = 0x03;
const ETHTOOL_GRINGPARAM = 0x10;
const ETHTOOL_SRINGPARAM = 0x11;
const ETHTOOL_GSTRINGS = 0x1b;
const ETHTOOL_GRXFH = 0x29;
const ETHTOOL_SRXFH = 0x2a;
const ETHTOOL_GSSET_INFO = 0x37;
const ETHTOOL_GFEATURES = 0x3a;
const ETHTOOL_SFEATURES = 0x3b;
const ETHTOOL_GCHANNELS = 0x3c;
const ETHTOOL_SCHANNELS = 0x3d;
const ETHTOOL_GRSSH = 0x46;

const ETH_SS_FEATURES = 4;
const ETH_GSTRING_LEN = 32;
/** sizeof(struct ethtool_drvinfo) */
const DRVINFO_BYTES = 196;
/** sizeof(struct ethtool_rxnfc), whose flow_type is at 4 and data at 8. */
const RXNFC_BYTES = 192;
/** Bytes of struct ethtool_rxfh before the indirection table, which the key follows. */
const RXFH_HEADER_BYTES = 24;

/** Flow types of ETHTOOL_GRXFH, as `ethtool -n IF rx-flow-hash` calls them. */
const FLOW_TYPES = { udp4: 0x02, udp6: 0x06 } as const;
/** RXH_* bits by the letters of ethtool(8): source and destination address, first and second half of the ports. */
const HASH_FIELDS: readonly (readonly [letter: string, bit: number])[] = [
  ["m", 1 << 1],
  ["v", 1 << 2],
  ["t", 1 << 3],
  ["s", 1 << 4],
  ["d", 1 << 5],
  ["f", 1 << 6],
  ["n", 1 << 7],
];

const HINTS = {
  EPERM: "needs CAP_NET_ADMIN in the interface's namespace",
  EOPNOTSUPP: "the driver does not support this",
};

export interface DriverInfo {
  readonly driver: string;
  readonly version: string;
  readonly firmware: string;
  /** PCI address or other bus location; "" for software devices. */
  readonly bus: string;
}

/** Queue counts; a combined channel has an RX and a TX queue. */
export interface Channels {
  readonly rxMax: number;
  readonly txMax: number;
  readonly otherMax: number;
  readonly combinedMax: number;
  readonly rx: number;
  readonly tx: number;
  readonly other: number;
  readonly combined: number;
}

/** Descriptors a ring. */
export interface Rings {
  readonly rxMax: number;
  readonly txMax: number;
  readonly rx: number;
  readonly tx: number;
}

/** Receive-side scaling: how a device spreads flows over its queues. */
export interface Rss {
  /** Indirection table: the queue of each hash value, modulo its length. Empty where the device has none. */
  readonly table: readonly number[];
  /** Bytes of the hash key; empty where the device does not tell. */
  readonly key: Uint8Array;
}

export type HashFlow = keyof typeof FLOW_TYPES;

export interface Feature {
  readonly active: boolean;
  readonly requested: boolean;
  /** False: the driver does not let it be changed. */
  readonly changeable: boolean;
}

/**
 * Offloads that change what a raw receiver sees, as groups of the kernel's feature names (netdev_features_strings of
 * net/ethtool/common.c): what `ethtool -K` calls tx, rx, sg, tso, gso, gro, txvlan and rxvlan.
 */
export const OFFLOADS = {
  txChecksum: [
    "tx-checksum-ipv4",
    "tx-checksum-ip-generic",
    "tx-checksum-ipv6",
    "tx-checksum-sctp",
    "tx-checksum-fcoe-crc",
  ],
  rxChecksum: ["rx-checksum"],
  scatterGather: ["tx-scatter-gather", "tx-scatter-gather-fraglist"],
  tso: ["tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation"],
  gso: ["tx-generic-segmentation", "tx-udp-segmentation"],
  gro: ["rx-gro", "rx-gro-list", "rx-udp-gro-forwarding"],
  txVlan: ["tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"],
  rxVlan: ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"],
} as const;

export type Offload = keyof typeof OFFLOADS;

/** ethtool of the namespace the thread is in when this is constructed; usable from any namespace afterwards. */
export class Ethtool {
  private readonly fd: number;

  constructor() {
    this.fd = check(sys.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket(AF_INET)");
  }

  close(): void {
    sys.close(this.fd);
  }

  driver(name: string): DriverInfo {
    const data = new Uint8Array(DRVINFO_BYTES);
    this.command(name, ETHTOOL_GDRVINFO, "ETHTOOL_GDRVINFO", data);
    const field = (at: number): string => cString(data.subarray(at, at + 32));
    return { driver: field(4), version: field(36), firmware: field(68), bus: field(100) };
  }

  /** struct ethtool_channels: cmd, the four maxima, the four counts. Throws EOPNOTSUPP where the driver has none. */
  channels(name: string): Channels {
    const w = this.words(name, ETHTOOL_GCHANNELS, "ETHTOOL_GCHANNELS", 9);
    return {
      rxMax: w[1],
      txMax: w[2],
      otherMax: w[3],
      combinedMax: w[4],
      rx: w[5],
      tx: w[6],
      other: w[7],
      combined: w[8],
    };
  }

  setChannels(name: string, counts: { rx?: number; tx?: number; other?: number; combined?: number }): void {
    const w = this.words(name, ETHTOOL_GCHANNELS, "ETHTOOL_GCHANNELS", 9);
    w[5] = counts.rx ?? w[5];
    w[6] = counts.tx ?? w[6];
    w[7] = counts.other ?? w[7];
    w[8] = counts.combined ?? w[8];
    this.command(name, ETHTOOL_SCHANNELS, "ETHTOOL_SCHANNELS", new Uint8Array(w.buffer));
  }

  /** struct ethtool_ringparam: cmd, maxima (rx, rx mini, rx jumbo, tx), values in the same order. */
  rings(name: string): Rings {
    const w = this.words(name, ETHTOOL_GRINGPARAM, "ETHTOOL_GRINGPARAM", 9);
    return { rxMax: w[1], txMax: w[4], rx: w[5], tx: w[8] };
  }

  setRings(name: string, sizes: { rx?: number; tx?: number }): void {
    const w = this.words(name, ETHTOOL_GRINGPARAM, "ETHTOOL_GRINGPARAM", 9);
    w[5] = sizes.rx ?? w[5];
    w[8] = sizes.tx ?? w[8];
    this.command(name, ETHTOOL_SRINGPARAM, "ETHTOOL_SRINGPARAM", new Uint8Array(w.buffer));
  }

  /** struct ethtool_rxfh: cmd, context, table size, key size, functions; then the table, then the key. */
  rss(name: string): Rss {
    const sizes = this.words(name, ETHTOOL_GRSSH, "ETHTOOL_GRSSH", RXFH_HEADER_BYTES / 4);
    const entries = sizes[2];
    const keyBytes = sizes[3];
    const data = new Uint8Array(RXFH_HEADER_BYTES + entries * 4 + keyBytes);
    const view = viewOf(data);
    view.setUint32(8, entries, true);
    view.setUint32(12, keyBytes, true);
    this.command(name, ETHTOOL_GRSSH, "ETHTOOL_GRSSH", data);
    const table = Array.from({ length: entries }, (_, i) => view.getUint32(RXFH_HEADER_BYTES + i * 4, true));
    return { table, key: data.slice(RXFH_HEADER_BYTES + entries * 4) };
  }

  /** Fields that go into the hash of a kind of flow, in the letters of ethtool(8): "sdfn" is addresses and ports. */
  hashFields(name: string, flow: HashFlow): string {
    const data = new Uint8Array(RXNFC_BYTES);
    viewOf(data).setUint32(4, FLOW_TYPES[flow], true);
    this.command(name, ETHTOOL_GRXFH, "ETHTOOL_GRXFH", data);
    const bits = viewOf(data).getUint32(8, true);
    return HASH_FIELDS.map(([letter, bit]) => ((bits & bit) !== 0 ? letter : "")).join("");
  }

  setHashFields(name: string, flow: HashFlow, fields: string): void {
    const data = new Uint8Array(RXNFC_BYTES);
    viewOf(data).setUint32(4, FLOW_TYPES[flow], true);
    const bits = HASH_FIELDS.reduce((sum, [letter, bit]) => (fields.includes(letter) ? sum | bit : sum), 0);
    viewOf(data).setUint32(8, bits, true);
    this.command(name, ETHTOOL_SRXFH, "ETHTOOL_SRXFH", data);
  }

  /** All features the kernel knows, by its names. */
  features(name: string): Map<string, Feature> {
    const names = this.featureNames(name);
    const blocks = Math.ceil(names.length / 32);
    const data = new Uint32Array(2 + blocks * 4);
    data[1] = blocks;
    this.command(name, ETHTOOL_GFEATURES, "ETHTOOL_GFEATURES", new Uint8Array(data.buffer));
    const out = new Map<string, Feature>();
    names.forEach((feature, i) => {
      // struct ethtool_get_features_block { u32 available, requested, active, never_changed }
      const block = 2 + (i >>> 5) * 4;
      const bit = (word: number): boolean => ((data[block + word] >>> (i & 31)) & 1) === 1;
      if (feature !== "") out.set(feature, { active: bit(2), requested: bit(1), changeable: bit(0) && !bit(3) });
    });
    return out;
  }

  /**
   * Turns features on or off by the kernel's names. Features of the list that the driver has but cannot change are
   * left alone when they already are as wanted, and throw EOPNOTSUPP otherwise; an unknown name throws ENOENT.
   */
  setFeatures(name: string, wanted: Readonly<Record<string, boolean>>): void {
    const names = this.featureNames(name);
    const now = this.features(name);
    const blocks = Math.ceil(names.length / 32);
    // struct ethtool_sfeatures { u32 cmd, size; struct { u32 valid, requested } [size] }
    const data = new Uint32Array(2 + blocks * 2);
    data[1] = blocks;
    for (const [feature, on] of Object.entries(wanted)) {
      const i = names.indexOf(feature);
      const state = now.get(feature);
      if (state === undefined) throw new SysError(ERRNO.ENOENT, `ETHTOOL_SFEATURES ${name}`, `no feature ${feature}`);
      if (!state.changeable) {
        if (state.active === on) continue;
        throw new SysError(ERRNO.EOPNOTSUPP, `ETHTOOL_SFEATURES ${name}`, `the driver keeps ${feature} as it is`);
      }
      const block = 2 + (i >>> 5) * 2;
      data[block] |= 1 << (i & 31);
      if (on) data[block + 1] |= 1 << (i & 31);
    }
    this.command(name, ETHTOOL_SFEATURES, "ETHTOOL_SFEATURES", new Uint8Array(data.buffer));
  }

  /** Turns groups of offloads on or off; features of a group that the driver cannot change stay as they are. */
  setOffloads(name: string, wanted: Partial<Record<Offload, boolean>>): void {
    const now = this.features(name);
    const features: Record<string, boolean> = {};
    for (const [offload, on] of Object.entries(wanted)) {
      for (const feature of OFFLOADS[offload as Offload])
        if (now.get(feature)?.changeable === true) features[feature] = on;
    }
    this.setFeatures(name, features);
  }

  /** True when any feature of the group is active. */
  offload(name: string, offload: Offload): boolean {
    const now = this.features(name);
    return OFFLOADS[offload].some((feature) => now.get(feature)?.active === true);
  }

  /** Feature names by bit number. */
  private featureNames(name: string): string[] {
    // struct ethtool_sset_info { u32 cmd, reserved; u64 sset_mask; u32 data[] }
    const info = new Uint32Array(5);
    info[2] = 1 << ETH_SS_FEATURES;
    this.command(name, ETHTOOL_GSSET_INFO, "ETHTOOL_GSSET_INFO", new Uint8Array(info.buffer));
    const count = info[4];
    // struct ethtool_gstrings { u32 cmd, string_set, len; u8 data[] }
    const strings = new Uint8Array(12 + count * ETH_GSTRING_LEN);
    const view = viewOf(strings);
    view.setUint32(4, ETH_SS_FEATURES, true);
    view.setUint32(8, count, true);
    this.command(name, ETHTOOL_GSTRINGS, "ETHTOOL_GSTRINGS", strings);
    return Array.from({ length: count }, (_, i) => {
      const at = 12 + i * ETH_GSTRING_LEN;
      return cString(strings.subarray(at, at + ETH_GSTRING_LEN));
    });
  }

  private words(name: string, command: number, label: string, count: number): Uint32Array<ArrayBuffer> {
    const data = new Uint32Array(count);
    this.command(name, command, label, new Uint8Array(data.buffer));
    return data;
  }

  /** Runs one command; its number goes into the first word of `data`, where the answer appears too. */
  private command(name: string, command: number, label: string, data: Uint8Array): number {
    const encoded = new TextEncoder().encode(name);
    if (encoded.length >= IFNAMSIZ) throw new SysError(ERRNO.ENODEV, `${label} ${name}`, "the name is too long");
    viewOf(data).setUint32(0, command, true);
    const ifreq = new Uint8Array(IFREQ_BYTES);
    ifreq.set(encoded);
    viewOf(ifreq).setBigUint64(IFNAMSIZ, BigInt(sys.addressOf(data)), true);
    return check(sys.ioctl(this.fd, SIOCETHTOOL, sys.addressOf(ifreq)), `${label} ${name}`, HINTS);
  }
}
