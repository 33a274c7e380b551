/** rtnetlink multicast events of a network namespace as plain objects. */
import { NETLINK_ROUTE, NetlinkSocket, NLM_F_REPLACE } from "./netlink.ts";
import {
  type Address,
  decodeAddress,
  decodeLink,
  decodeNeighbour,
  decodeRoute,
  type Link,
  type Neighbour,
  type Route,
} from "./rtnetlink-decode.ts";
import {
  AF_BRIDGE,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_DELROUTE,
  RTM_DELRULE,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
  RTM_NEWROUTE,
  RTM_NEWRULE,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV4_RULE,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_IPV6_RULE,
  RTNLGRP_LINK,
  RTNLGRP_NEIGH,
} from "./rtnetlink-uapi.ts";

/** Called once an event; `removed` says whether the object went away or is new or changed. */
export interface RtnlListener {
  link(link: Link, removed: boolean): void;
  address(address: Address, removed: boolean): void;
  /** `replaced`: the first route of the same prefix, tos and priority gave way to this one (NLM_F_REPLACE). */
  route(route: Route, removed: boolean, replaced: boolean): void;
  neighbour(neighbour: Neighbour, removed: boolean): void;
  /** The policy rules changed. */
  rules(): void;
}

const GROUPS = [
  RTNLGRP_LINK,
  RTNLGRP_NEIGH,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_IPV4_RULE,
  RTNLGRP_IPV6_RULE,
];

/** Links, addresses, routes, neighbours and rules of the namespace the thread is in when this is constructed. */
export class RtnlEvents {
  private readonly socket: NetlinkSocket;

  constructor() {
    this.socket = new NetlinkSocket(NETLINK_ROUTE);
    try {
      for (const group of GROUPS) this.socket.join(group);
    } catch (error) {
      this.socket.close();
      throw error;
    }
  }

  /** Readable (POLLIN) when `read` has something to do. */
  get fd(): number {
    return this.socket.fd;
  }

  /** Hands the waiting events to `listener` without blocking. False: events were lost, read the tables anew. */
  read(listener: RtnlListener): boolean {
    return this.socket.receive(({ type, flags, payload }) => {
      switch (type) {
        case RTM_NEWLINK:
        case RTM_DELLINK:
          // A bridge reports its ports' bridge attributes with family AF_BRIDGE: not a change of the link.
          if (payload[0] !== AF_BRIDGE) listener.link(decodeLink(payload), type === RTM_DELLINK);
          return;
        case RTM_NEWADDR:
        case RTM_DELADDR:
          listener.address(decodeAddress(payload), type === RTM_DELADDR);
          return;
        case RTM_NEWROUTE:
        case RTM_DELROUTE:
          listener.route(decodeRoute(payload), type === RTM_DELROUTE, (flags & NLM_F_REPLACE) !== 0);
          return;
        case RTM_NEWNEIGH:
        case RTM_DELNEIGH:
          // AF_BRIDGE: forwarding table of a bridge or vxlan, no IP neighbour.
          if (payload[0] !== AF_BRIDGE) listener.neighbour(decodeNeighbour(payload), type === RTM_DELNEIGH);
          return;
        case RTM_NEWRULE:
        case RTM_DELRULE:
          listener.rules();
          return;
      }
    });
  }

  close(): void {
    this.socket.close();
  }
}
