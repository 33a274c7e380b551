/** Links: attach, replace, detach, and what is said when an interface is taken. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  Assembler,
  attachedXdp,
  attachXdp,
  Link,
  loadXdp,
  type Program,
  r0,
  SysError,
  XDP_PASS,
} from "af-xdp-bindings";
import { makeHosts, requires, type VethPair } from "../../support/hosts.ts";
import { BpfFs } from "./bpffs.ts";

function failure(call: () => unknown): SysError {
  try {
    call();
  } catch (error) {
    if (error instanceof SysError) return error;
    throw error;
  }
  throw new Error("did not throw");
}

describe.skipIf(requires("bpf", "veth") !== "")("XDP links", () => {
  let hosts: VethPair;
  let ifindex: number;
  let first: Program;
  let second: Program;
  beforeAll(() => {
    hosts = makeHosts({ ipv6: false });
    ifindex = hosts.a.ifindex;
    first = loadXdp(new Assembler().mov(r0, XDP_PASS).exit(), { name: "first" });
    second = loadXdp(new Assembler().mov(r0, XDP_PASS).exit(), { name: "second" });
  });
  afterAll(() => {
    first.close();
    second.close();
    hosts.close();
  });
  const inside = <T>(body: () => T): T => hosts.a.ns.run(body);
  const attached = () => inside(() => attachedXdp(ifindex));

  test.each(["native", "skb"] as const)("%s: attached while the link is held", (mode) => {
    const link = inside(() => attachXdp(first, ifindex, mode));
    expect(link.info).toMatchObject({ type: 6, programId: first.info.id, ifindex });
    expect(attached()).toEqual([{ mode, programId: first.info.id }]);
    link.close();
    link.close();
    expect(attached()).toEqual([]);
  });

  test("the program is replaced in place, and only the expected one", () => {
    using link = inside(() => attachXdp(first, ifindex, "skb"));
    link.update(second);
    expect(attached()).toEqual([{ mode: "skb", programId: second.info.id }]);
    expect(failure(() => link.update(first, first))).toMatchObject({ code: "EPERM" });
    expect(failure(() => link.update(first, first)).hint).toContain("another program than the expected one");
    link.update(first, second);
    expect(link.info.programId).toBe(first.info.id);
  });

  test("detached, the link knows no interface and takes no program", () => {
    using link = inside(() => attachXdp(first, ifindex, "native"));
    link.detach();
    expect(attached()).toEqual([]);
    expect(link.info.ifindex).toBe(0);
    expect(failure(() => link.update(second))).toMatchObject({ code: "ENOLINK" });
  });

  test("a pinned link holds on after its descriptor", () => {
    using fs = new BpfFs();
    inside(() => attachXdp(first, ifindex, "skb")).pin(fs.path("link"));
    const opened = Link.open(fs.path("link"));
    expect(opened.info.programId).toBe(first.info.id);
    opened.detach();
    opened.close();
    expect(attached()).toEqual([]);
  });

  test("an interface that is taken: by whom, in which mode", () => {
    using _link = inside(() => attachXdp(first, ifindex, "native"));
    const busy = failure(() => inside(() => attachXdp(second, ifindex, "native")));
    expect(busy).toMatchObject({ code: "EBUSY", syscall: "bpf(BPF_LINK_CREATE)" });
    expect(busy.hint).toContain(`program ${first.info.id} "first" is attached in native mode`);
    const otherMode = failure(() => inside(() => attachXdp(second, ifindex, "skb")));
    expect(otherMode.code).toBe("EEXIST");
    expect(otherMode.hint).toContain("one mode at a time");
  });

  test("a driver without native mode: the hint names the other", () => {
    const lo = 1;
    const error = failure(() => inside(() => attachXdp(first, lo, "native")));
    expect(error.code).toBe("EOPNOTSUPP");
    expect(error.hint).toContain('use mode "skb"');
    using link = inside(() => attachXdp(first, lo, "skb"));
    expect(link.info.ifindex).toBe(lo);
  });

  test("no such interface", () => {
    expect(failure(() => inside(() => attachXdp(first, 999, "skb"))).hint).toContain("no such interface");
    expect(failure(() => inside(() => attachedXdp(999)))).toMatchObject({ code: "ENODEV" });
  });

  test("an MTU beyond one buffer needs frags", () => {
    const large = makeHosts({ ipv6: false, mtu: 9000 });
    try {
      const attach = (program: Program) => large.a.ns.run(() => attachXdp(program, large.a.ifindex, "native"));
      const error = failure(() => attach(first));
      expect(error.code).toBe("ERANGE");
      expect(error.hint).toContain("frags");
      using frags = loadXdp(new Assembler().mov(r0, XDP_PASS).exit(), { frags: true });
      attach(frags).close();
    } finally {
      large.close();
    }
  });
});
