/** Router discovery and the addresses made from it, as scripts: RFC 4861, section 6.3; RFC 4862, 5.5; RFC 4191; RFC 7559. */
import { describe, expect, test } from "bun:test";
import { AUTOCONF_MAX, PREFIXES_MAX, ROUTERS_MAX } from "../../sockets/host/router-discovery.ts";
import { ip } from "../../sockets/wire/address.ts";
import { HostScript, LOCAL6, OWN, OWN_MAC, OWN4, OWN6, SECOND, within } from "./host-script.ts";
import { be32, icmp6, ip6, macOption, udp } from "./messages.ts";

const MAC_R = Uint8Array.of(2, 0, 0, 0, 0, 0xe);
const R = "fe80::e";
const MADE = "2001:db8:1::ff:fe00:1";
const HOUR = 3600;
const FOREVER = 0xffffffff;
const ON_LINK = 0x80;
const AUTONOMOUS = 0x40;

interface Advertised {
  source?: string;
  lifetime?: number;
  preference?: number;
  hopLimit?: number;
  reachable?: number;
  retrans?: number;
  options?: number[];
  code?: number;
  packetHopLimit?: number;
  to?: string;
}

function ra(advertised: Advertised = {}): Uint8Array {
  const { source = R, lifetime = 1800, preference = 0, hopLimit = 0, reachable = 0, retrans = 0 } = advertised;
  const { options = macOption(1, MAC_R), code = 0, packetHopLimit = 255, to = "ff02::1" } = advertised;
  const rest = hopLimit * 2 ** 24 + (preference << 19) + lifetime;
  return icmp6(source, to, [134, code, rest], [...be32(reachable), ...be32(retrans), ...options], packetHopLimit);
}

const prefix = (text: string, valid: number, preferred = valid, flags = ON_LINK | AUTONOMOUS, bits = 64): number[] => [
  ...[3, 4, bits, flags, ...be32(valid), ...be32(preferred), 0, 0, 0, 0],
  ...ip(text),
];
const mtu = (value: number): number[] => [5, 1, 0, 0, ...be32(value)];
const config = { acceptRa: true };

const start = (more: object = {}): HostScript => HostScript.settled({ ...config, ...more });
const hear = (host: HostScript, advertised: Advertised = {}): string[] => host.packet(ra(advertised), MAC_R);

describe("solicitation", () => {
  const rs = `333300000002 < ${LOCAL6} > ff02::2 RS slla ${OWN}`;

  test("soon, then ever more seldom, until a router answers", () => {
    const host = new HostScript(config);
    const log = host.pass(3 * HOUR * SECOND).filter(({ text }) => text === rs);
    const gaps = log.map(({ after }, i) => after - (log[i - 1]?.after ?? 0));
    expect(gaps[0]).toBeLessThan(1000);
    expect(within([gaps[1]], [[3600, 4400]])).toBe(true);
    for (let i = 2; i < gaps.length; i++) {
      const wanted = Math.min(2 * gaps[i - 1], HOUR * SECOND);
      expect(within([gaps[i]], [[wanted * 0.89, wanted * 1.11]])).toBe(true);
    }
    expect(Math.max(...gaps)).toBeLessThan(1.1 * HOUR * SECOND + 1);
    hear(host);
    expect(host.pass(3 * HOUR * SECOND).filter(({ text }) => text === rs)).toEqual([]);
  });

  test("one that is no default router ends nothing", () => {
    const host = start();
    hear(host, { lifetime: 0 });
    expect(host.pass(60 * SECOND).filter(({ text }) => text === rs).length).toBeGreaterThan(1);
  });

  test("waits until the link-local address is ours", () => {
    const host = new HostScript({ ...config, dad: true, addresses: [`${OWN6}/64`] });
    const log = host.pass(5 * SECOND);
    const used = log.find(({ text }) => text.includes(`NA ${LOCAL6}`))?.after as number;
    expect(log.find(({ text }) => text === rs)?.after).toBeGreaterThanOrEqual(used);
  });
});

describe("default routers", () => {
  test("one is the way to everybody, for its lifetime", () => {
    const host = start();
    hear(host, { lifetime: 30 });
    expect(host.routes()).toContain(`::/0 via ${R}`);
    const far = ip6({ source: OWN6, destination: "2001:db8:ffff::1", protocol: 17, payload: udp(1, 2) });
    expect([host.send(far), host.sent()]).toEqual([0, [`02000000000e < ${OWN6} > 2001:db8:ffff::1 protocol 17 48`]]);
    host.pass(29_999);
    expect(host.routes()).toContain(`::/0 via ${R}`);
    host.pass(2);
    expect(host.routes()).not.toContain(`::/0 via ${R}`);
    expect(host.send(far)).toBe(-101);
    expect(host.count("IpOutNoRoutes")).toBe(1);
  });

  test("a lifetime of 0 ends it at once", () => {
    const host = start();
    hear(host);
    hear(host, { lifetime: 0 });
    expect(host.routes()).not.toContain(`::/0 via ${R}`);
  });

  test("the better is used, the first of equals, and not one that is silent", () => {
    const host = start();
    hear(host, { source: "fe80::1:1", preference: 3 });
    hear(host, { source: "fe80::1:2" });
    hear(host, { source: "fe80::1:3" });
    const now = (): string => host.routes().find((route) => route.startsWith("::/0")) as string;
    expect(now()).toBe("::/0 via fe80::1:2");
    hear(host, { source: "fe80::1:3", preference: 1 });
    expect(now()).toBe("::/0 via fe80::1:3");
    // It is used and answers nobody.
    host.send(ip6({ source: OWN6, destination: "2001:db8:ffff::1", protocol: 17, payload: udp(1, 2) }));
    host.pass(60 * SECOND);
    expect(now()).toBe("::/0 via fe80::1:2");
  });

  test("one that says it has become a host is none", () => {
    const host = start();
    hear(host);
    host.packet(icmp6(R, OWN6, [136, 0, 0x40000000], [...ip(R), ...macOption(2, MAC_R)], 255), MAC_R);
    expect(host.routes()).not.toContain(`::/0 via ${R}`);
  });

  test("a configured gateway goes before them", () => {
    const host = start({ gateways: ["2001:db8::fe"] });
    hear(host);
    expect(host.routes().filter((route) => route.startsWith("::/0"))).toEqual(["::/0 via 2001:db8::fe"]);
  });

  test("no more than there is room for", () => {
    const host = start();
    for (let i = 0; i < 100; i++) hear(host, { source: `fe80::${i + 100}`, options: [], preference: i === 99 ? 1 : 0 });
    expect(host.routes()).toContain("::/0 via fe80::100");
    for (let i = 0; i < ROUTERS_MAX; i++) hear(host, { source: `fe80::${i + 100}`, options: [], lifetime: 0 });
    expect(host.routes().some((route) => route.startsWith("::/0"))).toBe(false);
  });
});

describe("parameters", () => {
  test("hop limit, MTU within bounds", () => {
    const host = start();
    expect(host.host.hopLimit).toBe(64);
    hear(host, { hopLimit: 17, options: mtu(1400) });
    expect(host.host.hopLimit).toBe(17);
    expect(host.routes().filter((route) => route.includes(":"))).toEqual([
      "2001:db8::/64 mtu 1400",
      "fe80::/64 mtu 1400",
      `::/0 via ${R} mtu 1400`,
    ]);
    const long = ip6({ source: OWN6, destination: "2001:db8::2", protocol: 17, payload: new Uint8Array(1401 - 40) });
    expect(host.send(long)).toBe(-90);
    for (const value of [1279, 1501, 0]) hear(host, { options: mtu(value) });
    expect(host.send(long)).toBe(-90);
    // Not said again is not changed.
    hear(host);
    expect(host.host.hopLimit).toBe(17);
    hear(host, { options: mtu(1500) });
    expect(host.send(long)).toBe(0);
  });

  test("the time between two questions", () => {
    const host = start();
    hear(host, { retrans: 250 });
    host.send(ip6({ source: OWN6, destination: "2001:db8::2", protocol: 17, payload: udp(1, 2) }));
    host.sent();
    expect(host.pass(5 * SECOND).map(({ after }) => after)).toEqual([250, 500]);
  });

  test("how long an answer holds", () => {
    const host = start();
    hear(host, { reachable: 1000 });
    host.send(ip6({ source: OWN6, destination: R, protocol: 17, payload: udp(1, 2) }));
    host.sent();
    host.pass(5 * SECOND);
    const answer = icmp6(R, OWN6, [136, 0, 0x40000000 | 0], [...ip(R), ...macOption(2, MAC_R)], 255);
    host.packet(answer, MAC_R);
    expect(host.state(R)).toBe("REACHABLE 02000000000e");
    host.pass(499);
    expect(host.state(R)).toBe("REACHABLE 02000000000e");
    host.pass(1002);
    expect(host.state(R)).toBe("DELAY 02000000000e");
  });
});

describe("prefixes", () => {
  test("on the link: neighbours without an address of ours there", () => {
    const host = start();
    hear(host, { options: prefix("2001:db8:2::", 100, 100, ON_LINK, 48) });
    expect(host.routes()).toContain("2001:db8:2::/48");
    expect(host.addresses()).toHaveLength(3);
    host.pass(99_999);
    expect(host.routes()).toContain("2001:db8:2::/48");
    host.pass(2);
    expect(host.routes()).not.toContain("2001:db8:2::/48");
  });

  test("a lifetime of 0 takes it away", () => {
    const host = start();
    hear(host, { options: prefix("2001:db8:2::", 100, 100, ON_LINK, 48) });
    hear(host, { options: prefix("2001:db8:2::", 0, 0, ON_LINK, 48) });
    host.pass(0);
    expect(host.routes()).not.toContain("2001:db8:2::/48");
  });

  test("no more than there is room for, of prefixes and of addresses", () => {
    const host = start();
    for (let i = 0; i < 100; i++) hear(host, { options: prefix(`2001:db8:${(i + 16).toString(16)}::`, 1000) });
    // Two networks of our own, the default route.
    const advertised = host
      .routes()
      .filter((route) => route.startsWith("2001:db8:") && !route.startsWith("2001:db8::"));
    expect(advertised).toHaveLength(PREFIXES_MAX);
    expect(host.addresses()).toHaveLength(3 + AUTOCONF_MAX);
  });
});

describe("an address of our own making", () => {
  const state = (host: HostScript): string | undefined =>
    host
      .addresses()
      .find((text) => text.startsWith(MADE))
      ?.split(" ")[1];
  const offer = (host: HostScript, valid: number, preferred = valid, flags = AUTONOMOUS, bits = 64): void => {
    hear(host, { options: prefix("2001:db8:1::", valid, preferred, flags, bits) });
  };

  test("preferred, deprecated, gone", () => {
    const host = start();
    offer(host, 200, 100);
    host.pass(0);
    expect(state(host)).toBe("preferred");
    host.pass(99_999);
    expect(state(host)).toBe("preferred");
    host.pass(2);
    expect(state(host)).toBe("deprecated");
    host.pass(100_000);
    expect(state(host)).toBeUndefined();
  });

  test("says nothing of who is on the link", () => {
    const host = start();
    offer(host, 1000);
    host.pass(0);
    expect(host.routes()).not.toContain("2001:db8:1::/64");
    host.send(ip6({ source: MADE, destination: "2001:db8:1::2", protocol: 17, payload: udp(1, 2) }));
    // Without the MAC address in the advertisement the router is asked for.
    expect(host.sent()).toEqual([`3333ff00000e < ${LOCAL6} > ff02::1:ff00:e NS ${R} slla ${OWN}`]);
  });

  test("is looked for at others first", () => {
    const host = start({ dad: true });
    offer(host, 1000);
    expect(state(host)).toBe("tentative");
    const log = host.pass(3 * SECOND);
    expect(log.map(({ text }) => text).filter((text) => text.includes(MADE))).toEqual([
      `3333ff000001 < :: > ff02::1:ff00:1 NS ${MADE} nonce`,
      `333300000001 < ${MADE} > ff02::1 NA ${MADE} O tlla ${OWN}`,
    ]);
    expect(state(host)).toBe("preferred");
  });

  // RFC 4862, section 5.5.3 e.
  test.each<[string, number, number, number]>([
    ["longer than is left", 1000, 2000, 2000],
    ["more than two hours, however much was left", 10 * HOUR, 3 * HOUR, 3 * HOUR],
    ["shorter, with less than two hours left", 1000, 10, 1000],
    ["0, with less than two hours left", 1000, 0, 1000],
    ["shorter, with more left: two hours", 10 * HOUR, 10, 2 * HOUR],
    ["0, with more left: two hours", 10 * HOUR, 0, 2 * HOUR],
    ["for ever", 1000, FOREVER, Number.POSITIVE_INFINITY],
  ])("two hours: %s", (_, first, then, seconds) => {
    const host = start();
    offer(host, first);
    offer(host, then);
    const own = host.host.addresses.find(({ bytes }) => bytes.join() === ip(MADE).join());
    expect((own?.validUntil as number) - host.now).toBe(seconds * SECOND);
  });

  test("a new preferred lifetime takes deprecation back", () => {
    const host = start();
    offer(host, 1000, 10);
    host.pass(20 * SECOND);
    expect(state(host)).toBe("deprecated");
    offer(host, 1000, 500);
    expect(state(host)).toBe("preferred");
    offer(host, 1000, 0);
    host.pass(1);
    expect(state(host)).toBe("deprecated");
  });

  test.each<[string, (host: HostScript) => void]>([
    ["a lifetime of 0", (host) => offer(host, 0)],
    ["preferred for longer than valid", (host) => offer(host, 100, 200)],
    ["of another length", (host) => offer(host, 100, 100, AUTONOMOUS, 63)],
    ["not autonomous", (host) => offer(host, 100, 100, 0)],
    ["the link-local prefix", (host) => void hear(host, { options: prefix("fe80::", 100) })],
    ["a group", (host) => void hear(host, { options: prefix("ff02::", 100) })],
    ["a length that no address has", (host) => offer(host, 100, 100, ON_LINK | AUTONOMOUS, 129)],
  ])("none of: %s", (_, hears) => {
    const host = start();
    const before = [host.addresses(), host.routes().length];
    hears(host);
    host.pass(0);
    // One more way: the default router.
    expect([host.addresses(), host.routes().length - 1]).toEqual(before);
  });

  test("what was configured stays as it is", () => {
    const host = start({ addresses: [`${OWN4}/24`, `${OWN6}/64`, `${MADE}/64`] });
    offer(host, 100);
    host.pass(200 * SECOND);
    expect(state(host)).toBe("preferred");
  });
});

describe("not believed", () => {
  const broken = ra();
  broken[42] ^= 1;
  test.each<[string, Uint8Array]>([
    ["hop limit 254", ra({ packetHopLimit: 254 })],
    ["checksum", broken],
    ["code", ra({ code: 1 })],
    ["from an address that is not link-local", ra({ source: "2001:db8::e" })],
    ["from nobody", ra({ source: "::" })],
    ["too short", icmp6(R, "ff02::1", [134, 0, 1800], new Uint8Array(7), 255)],
    ["an option of length 0", ra({ options: [200, 0, 0, 0, 0, 0, 0, 0] })],
    ["an option that leaves the message", ra({ options: [3, 4, 64, 0] })],
    ["a link-layer address of another kind", ra({ options: [1, 2, ...new Uint8Array(14)] })],
  ])("%s", (_, packet) => {
    const host = start();
    const before = host.routes();
    host.packet(packet, MAC_R);
    expect([host.routes(), host.count("Icmp6InErrors"), host.state(R)]).toEqual([before, 1, "none"]);
  });

  test("by a host that is not to obey them", () => {
    const host = HostScript.settled({ acceptRa: false });
    hear(host, { options: prefix("2001:db8:1::", 1000) });
    expect([host.routes().some((route) => route.startsWith("::/0")), host.addresses()]).toEqual([
      false,
      [`${OWN4} preferred`, `${OWN6} preferred`, `${LOCAL6} preferred`],
    ]);
  });

  test("a redirect: counted, and not obeyed", () => {
    const host = start();
    hear(host);
    const redirect = icmp6(
      R,
      OWN6,
      [137, 0, 0],
      [...ip("fe80::bad"), ...ip("2001:db8:ffff::1"), ...macOption(2, OWN_MAC)],
      255,
    );
    const before = host.routes();
    expect(host.packet(redirect, MAC_R)).toEqual([]);
    expect([host.routes(), host.count("Icmp6InRedirects"), host.state("fe80::bad")]).toEqual([before, 1, "none"]);
  });
});

describe("a link that comes back", () => {
  const heard = (): HostScript => {
    const host = start();
    hear(host, { hopLimit: 9, options: [...macOption(1, MAC_R), ...mtu(1300), ...prefix("2001:db8:1::", HOUR)] });
    host.pass(5 * SECOND);
    return host;
  };
  const learned = (host: HostScript): string[] => host.routes().filter((route) => /mtu|via|:1::/.test(route));

  test("switched off and on: what routers said and gave is forgotten, and they are asked again", () => {
    const host = heard();
    expect(host.addresses()).toContain(`${MADE} preferred`);
    host.host.restart(host.now);
    expect([host.host.hopLimit, learned(host), host.addresses().length]).toEqual([64, [], 3]);
    expect(host.pass(SECOND).some(({ text }) => text.includes("RS"))).toBe(true);
    hear(host, { options: prefix("2001:db8:1::", HOUR) });
    host.pass(5 * SECOND);
    expect(host.addresses()).toContain(`${MADE} preferred`);
  });

  test("without carrier for a while: what routers said is kept, they are asked, neighbours forgotten, addresses announced", () => {
    const host = heard();
    const [routes, addresses] = [host.routes(), host.addresses()];
    expect(host.state(R)).not.toBe("none");
    host.host.reconnect(host.now);
    expect([host.host.hopLimit, host.routes(), host.addresses(), host.state(R)]).toEqual([
      9,
      routes,
      addresses,
      "none",
    ]);
    const said = host.pass(3 * SECOND).map(({ text }) => text);
    const announcement = `ffffffffffff < who has ${OWN4}, tell ${OWN4}`;
    expect(said.filter((text) => text === announcement)).toHaveLength(2);
    for (const own of [OWN6, LOCAL6, MADE]) expect(said.some((text) => text.includes(`NA ${own}`))).toBe(true);
    expect(said.filter((text) => text.includes("RS"))).toHaveLength(1);
    expect(host.addresses()).toEqual(addresses);
  });
});
