import { describe, expect, test } from "bun:test";
import { isIPv4, isIPv6 } from "node:net";
import fc from "fast-check";
import {
  formatIp,
  formatIpv4,
  formatIpv6,
  formatMac,
  ip,
  parseIp,
  parseIpv4,
  parseIpv6,
  parseIpv6Scoped,
  parseMac,
} from "../../../sockets/wire/address.ts";

const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });

/** 16 bytes in which zero groups are common, so that "::" is exercised. */
const sparseIpv6 = fc
  .array(fc.oneof(fc.constant(0), fc.constant(0xffff), fc.nat(0xffff)), { minLength: 8, maxLength: 8 })
  .map((groups) => Uint8Array.from(groups.flatMap((group) => [group >>> 8, group & 0xff])));

/** Strings near to addresses: pieces of them in any order. */
const nearly = fc
  .array(
    fc.constantFrom("0", "1", "9", "00", "01", "255", "256", "a", "F", "ffff", "12345", ".", ":", "::", "1.2.3.4", "g"),
    { maxLength: 12 },
  )
  .map((pieces) => pieces.join(""));

describe("IPv4", () => {
  test("accepts what inet_pton accepts", () => {
    expect(parseIpv4("198.18.0.1")).toEqual(Uint8Array.of(198, 18, 0, 1));
    for (const bad of ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.4 ", "0x1.2.3.4", "1..3.4", "127.1"])
      expect(parseIpv4(bad)).toBeNull();
  });

  test("agrees with node:net on any text", () => {
    fc.assert(
      fc.property(fc.oneof(nearly, fc.string(), fc.ipV4()), (text) => (parseIpv4(text) !== null) === isIPv4(text)),
    );
  });

  test("format and parse are inverse", () => {
    fc.assert(
      fc.property(bytes(4), (address) => {
        expect(parseIpv4(formatIpv4(address))).toEqual(address);
      }),
    );
  });
});

describe("IPv6", () => {
  test("RFC 4291 section 2.2", () => {
    const expected = (text: string): string | null => parseIpv6(text)?.toHex() ?? null;
    expect(expected("::")).toBe("0".repeat(32));
    expect(expected("::1")).toBe(`${"0".repeat(31)}1`);
    expect(expected("2001:DB8:0:0:8:800:200C:417A")).toBe("20010db80000000000080800200c417a");
    expect(expected("FF01::101")).toBe("ff010000000000000000000000000101");
    expect(expected("::13.1.68.3")).toBe("0000000000000000000000000d014403");
    expect(expected("::FFFF:129.144.52.38")).toBe("00000000000000000000ffff81903426");
    expect(expected("1:2:3:4:5:6:7::")).toBe("00010002000300040005000600070000");
  });

  test("refuses what is none", () => {
    for (const bad of [
      "",
      ":",
      ":::",
      "1::2::3",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9",
      "1:2:3:4::5:6:7:8",
      "12345::",
      "::1.2.3",
      "1.2.3.4::",
      "::1.2.3.4:5",
      ":1::",
      "1::2:",
      "fe80::1%eth0",
      "1:2:3:4:5:6:7:1.2.3.4",
    ])
      expect(parseIpv6(bad)).toBeNull();
  });

  test("agrees with node:net on any text without zone", () => {
    fc.assert(
      fc.property(fc.oneof(nearly, fc.string(), fc.ipV6()), (text) => {
        fc.pre(!text.includes("%"));
        return (parseIpv6(text) !== null) === isIPv6(text);
      }),
      { numRuns: 2000 },
    );
  });

  test("RFC 5952 section 4 and 5", () => {
    const canonical = (text: string): string => formatIpv6(ip(text));
    expect(canonical("2001:0db8::0001")).toBe("2001:db8::1");
    expect(canonical("2001:db8:0:0:0:0:2:1")).toBe("2001:db8::2:1");
    // One zero group alone is not shortened.
    expect(canonical("2001:db8:0:1:1:1:1:1")).toBe("2001:db8:0:1:1:1:1:1");
    // The longest run, and among equals the first.
    expect(canonical("2001:0:0:1:0:0:0:1")).toBe("2001:0:0:1::1");
    expect(canonical("2001:db8:0:0:1:0:0:1")).toBe("2001:db8::1:0:0:1");
    expect(canonical("2001:DB8::AAAA")).toBe("2001:db8::aaaa");
    expect(canonical("::ffff:c0a8:1")).toBe("::ffff:192.168.0.1");
    expect(canonical("::")).toBe("::");
    expect(canonical("1::")).toBe("1::");
  });

  test("format and parse are inverse", () => {
    fc.assert(
      fc.property(fc.oneof(bytes(16), sparseIpv6), (address) => {
        const text = formatIpv6(address);
        expect(isIPv6(text)).toBe(true);
        expect(parseIpv6(text)).toEqual(address);
      }),
      { numRuns: 500 },
    );
  });

  test("the canonical form is that of the URL standard", () => {
    fc.assert(
      fc.property(sparseIpv6, (address) => {
        const text = formatIpv6(address);
        // The URL standard has no mixed notation.
        fc.pre(!text.includes("."));
        expect(`[${text}]`).toBe(new URL(`http://[${text}]/`).hostname);
      }),
    );
  });

  test("zones", () => {
    expect(parseIpv6Scoped("fe80::1%eth0")).toEqual({ address: ip("fe80::1"), zone: "eth0" });
    expect(parseIpv6Scoped("fe80::1")).toEqual({ address: ip("fe80::1"), zone: "" });
    expect(parseIpv6Scoped("fe80::1%")).toBeNull();
    expect(parseIpv6Scoped("fe80:%3")).toBeNull();
  });
});

test("family is told by the text and the length", () => {
  expect(parseIp("198.18.0.1")?.length).toBe(4);
  expect(parseIp("2001:db8::1")?.length).toBe(16);
  expect(formatIp(ip("2001:db8::1"))).toBe("2001:db8::1");
  expect(formatIp(ip("198.18.0.1"))).toBe("198.18.0.1");
  expect(() => ip("localhost")).toThrow(TypeError);
  expect(() => formatIp(new Uint8Array(5))).toThrow(RangeError);
});

test("MAC addresses", () => {
  expect(parseMac("02:00:5E:10:00:ff")).toEqual(Uint8Array.of(2, 0, 0x5e, 0x10, 0, 0xff));
  expect(formatMac(Uint8Array.of(9, 2, 0, 0x5e, 0x10, 0, 0xff), 1)).toBe("02:00:5e:10:00:ff");
  for (const bad of ["", "02:00:5e:10:00", "02:00:5e:10:00:fg", "2:0:5e:10:0:ff", "02-00-5e-10-00-ff"])
    expect(parseMac(bad)).toBeNull();
});
