import { describe, expect, test } from "bun:test";
import {
  RSS_INDIRECTION,
  RSS_KEY_MICROSOFT,
  RSS_KEY_SYMMETRIC,
  rssHash,
  rssQueue,
  Toeplitz,
} from "../../queues/rss.ts";

const microsoft = new Toeplitz(RSS_KEY_MICROSOFT);

const v4 = (address: string) => address.split(".").map(Number);
const port = (n: number) => [n >> 8, n & 255];

/** Eight groups, all written out. */
const v6 = (address: string) =>
  address.split(":").flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 255]);

function frame4(src: string, sport: number, dst: string, dport: number, protocol: number, fragment = 0): Uint8Array {
  const ip = [0x45, 0, 0, 40, 0, 0, fragment >> 8, fragment & 255, 64, protocol, 0, 0, ...v4(src), ...v4(dst)];
  return Uint8Array.from([...new Array(12).fill(0), 8, 0, ...ip, ...port(sport), ...port(dport), ...new Array(16)]);
}

function frame6(src: string, sport: number, dst: string, dport: number, next: number): Uint8Array {
  const ip = [0x60, 0, 0, 0, 0, 20, next, 64, ...v6(src), ...v6(dst)];
  const bytes = [...new Array(12).fill(0), 0x86, 0xdd, ...ip, ...port(sport), ...port(dport), ...new Array(16)];
  return Uint8Array.from(bytes);
}

const hash = (bytes: Uint8Array, toeplitz = microsoft) => rssHash(toeplitz, bytes, 0, bytes.length) >>> 0;

describe("Microsoft, Verifying the RSS hash calculation", () => {
  test.each([
    ["66.9.149.187", 2794, "161.142.100.80", 1766, 0x323e8fc2, 0x51ccc178],
    ["199.92.111.2", 14230, "65.69.140.83", 4739, 0xd718262a, 0xc626b0ea],
    ["24.19.198.95", 12898, "12.22.207.184", 38024, 0xd2d0a5de, 0x5c2b394a],
    ["38.27.205.30", 48228, "209.142.163.6", 2217, 0x82989176, 0xafc7327f],
    ["153.39.163.191", 44251, "202.188.127.2", 1303, 0x5d1809c5, 0x10e828a2],
  ])("IPv4 %s:%d to %s:%d", (src, sport, dst, dport, addresses, withPorts) => {
    expect(hash(frame4(src, sport, dst, dport, 1))).toBe(addresses);
    expect(hash(frame4(src, sport, dst, dport, 6))).toBe(withPorts);
    expect(hash(frame4(src, sport, dst, dport, 17))).toBe(withPorts);
    expect(hash(frame4(src, sport, dst, dport, 17, 0x2000))).toBe(addresses);
    expect(hash(frame4(src, sport, dst, dport, 17, 0x0001))).toBe(addresses);
    expect(hash(frame4(src, sport, dst, dport, 17, 0x4000))).toBe(withPorts);
  });

  test.each([
    ["3ffe:2501:200:1fff:0:0:0:7", 2794, "3ffe:2501:200:3:0:0:0:1", 1766, 0x2cc18cd5, 0x40207d3d],
    ["3ffe:501:8:0:260:97ff:fe40:efab", 14230, "ff02:0:0:0:0:0:0:1", 4739, 0x0f0c461c, 0xdde51bbf],
    ["3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, "fe80:0:0:0:200:f8ff:fe21:67cf", 38024, 0x4b61e985, 0x02d1feef],
  ])("IPv6 %s.%d to %s.%d", (src, sport, dst, dport, addresses, withPorts) => {
    expect(hash(frame6(src, sport, dst, dport, 58))).toBe(addresses);
    expect(hash(frame6(src, sport, dst, dport, 6))).toBe(withPorts);
  });
});

test("VLAN tags are stepped over; what is not IP, or cut off, hashes to 0", () => {
  const plain = frame4("66.9.149.187", 2794, "161.142.100.80", 1766, 17);
  const tag = [0x81, 0, 0, 5];
  const tagged = Uint8Array.from([...plain.slice(0, 12), ...tag, ...plain.slice(12)]);
  const twice = Uint8Array.from([...plain.slice(0, 12), 0x88, 0xa8, 0, 1, ...tag, ...plain.slice(12)]);
  expect(hash(tagged)).toBe(0x51ccc178);
  expect(hash(twice)).toBe(0x51ccc178);
  expect(hash(plain.slice(0, 36))).toBe(0x323e8fc2);
  expect(hash(plain.slice(0, 33))).toBe(0);
  expect(hash(plain.slice(0, 13))).toBe(0);
  expect(hash(tagged.slice(0, 16))).toBe(0);
  expect(hash(Uint8Array.from([...new Array(12).fill(0), 8, 6, ...new Array(28).fill(9)]))).toBe(0);
});

test("the symmetric key hashes both directions alike", () => {
  const symmetric = new Toeplitz(RSS_KEY_SYMMETRIC);
  const there = hash(frame4("198.18.0.1", 1234, "198.18.0.2", 80, 6), symmetric);
  const back = hash(frame4("198.18.0.2", 80, "198.18.0.1", 1234, 6), symmetric);
  expect(there).toBe(back);
  expect(there).not.toBe(hash(frame4("198.18.0.1", 1235, "198.18.0.2", 80, 6), symmetric));
  expect(() => new Toeplitz(new Uint8Array(39))).toThrow("39 bytes");
});

test("flows are spread over the queues", () => {
  const queues = 4;
  const counts = new Array<number>(queues).fill(0);
  for (let i = 0; i < 4000; i++)
    counts[rssQueue(hash(frame4("198.18.0.1", 1024 + i, "198.18.0.2", 53, 17)), queues)] += 1;
  for (const count of counts) expect(count).toBeWithin(800, 1200);
  expect(rssQueue(-1, 3)).toBe((RSS_INDIRECTION - 1) % 3);
});
