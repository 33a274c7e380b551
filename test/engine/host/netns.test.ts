import { describe, expect, test } from "bun:test";
import { existsSync, readlinkSync } from "node:fs";
import { NetNs } from "../../../engine/host/netns.ts";
import { Rtnl } from "../../../engine/host/rtnetlink.ts";
import { requires } from "../../support/hosts.ts";

const here = (): string => readlinkSync("/proc/thread-self/ns/net");
const ofChild = ["readlink", "/proc/self/ns/net"];

describe.skipIf(requires("netns") !== "")("NetNs", () => {
  test("a fresh namespace holds only lo, and the thread stays where it was", () => {
    const home = here();
    const ns = NetNs.create();
    try {
      expect(here()).toBe(home);
      const inside = ns.run(here);
      expect(inside).not.toBe(home);
      expect(here()).toBe(home);
      const rtnl = ns.run(() => new Rtnl());
      expect(rtnl.links().map((link) => link.name)).toEqual(["lo"]);
      rtnl.close();
    } finally {
      ns.close();
    }
  });

  test("the thread comes back after an exception, and run refuses promises", () => {
    const home = here();
    const ns = NetNs.create();
    const fail = (): never => {
      throw new Error("inside");
    };
    expect(() => ns.run(fail)).toThrow("inside");
    expect(here()).toBe(home);
    expect(() => ns.run(() => Promise.resolve())).toThrow("must be synchronous");
    expect(here()).toBe(home);
    ns.close();
  });

  test("runs nest, current() is where the thread is", () => {
    const outer = NetNs.create();
    const inner = NetNs.create();
    outer.run(() => {
      const before = here();
      inner.run(() => {
        const current = NetNs.current();
        outer.run(() => expect(current.run(here)).not.toBe(here()));
        expect(current.run(here)).toBe(here());
        current.close();
      });
      expect(here()).toBe(before);
    });
    outer.close();
    inner.close();
  });

  test("programs started inside are born in the namespace, both ways of starting them", async () => {
    const ns = NetNs.create();
    const inside = ns.run(here);
    expect(
      ns
        .run(() => Bun.spawnSync(ofChild))
        .stdout.toString()
        .trim(),
    ).toBe(inside);
    const child = ns.run(() => Bun.spawn(ofChild, { stdout: "pipe" }));
    expect((await child.stdout.text()).trim()).toBe(inside);
    expect(Bun.spawnSync(ofChild).stdout.toString().trim()).toBe(here());
    ns.close();
  });

  test("path leads other processes and NetNs.open there", () => {
    const ns = NetNs.create();
    const again = NetNs.open(ns.path);
    expect(again.run(here)).toBe(ns.run(here));
    if (existsSync("/usr/bin/nsenter")) {
      const child = Bun.spawnSync(["nsenter", `--net=${ns.path}`, ...ofChild]);
      expect(child.stdout.toString().trim()).toBe(ns.run(here));
    }
    again.close();
    ns.close();
  });
});
