/** The same calls on the kernel's sockets and on ours: the same errors, and then the same answer to a query. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { sys } from "af-xdp-bindings";
import type { Host as HostEnd, VethPair } from "../../engine/host/hosts.ts";
import { Random } from "../../queues/random.ts";
import { addressWords } from "../../sockets/fib.ts";
import { Igmp } from "../../sockets/host/igmp.ts";
import { Membership } from "../../sockets/host/membership.ts";
import { Mld } from "../../sockets/host/mld.ts";
import { MCAST_EXCLUDE } from "../../sockets/host/source-filter.ts";
import { writeSockaddr } from "../../sockets/sockaddr.ts";
import { AF_INET, AF_INET6 } from "../../sockets/table.ts";
import { ip } from "../../sockets/wire/address.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { makeHosts, requires } from "../support/hosts.ts";
import { until } from "../support/kernel-udp.ts";
import { igmpQuery, mldQuery, parseGroupMessage, toGroup } from "./group-messages.ts";
import { PacketSocket } from "./packet-socket.ts";

/** include/uapi/linux/in.h: the same in both families. */
const MCAST_JOIN_GROUP = 42;
const MCAST_BLOCK_SOURCE = 43;
const MCAST_UNBLOCK_SOURCE = 44;
const MCAST_LEAVE_GROUP = 45;
const MCAST_JOIN_SOURCE_GROUP = 46;
const MCAST_LEAVE_SOURCE_GROUP = 47;
const MCAST_MSFILTER = 48;
const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const SOCK_DGRAM_CLOEXEC = 0x80002;
/** Bytes of a sockaddr_storage, and where the first one is in the options' structures. */
const STORAGE = 128;
const GROUP_AT = 8;

const SOCKETS = 3;
const MAC = Uint8Array.of(2, 0, 0, 0, 0x77, 1);
const ADDRESSES = {
  4: {
    groups: ["239.1.1.1", "239.1.1.2", "232.1.1.1", "198.18.0.9"],
    sources: ["198.18.5.1", "198.18.5.2", "198.18.5.3", "198.18.5.4"],
  },
  6: {
    groups: ["ff05::1", "ff05::2", "ff3e::8000:1", "2001:db8::9"],
    sources: ["2001:db8::1:1", "2001:db8::1:2", "2001:db8::1:3", "2001:db8::1:4"],
  },
} as const;

describe.skipIf(requires("netns", "veth") !== "")("groups and the kernel's sockets", () => {
  let hosts: VethPair;
  let wire: PacketSocket;
  beforeAll(() => {
    hosts = makeHosts();
    wire = new PacketSocket(hosts.a.ns, hosts.a.ifindex);
  });
  afterAll(() => {
    wire?.close();
    hosts?.close();
  });

  describe.each([4, 6] as const)("IPv%d", (family) => {
    test("random calls: the same errors, and the same state reported to a query", async () => {
      const random = new Random(family);
      const kernel = new Kernel(hosts.b, family);
      const ours = new Host(family);
      const seen = new Set<number>();
      const plain = new Set<string>();
      try {
        for (let round = 0; round < 12; round++) {
          for (let i = 0; i < 25; i++) {
            const call = randomCall(random, family, plain);
            const [wanted, got] = apply(call, kernel, ours.groups);
            if (wanted === 0) note(plain, call);
            seen.add(wanted);
            expect(`${call.name} ${call.socket} ${call.group} ${call.sources}: ${got}`).toBe(
              `${call.name} ${call.socket} ${call.group} ${call.sources}: ${wanted}`,
            );
          }
          const answers = await kernelState(family);
          expect(answers).toEqual(ours.state());
        }
        // Done, EINVAL, EADDRINUSE, EADDRNOTAVAIL.
        expect([...seen].toSorted((a, b) => a - b)).toEqual([-99, -98, -22, 0]);
      } finally {
        kernel.close();
      }
    }, 20_000);
  });

  /** What the kernel of b answers to a general query, of the groups that are ours. */
  async function kernelState(family: 4 | 6): Promise<string[]> {
    const records = new Map<string, string>();
    const take = (): boolean => {
      let any = false;
      for (let frame = wire.receive(); frame !== null; frame = wire.receive()) {
        const message = parseGroupMessage(frame);
        for (const record of message?.records ?? []) {
          const [type, group] = record.split(" ");
          if (!type.startsWith("IS_")) continue;
          any ||= group === MARKER[family];
          if (ADDRESSES[family].groups.some((own) => own === group)) records.set(group, record);
        }
      }
      return any;
    };
    const marker = new Kernel(hosts.b, family);
    try {
      expect(marker.set(0, MCAST_JOIN_GROUP, MARKER[family])).toBe(0);
      take();
      records.clear();
      const query = family === 4 ? igmpQuery({ version: 3, code: 1 }) : mldQuery({ version: 2, code: 1 });
      wire.send(toGroup(query, MAC));
      await until("the kernel's answer", take);
    } finally {
      marker.close();
    }
    return [...records.values()].toSorted();
  }
});

/** Three sockets of the kernel. */
class Kernel {
  private readonly host: HostEnd;
  private readonly family: 4 | 6;
  private fds: number[];

  constructor(host: HostEnd, family: 4 | 6) {
    this.host = host;
    this.family = family;
    this.fds = Array.from({ length: SOCKETS }, () => this.open());
  }

  private open(): number {
    return this.host.ns.run(() => sys.socket(this.family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM_CLOEXEC, 0));
  }

  private put(view: DataView, at: number, address: string): void {
    const [w0, w1, w2, w3] = addressWords(ip(address));
    const sockaddr = new DataView(view.buffer, at, STORAGE);
    writeSockaddr(sockaddr, this.family === 4 ? AF_INET : AF_INET6, w0, w1, w2, w3, 0);
  }

  /** setsockopt(2) with a struct group_req, group_source_req or group_filter: 0 or -errno. */
  set(socket: number, option: number, group: string, sources: readonly string[] = [], mode = 0): number {
    const isFilter = option === MCAST_MSFILTER;
    const listAt = GROUP_AT + STORAGE + (isFilter ? 8 : 0);
    const view = new DataView(new ArrayBuffer(listAt + STORAGE * sources.length));
    view.setUint32(0, this.host.ifindex, true);
    this.put(view, GROUP_AT, group);
    if (isFilter) {
      view.setUint32(GROUP_AT + STORAGE, mode, true);
      view.setUint32(GROUP_AT + STORAGE + 4, sources.length, true);
    }
    for (const [i, source] of sources.entries()) this.put(view, listAt + STORAGE * i, source);
    const level = this.family === 4 ? IPPROTO_IP : IPPROTO_IPV6;
    return sys.setsockopt(this.fds[socket], level, option, view);
  }

  reopen(socket: number): void {
    sys.close(this.fds[socket]);
    this.fds[socket] = this.open();
  }

  close(): void {
    for (const fd of this.fds) sys.close(fd);
  }
}

/** A group by which an answer is known to have come. */
const MARKER = { 4: "239.255.0.1", 6: "ff05::ffff" } as const;

/** Our membership with IGMP or MLD under it. */
class Host {
  readonly groups: Membership;
  private readonly protocol: Igmp | Mld;
  private readonly family: 4 | 6;
  private records: string[] = [];
  private now = 0;

  constructor(family: 4 | 6) {
    const send = (frame: Uint8Array): void => void this.records.push(...(parseGroupMessage(frame)?.records ?? []));
    const options = { mac: MAC, mtu: 1500, random: new Random(1), send };
    this.family = family;
    this.protocol = family === 4 ? new Igmp(options) : new Mld(options);
    this.groups = new Membership(family, (group, mode, sources, now) =>
      this.protocol.setFilter(group, mode, sources, now),
    );
  }

  /** What is answered to a general query. */
  state(): string[] {
    const views = new FrameViews(new Uint8Array(256));
    const query = this.family === 4 ? igmpQuery({ version: 3, code: 0 }) : mldQuery({ version: 2, code: 0 });
    views.bytes.set(query, 2);
    // What is still to be repeated of changes goes first.
    for (let i = 0; i < 5; i++) {
      this.now += 1000;
      this.protocol.tick(this.now);
    }
    this.records = [];
    this.protocol.receive(views, 2, this.now);
    this.protocol.tick(this.now);
    return this.records.toSorted();
  }
}

interface Call {
  name: string;
  socket: number;
  group: string;
  sources: string[];
  mode: number;
}

const keyOf = (socket: number, group: string): string => `${socket} ${group}`;

/**
 * @param plain memberships of everything, to which no source was named yet: there Linux changes the mode even where
 *   MCAST_LEAVE_SOURCE_GROUP fails, which is not for us to follow
 */
function randomCall(random: Random, family: 4 | 6, plain: ReadonlySet<string>): Call {
  const { groups, sources } = ADDRESSES[family];
  const socket = random.below(SOCKETS);
  // The last address is no group, and taken less often.
  const group = groups[random.below(16) === 0 ? 3 : random.below(3)];
  const names = ["join", "leave", "joinSource", "leaveSource", "block", "unblock", "filter", "close"];
  const name = names[random.below(20) === 0 ? 7 : random.below(7)];
  const count = name === "filter" ? random.below(4) : 1;
  const from = random.below(sources.length);
  const list = Array.from({ length: count }, (_, i) => sources[(from + i) % sources.length]);
  if (name === "leaveSource" && plain.has(keyOf(socket, group)))
    return { name: "leave", socket, group, sources: [], mode: 0 };
  return { name, socket, group, sources: list, mode: random.below(2) };
}

/** Makes a call in both: what the kernel says, and what we say. */
function apply(call: Call, kernel: Kernel, groups: Membership): [number, number] {
  const { name, socket, group, sources, mode } = call;
  const [source] = sources;
  switch (name) {
    case "join":
      return [kernel.set(socket, MCAST_JOIN_GROUP, group), groups.join(socket, group, 0)];
    case "leave":
      return [kernel.set(socket, MCAST_LEAVE_GROUP, group), groups.leave(socket, group, 0)];
    case "joinSource":
      return [kernel.set(socket, MCAST_JOIN_SOURCE_GROUP, group, sources), groups.joinSource(socket, group, source, 0)];
    case "leaveSource":
      return [
        kernel.set(socket, MCAST_LEAVE_SOURCE_GROUP, group, sources),
        groups.leaveSource(socket, group, source, 0),
      ];
    case "block":
      return [kernel.set(socket, MCAST_BLOCK_SOURCE, group, sources), groups.block(socket, group, source, 0)];
    case "unblock":
      return [kernel.set(socket, MCAST_UNBLOCK_SOURCE, group, sources), groups.unblock(socket, group, source, 0)];
    case "filter":
      return [
        kernel.set(socket, MCAST_MSFILTER, group, sources, mode),
        groups.setFilter(socket, group, mode, sources, 0),
      ];
    default:
      kernel.reopen(socket);
      groups.close(socket, 0);
      return [0, 0];
  }
}

/** Keeps `plain` after a call that was done. */
function note(plain: Set<string>, { name, socket, group, sources, mode }: Call): void {
  if (name === "close") for (const other of [...plain]) if (other.startsWith(`${socket} `)) plain.delete(other);
  const isPlain = name === "join" || (name === "filter" && mode === MCAST_EXCLUDE && sources.length === 0);
  if (isPlain) plain.add(keyOf(socket, group));
  else plain.delete(keyOf(socket, group));
}
