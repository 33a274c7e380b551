/** The other end of a veth pair: the sender of what an interface receives, in whatever namespace it is. */
import { readlinkSync } from "node:fs";
import { Ethtool } from "../host/ethtool.ts";
import { NetNs } from "../host/netns.ts";
import { Rtnl } from "../host/rtnetlink.ts";
import type { Link } from "../host/rtnetlink-decode.ts";
import type { InterfaceFacts, NeighbourDevice } from "./facts.ts";
import type { Probes } from "./probes.ts";
import { readable, readNames } from "./read.ts";

/** In the thread's namespace. */
export function peerOf(link: Link, { rtnl }: Probes): InterfaceFacts["peer"] {
  if (link.kind !== "veth") return null;
  if (link.linkNamespace < 0) return readable(() => deviceHere(link.link, null), "unseen");
  const path = namespacePaths().find(
    (path) => readable(() => within(path, (ns) => rtnl.namespaceId(ns.fd)), -1) === link.linkNamespace,
  );
  if (path === undefined) return "unseen";
  return readable(() => within(path, (ns) => ns.run(() => deviceHere(link.link, path))), "unseen");
}

function within<T>(path: string, act: (ns: NetNs) => T): T {
  const ns = NetNs.open(path);
  try {
    return act(ns);
  } finally {
    ns.close();
  }
}

/** Named namespaces first: they have the shorter names. Then those that processes are in, each once. */
function namespacePaths(): string[] {
  const paths = readNames("/run/netns").map((name) => `/run/netns/${name}`);
  const seen = new Set<string>();
  for (const pid of readNames("/proc").filter((name) => /^\d+$/.test(name))) {
    const path = `/proc/${pid}/ns/net`;
    const identity = readable(() => readlinkSync(path), "");
    if (identity === "" || seen.has(identity)) continue;
    seen.add(identity);
    paths.push(path);
  }
  return paths;
}

/** A device of the thread's namespace. */
function deviceHere(ifindex: number, netns: string | null): NeighbourDevice {
  const rtnl = new Rtnl();
  const ethtool = new Ethtool();
  try {
    const { name } = rtnl.link(ifindex);
    return { name, netns, features: Object.fromEntries(ethtool.features(name)) };
  } finally {
    ethtool.close();
    rtnl.close();
  }
}
