/** A Linux bridge that snoops and queries, and what it takes the groups of the host at its port to be. */
import { expect } from "bun:test";
import type { Host } from "../../engine/host/hosts.ts";
import { hasIproute2, ipRun } from "../engine/host/iproute2.ts";
import { until } from "../support/kernel-udp.ts";

const BRIDGE =
  ["/usr/sbin/bridge", "/sbin/bridge"].map((path) => Bun.which(path)).find((path) => path !== null) ?? null;
export const hasBridge = hasIproute2 && BRIDGE !== null;

/** What the bridge knows of each group at the host's port: mode and sources. */
type Groups = Map<string, string>;

interface MdbEntry {
  port: string;
  grp: string;
  src?: string;
  filter_mode?: string;
  source_list?: { address: string }[];
}

export class Bridge {
  private readonly host: Host;

  /** Makes one, with the host's interface as its port. */
  constructor(host: Host, igmpVersion: number, mldVersion: number) {
    this.host = host;
    const { ns, name } = host;
    // In hundredths of a second. The kernel makes a query interval at least one second.
    const times = "query_interval 100 startup_query_interval 100 query_response_interval 20 membership_interval 200";
    const more = `last_member_interval 10 igmp_version ${igmpVersion} mld_version ${mldVersion}`;
    const settings = `snooping 1 querier 1 ${times} ${more}`.replaceAll(/([a-z_]+) (\d+)/g, "mcast_$1 $2").split(" ");
    ipRun(ns, "link", "add", "br0", "type", "bridge", ...settings);
    ipRun(ns, "link", "set", name, "master", "br0");
    ipRun(ns, "link", "set", "br0", "up");
  }

  /** `bridge -d mdb show`, of groups at the port that are ours. */
  mdb(): Groups {
    const show = this.host.ns.run(() => Bun.spawnSync([BRIDGE as string, "-d", "-j", "mdb", "show"]));
    const [{ mdb = [] }] = JSON.parse(show.stdout.toString()) as { mdb?: MdbEntry[] }[];
    const { name } = this.host;
    const ours = mdb.filter(({ port, grp, src }) => port === name && /^(239|232)\.|^ff3e|^ff05/.test(grp) && !src);
    return new Map(
      ours.map(({ grp, filter_mode = "", source_list = [] }) => [
        grp,
        [filter_mode, ...source_list.map(({ address }) => address).toSorted()].join(" "),
      ]),
    );
  }

  /** Waits until the bridge knows these groups and no others; `turn` is called before each look. */
  async knows(groups: Record<string, string>, turn: () => void = () => {}): Promise<void> {
    const wanted = new Map(Object.entries(groups));
    let last: Groups = new Map();
    const same = (): boolean => {
      turn();
      last = this.mdb();
      return last.size === wanted.size && [...wanted].every(([group, state]) => last.get(group) === state);
    };
    await until("the bridge's groups", same, 8000).catch(() => {});
    expect(new Map([...last].toSorted())).toEqual(new Map([...wanted].toSorted()));
  }
}
