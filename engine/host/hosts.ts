/**
 * Two hosts on one wire: network namespaces `a` and `b` joined by a veth pair, for tests, benchmarks and the demo.
 *
 * Both ends are called `veth0` and live in namespaces of their own, so nothing of the machine's network is touched.
 * Addresses are those set aside for benchmarks and documentation: 198.18.0.0/15 (RFC 2544), 2001:db8::/32 (RFC 3849).
 */
import { existsSync, writeFileSync } from "node:fs";
import { ERRNO, SysError } from "af-xdp-bindings";
import { formatIpv4, formatIpv6 } from "../../sockets/wire/address.ts";
import { Ethtool } from "./ethtool.ts";
import { NetNs } from "./netns.ts";
import { Rtnl } from "./rtnetlink.ts";
import type { Link } from "./rtnetlink-decode.ts";
import { IF_OPER_UP, IFA_F_TENTATIVE, RT_TABLE_LOCAL, RTN_LOCAL } from "./rtnetlink-uapi.ts";

const NAME = "veth0";
/** Carrier events and IPv6 addresses run through a kernel work queue: microseconds, on a loaded machine many milliseconds. */
const UP_TIMEOUT_MS = 5000;
const POLL_INTERVAL_MS = 1;

export interface VethOptions {
  /** RX and TX queues of each end. */
  queues: number;
  /** Bytes. */
  mtu: number;
  /** Whether to give IPv6 addresses too. */
  ipv6: boolean;
  /**
   * "on": veth's defaults, where the sender's kernel leaves checksums and segmentation undone (what two containers on
   * one machine see). "off": frames as they look on a real wire.
   */
  offloads: "on" | "off";
  /** Third octet of the addresses, 198.18.x.0/24 and 2001:db8:x::/64: hosts of one test program may tell pairs apart. */
  subnet: number;
}

/** One end: everything a test needs to know to address it. */
export interface Host {
  readonly ns: NetNs;
  /** Interface name, "veth0". */
  readonly name: string;
  readonly ifindex: number;
  /** 6 bytes. */
  readonly mac: Uint8Array;
  /** 4 bytes. */
  readonly ipv4: Uint8Array;
  readonly ipv4Text: string;
  /** 16 bytes; set also when `ipv6` is off, but then not configured. */
  readonly ipv6: Uint8Array;
  readonly ipv6Text: string;
  /** rtnetlink and ethtool of this host's namespace. */
  readonly rtnl: Rtnl;
  readonly ethtool: Ethtool;
}

/** A veth pair between two fresh namespaces, up and addressed. Needs root; everything goes away with `close`. */
export class VethPair {
  readonly a: Host;
  readonly b: Host;
  readonly mtu: number;
  readonly queues: number;

  constructor(options: Partial<VethOptions> = {}) {
    const { queues = 1, mtu = 1500, ipv6 = true, offloads = "off", subnet = 0 } = options;
    if (!Number.isInteger(subnet) || subnet < 0 || subnet > 255) throw new RangeError(`subnet ${subnet}: 0 to 255`);
    const ends: End[] = [];
    try {
      for (let i = 0; i < 2; i++) ends.push(new End(NetNs.create(), ipv6));
      const [a, b] = ends as [End, End];
      const end = { name: NAME, mtu, rxQueues: queues, txQueues: queues };
      a.rtnl.createVeth(end, { ...end, netnsFd: b.ns.fd });
      a.configure(1, subnet, ipv6);
      b.configure(2, subnet, ipv6);
      if (offloads === "off") for (const side of ends) side.offloadsOff();
      this.a = a.host(1, subnet, ipv6);
      this.b = b.host(2, subnet, ipv6);
    } catch (error) {
      for (const side of ends) side.close();
      throw error;
    }
    this.mtu = mtu;
    this.queues = queues;
  }

  close(): void {
    try {
      // Deleting one end deletes both at once; an unreferenced namespace is only torn down some time later.
      const link = this.a.rtnl.findLink(NAME);
      if (link !== null) this.a.rtnl.deleteLink(link.ifindex);
    } finally {
      for (const { rtnl, ethtool, ns } of [this.a, this.b]) {
        rtnl.close();
        ethtool.close();
        ns.close();
      }
    }
  }
}

/** A namespace on its way to becoming a Host. */
class End {
  readonly ns: NetNs;
  readonly rtnl: Rtnl;
  readonly ethtool: Ethtool;

  constructor(ns: NetNs, ipv6: boolean) {
    this.ns = ns;
    ns.run(() => quieten(ipv6));
    this.rtnl = ns.run(() => new Rtnl());
    this.ethtool = ns.run(() => new Ethtool());
  }

  configure(host: number, subnet: number, ipv6: boolean): void {
    this.rtnl.setLink(this.rtnl.link("lo").ifindex, { up: true });
    const { ifindex } = this.rtnl.link(NAME);
    this.rtnl.addAddress(ifindex, ipv4Of(host, subnet), 24);
    if (ipv6) this.rtnl.addAddress(ifindex, ipv6Of(host, subnet), 64);
    this.rtnl.setLink(ifindex, { up: true });
  }

  offloadsOff(): void {
    this.ethtool.setOffloads(NAME, {
      txChecksum: false,
      scatterGather: false,
      tso: false,
      gso: false,
      gro: false,
      txVlan: false,
      rxVlan: false,
    });
  }

  host(host: number, subnet: number, ipv6: boolean): Host {
    const link = this.waitUntilUp(ipv6);
    if (ipv6) waitUntilLocal(this.rtnl, [ipv6Of(host, subnet)]);
    return {
      ns: this.ns,
      name: NAME,
      ifindex: link.ifindex,
      mac: link.mac,
      ipv4: ipv4Of(host, subnet),
      ipv4Text: formatIpv4(ipv4Of(host, subnet)),
      ipv6: ipv6Of(host, subnet),
      ipv6Text: formatIpv6(ipv6Of(host, subnet)),
      rtnl: this.rtnl,
      ethtool: this.ethtool,
    };
  }

  close(): void {
    this.rtnl.close();
    this.ethtool.close();
    this.ns.close();
  }

  /** The link once it carries frames and, with IPv6, has its link-local address. */
  private waitUntilUp(ipv6: boolean): Link {
    let link = this.rtnl.link(NAME);
    waitUntil(`${NAME} up`, () => {
      link = this.rtnl.link(NAME);
      return link.operstate === IF_OPER_UP && (!ipv6 || this.hasLinkLocal(link.ifindex));
    });
    return link;
  }

  private hasLinkLocal(ifindex: number): boolean {
    return this.rtnl
      .addresses(ifindex)
      .some(({ local, flags }) => local[0] === 0xfe && local[1] === 0x80 && (flags & IFA_F_TENTATIVE) === 0);
  }
}

/**
 * Waits until the host takes packets to its own `addresses`, of 4 or 16 bytes. The kernel adds the route that delivers
 * them (RTN_LOCAL) for an IPv6 address from a work queue (addrconf_dad_completed, net/ipv6/addrconf.c), after
 * RTM_NEWADDR has been answered and also without duplicate address detection. Until then bind(2) and sendto(2) succeed
 * and packets to the address are dropped. Throws SysError with ETIMEDOUT after UP_TIMEOUT_MS.
 */
export function waitUntilLocal(rtnl: Rtnl, addresses: readonly Uint8Array[]): void {
  waitUntil("local routes", () => {
    const local = rtnl.routes(RT_TABLE_LOCAL).filter(({ type }) => type === RTN_LOCAL);
    return addresses.every((address) => local.some(({ destination }) => destination.toHex() === address.toHex()));
  });
}

function waitUntil(what: string, done: () => boolean): void {
  const deadline = performance.now() + UP_TIMEOUT_MS;
  while (!done()) {
    if (performance.now() > deadline) throw new SysError(ERRNO.ETIMEDOUT, what, `not after ${UP_TIMEOUT_MS} ms`);
    Bun.sleepSync(POLL_INTERVAL_MS);
  }
}

/**
 * Keeps the kernel's own IPv6 chatter off the wire: settings that links made later in this namespace inherit
 * (Documentation/networking/ip-sysctl.rst). What remains with IPv6 are a few MLDv2 reports in the first second.
 */
function quieten(ipv6: boolean): void {
  const defaults = "/proc/sys/net/ipv6/conf/default";
  // A kernel without IPv6 has nothing to say.
  if (!ipv6 && !existsSync(defaults)) return;
  const settings = ipv6 ? { accept_dad: 0, accept_ra: 0, router_solicitations: 0 } : { disable_ipv6: 1 };
  for (const [name, value] of Object.entries(settings)) writeFileSync(`${defaults}/${name}`, String(value));
}

const ipv4Of = (host: number, subnet: number): Uint8Array => Uint8Array.of(198, 18, subnet, host);

const ipv6Of = (host: number, subnet: number): Uint8Array =>
  Uint8Array.of(0x20, 0x01, 0x0d, 0xb8, 0, subnet, 0, 0, 0, 0, 0, 0, 0, 0, 0, host);
