/** Groups and broadcasts on engines with addresses of their own: between two of them, and before a bridge that snoops. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createMemoryWire } from "../../queues/memory.ts";
import { IP_MULTICAST_LOOP, IPPROTO_IP, SO_BROADCAST, SOL_SOCKET } from "../../sockets/options.ts";
import type { UdpSocket } from "../../sockets/udp-socket.ts";
import { Bridge, hasBridge } from "../host/bridge.ts";
import { requires } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";
import { CleanUp, PORT, payload, startOnVeth, startOnWire } from "./support.ts";

setDefaultTimeout(60_000);

const cleanUp = new CleanUp();
afterEach(() => cleanUp.run());

/** Texts that a socket has heard, in order. */
function heard(socket: UdpSocket): string[] {
  const texts: string[] = [];
  socket.onDatagram = (d) => void texts.push(`${d.sourceAddress} ${new TextDecoder().decode(d.copy())}`);
  return texts;
}

const FAMILIES = [
  { group: "239.1.2.3", any: "0.0.0.0", a: "198.18.0.1", b: "198.18.0.2" },
  { group: "ff05::123", any: "::", a: "2001:db8::1", b: "2001:db8::2" },
];

describe("two engines on a wire in memory", () => {
  test.each(FAMILIES)("a group: $group", async ({ group, any, a, b }) => {
    const wire = createMemoryWire();
    const sending = await startOnWire(wire, 0, cleanUp);
    const hearing = await startOnWire(wire, 1, cleanUp);
    const open = (): UdpSocket => hearing.udp({ address: any, port: PORT, reuseAddress: true });
    const members = [open(), open()];
    const other = hearing.udp({ address: any, port: PORT + 1 });
    const texts = members.map(heard);
    const others = heard(other);
    const sender = sending.udp({ address: any });
    const answers = heard(sender);
    const unwanted = hearing.counters().IpInAddrErrors;
    sender.send("before", PORT, group);
    // It may go by the host protocols, which what is sent later may overtake.
    await until("nobody wanted it", () => hearing.counters().IpInAddrErrors > unwanted);
    await until("what is sent later", () => {
      sender.send("later", PORT + 1, b);
      return others.length > 0;
    });
    for (const member of members) member.joinGroup(group);
    expect(() => members[0].joinGroup(group)).toThrow("EADDRINUSE");
    await until("both hear it", () => {
      sender.send("to all", PORT, group);
      return texts.every((list) => list.length > 0);
    });
    expect(new Set(texts.flat())).toEqual(new Set([`${a} to all`]));
    expect(new Set(others)).toEqual(new Set([`${a} later`]));
    // An answer comes from an address of the host's, not from the group.
    members[0].onDatagram = (d) => void d.reply();
    await until("the answer", () => {
      sender.send("answer me", PORT, group);
      return answers.includes(`${b} answer me`);
    });
    expect(answers.every((text) => text.startsWith(`${b} `))).toBe(true);
    members[0].leaveGroup(group);
    expect(() => members[0].leaveGroup(group)).toThrow("EADDRNOTAVAIL");
    members[1].close();
    await until("the group is nobody's", () => {
      const before = hearing.counters().IpInAddrErrors;
      sender.send("after", PORT, group);
      Bun.sleepSync(5);
      return hearing.counters().IpInAddrErrors > before;
    });
  });

  test.each(FAMILIES)("a datagram larger than a packet to a group: $group", async ({ group, any }) => {
    const wire = createMemoryWire();
    const sending = await startOnWire(wire, 0, cleanUp);
    const hearing = await startOnWire(wire, 1, cleanUp);
    const member = hearing.udp({ address: any, port: PORT });
    member.joinGroup(group);
    const lengths: number[] = [];
    member.onDatagram = (d) => {
      expect(d.copy()).toEqual(payload(d.length));
      lengths.push(d.length);
    };
    const sender = sending.udp({ address: any });
    await until("it", () => {
      sender.send(payload(20_000), PORT, group);
      return lengths.includes(20_000);
    });
  });

  test.each([
    { group: "239.1.2.3", any: "0.0.0.0", wanted: "198.18.0.1", unwanted: "198.18.0.9" },
    { group: "ff3e::1", any: "::", wanted: "2001:db8::1", unwanted: "2001:db8::9" },
  ])("only from the sources that were asked for: $group", async ({ group, any, wanted, unwanted }) => {
    const wire = createMemoryWire();
    const sending = await startOnWire(wire, 0, cleanUp);
    const hearing = await startOnWire(wire, 1, cleanUp);
    const [yes, no] = [wanted, unwanted].map((source) => {
      const socket = hearing.udp({ address: any, port: PORT, reuseAddress: true });
      socket.joinSourceGroup(source, group);
      return heard(socket);
    });
    const sender = sending.udp({ address: any });
    await until("the member hears it", () => {
      sender.send("x", PORT, group);
      return yes.length > 3;
    });
    expect(no).toEqual([]);
  });

  test("what a member sends it hears itself, unless it does not want to", async () => {
    const wire = createMemoryWire();
    const engine = await startOnWire(wire, 0, cleanUp);
    const member = engine.udp({ port: PORT });
    member.joinGroup("239.1.2.3");
    const texts = heard(member);
    await until("its own", () => {
      member.send("loop", PORT, "239.1.2.3");
      return texts.length > 0;
    });
    member.setsockopt(IPPROTO_IP, IP_MULTICAST_LOOP, 0);
    for (let i = 0; i < 5; i++) member.send("no loop", PORT, "239.1.2.3");
    // What is sent after them and wanted: it takes the same way.
    member.setsockopt(IPPROTO_IP, IP_MULTICAST_LOOP, 1);
    member.send("loop again", PORT, "239.1.2.3");
    await until("what came after", () => texts.some((text) => text.endsWith(" loop again")));
    expect(texts.filter((text) => text.endsWith(" no loop"))).toEqual([]);
  });

  test.each(["255.255.255.255", "198.18.0.255"])("broadcast, once it is allowed: %s", async (address) => {
    const wire = createMemoryWire();
    const sending = await startOnWire(wire, 0, cleanUp);
    const hearing = await startOnWire(wire, 1, cleanUp);
    const texts = heard(hearing.udp({ port: PORT }));
    const sender = sending.udp();
    expect(sender.send("no", PORT, address)).toBe(-13);
    sender.setsockopt(SOL_SOCKET, SO_BROADCAST, 1);
    await until("everybody hears", () => {
      sender.send("all", PORT, address);
      return texts.length > 0;
    });
    expect(texts[0]).toBe("198.18.0.1 all");
  });
});

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "" || !hasBridge)("before a bridge that snoops", () => {
  test.each([
    { igmp: 3, mld: 2, filter: "exclude", source: "include 198.18.0.9" },
    { igmp: 2, mld: 1, filter: "", source: "" },
  ])("IGMPv$igmp, MLDv$mld: its table has what sockets have joined", async ({ igmp, mld, filter, source }) => {
    const { a, engine } = await startOnVeth(cleanUp);
    const bridge = new Bridge(a, igmp, mld);
    // The older versions are spoken once they were heard.
    if (igmp < 3) await Bun.sleep(3000);
    const socket = engine.udp({ address: "::", port: PORT });
    const other = engine.udp({ port: PORT + 1 });
    socket.joinGroup("239.1.2.3");
    socket.joinGroup("ff05::123");
    other.joinGroup("239.1.2.3");
    other.joinSourceGroup("198.18.0.9", "232.1.1.1");
    await bridge.knows({ "239.1.2.3": filter, "ff05::123": filter, "232.1.1.1": source });
    socket.leaveGroup("239.1.2.3");
    socket.leaveGroup("ff05::123");
    await bridge.knows({ "239.1.2.3": filter, "232.1.1.1": source });
    // Longer than the bridge remembers without an answer to its queries.
    await Bun.sleep(3500);
    await bridge.knows({ "239.1.2.3": filter, "232.1.1.1": source });
    other.close();
    await bridge.knows({});
  });

  test("the kernel's datagrams to a group come", async () => {
    const { a, engine } = await startOnVeth(cleanUp);
    const peer = new KernelUdp(a.ns, { address: "0.0.0.0", port: PORT });
    cleanUp.add(() => peer.close());
    const socket = engine.udp({ port: PORT });
    socket.joinGroup("239.1.2.3");
    const texts = heard(socket);
    a.ns.run(() => Bun.spawnSync(["ip", "route", "add", "239.0.0.0/8", "dev", a.name]));
    await until("the kernel's", () => {
      peer.send("from the kernel", "239.1.2.3", PORT);
      return texts.includes(`${a.ipv4Text} from the kernel`);
    });
  });
});
