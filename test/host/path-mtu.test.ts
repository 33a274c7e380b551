/** Path MTUs as scripts (RFC 1191, RFC 8201): what is learned, from whom, how little, for how long, and of how many. */
import { describe, expect, test } from "bun:test";
import type { IcmpReport } from "../../sockets/host/host.ts";
import { MTU_EXPIRES_MS, PATH_MTUS_MAX } from "../../sockets/host/path-mtu.ts";
import type { HostScript } from "./host-script.ts";
import { FAMILIES, type Family, GATEWAY_MAC, withGateway } from "./icmp-messages.ts";
import { framed, udp } from "./messages.ts";

const NOWHERE = new Uint8Array(6);

/** A router's word that a packet of `length` bytes to a host did not fit; what the host makes of it, unless it is refused. */
function tooBig(host: HostScript, family: Family, mtu: number, to = family.second, length = 1500): IcmpReport {
  const packet = family.sentTo(to, udp(7000, 53, new Uint8Array(length - family.header - 8)));
  const head = family.name === "IPv4" ? ([3, 4, mtu] as const) : ([2, 0, mtu] as const);
  host.packet(family.icmp([...head], packet.subarray(0, 500)), GATEWAY_MAC);
  return host.reports.pop() as IcmpReport;
}

/** tooBig(), and a socket that knows the packet. */
function learn(host: HostScript, family: Family, mtu: number, to = family.second, length = 1500): boolean {
  return host.host.acceptPathMtu(tooBig(host, family, mtu, to, length), host.now);
}

const mtuTo = (host: HostScript, family: Family, to = family.second): number =>
  host.host.pathMtu(framed(NOWHERE, NOWHERE, family.sentTo(to, udp(1, 2))));

const known = (host: HostScript): string[] => host.routes().filter((route) => route.includes(" mtu "));

describe.each(FAMILIES)("path MTU, $name", (family) => {
  const { second, peer } = family;
  const floor = family.name === "IPv4" ? 552 : 1280;
  const prefix = family.name === "IPv4" ? 32 : 128;
  const gateway = family.name === "IPv4" ? "198.18.0.254" : "2001:db8::fe";

  test("is the link's as long as nobody says otherwise", () => {
    const host = withGateway();
    expect([mtuTo(host, family), known(host)]).toEqual([1500, []]);
  });

  test("is not what a router says until somebody knows the packet", () => {
    const host = withGateway();
    const report = tooBig(host, family, 1400);
    expect([mtuTo(host, family), host.count("PathMtuUpdates")]).toEqual([1500, 0]);
    expect(host.host.acceptPathMtu(report, host.now)).toBe(true);
    expect([mtuTo(host, family), host.count("PathMtuUpdates")]).toEqual([1400, 1]);
  });

  test("is that of one destination, by the way there", () => {
    const host = withGateway();
    learn(host, family, 1400);
    expect(known(host)).toEqual([`${second}/${prefix} via ${gateway} mtu 1400`]);
    expect(mtuTo(host, family, peer)).toBe(1500);
  });

  test("to a neighbour has no gateway", () => {
    const host = withGateway();
    learn(host, family, 1400, family.near);
    expect(known(host)).toEqual([`${family.near}/${prefix} mtu 1400`]);
  });

  test("is published when it changes, and only then", () => {
    const host = withGateway();
    const changes = (mtu: number): number => {
      host.pass(20);
      const before = host.changes;
      learn(host, family, mtu);
      host.pass(20);
      return host.changes - before;
    };
    expect([changes(1400), changes(1400), changes(1450), changes(1300)]).toEqual([1, 0, 0, 1]);
  });

  test("shrinks, and never grows", () => {
    const host = withGateway();
    const told = [1500, 1501, 9000, 1400, 1400, 1401, 1500, 1300, 1400];
    expect(told.map((mtu) => learn(host, family, mtu))).toEqual(
      told.map((mtu, i) => (mtu === 1400 && i === 3) || mtu === 1300),
    );
    expect(mtuTo(host, family)).toBe(1300);
  });

  test("of other errors nothing is learned", () => {
    const host = withGateway();
    const [type, code] = family.portUnreachable;
    host.packet(family.icmp([type, code, 1300], family.sentTo(second, udp(1, 2))), GATEWAY_MAC);
    expect(host.host.acceptPathMtu(host.reports[0], host.now)).toBe(false);
    expect(mtuTo(host, family)).toBe(1500);
  });

  test(`is not below ${floor}`, () => {
    const host = withGateway();
    expect([learn(host, family, floor), mtuTo(host, family)]).toEqual([true, floor]);
    for (const mtu of [floor - 1, 576 - 100, 68, 1]) {
      expect(learn(host, family, mtu)).toBe(false);
      expect(mtuTo(host, family)).toBe(floor);
    }
  });

  test("is forgotten after ten minutes, on time", () => {
    const host = withGateway();
    learn(host, family, 1400);
    host.pass(MTU_EXPIRES_MS - 1);
    expect(mtuTo(host, family)).toBe(1400);
    const before = host.changes;
    host.pass(1 + 10);
    expect([mtuTo(host, family), known(host), host.changes > before]).toEqual([1500, [], true]);
    // And may then be learned anew, also more than before.
    expect([learn(host, family, 1450), mtuTo(host, family)]).toEqual([true, 1450]);
  });

  test("lives on when it is said again, not when more is", () => {
    const host = withGateway();
    learn(host, family, 1400);
    host.pass(MTU_EXPIRES_MS / 2);
    expect(learn(host, family, 1400)).toBe(false);
    host.pass(MTU_EXPIRES_MS / 4);
    expect(learn(host, family, 1450)).toBe(false);
    host.pass(MTU_EXPIRES_MS / 4 - 1);
    expect(mtuTo(host, family)).toBe(1400);
    host.pass(1);
    expect(mtuTo(host, family)).toBe(1400);
    host.pass(MTU_EXPIRES_MS / 2);
    expect(mtuTo(host, family)).toBe(1500);
  });

  test("the tick says when the next one ends", () => {
    const host = withGateway();
    host.now += MTU_EXPIRES_MS;
    host.host.tick(host.now);
    learn(host, family, 1400);
    expect(host.host.tick(host.now)).toBeLessThanOrEqual(host.now + MTU_EXPIRES_MS);
  });

  test(`of ${PATH_MTUS_MAX} destinations; the one that would end first makes room`, () => {
    const host = withGateway();
    for (let i = 0; i < PATH_MTUS_MAX; i++) {
      host.now++;
      learn(host, family, 1400, family.many(i));
    }
    expect(known(host).length).toBe(PATH_MTUS_MAX);
    learn(host, family, 1400, family.many(0));
    for (let i = 0; i < 100; i++) learn(host, family, 1300, family.many(PATH_MTUS_MAX + i));
    expect(known(host).length).toBe(PATH_MTUS_MAX);
    const mtus = [0, 1, 100, 101, PATH_MTUS_MAX, PATH_MTUS_MAX + 99].map((i) => mtuTo(host, family, family.many(i)));
    expect(mtus).toEqual([1400, 1500, 1500, 1400, 1300, 1300]);
  });

  test("an echo reply that is longer goes to the fragmenter", () => {
    const host = withGateway();
    learn(host, family, 1300, peer);
    const data = (length: number): Uint8Array => new Uint8Array(length - family.header - 8);
    expect(host.packet(family.echo(data(1300)), GATEWAY_MAC).length).toBe(1);
    expect([host.packet(family.echo(data(1301)), GATEWAY_MAC), host.packets.length]).toEqual([[], 1]);
  });
});

describe("path MTU", () => {
  const [v4, v6] = FAMILIES;

  test.each([
    [1500, 1492],
    [1492, 1006],
    [1007, 1006],
    [1006, 552],
    [553, 552],
    [200, 552],
  ])("a router that does not say it, of %d bytes: the next common link's, %d", (length, mtu) => {
    const host = withGateway();
    expect(learn(host, v4, 0, v4.second, length)).toBe(true);
    expect(mtuTo(host, v4)).toBe(mtu);
  });

  test("a router that does not say it, of a packet longer than any: nothing", () => {
    const host = withGateway();
    expect([learn(host, v4, 0, v4.second, 40_000), mtuTo(host, v4)]).toEqual([false, 1500]);
  });

  test("of IPv6 always has one: 0 is less than any", () => {
    const host = withGateway();
    expect([learn(host, v6, 0), learn(host, v6, 1279), mtuTo(host, v6)]).toEqual([false, false, 1500]);
  });

  test.each([2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1])("of IPv6 has 32 bits: %d is not less than the link's", (mtu) => {
    const host = withGateway();
    expect([learn(host, v6, mtu), mtuTo(host, v6)]).toEqual([false, 1500]);
  });

  test("both families share the table", () => {
    const host = withGateway();
    for (let i = 0; i < PATH_MTUS_MAX; i++) learn(host, i % 2 ? v4 : v6, 1400, (i % 2 ? v4 : v6).many(i));
    learn(host, v6, 1400, v6.second);
    expect([mtuTo(host, v6, v6.many(0)), mtuTo(host, v4, v4.many(1)), known(host).length]).toEqual([
      1500,
      1400,
      PATH_MTUS_MAX,
    ]);
  });
});
