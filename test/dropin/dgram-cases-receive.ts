/** What comes: messages, who sent them, when; groups, options of sockets, the event loop. */
import { AsyncLocalStorage } from "node:async_hooks";
import diagnostics from "node:diagnostics_channel";
import type { AnySocket, Cases, Side } from "./dgram-compare.ts";

const GROUP = "239.7.7.7";
const GROUP6 = "ff15::7:7:7";
const SOURCE_GROUP = "232.7.7.7";

/** Has the peer send to an address, and waits until it has. */
async function peerSends(side: Side, address: string, port: number, text: string, family: 4 | 6 = 4): Promise<void> {
  const helper = await side.bound(family === 4 ? "udp4" : "udp6");
  await side.ask(helper, { ask: "to", address, port, text }, family);
  helper.close();
}

/** What a socket hears until the answer to a question that is asked after `body`. */
async function heardUntilFence(
  side: Side,
  socket: AnySocket,
  body: () => Promise<unknown>,
  family: 4 | 6 = 4,
  fence: (() => unknown) | null = null,
): Promise<string[]> {
  const heard: string[] = [];
  const note = (message: Buffer) => void heard.push(String(message));
  socket.on("message", note);
  await body();
  const { peer4, peer6, peerPort, peerPort6 } = side.at;
  if (fence !== null) fence();
  else socket.send("fence", family === 4 ? peerPort : peerPort6, family === 4 ? peer4 : peer6);
  await side.condition("the fence", () => heard.includes("fence"));
  socket.off("message", note);
  return heard.filter((text) => text !== "fence");
}

export const receiveCases: Cases = {
  "message: what it is": async (side) => {
    const socket = await side.bound();
    const seen = side.until<[Buffer, AnySocket]>("a message", (resolve) =>
      socket.once("message", (...values: AnySocket) => resolve(values)),
    );
    socket.send("hello", side.at.peerPort, side.at.peer4);
    const [message, sender] = await seen;
    return {
      kind: [Buffer.isBuffer(message), message.constructor.name, message.toString()],
      memory: [message.byteOffset, message.buffer.byteLength, message.buffer instanceof ArrayBuffer],
      sender,
      keys: Object.keys(sender),
      plain: Object.getPrototypeOf(sender) === Object.prototype,
    };
  },

  "message: IPv6": async (side) => {
    const socket = await side.bound("udp6");
    const { sender, text } = await side.ask(socket, "six", 6);
    const { sender: local } = await (async () => {
      const next = side.next(socket);
      socket.send("loop", socket.address().port, "::1");
      return await next;
    })();
    return { text, sender, local };
  },

  "message: link-local senders have a zone": async (side) => {
    const { interface: name, peerLinkLocal, peerPort6 } = side.at;
    const socket = await side.bound("udp6");
    const ask = async (zone: string) => {
      const next = side.next(socket);
      const called = await side.called((callback) =>
        socket.send(`zone ${zone}`, peerPort6, `${peerLinkLocal}%${zone}`, callback),
      );
      return [called, (await next).sender.address.replace(peerLinkLocal, "LINK-LOCAL")];
    };
    return { byName: await ask(name), byIndex: await ask(String(side.at.ifindex)) };
  },

  "message: sizes": async (side) => {
    const socket = await side.bound();
    const sizes: unknown[] = [];
    for (const size of [0, 1, 2, 63, 64, 511, 512, 1400, 1472, 1473, 4000, 20_000]) {
      const next = side.until<[Buffer, AnySocket]>("a message", (resolve) =>
        socket.once("message", (...values: AnySocket) => resolve(values)),
      );
      socket.send(Buffer.alloc(size, size), side.at.peerPort, side.at.peer4);
      const [message, sender] = await next;
      sizes.push([message.length, sender.size, message.every((byte) => byte === (size & 255))]);
    }
    return { sizes };
  },

  "message: each in memory of its own, in order": async (side) => {
    const socket = await side.bound();
    const kept: Buffer[] = [];
    const COUNT = 200;
    socket.on("message", (message: Buffer) => kept.push(message));
    for (let i = 0; i < COUNT; i++) {
      socket.send(`datagram ${i}`, side.at.peerPort, side.at.peer4);
      if (i % 20 === 19) await side.next(socket);
    }
    await side.condition("all", () => kept.length === COUNT);
    const right = kept.every((message, i) => message.toString() === `datagram ${i}`);
    return { right, buffers: new Set(kept.map(({ buffer }) => buffer)).size };
  },

  "message: what a listener queues runs before the next": async (side) => {
    const socket = await side.bound("udp4", 0, "127.0.0.1");
    const { port } = socket.address();
    const promises: string[] = [];
    const ticks: string[] = [];
    const done = side.until("all", (resolve) => {
      socket.on("message", (message: Buffer) => {
        const text = String(message);
        promises.push(text);
        ticks.push(text);
        Promise.resolve().then(() => promises.push(`${text} promise`));
        process.nextTick(() => ticks.push(`${text} tick`));
        if (text === "4") setImmediate(resolve);
      });
    });
    for (let i = 0; i < 5; i++) socket.send(String(i), port, "127.0.0.1");
    await done;
    return { promises, ticks };
  },

  "message: ticks before promises": async (side) => {
    const socket = await side.bound("udp4", 0, "127.0.0.1");
    const order: string[] = [];
    const done = side.until("it", (resolve) => {
      socket.on("message", () => {
        Promise.resolve().then(() => order.push("promise"));
        process.nextTick(() => order.push("tick"));
        setImmediate(resolve);
      });
    });
    socket.send("x", socket.address().port, "127.0.0.1");
    await done;
    return { order };
  },

  "message: nobody listens": async (side) => {
    const socket = await side.bound();
    socket.send("lost", side.at.peerPort, side.at.peer4);
    await side.ask(await side.bound(), "fence");
    return { next: (await side.ask(socket, "heard")).text };
  },

  "message: the context in which the socket was made": async (side) => {
    const storage = new AsyncLocalStorage<string>();
    const log: Record<string, unknown> = {};
    const note = (name: string) => () => {
      log[name] ??= storage.getStore() ?? "none";
    };
    const socket = storage.run("created", () => side.socket());
    storage.run("listened", () => {
      for (const name of ["message", "listening", "connect", "close"]) socket.on(name, note(name));
    });
    await new Promise<void>((resolve) => storage.run("bound", () => socket.bind(0, resolve)));
    storage.run("sent", () => socket.send("x", side.at.peerPort, side.at.peer4, note("sent")));
    await side.next(socket);
    storage.run("connected", () => socket.connect(side.at.peerPort, side.at.peer4));
    await side.event(socket, "connect");
    storage.run("closed", () => socket.close());
    await side.event(socket, "close");
    return log;
  },

  diagnostics_channel: (side) => {
    const seen: unknown[] = [];
    const note = (message: unknown) => void seen.push(message);
    diagnostics.subscribe("udp.socket", note);
    const socket = side.socket();
    diagnostics.unsubscribe("udp.socket", note);
    return { same: seen.length === 1 && (seen[0] as { socket: unknown }).socket === socket };
  },

  "options: before the socket is bound": (side) => {
    const socket = side.socket();
    return side.attempts({
      setBroadcast: () => socket.setBroadcast(true),
      setTTL: () => socket.setTTL(3),
      "setTTL, out of range": () => socket.setTTL(300),
      setMulticastTTL: () => socket.setMulticastTTL(3),
      "setMulticastTTL, out of range": () => socket.setMulticastTTL(300),
      setMulticastLoopback: () => socket.setMulticastLoopback(true),
      setMulticastInterface: () => socket.setMulticastInterface("127.0.0.1"),
      getRecvBufferSize: () => socket.getRecvBufferSize(),
      setRecvBufferSize: () => socket.setRecvBufferSize(1000),
      getSendBufferSize: () => socket.getSendBufferSize(),
      setSendBufferSize: () => socket.setSendBufferSize(1000),
      getSendQueueSize: () => socket.getSendQueueSize(),
      getSendQueueCount: () => socket.getSendQueueCount(),
      remoteAddress: () => socket.remoteAddress(),
      disconnect: () => socket.disconnect(),
    });
  },

  "buffer sizes": async (side) => {
    const socket = await side.bound();
    const set = (name: string, size: unknown) =>
      side.attempt(() => {
        socket[`set${name}`](size);
        return socket[`get${name}`]();
      });
    const outcome: Record<string, unknown> = {};
    for (const name of ["RecvBufferSize", "SendBufferSize"]) {
      outcome[name] = socket[`get${name}`]();
      for (const size of [0, 1, 5000, 100_000, 2 ** 31, 2 ** 32, -1, 1.5, "1000", Number.NaN, undefined, null]) {
        outcome[`${name} ${size}`] = set(name, size);
      }
    }
    const made = await side.bound({ type: "udp4", recvBufferSize: 10_000, sendBufferSize: 15_000 });
    const zero = await side.bound({ type: "udp4", recvBufferSize: 0 });
    return { ...outcome, made: [made.getRecvBufferSize(), made.getSendBufferSize()], zero: zero.getRecvBufferSize() };
  },

  setTTL: async (side) => {
    const hops: unknown[] = [];
    for (const family of [4, 6] as const) {
      const socket = await side.bound(family === 4 ? "udp4" : "udp6");
      hops.push((await side.ask(socket, { ask: "hops" }, family)).text);
      socket.setTTL(7);
      hops.push((await side.ask(socket, { ask: "hops" }, family)).text);
      socket.setTTL(255);
      hops.push((await side.ask(socket, { ask: "hops" }, family)).text);
    }
    const socket = await side.bound();
    const values = [0, 1, 255, 256, -1, 64.7, 2 ** 32 + 5, Number.NaN, "64", true, null, undefined];
    return { hops, ...side.attempts(Object.fromEntries(values.map((value) => [value, () => socket.setTTL(value)]))) };
  },

  setMulticastTTL: async (side) => {
    const { group4, group6, interface: name, own4, peerPort, peerPort6 } = side.at;
    const hops: unknown[] = [];
    for (const [type, group, port, iface] of [
      ["udp4", group4, peerPort, own4],
      ["udp6", group6, peerPort6, `::%${name}`],
    ] as const) {
      const socket = await side.bound(type);
      socket.setMulticastInterface(iface);
      for (const ttl of [null, 4, 255]) {
        if (ttl !== null) socket.setMulticastTTL(ttl);
        const answer = side.next(socket);
        socket.send(JSON.stringify({ ask: "hops" }), port, group);
        hops.push((await answer).text);
      }
    }
    const socket = await side.bound();
    const values = [0, 1, 255, 256, -1, 64.7, Number.NaN, "1", undefined];
    const set = Object.fromEntries(values.map((value) => [value, () => socket.setMulticastTTL(value)]));
    return { hops, ...side.attempts(set) };
  },

  setBroadcast: async (side) => {
    const { broadcast, peer4, peerPort } = side.at;
    const socket = await side.bound();
    const send = () => side.called((callback) => socket.send("everybody", peerPort, broadcast, callback));
    const before = await send();
    const on = side.attempt(() => socket.setBroadcast(true));
    const answer = side.next(socket);
    const allowed = await send();
    const { sender, text } = await answer;
    const off = side.attempt(() => socket.setBroadcast(false));
    return { before, on, allowed, text, from: sender.address === peer4, off, after: await send() };
  },

  "broadcasts are heard": async (side) => {
    const socket = await side.bound();
    const { port } = socket.address();
    return { heard: await heardUntilFence(side, socket, () => peerSends(side, side.at.broadcast, port, "all")) };
  },

  "addMembership: hears the group, until it drops it": async (side) => {
    const { own4 } = side.at;
    const socket = await side.bound();
    const { port } = socket.address();
    const send = () => peerSends(side, GROUP, port, "to the group");
    const before = await heardUntilFence(side, socket, send);
    const join = side.attempt(() => socket.addMembership(GROUP, own4));
    const joined = await heardUntilFence(side, socket, send);
    const twice = side.attempt(() => socket.addMembership(GROUP, own4));
    const drop = side.attempt(() => socket.dropMembership(GROUP, own4));
    const dropped = await heardUntilFence(side, socket, send);
    const again = side.attempt(() => socket.dropMembership(GROUP, own4));
    return { before, join, joined, twice, drop, dropped, again };
  },

  "addMembership: IPv6": async (side) => {
    const { ifindex, interface: name } = side.at;
    const socket = await side.bound("udp6");
    const { port } = socket.address();
    const send = () => peerSends(side, GROUP6, port, "to the group", 6);
    const hear = () => heardUntilFence(side, socket, send, 6);
    const before = await hear();
    const join = side.attempt(() => socket.addMembership(GROUP6, `::%${name}`));
    const joined = await hear();
    const byIndex = side.attempt(() => socket.dropMembership(GROUP6, `::%${ifindex}`));
    const dropped = await hear();
    return { before, join, joined, byIndex, dropped };
  },

  "addMembership: what it refuses": async (side) => {
    const { own4, peer4 } = side.at;
    const socket = await side.bound();
    const join =
      (...given: unknown[]) =>
      () =>
        socket.addMembership(...given);
    return side.attempts({
      nothing: join(),
      empty: join(""),
      "no group": join("198.18.0.1", own4),
      "no address": join("group", own4),
      "IPv6 group": join("ff02::1"),
      "no interface of this address": join(GROUP, "203.0.113.1"),
      "interface by name": join(GROUP, side.at.interface),
      "no route and no interface": join(GROUP),
      "drop, never joined": () => socket.dropMembership("239.1.1.1", own4),
      "drop, nothing": () => socket.dropMembership(),
      "source, nothing": () => socket.addSourceSpecificMembership(),
      "source, a number": () => socket.addSourceSpecificMembership(5, SOURCE_GROUP),
      "source, group a number": () => socket.addSourceSpecificMembership(peer4, 5),
      "source, no address": () => socket.addSourceSpecificMembership("source", SOURCE_GROUP, own4),
      "source, no group": () => socket.addSourceSpecificMembership(peer4, "198.18.0.1", own4),
      "source, of another family": () => socket.addSourceSpecificMembership("::1", SOURCE_GROUP, own4),
      "drop source, never joined": () => socket.dropSourceSpecificMembership(peer4, SOURCE_GROUP, own4),
      "drop source, nothing": () => socket.dropSourceSpecificMembership(),
    });
  },

  "addMembership: before the socket is bound": async (side) => {
    // Something has run already, so that an engine is there.
    await side.bound();
    const socket = side.socket();
    const join = side.attempt(() => socket.addMembership(GROUP, side.at.own4));
    const address = side.attempt(() => socket.address().address);
    socket.bind(0);
    const [error] = await side.event(socket, "error");
    return { join, address, bind: side.describe(error) };
  },

  "addSourceSpecificMembership: one source alone": async (side) => {
    const { own4, peer4 } = side.at;
    const socket = await side.bound();
    const { port } = socket.address();
    const send = () => peerSends(side, SOURCE_GROUP, port, "from the source");
    const join = side.attempt(() => socket.addSourceSpecificMembership(peer4, SOURCE_GROUP, own4));
    const joined = await heardUntilFence(side, socket, send);
    const drop = side.attempt(() => socket.dropSourceSpecificMembership(peer4, SOURCE_GROUP, own4));
    const dropped = await heardUntilFence(side, socket, send);
    socket.addSourceSpecificMembership("198.18.0.99", SOURCE_GROUP, own4);
    const other = await heardUntilFence(side, socket, send);
    return { join, joined, drop, dropped, other };
  },

  setMulticastLoopback: async (side) => {
    const { own4 } = side.at;
    const outcome: Record<string, unknown> = {};
    const receiver = await side.bound({ type: "udp4", reuseAddr: true });
    receiver.addMembership(GROUP, own4);
    const { port } = receiver.address();
    const sender = await side.bound();
    sender.setMulticastInterface(own4);
    // What this host sends to a group comes by the kernel, which an answer of the peer's would overtake: so the fence does, too.
    const fencer = await side.bound();
    fencer.setMulticastInterface(own4);
    const fence = () => fencer.send("fence", port, GROUP);
    for (const on of [true, false]) {
      outcome[`${on}`] = side.attempt(() => sender.setMulticastLoopback(on));
      outcome[`${on}, heard`] = await heardUntilFence(
        side,
        receiver,
        async () => {
          await side.called((callback) => sender.send("own", port, GROUP, callback));
        },
        4,
        fence,
      );
    }
    const values = [0, 1, 255, "x", null, undefined];
    const set = Object.fromEntries(values.map((value) => [String(value), () => sender.setMulticastLoopback(value)]));
    return { ...outcome, ...side.attempts(set) };
  },

  setMulticastInterface: async (side) => {
    const { ifindex, interface: name, own4 } = side.at;
    const four = await side.bound();
    const six = await side.bound("udp6");
    const set = (socket: AnySocket, value: unknown) => () => socket.setMulticastInterface(value);
    return side.attempts({
      address: set(four, own4),
      any: set(four, "0.0.0.0"),
      "no interface of this address": set(four, "203.0.113.1"),
      "no address": set(four, name),
      "no string": set(four, 5),
      nothing: set(four, undefined),
      "IPv6 on udp4": set(four, "::1"),
      name: set(six, `::%${name}`),
      index: set(six, `::%${ifindex}`),
      "any, IPv6": set(six, "::"),
      "without zone": set(six, "2001:db8::1"),
      "no interface of this name": set(six, "::%nosuch0"),
      "no interface of this index": set(six, "::%9999"),
      "IPv4 on udp6": set(six, own4),
    });
  },
};
