/** What doctor says of the provider "auto" against what a start then does, in hosts with one thing in the way each. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Assembler, attachXdp, loadXdp, r0, XDP_PASS } from "af-xdp-bindings";
import { examine } from "../../engine/cli/doctor-run.ts";
import type { AttachMode } from "../../engine/config.ts";
import { type Choice, choice } from "../../engine/doctor/provider.ts";
import { Engine } from "../../engine/engine.ts";
import { type Host, makeHosts, requires } from "../support/hosts.ts";
import { facts, host, refused } from "./made-up.ts";

setDefaultTimeout(60_000);

interface Asked {
  readonly unnamed?: boolean;
  readonly mode?: AttachMode;
}

describe.skipIf(requires("netns", "veth", "af_xdp", "bpf") !== "")("as a start does", () => {
  const cleanUp: (() => unknown)[] = [];
  afterEach(async () => {
    for (const each of cleanUp.splice(0).toReversed()) await each();
  });

  const ip = (host: Host, ...words: string[]): void => {
    const { exitCode, stderr } = host.ns.run(() => Bun.spawnSync(["ip", ...words], { stderr: "pipe" }));
    if (exitCode !== 0) throw new Error(`ip ${words.join(" ")}: ${stderr}`);
  };

  /** What doctor foretells and what a start does: the provider, or null where it fails. */
  async function both(b: Host, name: string | undefined, mode: AttachMode): Promise<[Choice, Choice["provider"]]> {
    const said = choice(examine({ netns: b.ns.path, mode, poll: "adaptive", try: true }, name ?? null));
    let engine: Engine;
    try {
      engine = await Engine.start({ netns: b.ns.path, interface: name, mode, frames: 1024 });
    } catch {
      return [said, null];
    }
    cleanUp.push(() => engine.close());
    return [said, engine.info.provider];
  }

  const SCENES: [what: string, spoil: (b: Host) => unknown, reason: RegExp, asked?: Asked][] = [
    ["a fine interface", () => {}, /^$/],
    ["the default route's", (b) => ip(b, "route", "add", "default", "dev", b.name), /default route/, { unnamed: true }],
    ["no default route", () => {}, /name one/, { unnamed: true }],
    ["an MTU that fits no frame", (b) => ip(b, "link", "set", b.name, "mtu", "9000"), /MTU 9000/],
    ["down", (b) => ip(b, "link", "set", b.name, "down"), /is down/],
    ["down, in native mode", (b) => ip(b, "link", "set", b.name, "down"), /is down/, { mode: "native" }],
    ["no zero copy", () => {}, /EOPNOTSUPP|EINVAL/, { mode: "zerocopy" }],
    [
      "a program of others",
      (b) => {
        const program = loadXdp(new Assembler().mov(r0, XDP_PASS).exit(), { name: "theirs" });
        const link = b.ns.run(() => attachXdp(program, b.ifindex, "skb"));
        cleanUp.push(() => {
          link.close();
          program.close();
        });
      },
      /XDP program/,
    ],
    [
      "queues that native mode lacks",
      (b) => b.ethtool.setChannels(b.name, { rx: 1, tx: 1 }),
      /ENOSPC/,
      { mode: "native" },
    ],
  ];

  test.each(SCENES)("%s", async (...[, spoil, reason, { unnamed, mode } = {}]) => {
    const pair = makeHosts({ queues: 2 });
    cleanUp.push(() => pair.close());
    await spoil(pair.b);
    const [said, did] = await both(pair.b, unnamed ? undefined : pair.b.name, mode ?? "auto");
    expect({ ...said, reason: "" }).toMatchObject({ provider: did });
    expect(said.reason).toMatch(reason);
  });
});

test("what a made-up kernel refuses: kernel sockets, or a start that fails", () => {
  const { trials } = host;
  const chosen = (...spoilt: Parameters<typeof facts>): Choice["provider"] => choice(facts(...spoilt)).provider;
  expect(chosen()).toBe("engine");
  expect(chosen({ host: { trials: { ...trials, socket: refused("EAFNOSUPPORT") } } })).toBe("kernel");
  expect(chosen({ host: { trials: { ...trials, steering: refused("EPERM") } } })).toBe("kernel");
  expect(chosen({ host: { trials: { ...trials, umem: refused("ENOBUFS") } } })).toBe("kernel");
  expect(chosen({ host: { trials: { ...trials, busyPoll: refused("EPERM") } } })).toBe("engine");
  expect(chosen({ plan: { poll: "busy" }, host: { trials: { ...trials, busyPoll: refused("EPERM") } } })).toBe(
    "kernel",
  );
  expect(chosen({ host: { capabilities: new Set(["CAP_NET_RAW"]) } })).toBe("kernel");
  expect(chosen({ host: { trials: { ...trials, umem: refused("ENFILE") } } })).toBeNull();
  expect(chosen({ dev: null, host: { trials: { ...trials, umem: refused("ENFILE") } } })).toBe("kernel");
});
