/**
 * Traps set on veth in namespaces of their own: each finding appears with its trap and goes when its command is run in
 * a shell; what tune does is what it shows; what is tried and what is tuned leaves everything as it was.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Assembler, attachXdp, loadXdp, r0, sys, XDP_PASS } from "af-xdp-bindings";
import {
  type Change,
  inShell,
  setChannels,
  setFeatures,
  setSetting,
  setSysctl,
  shellLine,
} from "../../engine/doctor/change.ts";
import { diagnose, type TopicFinding } from "../../engine/doctor/diagnose.ts";
import type { Facts, Plan } from "../../engine/doctor/facts.ts";
import { gather } from "../../engine/doctor/gather.ts";
import { Hands } from "../../engine/doctor/hands.ts";
import { apply, planOf, type Step, undo } from "../../engine/doctor/tune.ts";
import { StateFile } from "../../engine/doctor/tune-state.ts";
import { Engine } from "../../engine/engine.ts";
import { Sysfs } from "../../engine/host/sysfs.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";

const NAME = "veth0";
const PORT = 9000;
const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOL_UDP = 17;
const UDP_SEGMENT = 103;
const SEGMENTS = 5;
const SEGMENT_BYTES = 1000;
const needsEthtool = Bun.which("ethtool") === null;
const needsNft = Bun.which("nft") === null;

describe.skipIf(requires("netns", "veth", "af_xdp", "bpf") !== "")("traps on veth", () => {
  let hosts: VethPair;
  /** In the peer's namespace, so that it can be found by a process in it. */
  let inhabitant: Bun.Subprocess;
  let directory: string;

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "lcore-traps-"));
  });
  afterAll(() => rmSync(directory, { recursive: true }));
  beforeEach(() => {
    hosts = makeHosts({ queues: 2 });
    inhabitant = hosts.a.ns.run(() => Bun.spawn(["sleep", "60"]));
  });
  afterEach(async () => {
    inhabitant.kill("SIGKILL");
    await inhabitant.exited;
    hosts.close();
  });

  const look = (plan: Partial<Plan> = {}, attach = true): Facts =>
    gather({
      interface: NAME,
      netns: hosts.b.ns.path,
      attach,
      plan: { cpus: [0], poll: "adaptive", mode: "auto", frames: 1024, ...plan },
    });
  const of = (facts: Facts, id: string): TopicFinding[] => diagnose(facts).filter((finding) => finding.id === id);
  const shell = (line: string): void => {
    const { exitCode, stderr } = Bun.spawnSync(["sh", "-c", line]);
    expect({ line, exitCode, stderr: stderr.toString() }).toEqual({ line, exitCode: 0, stderr: "" });
  };

  /** The finding is there, at this level; its commands run; it is there no more. */
  function mend(id: string, level: string, plan: Partial<Plan> = {}): void {
    const facts = look(plan);
    const [finding] = of(facts, id);
    expect([id, finding?.level]).toEqual([id, level]);
    const lines = [...finding.changes.map(shellLine), ...finding.byHand];
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines) shell(inShell(line, facts.where));
    const after = of(look(plan), id).map((left) => left.level);
    expect(after.filter((left) => left !== "ok" && left !== "info")).toEqual([]);
  }

  const inB = (act: (sysfs: Sysfs) => void): void => {
    const sysfs = hosts.b.ns.run(() => Sysfs.open());
    try {
      act(sysfs);
    } finally {
      sysfs.close();
    }
  };

  test.skipIf(needsEthtool)("peer-segmentation: the sender's UDP segmentation", () => {
    hosts.a.ethtool.setOffloads(NAME, { txChecksum: true, scatterGather: true, gso: true });
    expect(hosts.a.ethtool.features(NAME).get("tx-udp-segmentation")?.active).toBe(true);
    mend("peer-segmentation", "warn");
  });

  test.skipIf(needsEthtool)(
    "peer-segmentation: what UDP_SEGMENT sends is lost, and arrives once it is mended",
    async () => {
      hosts.a.ethtool.setOffloads(NAME, { txChecksum: true, scatterGather: true, gso: true });
      const engine = await Engine.start({ interface: NAME, netns: hosts.b.ns.path, provider: "engine" });
      const sender = hosts.a.ns.run(() => sys.socket(AF_INET, SOCK_DGRAM, 0));
      try {
        const socket = engine.udp({ port: PORT });
        let received = 0;
        socket.onDatagram = () => {
          received++;
        };
        sendSegments(sender, hosts.b.ipv4);
        await until(() => engine.counters().IpInLong > 0);
        expect(received).toBe(0);
        const facts = look();
        for (const line of of(facts, "peer-segmentation")[0].byHand) shell(inShell(line, facts.where));
        sendSegments(sender, hosts.b.ipv4);
        await until(() => received === SEGMENTS);
      } finally {
        sys.close(sender);
        await engine.close();
      }
    },
  );

  test.skipIf(needsEthtool)("peer-vlan: the sender's VLAN insertion", () => {
    hosts.a.ethtool.setOffloads(NAME, { txVlan: true });
    mend("peer-vlan", "warn");
  });

  test.skipIf(needsEthtool)("queues: fewer than lcores", () => {
    hosts.b.ethtool.setChannels(NAME, { rx: 1, tx: 1 });
    mend("queues", "fail", { cpus: [0, 1] });
  });

  test("irq-deferral: interrupts put off while an lcore sleeps", () => {
    inB((sysfs) => {
      sysfs.setNapiDeferHardIrqs(NAME, 2);
      sysfs.setGroFlushTimeoutNs(NAME, 200_000);
    });
    mend("irq-deferral", "warn");
  });

  test("irq-deferral: interrupts left on while an lcore polls", () => {
    hosts.b.ethtool.setOffloads(NAME, { gro: true });
    mend("irq-deferral", "warn", { poll: "busy" });
  });

  test("rps: frames handed to another CPU", () => {
    inB((sysfs) => sysfs.setSetting(NAME, "queues/rx-1/rps_cpus", "1"));
    mend("rps", "warn");
  });

  test("mtu: packets that fit no frame", () => {
    hosts.b.rtnl.setLink(hosts.b.ifindex, { mtu: 9000 });
    mend("mtu", "fail");
  });

  test("link: down", () => {
    hosts.b.rtnl.setLink(hosts.b.ifindex, { up: false });
    expect(look().interface?.trials.copy).toEqual({ state: "untried", why: "it is down" });
    mend("link", "warn");
  });

  test("lower-merging: a bridge over a device that merges datagrams", () => {
    const { ns, rtnl, ethtool, ifindex } = hosts.b;
    rtnl.createBridge({ name: "br0", up: true });
    rtnl.setLink(ifindex, { master: rtnl.link("br0").ifindex });
    ethtool.setFeatures(NAME, { "rx-gro": true, "rx-udp-gro-forwarding": true });
    const plan: Plan = { cpus: [0], poll: "adaptive", mode: "auto", frames: 1024 };
    const bridge = (): TopicFinding[] =>
      diagnose(gather({ interface: "br0", netns: ns.path, attach: true, plan })).filter(
        ({ id }) => id === "lower-merging",
      );
    const [finding] = bridge();
    expect(finding.changes).toEqual([setFeatures(NAME, { "rx-udp-gro-forwarding": false })]);
    ethtool.setFeatures(NAME, { "rx-udp-gro-forwarding": false });
    expect(bridge()).toEqual([]);
    expect(of(look(), "master").map(({ level }) => level)).toEqual(["warn"]);
  });

  test("rp-filter: strict", () => {
    expect(of(look(), "rp-filter").map(({ level }) => level)).toEqual(["ok"]);
    hosts.b.ns.run(() => writeFileSync(`/proc/sys/net/ipv4/conf/${NAME}/rp_filter`, "1"));
    expect(of(look(), "rp-filter").map(({ level }) => level)).toEqual(["info"]);
  });

  test.skipIf(needsNft)("firewall: chains as nft has made them", () => {
    const nft = (command: string): void => {
      const made = hosts.b.ns.run(() => Bun.spawnSync(["nft", command]));
      expect(made.stderr.toString()).toBe("");
    };
    nft("add table inet t; add chain inet t in { type filter hook input priority 0; policy accept; }");
    expect(look().host.firewall.chains).toEqual([
      { family: "inet", table: "t", name: "in", hook: "input", drops: false },
    ]);
    expect(of(look(), "firewall").map(({ level }) => level)).toEqual(["info"]);
    nft("chain inet t in { policy drop; }");
    expect(of(look(), "firewall").map(({ level, found }) => [level, found])).toEqual([
      ["warn", "nf_tables drops what no rule accepts: inet t in (input)"],
    ]);
    nft("delete table inet t");
    expect(of(look(), "firewall").map(({ level }) => level)).toEqual(["ok"]);
  });

  test("xdp-programs: somebody else's, with who holds it; nothing is tried then", () => {
    using program = loadXdp(new Assembler().mov(r0, XDP_PASS).exit(), { name: "theirs" });
    const link = hosts.b.ns.run(() => attachXdp(program, hosts.b.ifindex, "skb"));
    const facts = look();
    const [finding] = of(facts, "xdp-programs");
    expect([finding.level, finding.found]).toEqual([
      "fail",
      expect.stringMatching(
        new RegExp(`^program ${program.info.id} "theirs" in skb mode, held by process ${process.pid} `),
      ),
    ]);
    expect(facts.interface?.protection).toBe("an XDP program is attached");
    expect(hosts.b.rtnl.link(NAME).xdp.genericProgramId).toBe(program.info.id);
    link.close();
    expect(of(look(), "xdp-programs").map(({ level }) => level)).toEqual(["ok"]);
  });

  test("nothing is tried on the way out, nor where that is not wanted", () => {
    expect(look({}, false).interface?.protection).toBe("--no-try was given");
    expect(look().interface?.protection).toBe("");
    hosts.b.rtnl.addRoute({ destination: new Uint8Array(4), prefixLength: 0, gateway: hosts.a.ipv4 });
    const { interface: dev } = look();
    expect(dev?.protection).toBe("it carries the default route");
    expect(dev?.trials.native.state).toBe("untried");
  });

  test("the modes are what the kernel gives: native where the peer's queues allow it", () => {
    expect(look().interface?.trials).toMatchObject({
      copy: { state: "works" },
      native: { state: "works" },
      zerocopy: { state: "refused", code: "EOPNOTSUPP" },
      skb: { state: "works" },
    });
    hosts.b.ethtool.setChannels(NAME, { rx: 1 });
    expect(look().interface?.trials.native).toMatchObject({ state: "refused", code: "ENOSPC" });
  });

  test("trying leaves both ends as they were", () => {
    for (const { ethtool } of [hosts.a, hosts.b])
      ethtool.setOffloads(NAME, { txChecksum: true, scatterGather: true, tso: true, gso: true });
    const before = state(hosts);
    look();
    expect(state(hosts)).toEqual(before);
    expect(hosts.b.rtnl.link(NAME).xdp.attached).toBe(0);
  });

  /** One of each kind that veth has; the rest have their files and ioctls tested by line, in change.test.ts. */
  const CHANGES: [string, Change][] = [
    ["features", setFeatures(NAME, { "rx-gro": true, "tx-udp-segmentation": false })],
    ["channels", setChannels(NAME, { rx: 1, tx: 1 })],
    ["setting", setSetting(NAME, "gro_flush_timeout", 20_000)],
    ["RPS", setSetting(NAME, "queues/rx-0/rps_cpus", 1)],
    ["sysctl of the namespace", setSysctl("net.ipv4.ip_default_ttl", 63)],
  ];

  test.skipIf(needsEthtool).each(CHANGES)("what is shown is what is done: %s", (_, { target, value }) => {
    const hands = new Hands(hosts.b.ns);
    try {
      const before = hands.read(target, value);
      hands.write(target, value);
      const done = [hands.read(target, value), state(hosts)];
      hands.write(target, before);
      shell(inShell(shellLine({ target, value }), { netns: hosts.b.ns.path, sysfs: false }));
      expect([hands.read(target, value), state(hosts)]).toEqual(done);
      expect(hands.read(target, value)).not.toEqual(before);
    } finally {
      hands.close();
    }
  });

  test("tune and undo: every setting is as before, sysctls and offloads too", () => {
    hosts.b.ethtool.setChannels(NAME, { rx: 1, tx: 1 });
    inB((sysfs) => {
      sysfs.setNapiDeferHardIrqs(NAME, 2);
      sysfs.setGroFlushTimeoutNs(NAME, 200_000);
      sysfs.setSetting(NAME, "queues/rx-0/rps_cpus", "1");
    });
    const before = state(hosts);
    // Only what is this interface's: the machine's own settings are not a test's to change.
    const planned = planOf(diagnose(look({ cpus: [0, 1] }))).filter(({ change }) => "interface" in change.target);
    expect(planned.map(({ finding }) => finding).toSorted()).toEqual(["irq-deferral", "queues", "rps"]);
    const file = new StateFile(hosts.b.ns, NAME, hosts.b.ifindex, [directory]);
    const hands = new Hands(hosts.b.ns);
    try {
      const steps: Step[] = [];
      apply(planned, hands, file, (step) => steps.push(step));
      expect(steps.map(({ result }) => result)).toEqual(["done", "done", "done"]);
      expect(state(hosts)).not.toEqual(before);
      undo(hands, file, false, (step) => steps.push(step));
      expect(steps.slice(3).map(({ result }) => result)).toEqual(["done", "done", "done"]);
    } finally {
      hands.close();
    }
    expect(state(hosts)).toEqual(before);
    expect(file.load()).toEqual([]);
  });

  test("what cannot be set is told in a line: a read-only sysctl, an operation that the driver has not", () => {
    const hands = new Hands(hosts.b.ns);
    const write = (change: Change) => () => hands.write(change.target, change.value);
    try {
      expect(write(setSysctl("net.ipv4.no_such_setting", 1))).toThrow(/no_such_setting: ENOENT: /);
      expect(write(setSetting("gone0", "gro_flush_timeout", 1))).toThrow(/gro_flush_timeout: ENOENT: /);
      expect(() => hands.write({ kind: "rings", interface: NAME }, { rx: 512 })).toThrow(
        /GRINGPARAM veth0: EOPNOTSUPP: /,
      );
      expect(() => hands.write({ kind: "hash", interface: NAME, flow: "udp4" }, { fields: "sdfn" })).toThrow(
        /EOPNOTSUPP: /,
      );
      // Visible in every namespace, and set in the initial one only.
      const readOnly = { kind: "sysctl", name: "net.netfilter.nf_conntrack_count" } as const;
      expect(() => hands.write(readOnly, "1")).toThrow(/nf_conntrack_count: (EACCES|EPERM|EROFS|ENOENT): /);
    } finally {
      hands.close();
    }
  });
});

/** One call of sendto(2) that is to become SEGMENTS datagrams (udp(7), UDP_SEGMENT). */
function sendSegments(fd: number, address: Uint8Array): void {
  expect(sys.setsockoptInt(fd, SOL_UDP, UDP_SEGMENT, SEGMENT_BYTES)).toBe(0);
  const payload = new Uint8Array(SEGMENTS * SEGMENT_BYTES);
  // struct sockaddr_in: family, port and address in network order, padding
  const to = Uint8Array.of(AF_INET, 0, PORT >>> 8, PORT & 0xff, ...address, 0, 0, 0, 0, 0, 0, 0, 0);
  const sent = sys.sendto(fd, sys.addressOf(payload), payload.length, 0, sys.addressOf(to), to.length);
  expect(sent).toBe(payload.length);
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 5000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error("it never came true");
    await Bun.sleep(5);
  }
}

/** Everything of both ends that tune and the trials could touch. */
function state({ a, b }: VethPair): unknown {
  return [a, b].map(({ ns, ethtool }) => {
    const sysfs = ns.run(() => Sysfs.open());
    try {
      return {
        features: [...ethtool.features(NAME)],
        channels: ethtool.channels(NAME),
        groFlushTimeoutNs: sysfs.groFlushTimeoutNs(NAME),
        deferHardIrqs: sysfs.napiDeferHardIrqs(NAME),
        rps: [0, 1].map((queue) => {
          try {
            return sysfs.rpsCpus(NAME, queue);
          } catch {
            return "no such queue";
          }
        }),
        sysctls: ns.run(() => Bun.spawnSync(["sysctl", "-a", "--pattern", "^net\\.(core|ipv4)\\."])).stdout.toString(),
      };
    } finally {
      sysfs.close();
    }
  });
}
