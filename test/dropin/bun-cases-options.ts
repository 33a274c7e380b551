/** Socket options and groups, by what they return and by what happens on the wire; errors from the network. */
import { type AnySocket, type Cases, describe, outcome, outcomes, type Side } from "./bun-compare.ts";

const HOSTS = ["0.0.0.0", "::", "b4"] as const;

/** Calls a method with each list of arguments, on sockets of each kind. */
async function calls(side: Side, lists: Record<string, readonly unknown[][]>): Promise<unknown> {
  const results: unknown[] = [];
  for (const host of HOSTS) {
    const socket = await side.open({ hostname: host === "b4" ? side.at.b4 : host });
    for (const [method, all] of Object.entries(lists)) {
      for (const args of all)
        results.push([host, method, args.map(describe), await outcome(() => socket[method](...args))]);
    }
    socket.close();
  }
  return results;
}

/** What error handlers are told. */
function errorLog(): { log: unknown[]; socket: { error: (...args: unknown[]) => void } } {
  const log: unknown[] = [];
  return {
    log,
    socket: {
      error(this: unknown, ...args: unknown[]) {
        log.push([args.length, args.map(describe), Object.prototype.toString.call(this)]);
      },
    },
  };
}

export const optionCases: Cases = {
  booleans: async (side) => {
    const values = [[], [true], [false], [1], [0], ["x"], [""], [null], [undefined], [{}], [Number.NaN]];
    return calls(side, { setBroadcast: values, setMulticastLoopback: values });
  },

  "hop limits": async (side) => {
    const numbers = [[], [1], [255], [64], ["32"], [1.9], [true], [2 ** 32 + 5], [5n], [{ valueOf: () => 9 }]];
    const bad = [[0], [256], [-1], ["x"], [null], [undefined], [Number.NaN], [{}], [Symbol("x")]];
    return calls(side, { setTTL: [...numbers, ...bad], setMulticastTTL: [...numbers, ...bad] });
  },

  "hop limits: what converting the argument does": async (side) => {
    const results: unknown[] = [];
    for (const method of ["setTTL", "setMulticastTTL"]) {
      const socket = await side.open();
      const throws = () => {
        throw new Error("mine");
      };
      const closes = () => {
        socket.close();
        return 1;
      };
      results.push(
        await outcome(() => socket[method]({ valueOf: throws })),
        await outcome(() => socket[method]({ valueOf: closes })),
      );
    }
    return results;
  },

  setMulticastInterface: async (side) => {
    const { b4, b6 } = side.at;
    const zone = side.at.interface;
    const four = ["127.0.0.1", "127.1", b4, "0.0.0.0", "192.0.2.1", "224.0.0.5", "239.255.255.255", "240.0.0.1", 5];
    const six = ["::", `::%${zone}`, "::%nosuch", "::1", b6, `fe80::1%${zone}`];
    const none = ["x", "", null, undefined, {}, zone];
    return calls(side, { setMulticastInterface: [[], ...[...four, ...six, ...none].map((value) => [value])] });
  },

  membership: async (side) => {
    const { a4, b4, b6 } = side.at;
    const zone = side.at.interface;
    const groups = [
      ...[
        [],
        ["224.0.0.5"],
        ["224.0.0.50", b4],
        ["224.0.0.50", b4],
        ["224.0.0.51", "127.0.0.1"],
        ["224.0.0.52", "192.0.2.1"],
      ],
      ...[
        ["224.0.0.53", "x"],
        ["224.0.0.54", ""],
        ["224.0.0.55", undefined],
        ["224.0.0.56", null],
        ["224.0.0.57", 5],
      ],
      ...[
        ["224.0.0.58", "::"],
        ["224.0.0.59", "0.0.0.0"],
        ["224.0.0.60", b4, 5],
        [a4],
        ["x"],
        [""],
        [5],
        [null],
        [undefined],
      ],
      ...[
        ["ff02::5"],
        ["ff02::50", `::%${zone}`],
        ["ff02::50", `::%${zone}`],
        ["ff02::51", "::%lo"],
        ["ff02::52", "::%nosuch"],
      ],
      ...[["ff02::53", b6], ["ff02::54", b4], ["ff02::55", zone], ["2001:db8::1"], [`ff02::56%${zone}`]],
    ];
    const left = [
      ...[
        [],
        ["224.0.0.5"],
        ["224.0.0.50", b4],
        ["224.0.0.50", b4],
        ["224.0.0.99"],
        ["224.0.0.51"],
        ["x"],
        ["224.0.0.53", "x"],
      ],
      ...[["ff02::50", `::%${zone}`], ["ff02::50", `::%${zone}`], ["ff02::99"], ["ff02::5", b4]],
    ];
    return calls(side, { addMembership: groups, dropMembership: left });
  },

  "source-specific membership": async (side) => {
    const { a4, b4, b6 } = side.at;
    const zone = side.at.interface;
    const [one, two, six] = ["198.18.0.201", "198.18.0.202", "2001:db8::9"];
    const joined = [
      ...[[], [one], [one, "232.0.0.5"], [one, "232.0.0.50", b4], [two, "232.0.0.50", b4], [two, "232.0.0.50", b4]],
      ...[
        [one, "224.0.0.50", b4],
        [one, a4, b4],
        ["x", "232.0.0.5"],
        [one, "x"],
        [one, "ff3e::5"],
        [one, "232.0.0.6", "x"],
      ],
      ...[
        [one, "232.0.0.7", "::"],
        [six, "ff3e::5"],
        [six, "ff3e::6", `::%${zone}`],
        [six, "ff3e::7", b6],
        [six, "ff3e::8", b4],
      ],
      ...[
        [5, 6],
        [null, null],
        [one, "232.0.0.8", undefined],
        [one, "232.0.0.9", null],
      ],
    ];
    const left = [
      ...[
        [],
        [one],
        [one, "232.0.0.5"],
        [two, "232.0.0.50", b4],
        [two, "232.0.0.50", b4],
        [one, "232.0.0.99"],
        ["x", "232.0.0.5"],
      ],
      ...[
        [six, "ff3e::6", `::%${zone}`],
        [six, "ff3e::99", `::%${zone}`],
      ],
    ];
    return calls(side, { addSourceSpecificMembership: joined, dropSourceSpecificMembership: left });
  },

  "setTTL on the wire": async (side) => {
    const results: unknown[] = [];
    for (const [hostname, address] of [
      ["0.0.0.0", side.at.a4],
      ["::", side.at.a6],
    ]) {
      const peer = side.peer(address);
      peer.receiveHopLimit();
      const socket = await side.open({ hostname });
      for (const ttl of [null, 7, 200]) {
        if (ttl !== null) socket.setTTL(ttl);
        socket.send("x", peer.port, address);
        results.push((await peer.receiveWithHopLimit()).hopLimit);
      }
    }
    return results;
  },

  "multicast out": async (side) => {
    const group = "239.1.2.3";
    const peer = side.peer(group, 4300);
    peer.receiveHopLimit();
    peer.join(group, side.at.a4);
    const socket = await side.open();
    socket.setMulticastInterface(side.at.b4);
    const results: unknown[] = [];
    for (const ttl of [null, 9]) {
      if (ttl !== null) socket.setMulticastTTL(ttl);
      const sent = socket.send("to the group", 4300, group);
      const got = await peer.receiveWithHopLimit();
      results.push([sent, got.text, got.address, got.hopLimit]);
    }
    return results;
  },

  "multicast in": async (side) => {
    const group = "239.1.2.4";
    const { seen, socket } = await side.listener({ port: 4301 }, (_, data, _port, address) => [String(data), address]);
    const peer = side.peer();
    peer.multicastFrom(side.at.a4);
    const send = (text: string) => peer.send(text, group, 4301);
    send("before joining");
    await side.silence();
    const joined = socket.addMembership(group, side.at.b4);
    send("joined");
    await side.until("it", () => seen.length === 1);
    const left = socket.dropMembership(group, side.at.b4);
    send("after leaving");
    await side.silence();
    return [joined, left, seen];
  },

  "multicast in, IPv6": async (side) => {
    const group = "ff12::1:3";
    const zone = side.at.interface;
    const { seen, socket } = await side.listener({ hostname: "::", port: 4302 });
    const peer = side.peer("::");
    const send = (text: string) => peer.sendScoped(text, group, 4302, side.at.peerIndex);
    const joined = socket.addMembership(group, `::%${zone}`);
    send("joined");
    await side.until("it", () => seen.length === 1);
    const left = socket.dropMembership(group, `::%${zone}`);
    send("after leaving");
    await side.silence();
    return [joined, left, seen];
  },

  "multicast in, from one source": async (side) => {
    const group = "232.1.2.5";
    const { seen, socket } = await side.listener({ port: 4303 });
    const peer = side.peer();
    peer.multicastFrom(side.at.a4);
    const other = socket.addSourceSpecificMembership("198.18.0.99", group, side.at.b4);
    peer.send("not from the source", group, 4303);
    await side.silence();
    const source = socket.addSourceSpecificMembership(side.at.a4, group, side.at.b4);
    peer.send("from the source", group, 4303);
    await side.until("it", () => seen.length === 1);
    const left = socket.dropSourceSpecificMembership(side.at.a4, group, side.at.b4);
    peer.send("after leaving", group, 4303);
    await side.silence();
    return [other, source, left, seen];
  },

  "multicast to oneself": async (side) => {
    const group = "239.1.2.6";
    const { seen, socket } = await side.listener({ port: 4304 });
    socket.setMulticastInterface(side.at.b4);
    socket.addMembership(group, side.at.b4);
    socket.send("looped", 4304, group);
    await side.until("it", () => seen.length === 1);
    socket.setMulticastLoopback(false);
    socket.send("not looped", 4304, group);
    await side.silence();
    return seen;
  },

  broadcast: async (side) => {
    const peer = side.peer("0.0.0.0");
    const socket = await side.open();
    const send = () => socket.send("to all", peer.port, side.at.broadcast);
    const results = [await outcome(send), await outcome(() => socket.setBroadcast(true)), await outcome(send)];
    const { text, address } = await peer.receive();
    socket.setBroadcast(false);
    return [...results, text, address, await outcome(send)];
  },

  "broadcast in": async (side) => {
    const { seen, socket } = await side.listener();
    side.peer().send("to all", side.at.broadcast, socket.port);
    await side.until("it", () => seen.length === 1);
    return seen;
  },

  "nobody listens: connected": async (side) => {
    const { log, socket: handlers } = errorLog();
    const results: unknown[] = [];
    for (const [hostname, to] of [
      ["0.0.0.0", side.at.a4],
      ["::", side.at.a6],
      ["0.0.0.0", "127.0.0.1"],
      ["::", "::1"],
    ]) {
      const socket = await side.open({ hostname, connect: { hostname: to, port: 9 }, socket: handlers });
      for (let i = 0; i < 2; i++) {
        results.push(await outcome(() => socket.send("x")));
        await side.until(`an error from ${to}`, () => log.length > 0);
        results.push(log.splice(0), socket.closed);
      }
      socket.close();
    }
    return results;
  },

  "nobody listens: unconnected": async (side) => {
    const { log, socket: handlers } = errorLog();
    const results: unknown[] = [];
    for (const [hostname, to] of [
      ["0.0.0.0", side.at.a4],
      ["::", side.at.a6],
      ["0.0.0.0", "127.0.0.1"],
      ["::", "::1"],
    ]) {
      const socket = await side.open({ hostname, socket: handlers });
      for (let i = 0; i < 2; i++) {
        results.push(await outcome(() => socket.send("x", 9, to)));
        await side.until(`an error from ${to}`, () => log.length > 0);
        results.push(log.splice(0), socket.closed);
      }
      socket.close();
    }
    return results;
  },

  "nobody listens: the next call hears of it": async (side) => {
    const socket = await side.quiet({ connect: { hostname: "127.0.0.1", port: 9 } });
    return outcomes({ first: () => socket.send("x"), second: () => socket.send("x"), third: () => socket.send("x") });
  },

  "nobody listens, and nobody handles it": async (side) => {
    const log: unknown[] = [];
    const uncaught = (error: Error, origin: string) => void log.push([describe(error), origin]);
    process.on("uncaughtException", uncaught);
    try {
      const socket = await side.open({ connect: { hostname: side.at.a4, port: 9 } });
      socket.send("x");
      await side.until("it", () => log.length === 1);
      log.push(socket.closed);
    } finally {
      process.off("uncaughtException", uncaught);
    }
    return log;
  },

  "too long for any packet": async (side) => {
    const { log, socket: handlers } = errorLog();
    const socket = await side.open({ socket: handlers });
    const result = await outcome(() => socket.send(new Uint8Array(65508), 9, side.at.a4));
    await side.until("the report", () => log.length === 1);
    return [result, log];
  },

  "close in error": async (side) => {
    const log: unknown[] = [];
    const socket = await side.open({
      connect: { hostname: "127.0.0.1", port: 9 },
      socket: {
        error(this: AnySocket) {
          log.push("error");
          this.close();
        },
      },
    });
    socket.send("x");
    await side.until("it", () => log.length > 0);
    await side.silence();
    return [log, socket.closed];
  },
};
