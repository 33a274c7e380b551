import { describe, expect, test } from "bun:test";
import { SysError } from "af-xdp-bindings";
import fc from "fast-check";
import { GenericFamily } from "../../../engine/host/genetlink.ts";
import {
  attribute,
  attributeNest,
  attributeString,
  attributeU8,
  attributeU16,
  attributeU32,
  concat,
  NETLINK_ROUTE,
  NetlinkSocket,
  NLM_F_CREATE,
  nest,
  parseAttributes,
  text,
  uint,
} from "../../../engine/host/netlink.ts";
import { NetNs } from "../../../engine/host/netns.ts";
import { RTM_NEWLINK } from "../../../engine/host/rtnetlink-uapi.ts";
import { requires } from "../../support/hosts.ts";

describe("attributes", () => {
  test("any list is read back as it was written", () => {
    const item = fc.tuple(fc.integer({ min: 1, max: 0x3fff }), fc.uint8Array({ maxLength: 40 }));
    const items = fc.uniqueArray(item, { maxLength: 20, selector: ([type]) => type });
    fc.assert(
      fc.property(items, (list) => {
        const bytes = concat(...list.map(([type, value]) => attribute(type, value)));
        expect(bytes.length % 4).toBe(0);
        expect([...parseAttributes(bytes)]).toEqual(list);
      }),
    );
  });

  test("integers, strings and nests", () => {
    const bytes = concat(
      attributeU8(1, 0xfe),
      attributeU16(2, 0xfedc),
      attributeU32(3, 0xfedcba98),
      attributeString(4, "veth0"),
      attributeNest(5, attributeU32(1, 7), attributeString(2, "x")),
    );
    const attributes = parseAttributes(concat(Uint8Array.of(9, 9, 9, 9), bytes), 4);
    expect([uint(attributes, 1), uint(attributes, 2), uint(attributes, 3)]).toEqual([0xfe, 0xfedc, 0xfedcba98]);
    expect(text(attributes, 4)).toBe("veth0");
    expect(uint(nest(attributes, 5), 1)).toBe(7);
    expect(text(nest(attributes, 5), 2)).toBe("x");
    expect([uint(attributes, 99, 5), text(attributes, 99), nest(attributes, 99).size]).toEqual([5, "", 0]);
  });

  test("a malformed tail ends the walk and never reads outside", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (junk) => {
        for (const value of parseAttributes(junk).values()) {
          expect(value.byteOffset + value.length).toBeLessThanOrEqual(junk.byteOffset + junk.length);
        }
      }),
    );
  });
});

describe.skipIf(requires("netns") !== "")("socket", () => {
  const withSocket = (body: (socket: NetlinkSocket) => void): void => {
    const ns = NetNs.create();
    const socket = ns.run(() => new NetlinkSocket(NETLINK_ROUTE));
    try {
      body(socket);
    } finally {
      socket.close();
      ns.close();
    }
  };

  test("a refusal carries errno, what was asked, and the kernel's own words", () => {
    withSocket((socket) => {
      // IFLA_LINKINFO { IFLA_INFO_KIND "nonsense" }
      const body = concat(new Uint8Array(16), attributeNest(18, attributeString(1, "nonsense")));
      try {
        socket.request("RTM_NEWLINK nonsense", RTM_NEWLINK, NLM_F_CREATE, body);
        expect.unreachable();
      } catch (error) {
        expect(error).toBeInstanceOf(SysError);
        expect((error as SysError).code).toBe("EOPNOTSUPP");
        expect((error as SysError).message).toBe("RTM_NEWLINK nonsense: EOPNOTSUPP (Unknown device type)");
      }
    });
  });

  test("a failed dump throws too", () => {
    withSocket((socket) => {
      // Strict checking: a header that names an interface is no longer ignored by a route dump.
      const body = concat(Uint8Array.of(2, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
      expect(() => socket.dump("RTM_GETROUTE", 26, body)).toThrow("Invalid values in header for FIB dump request");
    });
  });

  test("a socket that receives events makes no requests", () => {
    withSocket((socket) => {
      socket.join(1);
      expect(() => socket.dump("RTM_GETLINK", 18, new Uint8Array(16))).toThrow("use another for requests");
    });
  });

  test("reading events never blocks", () => {
    withSocket((socket) => {
      socket.join(1);
      const start = performance.now();
      expect(socket.receive(() => expect.unreachable())).toBe(true);
      expect(performance.now() - start).toBeLessThan(1000);
    });
  });
});

test("an unknown generic family is ENOENT", () => {
  expect(() => new GenericFamily("no-such-family", 1)).toThrow(/"no-such-family": ENOENT/);
});
