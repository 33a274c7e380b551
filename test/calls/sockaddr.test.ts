/** Addresses there and back, and against what the kernel takes and tells. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { NetNs } from "../../engine/host/netns.ts";
import { AF_INET, AF_INET6, AF_PACKET, AF_UNIX, AF_UNSPEC, SOCK_DGRAM } from "../../sockets/calls/constants.ts";
import { KernelCalls } from "../../sockets/calls/kernel-calls.ts";
import { addressBuffer } from "../../sockets/calls/message.ts";
import {
  decodeAddress,
  encodeAddress,
  SOCKADDR_STORAGE_BYTES,
  type SocketAddress,
} from "../../sockets/calls/sockaddr.ts";
import { formatIp } from "../../sockets/wire/address.ts";
import { requires } from "../support/hosts.ts";

const port = fc.integer({ min: 0, max: 0xffff });
const address = (length: number): fc.Arbitrary<string> =>
  fc.uint8Array({ minLength: length, maxLength: length }).map(formatIp);
const anyAddress: fc.Arbitrary<SocketAddress> = fc.oneof(
  fc.record({ family: fc.constant(AF_INET), address: address(4), port }),
  fc.record({
    family: fc.constant(AF_INET6),
    address: address(16),
    port,
    flowInfo: fc.nat(0xfff_ffff),
    scopeId: fc.nat(0xffff_ffff),
  }),
  fc.record({ family: fc.constant(AF_UNIX), path: fc.stringMatching(/^[ -~]{0,108}$/) }),
  fc.record({
    family: fc.constant(AF_UNIX),
    path: fc.uint8Array({ maxLength: 107 }).map((b) => `\0${String.fromCharCode(...b)}`),
  }),
  fc.record({
    family: fc.constant(AF_PACKET),
    protocol: port,
    interfaceIndex: fc.nat(0x7fff_ffff),
    hardwareType: port,
    packetType: fc.nat(255),
    hardwareAddress: fc.uint8Array({ maxLength: 8 }),
  }),
) as fc.Arbitrary<SocketAddress>;

describe("addresses", () => {
  test("come back as they went, from a sockaddr_storage too", () => {
    fc.assert(
      fc.property(anyAddress, (given) => {
        const bytes = encodeAddress(given);
        expect(decodeAddress(bytes)).toEqual(given);
        const storage = new Uint8Array(SOCKADDR_STORAGE_BYTES).fill(0xee);
        storage.set(bytes);
        expect(decodeAddress(storage, bytes.length)).toEqual(given);
      }),
    );
  });

  test("no bytes at all make it throw", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 140 }), fc.constantFrom(0, 1, 2, 10, 17, 99), (bytes, family) => {
        if (bytes.length >= 2) bytes.set([family, 0]);
        decodeAddress(bytes);
      }),
    );
    expect(decodeAddress(new Uint8Array(1))).toBeNull();
    expect(decodeAddress(Uint8Array.of(AF_INET, 0, 0, 0))).toBeNull();
    expect(decodeAddress(Uint8Array.of(99, 0, 0, 0))).toBeNull();
    expect(decodeAddress(encodeAddress({ family: AF_UNSPEC }))).toEqual({ family: AF_UNSPEC });
  });

  test.skipIf(requires("netns") !== "")("the kernel takes and tells them", () => {
    const ns = NetNs.create();
    const calls = new KernelCalls((body) => ns.run(body));
    for (const given of [
      { family: AF_UNIX, path: "\0lcore-test-\x01\xff" },
      { family: AF_INET, address: "0.0.0.0", port: 0 },
      { family: AF_INET6, address: "::", port: 0, flowInfo: 0, scopeId: 0 },
    ] as SocketAddress[]) {
      const fd = calls.socket(given.family, SOCK_DGRAM, 0);
      expect(calls.bind(fd, encodeAddress(given))).toBe(0);
      const told = addressBuffer();
      expect(calls.getsockname(fd, told)).toBe(0);
      const { port = 0, ...rest } = decodeAddress(told.bytes, told.length) as SocketAddress & { port?: number };
      expect({ ...rest, ...("port" in given ? { port: 0 } : {}) }).toEqual(given);
      expect(port > 0).toBe("port" in given);
      calls.close(fd);
    }
    ns.close();
  });

  test("what no address has is refused", () => {
    const refused = (given: SocketAddress): void => expect(() => encodeAddress(given)).toThrow(RangeError);
    refused({ family: AF_INET, address: "::1", port: 1 });
    refused({ family: AF_INET, address: "198.18.0.1", port: 65536 });
    refused({ family: AF_INET6, address: "::1", port: 1, scopeId: -1 });
    refused({ family: AF_UNIX, path: "x".repeat(109) });
    refused({ family: AF_UNIX, path: "a\0b" });
    refused({ family: AF_PACKET, protocol: 3, interfaceIndex: 1, hardwareAddress: new Uint8Array(9) });
  });
});
