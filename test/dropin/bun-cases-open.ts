/** Opening: options and what is wrong with them, names and addresses, properties, closing. */
import { type AnySocket, attempt, type Cases, describe, outcome, outcomes, type Side } from "./bun-compare.ts";

/** Opens and says what came of it: bind and connect may throw or reject, which are one to whoever awaits. */
async function opened(side: Side, options: unknown): Promise<unknown> {
  return attempt(async () => {
    const socket = await side.open(options);
    const { address, binaryType, closed, hostname, port, remoteAddress } = socket;
    socket.close();
    const asked = (options as { port?: unknown }).port;
    const local = { ...address, port: address.port === port ? "the port" : address.port };
    return { port: asked ? port : port > 0, local, hostname, remoteAddress, binaryType, closed };
  });
}

/** Each of some values for an option. */
async function values(side: Side, all: readonly unknown[], options: (value: unknown) => unknown): Promise<unknown> {
  const results: unknown[] = [];
  for (const value of all) results.push([describe(value), await opened(side, options(value))]);
  return results;
}

export const openCases: Cases = {
  "options that are none": async ({ udpSocket }) => {
    const call = udpSocket as (options?: unknown) => unknown;
    return outcomes({
      none: () => call(),
      null: () => call(null),
      number: () => call(5),
      text: () => call("x"),
      symbol: () => call(Symbol("x")),
    });
  },

  "options of other kinds": async (side) => values(side, [[], () => {}], (value) => value),

  port: async (side) => {
    const good = ["4001", [4002], { valueOf: () => 4003 }, 4004, 65535, null, undefined, false, "", 0, -0];
    const bad = [-1, 65536, 1.5, Number.NaN, Number.POSITIVE_INFINITY, "abc", {}, 2 ** 32 + 81, 5n, Symbol("x")];
    return values(side, [...good, ...bad], (port) => ({ port }));
  },

  hostname: async (side) => {
    const { b4, b6 } = side.at;
    const good = [
      "127.0.0.1",
      "::1",
      "0.0.0.0",
      "::",
      b4,
      b6,
      "127.1",
      "0x7f.1",
      "0",
      "2130706433",
      "::ffff:127.0.0.1",
    ];
    const odd = ["", null, undefined, false, new String("127.0.0.1")];
    const bad = [5, {}, true, "192.0.2.77", "2001:db8:ffff::1", "255.255.255.255"];
    return values(side, [...good, ...odd, ...bad], (hostname) => ({ hostname }));
  },

  "hostname with a zone": async (side) => {
    const own = side.at.linkLocal;
    const zone = side.at.interface;
    return values(side, [`fe80::1%${zone}`, `${own}%${zone}`, `${own}%nosuch`, "::1%lo"], (hostname) => ({ hostname }));
  },

  "hostname that is a name": async (side) => {
    const names = ["localhost", "LOCALHOST", "dual46", "dual64", "only4", "only6"];
    return values(side, names, (hostname) => ({ hostname }));
  },

  "hostname that is no name": async (side) => {
    const names = ["[::1]", "a..b", " 127.0.0.1", "127.0.0.1 ", "exa mple", "a\0b", "256.1.1.1", "1.2.3.4.5"];
    return values(side, names, (hostname) => ({ hostname }));
  },

  "hostname that is not known": async (side) => values(side, ["no-such-host.invalid"], (hostname) => ({ hostname })),

  binaryType: async (side) => {
    const names = ["buffer", "uint8array", "arraybuffer", "", null, undefined, new String("uint8array")];
    const others = ["nodebuffer", "Buffer", "Uint8Array", "ArrayBuffer", "int8array", "float16array", "float32array"];
    const bad = ["blob", "BUFFER", "dataview", "bigint64array", "uint8clampedarray", 5, {}, true];
    return [
      await values(side, [...names, ...others, ...bad], (binaryType) => ({ binaryType, socket: {} })),
      await values(side, [...names, ...bad], (binaryType) => ({ binaryType })),
    ];
  },

  socket: async (side) =>
    values(side, [5, "x", true, null, undefined, "", false, [], () => {}, {}], (socket) => ({ socket })),

  handlers: async (side) => {
    const all = [5, 0, "x", "", null, undefined, {}, false, true];
    const results: unknown[] = [];
    for (const name of ["data", "drain", "error", "close"]) {
      results.push(await values(side, all, (handler) => ({ socket: { [name]: handler } })));
    }
    return results;
  },

  "which of several mistakes is told": async (side) => {
    const pairs: unknown[] = [
      { hostname: 5, port: -1 },
      { hostname: 5, flags: "x" },
      { port: -1, flags: "x" },
      { flags: "x", socket: 5 },
      { hostname: 5, socket: 5 },
      { socket: 5, connect: 5 },
      { binaryType: "x", socket: { data: 5 } },
      { socket: { error: 5, drain: 5, data: 5 } },
      { socket: { error: 5, drain: 5 } },
      { connect: { hostname: 5, port: -1 } },
      { hostname: "192.0.2.77", connect: {} },
      { hostname: "192.0.2.77", connect: { hostname: "192.0.2.78", port: 7 } },
    ];
    return values(side, pairs, (options) => options);
  },

  "order in which options are read": async (side) => {
    const read: string[] = [];
    const watched = (name: string, object: object): object =>
      new Proxy(object, {
        get(target, key) {
          read.push(`${name}.${String(key)}`);
          return Reflect.get(target, key);
        },
      });
    const socket = watched("socket", { data() {} });
    const connect = watched("connect", { hostname: "127.0.0.1", port: 9 });
    await side.open(watched("options", { port: 0, hostname: "127.0.0.1", binaryType: "buffer", socket, connect }));
    return read;
  },

  "connect that is none": async (side) => {
    const hostname = "127.0.0.1";
    const all = [5, "x", true, null, undefined, "", [], () => {}, {}, { hostname }, { port: 5 }];
    const odd = [
      { hostname: 5, port: 5 },
      { hostname: "", port: 5 },
      { hostname, port: null },
    ];
    return values(side, [...all, ...odd], (connect) => ({ connect }));
  },

  "connect.port": async (side) => {
    const ports = [1, 65535, "123", true, -1, 0, 65536, 1.5, Number.NaN, "abc", false, 5n];
    return values(side, ports, (port) => ({ connect: { hostname: "127.0.0.1", port } }));
  },

  "connect.hostname": async (side) => {
    const { a4, a6, broadcast } = side.at;
    const reached = [a4, "127.0.0.1", "127.1", "0.0.0.0", new String(a4)];
    const not = [a6, "::1", "::", "::ffff:127.0.0.1", "192.0.2.77", broadcast, "255.255.255.255", "224.0.0.5"];
    const names = ["localhost", "dual46", "dual64", "only4", "only6", "[::1]", "a..b", "no-such-host.invalid"];
    return values(side, [...reached, ...not, ...names], (hostname) => ({ connect: { hostname, port: 7 } }));
  },

  "connect from the IPv6 wildcard": async (side) => {
    const { a4, a6 } = side.at;
    const names = [
      a4,
      a6,
      "127.0.0.1",
      "::1",
      "localhost",
      "dual46",
      "dual64",
      "only4",
      "192.0.2.77",
      "2001:db8:ffff::1",
    ];
    return values(side, names, (hostname) => ({ hostname: "::", connect: { hostname, port: 7 } }));
  },

  "connect from one address": async (side) => {
    const { a4, b4, a6, b6 } = side.at;
    return [
      await opened(side, { hostname: b4, connect: { hostname: a4, port: 7 } }),
      await opened(side, { hostname: b6, connect: { hostname: a6, port: 7 } }),
      await opened(side, { hostname: "127.0.0.1", connect: { hostname: "::1", port: 7 } }),
    ];
  },

  "flags that are none": async (side) => values(side, ["x", 1.5, 2 ** 31, null, 0], (flags) => ({ flags })),

  "a port in use": async (side) => {
    const { port } = await side.open({ hostname: "127.0.0.1", port: 4100 });
    return [
      await opened(side, { hostname: "127.0.0.1", port }),
      await opened(side, { port }),
      await opened(side, { hostname: "::", port }),
    ];
  },

  "a port shared by flags": async (side) => {
    const REUSEPORT = 4;
    const first = await side.open({ port: 4101, flags: REUSEPORT });
    const results = [await opened(side, { port: 4101, flags: REUSEPORT }), await opened(side, { port: 4101 })];
    first.close();
    return [...results, await opened(side, { port: 4101 })];
  },

  "IPv4 and IPv6 wildcard side by side by flags": async (side) => {
    const IPV6_ONLY = 8;
    await side.open({ port: 4102 });
    return [
      await opened(side, { hostname: "::", port: 4102, flags: IPV6_ONLY }),
      await opened(side, { hostname: "::", port: 4102 }),
    ];
  },

  "the port is free after close": async (side) => {
    const first = await side.open({ port: 4103 });
    first.close();
    const again = await side.open({ port: 4103 });
    return again.port;
  },

  "thrown at once, with a running engine and an address": async (side) => {
    await side.open({ hostname: "127.0.0.1", port: 4104 });
    const call = side.udpSocket as (options: unknown) => unknown;
    return outcomes({
      bind: () => call({ hostname: "127.0.0.1", port: 4104 }),
      address: () => call({ hostname: "192.0.2.77" }),
      connect: () => call({ connect: { hostname: "192.0.2.77", port: 7 } }),
    });
  },

  "members and their kinds": async (side) => {
    const socket = await side.open();
    const prototype = Object.getPrototypeOf(socket);
    const names = [
      ...["address", "binaryType", "closed", "hostname", "port", "remoteAddress", "addMembership", "close"],
      ...["addSourceSpecificMembership", "dropMembership", "dropSourceSpecificMembership", "ref", "reload", "send"],
      ...["sendMany", "setBroadcast", "setMulticastInterface", "setMulticastLoopback", "setMulticastTTL", "setTTL"],
      ...["unref", Symbol.dispose],
    ];
    const kinds = names.map((name) => {
      const property = Object.getOwnPropertyDescriptor(prototype, name);
      return [String(name), property?.get ? "getter" : typeof property?.value, property?.set === undefined];
    });
    return [kinds, Reflect.ownKeys(socket), Object.prototype.toString.call(socket)];
  },

  "properties are read-only and remembered": async (side) => {
    const socket = await side.open({ connect: { hostname: side.at.a4, port: 7 } });
    const { address, remoteAddress, port } = socket;
    const set = await outcome(() => {
      socket.port = 5;
    });
    return {
      set,
      same: [socket.address === address, socket.remoteAddress === remoteAddress, socket.port === port],
      address: Object.getOwnPropertyDescriptors(remoteAddress),
      keys: Reflect.ownKeys(address),
      class: address.constructor.name,
    };
  },

  "after close, what was looked at before stays": async (side) => {
    const look = ({ address, binaryType, closed, hostname, port, remoteAddress }: AnySocket) =>
      [address?.address, binaryType, closed, hostname, typeof port, remoteAddress].map(describe);
    const options = { hostname: "127.0.0.1", connect: { hostname: "127.0.0.1", port: 9 } };
    const seen = await side.open(options);
    const before = look(seen);
    const returned = [describe(seen.close()), describe(seen.close())];
    const unseen = await side.open(options);
    unseen.close();
    return { before, returned, after: look(seen), unseen: look(unseen) };
  },

  "calls after close": async (side) => {
    const results: unknown[] = [];
    for (const options of [{}, { connect: { hostname: side.at.a4, port: 7 } }]) {
      const socket = await side.open(options);
      socket.close();
      for (const name of ["send", "sendMany", "close", "ref", "unref", "reload", Symbol.dispose]) {
        results.push(await outcome(() => socket[name]()), await outcome(() => socket[name]({})));
      }
      for (const name of [
        "setBroadcast",
        "setTTL",
        "setMulticastTTL",
        "setMulticastLoopback",
        "setMulticastInterface",
      ]) {
        results.push(await outcome(() => socket[name]()), await outcome(() => socket[name](5)));
      }
      for (const name of [
        "addMembership",
        "dropMembership",
        "addSourceSpecificMembership",
        "dropSourceSpecificMembership",
      ]) {
        results.push(await outcome(() => socket[name]()), await outcome(() => socket[name]("x", "y")));
      }
    }
    return results;
  },

  "using closes": async (side) => {
    let outer: AnySocket;
    {
      using socket = await side.open();
      outer = socket;
    }
    return outer.closed;
  },

  "return values": async (side) => {
    const socket = await side.open();
    return outcomes({
      ref: () => socket.ref(),
      unref: () => socket.unref(),
      reload: () => socket.reload({}),
      dispose: () => socket[Symbol.dispose](),
    });
  },
};
