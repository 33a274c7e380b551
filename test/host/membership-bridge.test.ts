/** A Linux bridge that snoops and queries: what it takes our host's groups to be, from the messages alone. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { VethPair } from "../../engine/host/hosts.ts";
import { Random } from "../../queues/random.ts";
import { Igmp } from "../../sockets/host/igmp.ts";
import { Membership } from "../../sockets/host/membership.ts";
import { Mld } from "../../sockets/host/mld.ts";
import { MCAST_EXCLUDE, MCAST_INCLUDE } from "../../sockets/host/source-filter.ts";
import { ip } from "../../sockets/wire/address.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { makeHosts, requires } from "../support/hosts.ts";
import { until } from "../support/kernel-udp.ts";
import { Bridge, hasBridge } from "./bridge.ts";
import { PacketSocket } from "./packet-socket.ts";

const MAC = Uint8Array.of(2, 0, 0, 0, 0x77, 1);
const IP = 14;
const ETH_P_IP = 0x0800;
const ETH_P_IPV6 = 0x86dd;
const SOCKET = 1;
/** A host of ours at one end of a veth, a bridge with the other end as its port. */
class Switch {
  readonly igmp: Igmp;
  readonly mld: Mld;
  readonly groups4: Membership;
  readonly groups6: Membership;
  /** Queries of the bridge that came. */
  queries = 0;
  private readonly hosts: VethPair;
  private readonly bridge: Bridge;
  private readonly wire: PacketSocket;
  private readonly views = new FrameViews(new Uint8Array(2048));

  constructor(subnet: number, igmpVersion: number, mldVersion: number) {
    this.hosts = makeHosts({ subnet });
    const { a, b } = this.hosts;
    this.wire = new PacketSocket(a.ns, a.ifindex);
    this.bridge = new Bridge(b, igmpVersion, mldVersion);
    const send = (frame: Uint8Array): void => this.wire.send(frame);
    this.igmp = new Igmp({ mac: MAC, mtu: 1500, random: new Random(subnet), send });
    this.igmp.address = (198 << 24) | (18 << 16) | (subnet << 8) | 77;
    this.mld = new Mld({ mac: MAC, mtu: 1500, random: new Random(subnet), send });
    this.mld.linkLocal = ip("fe80::77");
    this.groups4 = new Membership(4, (group, mode, sources, now) => this.igmp.setFilter(group, mode, sources, now));
    this.groups6 = new Membership(6, (group, mode, sources, now) => this.mld.setFilter(group, mode, sources, now));
  }

  /** Takes what came, sends what is due. */
  turn(): void {
    const now = performance.now();
    for (let frame = this.wire.receive(); frame !== null; frame = this.wire.receive()) {
      const type = (frame[12] << 8) | frame[13];
      this.views.bytes.set(frame);
      if (type === ETH_P_IP && frame[IP + 9] === 2) {
        if (frame[IP + 24] === 0x11) this.queries++;
        this.igmp.receive(this.views, IP, now);
      }
      if (type === ETH_P_IPV6 && frame[IP + 6] === 0 && frame[IP + 40] === 58) this.mld.receive(this.views, IP, now);
    }
    this.igmp.tick(now);
    this.mld.tick(now);
  }

  mdb(): ReturnType<Bridge["mdb"]> {
    return this.bridge.mdb();
  }

  /** Waits, the host at work, until the bridge knows these groups and no others. */
  async knows(groups: Record<string, string>): Promise<void> {
    await this.bridge.knows(groups, () => this.turn());
  }

  close(): void {
    this.wire.close();
    this.hosts.close();
  }
}

/** Of the older versions a bridge keeps no filters, and shows none. */
const WITHOUT_FILTERS = { "239.1.2.3": "", "ff05::123": "" };

const now = (): number => performance.now();

describe.skipIf(requires("netns", "veth") !== "" || !hasBridge)("a bridge that snoops", () => {
  let newest: Switch;
  let older: Switch;
  beforeAll(() => {
    newest = new Switch(1, 3, 2);
    older = new Switch(2, 2, 1);
  });
  afterAll(() => {
    newest?.close();
    older?.close();
  });

  test("IGMPv3 and MLDv2: joins, source lists and leaves are in its table", async () => {
    const { groups4, groups6 } = newest;
    groups4.join(SOCKET, "239.1.2.3", now());
    groups6.join(SOCKET, "ff05::123", now());
    await newest.knows({ "239.1.2.3": "exclude", "ff05::123": "exclude" });
    groups4.joinSource(SOCKET, "232.1.1.1", "198.18.5.2", now());
    groups4.joinSource(SOCKET, "232.1.1.1", "198.18.5.1", now());
    groups6.joinSource(SOCKET, "ff3e::1", "2001:db8::5", now());
    await newest.knows({
      "239.1.2.3": "exclude",
      "232.1.1.1": "include 198.18.5.1 198.18.5.2",
      "ff05::123": "exclude",
      "ff3e::1": "include 2001:db8::5",
    });
    groups4.block(SOCKET, "239.1.2.3", "198.18.5.9", now());
    groups4.leaveSource(SOCKET, "232.1.1.1", "198.18.5.2", now());
    groups6.setFilter(SOCKET, "ff3e::1", MCAST_EXCLUDE, ["2001:db8::6"], now());
    groups6.leave(SOCKET, "ff05::123", now());
    await newest.knows({
      "239.1.2.3": "exclude 198.18.5.9",
      "232.1.1.1": "include 198.18.5.1",
      "ff3e::1": "exclude 2001:db8::6",
    });
    groups6.setFilter(SOCKET, "ff3e::1", MCAST_INCLUDE, ["2001:db8::6", "2001:db8::7"], now());
    groups4.close(SOCKET, now());
    await newest.knows({ "ff3e::1": "include 2001:db8::6 2001:db8::7" });
    groups6.close(SOCKET, now());
    await newest.knows({});
    expect([newest.igmp.version, newest.mld.version]).toEqual([3, 2]);
    expect([newest.igmp.ignored, newest.mld.ignored]).toEqual([0, 0]);
  }, 30_000);

  test("IGMPv2 and MLDv1: once it was heard to query, joins and leaves in its versions", async () => {
    const { groups4, groups6, igmp, mld } = older;
    await until("its queries", () => {
      older.turn();
      return igmp.version === 2 && mld.version === 1;
    });
    groups4.join(SOCKET, "239.1.2.3", now());
    groups6.join(SOCKET, "ff05::123", now());
    await older.knows(WITHOUT_FILTERS);
    groups4.close(SOCKET, now());
    groups6.close(SOCKET, now());
    await older.knows({});
  }, 30_000);

  test("it asks, and our answers keep the groups; without them it forgets", async () => {
    for (const { groups4, groups6 } of [newest, older]) {
      groups4.join(SOCKET, "239.1.2.3", now());
      groups6.join(SOCKET, "ff05::123", now());
    }
    const groups = { "239.1.2.3": "exclude", "ff05::123": "exclude" };
    await Promise.all([newest.knows(groups), older.knows(WITHOUT_FILTERS)]);
    // Its memory is two seconds long, and the reports of the join are a second old at most.
    const before = [newest.queries, older.queries];
    const end = now() + 3300;
    while (now() < end) {
      newest.turn();
      older.turn();
      await Bun.sleep(5);
    }
    expect(newest.queries - before[0]).toBeGreaterThanOrEqual(2);
    expect(older.queries - before[1]).toBeGreaterThanOrEqual(2);
    expect(Object.fromEntries(newest.mdb())).toEqual(groups);
    expect(Object.fromEntries(older.mdb())).toEqual(WITHOUT_FILTERS);
    await until("a silent host's groups are forgotten", () => newest.mdb().size + older.mdb().size === 0, 10_000);
  }, 30_000);
});
