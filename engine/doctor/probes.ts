/** The kernel's interfaces that facts are read through, opened once in the namespace that is looked at. */
import { Ethtool } from "../host/ethtool.ts";
import { Netdev } from "../host/netdev.ts";
import { Rtnl } from "../host/rtnetlink.ts";
import { Sysfs } from "../host/sysfs.ts";
import { readable } from "./read.ts";

/** ARPHRD_ETHER: linux/if_arp.h */
export const ETHERNET = 1;

export class Probes {
  readonly rtnl = new Rtnl();
  readonly ethtool = new Ethtool();
  /** Null before Linux 6.3. */
  readonly netdev = readable(() => new Netdev(), null);
  /** A sysfs of the namespace, or what is mounted where there is no privilege to make one. */
  readonly sysfs = readable(() => Sysfs.open(), Sysfs.mounted());
  /** Interfaces that default routes of any table leave by. */
  readonly defaultRoutes: ReadonlySet<number>;

  constructor() {
    const routes = this.rtnl.routes().filter((route) => route.prefixLength === 0);
    this.defaultRoutes = new Set(routes.flatMap((route) => route.nextHops.map((hop) => hop.ifindex)));
  }

  close(): void {
    this.rtnl.close();
    this.ethtool.close();
    this.netdev?.close();
    this.sysfs.close();
  }
}
